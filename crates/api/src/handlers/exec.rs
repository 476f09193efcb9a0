//! Processes added to a container.

use engine::Engine;
use engine::models::{ExecConfig, ExecStartConfig};
use errdefs::{Error, Result};
use tokio::io::AsyncWriteExt;

use serde_json::json;

use crate::call::{Call, blocking};
use crate::frames::{Keys, header};
use crate::hijack::{self, MULTIPLEXED, RAW, Takeover};
use crate::process::Process;
use crate::reply::Reply;
use crate::{decode, handlers, websocket};

/// Makes one.
pub fn create(engine: &Engine, call: &Call) -> Result<Reply> {
    let body = decode::value(&call.headers, &call.body)?.filter(|body| !body.is_null());
    let mut body = body.unwrap_or_else(|| json!({}));
    decode::capitals(&mut body);
    let config: ExecConfig = decode::from_value(body)?;
    Keys::parse(config.detach_keys.as_deref().filter(|k| !k.is_empty()))?;
    let id = engine.exec_create(call.name(), &config)?;
    Ok(Reply::json(201, &json!({"Id": id})))
}

/// Starts it; with its streams unless it is to be left alone.
///
/// The answer's head goes first, as dockerd's: clients read it with a buffer of their own, and what came with it would be
/// lost to those who then read the bare socket. So an error of the start comes where the output would.
pub async fn start(call: Call) -> Result<Reply> {
    let how: ExecStartConfig = decode::body(&call.headers, &call.body)?.unwrap_or_default();
    let side = |index: usize| {
        how.console_size
            .as_ref()?
            .get(index)
            .and_then(|s| u16::try_from(*s).ok())
    };
    let size = side(0).zip(side(1)).filter(|(rows, cols)| rows + cols > 0);
    let (id, server) = (call.name().to_owned(), call.server.clone());
    if how.detach.unwrap_or(false) {
        blocking(&server, move |engine| {
            engine.exec_start(&id, true, size).map(|e| e.detach())
        })
        .await?;
        return Ok(Reply::status(200));
    }
    let own = id.clone();
    let object = blocking(&server, move |engine| engine.exec_inspect(&own)).await?;
    let keys = Keys::parse(object.detach_keys.as_deref().filter(|k| !k.is_empty()))?;
    // Whether there are frames is said here, and not by whether there is a terminal.
    let framed = !how.tty.unwrap_or(false);
    let run = move |mut client: hijack::Client| -> hijack::Boxed<()> {
        Box::pin(async move {
            let started = blocking(&server, move |engine| engine.exec_start(&id, false, size)).await;
            match started.and_then(Process::new) {
                Ok(process) => process.join(client, keys, framed).await,
                Err(error) => {
                    let words = format!("{error}\r\n");
                    let header = header(1, words.len());
                    let framed = [if framed { &header[..] } else { &[] }, words.as_bytes()].concat();
                    client.ready.await;
                    let _ = client.writer.write_all(&framed).await;
                    let _ = client.writer.shutdown().await;
                }
            }
        })
    };
    let kind = if !framed || !call.since(42) { RAW } else { MULTIPLEXED };
    Ok(Reply::takeover(Takeover::raw(kind, call.upgrade.as_deref(), run)))
}

/// A shell at a terminal, over a web socket: for browsers, which cannot take a connection over.
pub async fn terminal(call: Call) -> Result<Reply> {
    let head = websocket::head(&call.headers)?;
    let side = |name| {
        Ok::<_, Error>(
            call.query
                .number(name)?
                .and_then(|n| u16::try_from(n).ok())
                .filter(|n| *n > 0),
        )
    };
    let size = side("h")?.zip(side("w")?);
    let config = ExecConfig {
        cmd: Some(vec!["/bin/sh".into()]),
        env: Some(vec!["TERM=xterm".into()]),
        tty: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let name = call.name().to_owned();
    let started = blocking(&call.server, move |engine| {
        let id = engine.exec_create(&name, &config)?;
        engine.exec_start(&id, false, size)
    });
    let process = Process::new(started.await?)?;
    let keys = Keys::parse(None)?;
    let run = move |client: hijack::Client| -> hijack::Boxed<()> {
        Box::pin(async move {
            websocket::serve(client, |inner| Box::pin(process.join(inner, keys, false))).await;
        })
    };
    Ok(Reply::takeover(Takeover {
        head,
        run: Box::new(run),
    }))
}

/// Its terminal's size.
pub fn resize(engine: &Engine, call: &Call) -> Result<Reply> {
    let (rows, cols) = handlers::containers::size(call)?;
    engine.exec_resize(call.name(), rows, cols)?;
    Ok(Reply::status(200))
}

/// Everything about it.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.exec_inspect(call.name())?))
}
