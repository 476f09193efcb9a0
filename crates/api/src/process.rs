//! The streams of an added process, joined to a client's connection.

use std::os::fd::AsFd;

use engine::container::Execed;
use errdefs::{Result, Step};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::Duration;

use crate::frames::{self, Keys, header};
use crate::hijack::Client;
use crate::pending::polled;

/// One read.
const BUFFER: usize = 16 << 10;
/// After its end others may still have what it wrote to open: what they write is not waited for longer than that.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A process, polled.
pub struct Process {
    execed: Execed,
    ended: UnixStream,
    streams: Streams,
}

enum Streams {
    /// Both sides of one descriptor.
    Terminal(pipe::Receiver, pipe::Sender),
    Pipes {
        stdin: Option<pipe::Sender>,
        outputs: Vec<(u8, pipe::Receiver)>,
    },
}

impl Process {
    /// Takes its streams.
    pub fn new(mut execed: Execed) -> Result<Self> {
        let step = "poll the process's streams";
        let ended = execed.ended().as_fd().try_clone_to_owned().step(step)?;
        let streams = match execed.console.take() {
            Some(console) => {
                // It is no pipe, and is polled, read and written as one.
                rustix::io::ioctl_fionbio(&console, true)
                    .map_err(std::io::Error::from)
                    .step(step)?;
                let other = console.try_clone().step(step)?;
                let reader = pipe::Receiver::from_owned_fd_unchecked(console).step(step)?;
                Streams::Terminal(reader, pipe::Sender::from_owned_fd_unchecked(other).step(step)?)
            }
            None => {
                let mut outputs = Vec::new();
                for (number, fd) in [(1, execed.stdout.take()), (2, execed.stderr.take())] {
                    if let Some(fd) = fd {
                        outputs.push((number, pipe::Receiver::from_owned_fd(fd).step(step)?));
                    }
                }
                let stdin = execed.stdin.take().map(pipe::Sender::from_owned_fd);
                Streams::Pipes {
                    stdin: stdin.transpose().step(step)?,
                    outputs,
                }
            }
        };
        Ok(Process {
            execed,
            ended: polled(ended.into())?,
            streams,
        })
    }

    /// Until it has ended, its output is out, and the client has it; or until the client detaches, or is gone.
    /// `framed`: with eight bytes before each piece, a terminal's too.
    pub async fn join(self, client: Client, keys: Keys, framed: bool) {
        match self.streams {
            Streams::Terminal(from, to) => terminal((from, to), self.ended, client, (keys, framed)).await,
            Streams::Pipes { stdin, outputs } => pipes(stdin, outputs, self.ended, client, framed).await,
        }
        // Only now: as long as we have it, the monitor leaves the output to us.
        drop(self.execed);
    }
}

async fn terminal(console: (pipe::Receiver, pipe::Sender), ended: UnixStream, client: Client, how: (Keys, bool)) {
    let (mut keys, framed) = how;
    let (mut from, mut to) = console;
    let Client { mut reader, mut writer } = client;
    let output = async {
        let end = wait_for_end(ended);
        tokio::pin!(end);
        let (mut buffer, mut over) = (vec![0; BUFFER], false);
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = &mut end, if !over => {
                    over = true;
                    continue;
                }
                () = tokio::time::sleep(LAST_WORDS), if over => Ok(0),
            };
            match read {
                Ok(read @ 1..) if writer.write_all(&piece(1, &buffer[..read], framed)).await.is_ok() => {}
                // The other side is closed: EIO.
                _ => break,
            }
        }
        // Whoever sees our end asks for the code.
        if !over {
            end.await;
        }
        let _ = writer.shutdown().await;
    };
    let input = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let (bytes, detached) = keys.filter(&buffer[..read]);
            if to.write_all(&bytes).await.is_err() || detached {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}

async fn pipes(
    stdin: Option<pipe::Sender>,
    outputs: Vec<(u8, pipe::Receiver)>,
    ended: UnixStream,
    client: Client,
    framed: bool,
) {
    let Client { mut reader, mut writer } = client;
    let (sender, mut pieces) = channel::<Vec<u8>>(2);
    let readers: Vec<_> = outputs
        .into_iter()
        .map(|(number, output)| tokio::spawn(read_pieces(number, output, framed, sender.clone())))
        .collect();
    drop(sender);
    let output = async {
        let end = wait_for_end(ended);
        tokio::pin!(end);
        let mut over = false;
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = &mut end, if !over => {
                    over = true;
                    continue;
                }
                () = tokio::time::sleep(LAST_WORDS), if over => None,
            };
            match piece {
                Some(piece) if writer.write_all(&piece).await.is_ok() => {}
                _ => break,
            }
        }
        // All output may be closed long before the end.
        if !over {
            end.await;
        }
        let _ = writer.shutdown().await;
    };
    let input = async {
        let mut stdin = stdin;
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            if let Some(pipe) = &mut stdin
                && pipe.write_all(&buffer[..read]).await.is_err()
            {
                stdin = None;
            }
        }
        drop(stdin);
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn read_pieces(number: u8, mut output: impl AsyncRead + Unpin, framed: bool, sender: Sender<Vec<u8>>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        if sender.send(piece(number, &buffer[..read], framed)).await.is_err() {
            return;
        }
    }
}

/// The monitor says so, or is gone.
async fn wait_for_end(mut ended: UnixStream) {
    let _ = frames::message(&mut ended).await;
}

fn piece(number: u8, bytes: &[u8], framed: bool) -> Vec<u8> {
    let header = header(number, bytes.len());
    [if framed { &header[..] } else { &[] }, bytes].concat()
}
