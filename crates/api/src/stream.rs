//! Between the engine's blocking readers and writers and bodies that come and go in pieces.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use errdefs::{Error, Kind, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::Server;
use crate::reply::{Reply, words};

/// Pieces that wait for a client that reads slowly; then the writer waits, too.
const DEPTH: usize = 8;
/// Small writes are put together up to this size.
const PIECE: usize = 32 << 10;
/// A client that sends nothing for so long is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What blocking code writes into; the other end is a reply's body.
pub struct Pipe {
    sender: Sender<Result<Bytes>>,
    waiting: BytesMut,
}

impl Pipe {
    fn send(&mut self) -> std::io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = self.waiting.split().freeze();
        let sent = self.sender.blocking_send(Ok(piece));
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.send()
    }
}

/// What is done when a stream fails after it has begun.
#[derive(Clone, Copy, PartialEq)]
pub enum Late {
    /// The connection is broken off: what came is no whole.
    Break,
    /// A line of Docker's JSON says so.
    Say,
}

/// Runs blocking code that writes a body. What fails before its first byte is an error like any other.
pub async fn written<F>(server: &Arc<Server>, kind: &'static str, late: Late, write: F) -> Result<Reply>
where
    F: FnOnce(&engine::Engine, &mut Pipe) -> Result<()> + Send + 'static,
{
    let (sender, mut receiver) = channel(DEPTH);
    let server = server.clone();
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe {
            sender: sender.clone(),
            waiting: BytesMut::new(),
        };
        let result = server.engines.with(|engine| write(engine, &mut pipe));
        let _ = pipe.send();
        if let Err(error) = result {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let first = match receiver.recv().await {
        Some(Err(error)) => return Err(error),
        first => first,
    };
    Ok(Reply::stream(kind, forward(first, receiver, late)))
}

/// The first piece again, and the rest.
fn forward(first: Option<Result<Bytes>>, mut rest: Receiver<Result<Bytes>>, late: Late) -> Receiver<Result<Bytes>> {
    let (sender, receiver) = channel(1);
    tokio::spawn(async move {
        let mut next = first;
        while let Some(piece) = next {
            let piece = match piece {
                Err(error) if late == Late::Say => Ok(error_line(&error)),
                other => other,
            };
            if sender.send(piece).await.is_err() {
                return;
            }
            next = tokio::select! {
                next = rest.recv() => next,
                () = sender.closed() => None,
            };
        }
    });
    receiver
}

/// Docker's line for what failed in the middle.
pub fn error_line(error: &Error) -> Bytes {
    let words = words(error);
    let line = serde_json::json!({"errorDetail": {"message": words}, "error": words});
    format!("{line}\r\n").into()
}

/// A request's body for blocking code.
pub struct Upload {
    receiver: Receiver<std::io::Result<Bytes>>,
    rest: Bytes,
}

impl Upload {
    /// Reads the body as fast as it is asked for.
    pub fn new(mut body: Incoming) -> Self {
        let (sender, receiver) = channel(DEPTH);
        tokio::spawn(async move {
            loop {
                let piece = match tokio::time::timeout(PATIENCE, body.frame()).await {
                    Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
                    Ok(Some(Err(e))) => Err(std::io::Error::other(e)),
                    Ok(None) => return,
                    Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
                };
                let failed = piece.is_err();
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        Upload {
            receiver,
            rest: Bytes::new(),
        }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// A body that has to be small, all of it.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(e))) => return Err(Error::caused("read the request's body", e).kind_is(Kind::Invalid)),
            Ok(None) => return Ok(bytes.freeze()),
            Err(_) => return Err(Error::invalid("the request's body does not come")),
        };
        if bytes.len() + frame.len() > limit {
            return Err(Error::invalid(format!(
                "the request's body is larger than {} KiB",
                limit >> 10
            )));
        }
        bytes.extend_from_slice(&frame);
    }
}
