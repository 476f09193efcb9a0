//! Connections that stop speaking HTTP: raw bytes both ways between a client and a process.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use engine::link::FrameKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::frames::{self, Keys};

/// One read of a client's input.
const BUFFER: usize = 16 << 10;

/// Output as it is, of a terminal.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Output with eight bytes before each piece.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// A future that is somewhere in memory.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A connection after its last request.
pub struct Client {
    /// From the client, what had been read with the request first.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// To the client.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Until the client has read the head: nothing is to be written before.
    pub ready: Boxed<()>,
    /// Until the client is gone: it may only have nothing more to say.
    pub gone: Boxed<()>,
}

/// What is done with a connection.
pub struct Takeover {
    /// The last head of HTTP that is written.
    pub head: Bytes,
    /// Everything after the head.
    pub run: Box<dyn FnOnce(Client) -> Boxed<()> + Send>,
}

impl Takeover {
    /// With the head that dockerd writes: that of an upgrade if the client asked for one, else that of an ordinary answer.
    pub fn raw(
        kind: &'static str,
        upgrade: Option<&str>,
        run: impl FnOnce(Client) -> Boxed<()> + Send + 'static,
    ) -> Self {
        let mut head = match upgrade {
            Some(protocol) => format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
            ),
            None => format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n"),
        };
        for (name, value) in crate::connection::server_headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Takeover {
            head: head.into(),
            run: Box::new(run),
        }
    }
}

/// What a client attaches to.
pub struct Streams {
    /// Its input reaches the process.
    pub stdin: bool,
    /// It gets these.
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal: keys detach.
    pub tty: bool,
    /// Output without headers.
    pub bare: bool,
    /// Which keys.
    pub keys: Keys,
}

/// Joins a client and a monitor, until the process has ended, the client detaches, or is gone.
pub async fn join(client: Client, monitor: UnixStream, mut streams: Streams) {
    let Client {
        mut reader,
        mut writer,
        ready,
        gone,
    } = client;
    let (mut from, mut to) = monitor.into_split();
    let (stdin, tty, bare) = (streams.stdin, streams.tty, streams.bare);
    let (wants, keys) = ([streams.stdout, streams.stderr], &mut streams.keys);
    let output = async {
        ready.await;
        let mut buffer = Vec::new();
        while let Ok(Some(kind)) = frames::frame(&mut from, &mut buffer).await {
            let wanted = match kind {
                FrameKind::Stdout => wants[0] || tty,
                FrameKind::Stderr => wants[1],
                FrameKind::Exit => break,
                _ => false,
            };
            if wanted && writer.write_all(&buffer[if bare { 8 } else { 0 }..]).await.is_err() {
                break;
            }
            if buffer.capacity() > 4 * BUFFER {
                buffer = Vec::new();
            }
        }
        let _ = writer.shutdown().await;
    };
    let input = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = match reader.read(&mut buffer).await {
                Ok(read) if read > 0 => &buffer[..read],
                _ => break,
            };
            if !stdin {
                continue;
            }
            let (bytes, detached) = match tty {
                true => keys.filter(read),
                false => (read.to_vec(), false),
            };
            let header = FrameKind::Stdin.header(bytes.len());
            if !bytes.is_empty() && to.write_all(&[&header[..], &bytes].concat()).await.is_err() {
                break;
            }
            if detached {
                return;
            }
        }
        drop(buffer);
        if stdin {
            // A process that has ended takes nothing any more: what it wrote is still to come.
            let _ = to.write_all(&FrameKind::CloseStdin.header(0)).await;
        }
        // There is no more input; the output goes on.
        gone.await
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}
