//! `docker events`.

use std::time::Duration;

use bytes::Bytes;
use engine::event::{self, EventOptions, EventStream};
use errdefs::{Error, Result, Step};
use hyper::header::ACCEPT;
use tokio::sync::mpsc::{Sender, channel};

use crate::call::{Call, blocking};
use crate::reply::Reply;
use crate::watch::Wakings;

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
    let opened = blocking(&call.server, move |engine| {
        Ok((engine.event_stream(&options)?, engine.roots.events()))
    });
    let (stream, dir) = opened.await?;
    let wakings = call.server.watcher.follow(&dir)?;
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
        if let Err(error) = follow(stream, wakings, kind == SEQUENCE, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Reply::stream(kind, receiver))
}

async fn follow(
    mut stream: EventStream,
    mut wakings: Wakings,
    sequence: bool,
    sender: &Sender<Result<Bytes>>,
) -> Result<()> {
    loop {
        // What comes after that wakes us again.
        wakings.forget();
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
        (stream, text) = read.await.step("follow the events")??;
        if !text.is_empty() && sender.send(Ok(text.into())).await.is_err() {
            return Ok(());
        }
        if stream.ended() {
            return Ok(());
        }
        let left = stream.left().unwrap_or(Duration::from_secs(3600));
        tokio::select! {
            () = wakings.next() => {}
            () = tokio::time::sleep(left) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}
