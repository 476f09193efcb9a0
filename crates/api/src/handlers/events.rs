//! `docker events`.

use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use engine::event::{self, EventOptions, EventStream};
use errdefs::{Error, Result, Step};
use hyper::header::ACCEPT;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{Sender, channel};

use crate::call::{Call, blocking};
use crate::reply::Reply;

/// RFC 7464, for clients that ask for it.
const SEQUENCE: &str = "application/json-seq";
const LINES: &str = "application/x-ndjson";

/// What happened since, and what happens.
pub async fn events(call: Call) -> Result<Reply> {
    let options = EventOptions {
        since: call.time("since")?,
        until: call.time("until")?,
        filters: call.filters()?,
    };
    let stream = blocking(&call.server, move |engine| engine.event_stream(&options)).await?;
    let accepted = call
        .headers
        .get(ACCEPT)
        .and_then(|a| a.to_str().ok())
        .unwrap_or_default();
    let kind = [SEQUENCE, LINES]
        .into_iter()
        .find(|k| accepted.contains(k))
        .unwrap_or("application/json");
    let (sender, receiver) = channel(4);
    tokio::spawn(async move {
        if let Err(error) = follow(stream, kind == SEQUENCE, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Reply::stream(kind, receiver))
}

async fn follow(mut stream: EventStream, sequence: bool, sender: &Sender<Result<Bytes>>) -> Result<()> {
    let step = "follow the events";
    let wakings = stream.as_fd().try_clone_to_owned().step(step)?;
    let wakings = pipe::Receiver::from_owned_fd_unchecked(wakings).step(step)?;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            while let Some(event) = stream.next()? {
                if sequence {
                    text.push('\x1e');
                }
                text.push_str(&event::document(&event).to_string());
                text.push('\n');
            }
            Ok::<_, Error>((stream, text))
        });
        let text;
        (stream, text) = read.await.step(step)??;
        if !text.is_empty() && sender.send(Ok(text.into())).await.is_err() {
            return Ok(());
        }
        if stream.ended() {
            return Ok(());
        }
        let left = stream.left().unwrap_or(Duration::from_secs(3600));
        tokio::select! {
            ready = wakings.readable() => {
                ready.step(step)?;
                // What comes after that wakes us again.
                while wakings.try_read(&mut [0; 4096]).is_ok() {}
            }
            () = tokio::time::sleep(left) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}
