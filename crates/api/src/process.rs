//! The streams of an added process, joined to a client's connection.

use std::os::fd::AsFd;

use engine::container::Execed;
use errdefs::{Result, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::watch;
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
    let Client {
        mut reader,
        mut writer,
        ready,
        gone,
    } = client;
    let end = End::of(ended);
    let output = async {
        ready.await;
        let mut buffer = vec![0; BUFFER];
        // When the other side is closed: EIO.
        while let read @ 1.. = end.read(&mut from, &mut buffer).await {
            if writer.write_all(&piece(1, &buffer[..read], framed)).await.is_err() {
                break;
            }
        }
        // Whoever sees our end asks for the code.
        end.wait().await;
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
        gone.await
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
    let Client {
        mut reader,
        mut writer,
        ready,
        gone,
    } = client;
    let (sender, mut pieces) = channel::<Vec<u8>>(2);
    let end = End::of(ended);
    let readers: Vec<_> = outputs
        .into_iter()
        .map(|(number, output)| tokio::spawn(read_pieces(number, output, framed, end.clone(), sender.clone())))
        .collect();
    drop(sender);
    let output = async {
        ready.await;
        while let Some(piece) = pieces.recv().await {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
        }
        // All output may be closed long before the end.
        end.wait().await;
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
        gone.await
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn read_pieces(number: u8, mut output: pipe::Receiver, framed: bool, end: End, sender: Sender<Vec<u8>>) {
    let mut buffer = vec![0; BUFFER];
    while let read @ 1.. = end.read(&mut output, &mut buffer).await {
        if sender.send(piece(number, &buffer[..read], framed)).await.is_err() {
            return;
        }
    }
}

/// The end of a process, for several that wait for it.
#[derive(Clone)]
struct End(watch::Receiver<bool>);

impl End {
    /// The monitor says so, or is gone.
    fn of(mut ended: UnixStream) -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = frames::message(&mut ended) => {}
                () = sender.closed() => return,
            }
            sender.send_replace(true);
        });
        End(receiver)
    }

    async fn wait(&self) {
        // Who would say so is gone only with the runtime.
        let _ = self.0.clone().wait_for(|over| *over).await;
    }

    /// What the process wrote, 0 when that is all of it: until it is closed, or until the process has ended and nothing is left.
    async fn read(&self, output: &mut pipe::Receiver, buffer: &mut [u8]) -> usize {
        tokio::select! {
            biased;
            read = output.read(buffer) => return read.unwrap_or(0),
            () = self.wait() => {}
        }
        match tokio::time::timeout(LAST_WORDS, output.read(buffer)).await {
            Ok(read) => read.unwrap_or(0),
            // A busy machine may not have told us of what is there: the descriptor itself knows.
            Err(_) => rustix::io::read(&*output, buffer).unwrap_or(0),
        }
    }
}

fn piece(number: u8, bytes: &[u8], framed: bool) -> Vec<u8> {
    let header = header(number, bytes.len());
    [if framed { &header[..] } else { &[] }, bytes].concat()
}
