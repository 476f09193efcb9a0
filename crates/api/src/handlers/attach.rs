//! Attach, wait, logs: what stays connected to a container.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use engine::container::{LogEntry, LogOptions, LogStream, WaitCondition};
use engine::link::Request;
use engine::models::ContainerWaitResponse;
use errdefs::{Error, Result};
use tokio::sync::mpsc::{Sender, channel};

use crate::call::{Call, blocking};
use crate::frames::{self, Keys};
use crate::hijack::{self, MULTIPLEXED, RAW, Streams, Takeover};
use crate::pending::{self, Place};
use crate::reply::Reply;

/// How often a follower looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Log entries are put together up to this size.
const PIECE: usize = 32 << 10;

/// `docker attach`, also before the start.
pub async fn attach(call: Call) -> Result<Reply> {
    let name = call.name().to_owned();
    let record = blocking(&call.server, move |engine| engine.record(&name)).await?;
    let (id, tty) = (record.id.clone(), record.tty());
    let stdin = call.query.on("stdin") && record.body.open_stdin.unwrap_or(false);
    let streams = Streams {
        stdin,
        stdout: call.query.on("stdout"),
        stderr: call.query.on("stderr"),
        tty,
        keys: Keys::parse(call.query.text("detachKeys"))?,
    };
    let logs = call.query.on("logs").then(|| LogOptions {
        stdout: streams.stdout,
        stderr: streams.stderr,
        ..Default::default()
    });
    let (server, live) = (call.server.clone(), call.query.on("stream"));
    let own = id.clone();
    let running = blocking(&server, move |engine| engine.runs(&own)).await? == Some(true);
    // Taken before the answer: whoever has it may start the container.
    let now = match (live, running) {
        (true, true) => {
            let own = id.clone();
            Some(pending::polled(
                blocking(&server, move |engine| engine.attach_with(&own, stdin)).await?,
            )?)
        }
        _ => None,
    };
    let place = match live && !running {
        true => Some(Place::take(&server, &id, &Request::Attach { stdin })?),
        false => None,
    };
    let kind = if tty || !call.since(42) { RAW } else { MULTIPLEXED };
    let run = move |mut client: hijack::Client| -> hijack::Boxed<()> {
        Box::pin(async move {
            if let Some(options) = logs {
                let own = id.clone();
                let log = blocking(&server, move |engine| engine.open_log(&own, &options)).await;
                if let Ok(log) = log {
                    client = match print(log, tty, client).await {
                        Some(client) => client,
                        None => return,
                    };
                }
            }
            let socket = match now {
                Some(socket) => Some(socket),
                None if live => pending::attached(&server, &id, stdin, place).await.ok().flatten(),
                None => None,
            };
            match socket {
                Some(socket) => hijack::join(client, socket, streams).await,
                None => _ = tokio::io::AsyncWriteExt::shutdown(&mut client.writer).await,
            }
        })
    };
    Ok(Reply::takeover(Takeover {
        kind,
        upgrade: call.upgrade.clone(),
        headers: crate::connection::server_headers().to_vec(),
        run: Box::new(run),
    }))
}

/// What was written before; `None` when the client is gone.
async fn print(log: LogStream, tty: bool, mut client: hijack::Client) -> Option<hijack::Client> {
    let (sender, mut pieces) = channel(4);
    tokio::spawn(follow(log, tty, false, sender));
    while let Some(Ok(piece)) = pieces.recv().await {
        tokio::io::AsyncWriteExt::write_all(&mut client.writer, &piece)
            .await
            .ok()?;
    }
    Some(client)
}

/// `docker wait`.
pub async fn wait(call: Call) -> Result<Reply> {
    let condition = match call.query.text("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(Error::invalid(format!("invalid condition: {other:?}"))),
    };
    let (server, name) = (call.server.clone(), call.name().to_owned());
    let (id, before) = blocking(&server, move |engine| {
        let id = engine.find(&name)?.id;
        let before = engine.ended_at(&id)?;
        Ok((id, before))
    })
    .await?;
    let own = id.clone();
    let running = blocking(&server, move |engine| engine.runs(&own)).await? == Some(true);
    // From the head of our answer on, the client counts on being told.
    let place = match running || condition == WaitCondition::NotRunning {
        true => None,
        false => Some(Place::take(&server, &id, &Request::Wait)?),
    };
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = pending::exit(&server, id, condition, before, place) => exit,
            () = sender.closed() => return,
        };
        let body = exit.map(|exit| {
            let body = ContainerWaitResponse {
                status_code: exit.code.into(),
                error: None,
            };
            let mut bytes = serde_json::to_vec(&body).unwrap_or_default();
            bytes.push(b'\n');
            Bytes::from(bytes)
        });
        let _ = sender.send(body).await;
    });
    Ok(Reply::stream("application/json", receiver))
}

/// `docker logs`.
pub async fn logs(call: Call) -> Result<Reply> {
    let options = LogOptions {
        stdout: call.query.on("stdout"),
        stderr: call.query.on("stderr"),
        follow: call.query.on("follow"),
        timestamps: call.query.on("timestamps"),
        tail: call.query.text("tail").and_then(|t| t.parse().ok()),
        since: time(&call, "since")?,
        until: time(&call, "until")?,
    };
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let (name, timestamps) = (call.name().to_owned(), options.timestamps);
    let (tty, log) = blocking(&call.server, move |engine| {
        let record = engine.record(&name)?;
        Ok((record.tty(), engine.open_log(&record.id, &options)?))
    })
    .await?;
    let kind = if tty || !call.since(42) { RAW } else { MULTIPLEXED };
    let (sender, receiver) = channel(4);
    tokio::spawn(follow(log, tty, timestamps, sender));
    Ok(Reply::stream(kind, receiver))
}

/// `1700000000.5`, or a time of RFC 3339, in nanoseconds.
fn time(call: &Call, name: &str) -> Result<Option<i64>> {
    let Some(text) = call.query.text(name).filter(|t| *t != "0") else {
        return Ok(None);
    };
    let bad = || Error::invalid(format!("invalid value for {name:?}: {text:?} is no time"));
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(time.as_nanosecond() as i64));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| bad())?;
    let nanoseconds: i64 = format!("{fraction:0<9}")
        .get(..9)
        .and_then(|f| f.parse().ok())
        .ok_or_else(bad)?;
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|s| s.checked_add(nanoseconds))
        .map(Some)
        .ok_or_else(bad)
}

/// Reads a log to its end, a piece at a time, without a thread while nothing comes.
async fn follow(log: LogStream, tty: bool, timestamps: bool, sender: Sender<Result<Bytes>>) {
    let mut log = log;
    loop {
        let to = sender.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = BytesMut::new();
            let more = log.read(&mut |entry| {
                write(&mut piece, &entry, tty, timestamps);
                piece.len() < PIECE || to.blocking_send(Ok(piece.split().freeze())).is_ok()
            });
            let more = match more {
                Ok(more) => more && !to.is_closed(),
                Err(error) => {
                    let _ = to.blocking_send(Err(error));
                    false
                }
            };
            if !piece.is_empty() && to.blocking_send(Ok(piece.freeze())).is_err() {
                return None;
            }
            more.then_some(log)
        });
        match read.await {
            Ok(Some(back)) => log = back,
            _ => return,
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = sender.closed() => return,
        }
    }
}

fn write(piece: &mut BytesMut, entry: &LogEntry, tty: bool, timestamps: bool) {
    let stamp = if timestamps {
        format!("{} ", entry.time)
    } else {
        String::new()
    };
    if !tty {
        piece.put_slice(&frames::header(entry.stream, stamp.len() + entry.bytes.len()));
    }
    piece.put_slice(stamp.as_bytes());
    piece.put_slice(&entry.bytes);
}
