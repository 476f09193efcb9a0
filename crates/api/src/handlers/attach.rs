//! Attach, wait, logs: what stays connected to a container.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use engine::container::{LogEntry, LogOptions, LogStream, WaitCondition};
use engine::link::Request;
use engine::models::ContainerWaitResponse;
use errdefs::{Error, Result};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{Sender, channel};

use crate::Server;
use crate::call::{Call, blocking};
use crate::frames::{self, Keys};
use crate::hijack::{self, MULTIPLEXED, RAW, Streams, Takeover};
use crate::pending::{self, Place};
use crate::reply::Reply;
use crate::watch::Wakings;
use crate::websocket;

/// How often a follower looks for more for a while after something has happened: the end of a container is told in steps.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often it does so.
const LOOKS: u32 = 20;
/// How often it looks when nothing happens: for a monitor that was killed, which nobody tells.
const SELDOM: Duration = Duration::from_secs(60);
/// What comes at once is read at once.
const TOGETHER: Duration = Duration::from_millis(5);
/// Log entries are put together up to this size.
const PIECE: usize = 32 << 10;

/// `docker attach`, also before the start.
pub async fn attach(call: Call) -> Result<Reply> {
    let session = Session::begin(&call, Keys::parse(call.query.text("detachKeys"))?).await?;
    let kind = if session.streams.tty || !call.since(42) {
        RAW
    } else {
        MULTIPLEXED
    };
    let run = move |client: hijack::Client| -> hijack::Boxed<()> { Box::pin(session.serve(client)) };
    Ok(Reply::takeover(Takeover::raw(kind, call.upgrade.as_deref(), run)))
}

/// The same, over a web socket: output without headers.
pub async fn attach_ws(call: Call) -> Result<Reply> {
    let head = websocket::head(&call.headers)?;
    let mut session = Session::begin(&call, Keys::parse(call.query.text("detachKeys"))?).await?;
    session.streams.bare = true;
    let run = move |client: hijack::Client| -> hijack::Boxed<()> {
        Box::pin(async move { websocket::serve(client, |inner| Box::pin(session.serve(inner))).await })
    };
    Ok(Reply::takeover(Takeover {
        head,
        run: Box::new(run),
    }))
}

/// A client that is about to be attached.
struct Session {
    server: Arc<Server>,
    id: String,
    streams: Streams,
    logs: Option<LogOptions>,
    live: bool,
    /// It runs already.
    now: Option<UnixStream>,
    /// It does not: what its start takes along.
    place: Option<Place>,
}

impl Session {
    /// Everything that is done before the answer: whoever has it may start the container.
    async fn begin(call: &Call, keys: Keys) -> Result<Self> {
        let name = call.name().to_owned();
        let record = blocking(&call.server, move |engine| engine.record(&name)).await?;
        let (id, tty) = (record.id.clone(), record.tty());
        let stdin = call.query.on("stdin") && record.body.open_stdin.unwrap_or(false);
        let streams = Streams {
            stdin,
            stdout: call.query.on("stdout"),
            stderr: call.query.on("stderr"),
            tty,
            bare: tty,
            keys,
        };
        let logs = call.query.on("logs").then(|| LogOptions {
            stdout: streams.stdout,
            stderr: streams.stderr,
            ..Default::default()
        });
        let mut session = Session {
            server: call.server.clone(),
            id,
            streams,
            logs,
            live: call.query.on("stream"),
            now: None,
            place: None,
        };
        if session.live {
            session.connect().await?;
        }
        Ok(session)
    }

    async fn connect(&mut self) -> Result<()> {
        let (id, stdin) = (self.id.clone(), self.streams.stdin);
        let socket = blocking(&self.server, move |engine| match engine.runs(&id)? {
            Some(true) => engine.attach_with(&id, stdin).map(Some),
            _ => Ok(None),
        });
        match socket.await? {
            Some(socket) => self.now = Some(pending::polled(socket)?),
            None => self.place = Some(Place::take(&self.server, &self.id, &Request::Attach { stdin })?),
        }
        Ok(())
    }

    /// Everything after the answer.
    async fn serve(self, mut client: hijack::Client) {
        if let Some(options) = self.logs {
            let id = self.id.clone();
            if let Ok(log) = blocking(&self.server, move |engine| engine.open_log(&id, &options)).await {
                client = match print(log, self.streams.bare, client).await {
                    Some(client) => client,
                    None => return,
                };
            }
        }
        let socket = match self.now {
            Some(socket) => Some(socket),
            None if self.live => {
                let attached = pending::attached(&self.server, &self.id, self.streams.stdin, self.place);
                attached.await.ok().flatten()
            }
            None => None,
        };
        match socket {
            Some(socket) => hijack::join(client, socket, self.streams).await,
            None => {
                client.ready.await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut client.writer).await;
            }
        }
    }
}

/// What was written before; `None` when the client is gone.
async fn print(log: LogStream, bare: bool, mut client: hijack::Client) -> Option<hijack::Client> {
    client.ready.as_mut().await;
    client.ready = Box::pin(std::future::ready(()));
    let (sender, mut pieces) = channel(4);
    tokio::spawn(follow(log, Vec::new(), bare, false, sender));
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
        since: call.time("since")?,
        until: call.time("until")?,
    };
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let (name, timestamps) = (call.name().to_owned(), options.timestamps);
    let (tty, log, places) = blocking(&call.server, move |engine| {
        let record = engine.record(&name)?;
        let places = [engine.roots.container(&record.id), engine.roots.live(&record.id)];
        Ok((record.tty(), engine.open_log(&record.id, &options)?, places))
    })
    .await?;
    // Where there is no such place any more, nothing will be written to it.
    let places = places.iter().filter(|_| call.query.on("follow"));
    let wakings = places
        .filter_map(|place| call.server.watcher.follow(place).ok())
        .collect();
    let kind = if tty || !call.since(42) { RAW } else { MULTIPLEXED };
    let (sender, receiver) = channel(4);
    tokio::spawn(follow(log, wakings, tty, timestamps, sender));
    Ok(Reply::stream(kind, receiver))
}

/// Reads a log to its end, a piece at a time, without a thread while nothing comes.
async fn follow(log: LogStream, mut wakings: Vec<Wakings>, tty: bool, timestamps: bool, sender: Sender<Result<Bytes>>) {
    let (mut log, mut looks) = (log, 0);
    loop {
        wakings.iter_mut().for_each(Wakings::forget);
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
        looks += 1;
        let patience = if looks < LOOKS { LOOK_AGAIN } else { SELDOM };
        tokio::select! {
            () = any(&mut wakings) => {
                looks = 0;
                tokio::time::sleep(TOGETHER).await;
            }
            () = tokio::time::sleep(patience) => {}
            () = sender.closed() => return,
        }
    }
}

/// When something has happened in one of the places.
async fn any(wakings: &mut [Wakings]) {
    match wakings {
        [] => std::future::pending().await,
        [one] => one.next().await,
        [one, two, ..] => tokio::select! {
            () = one.next() => {}
            () = two.next() => {}
        },
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
