//! How a front door talks to the monitor of one container, over `LIVE/monitor.sock` (SOCK_STREAM).
//!
//! ```text
//! front door                                        monitor
//!    | message: Request (+ descriptors for Exec) ------>|
//!    |<--------- message: Answer (+ terminal's master) -|
//!    |                                                  |
//!    | after Attach, frames in both directions:         |
//!    |   Stdin, CloseStdin, Resize -------------------->|
//!    |<--------------------- Stdout, Stderr, then Exit  |
//!    | after Exec and Wait, one more message:           |
//!    |<-------------------------------- Answer::Exited  |
//! ```
//!
//! A message is four bytes of length (big endian) and that much JSON. The first stream is one that the monitor is born
//! with: `Begin`, and then the same protocol, so that no output can be missed.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Kind, Result, Step, Wire};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

/// No message is longer (the kernel's own limit on arguments and environment is 2 MiB).
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// No frame carries more.
pub const FRAME_LIMIT: usize = 1 << 20;
/// Descriptors that come with one message.
pub const FDS_LIMIT: usize = 32;

/// What a front door asks of a monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first of all, from whoever started the monitor: the container is made, run it. With it come connections of
    /// clients that were there before the start; what they ask is waiting in them.
    Begin {
        /// As [`Request::Attach`] with input, before the first byte is written.
        attach: bool,
        /// The networks that it is on.
        #[serde(default)]
        networks: Vec<network::Attachment>,
    },
    /// Stream output from now on, and take input if `stdin`.
    Attach {
        /// Whether this client's frames of input reach the container.
        stdin: bool,
    },
    /// Add a process. Its standard streams come as descriptors, unless it gets a terminal.
    Exec(Box<ExecRequest>),
    /// Send a signal to the first process.
    Kill {
        /// Its number.
        signal: i32,
    },
    /// Signal, wait, then kill; no restart afterwards. Answered when the container has ended.
    Stop {
        /// Its number.
        signal: i32,
        /// Seconds; negative waits for ever.
        timeout: i64,
    },
    /// Freeze or thaw all processes.
    Pause {
        /// Freeze.
        paused: bool,
    },
    /// The terminal's new size.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
    /// The size of an added process's terminal.
    ResizeExec {
        /// Its [`ExecRequest::id`].
        id: String,
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
    },
    /// Change what is written down of the container, and what follows from it.
    Amend(Box<Amendment>),
    /// Answer once the container's process has ended.
    Wait,
    /// Attach the container to one network more.
    Connect {
        /// With its addresses.
        attachment: Box<network::Attachment>,
    },
    /// A network has another egress policy.
    Egress {
        /// Its id.
        network: String,
        /// `None`: none.
        policy: Option<network::egress::Policy>,
    },
    /// Take it off a network.
    Disconnect {
        /// Its id.
        network: String,
    },
}

/// What can change about a container that was made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amendment {
    /// Its name.
    Name(String),
    /// Its own egress policy; empty: none.
    Egress(String),
    /// Its limits and its restart policy.
    Settings(Box<bollard_stubs::models::ContainerUpdateBody>),
    /// It has no other container under this alias any more.
    Unlink(String),
}

/// A process to add, its user already looked up inside the container.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Names it in events and `inspect`.
    pub id: String,
    /// The OCI process, complete.
    pub process: runtime::oci::Process,
    /// The terminal's first size: rows, columns.
    pub size: (u16, u16),
    /// It was made before, and can be inspected afterwards: see `container::exec_object`.
    #[serde(default)]
    pub object: bool,
    /// It goes on when its client is gone: what it writes then is thrown away.
    #[serde(default)]
    pub lasting: bool,
}

/// What a monitor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// The container, or the added process, runs.
    Started {
        /// In the host's pid namespace.
        pid: i32,
        /// What the user should know.
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// The process has ended.
    Exited(Exit),
    /// It failed.
    Failed(Wire),
}

/// What a frame of an attached stream is. On the wire: Docker's 8-byte header (`[kind, 0, 0, 0, length u32 BE]`), then
/// `length` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Input for the container.
    Stdin = 0,
    /// Its standard output, or all of a terminal's.
    Stdout = 1,
    /// Its standard error.
    Stderr = 2,
    /// JSON [`Exit`]; the last frame.
    Exit = 3,
    /// The terminal's new size: rows and columns, two u16 BE.
    Resize = 4,
    /// There is no more input.
    CloseStdin = 5,
}

impl FrameKind {
    /// From the header's first byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        use FrameKind::*;
        [Stdin, Stdout, Stderr, Exit, Resize, CloseStdin]
            .into_iter()
            .find(|k| *k as u8 == byte)
    }

    /// The header of a frame of this kind.
    pub fn header(self, length: usize) -> [u8; 8] {
        let [a, b, c, d] = (length as u32).to_be_bytes();
        [self as u8, 0, 0, 0, a, b, c, d]
    }
}

/// How a container, or an added process, ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// 0-255, or 128 + the signal.
    pub code: i32,
    /// The kernel killed a process of it for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Why it could not be started or kept.
    #[serde(default)]
    pub error: Option<String>,
    /// Why it ended so, if that needs words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<compat::why::Cause>,
    /// RFC 3339, nanoseconds.
    pub finished_at: String,
}

/// An attached container.
pub struct Attached {
    /// The stream of frames; pollable.
    pub socket: UnixStream,
    /// Whether the container has a terminal (then everything is [`FrameKind::Stdout`]).
    pub tty: bool,
    /// What the user should know about the start.
    pub warnings: Vec<String>,
}

impl Attached {
    /// The next frame's bytes into `buffer`; `None` when the monitor is gone.
    pub fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameKind>> {
        let mut header = [0; 8];
        match self.socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e).step("read from the monitor"),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let kind = FrameKind::from_byte(header[0]).filter(|_| length <= FRAME_LIMIT);
        let kind = kind.ok_or_else(|| Error::system("the monitor sent a frame that is none"))?;
        buffer.resize(length, 0);
        self.socket.read_exact(buffer).step("read from the monitor")?;
        Ok(Some(kind))
    }

    /// Sends one frame.
    pub fn write_frame(&mut self, kind: FrameKind, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(FRAME_LIMIT).chain(bytes.is_empty().then_some(&[][..])) {
            self.socket
                .write_all(&kind.header(chunk.len()))
                .step("write to the monitor")?;
            self.socket.write_all(chunk).step("write to the monitor")?;
        }
        Ok(())
    }
}

/// Connects to a monitor's socket.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let connect = |path: &Path| UnixStream::connect(path).step("connect to the container's monitor");
    by_short_name(socket, connect).map_err(|e| e.kind_is(Kind::Unavailable))
}

/// Listens at a monitor's socket.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    by_short_name(socket, |path| UnixListener::bind(path).step("listen for clients"))
}

/// A socket's address has 108 bytes (unix(7)), a path may have 4096: the directory goes by its descriptor.
fn by_short_name<T>(socket: &Path, call: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(
        socket.parent().unwrap_or(Path::new("/")),
        flags,
        rustix::fs::Mode::empty(),
    );
    let dir = dir.errno_step("open the container's live directory")?;
    let name = socket.file_name().unwrap_or_default();
    call(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// Sends one message, with descriptors if any.
pub fn send(stream: BorrowedFd<'_>, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let body = serde_json::to_vec(message).step("encode a message")?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let mut sent = rustix::net::sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
        .errno_step("write to the monitor")?;
    while sent < bytes.len() {
        sent += rustix::net::send(stream, &bytes[sent..], SendFlags::NOSIGNAL).errno_step("write to the monitor")?;
    }
    Ok(())
}

/// Receives one message and the descriptors that came with it; `None` at the end of the stream.
pub fn receive<T: for<'a> Deserialize<'a>>(stream: BorrowedFd<'_>) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0u8; 4];
    let (read, fds) = receive_with_fds(stream, &mut length).errno_step("read from the monitor")?;
    if read == 0 {
        return Ok(None);
    }
    read_exact(stream, &mut length[read..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Error::system("the monitor sent a message over the limit"));
    }
    let mut body = vec![0; length];
    read_exact(stream, &mut body)?;
    Ok(Some((serde_json::from_slice(&body).step("decode a message")?, fds)))
}

/// One `recvmsg`: how much was read, and the descriptors that came along (close-on-exec).
pub fn receive_with_fds(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match rustix::net::recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CONNRESET) => return Ok((0, Vec::new())),
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((got.bytes, fds))
}

fn read_exact(stream: BorrowedFd<'_>, mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        match rustix::io::read(stream, &mut *buffer) {
            Ok(0) => return Err(Error::new(Kind::Unavailable, "the container's monitor went away")),
            Ok(n) => buffer = &mut buffer[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).errno_step("read from the monitor"),
        }
    }
    Ok(())
}

/// Receives an answer; a `Failed` one, or none, is an error.
pub fn answer(stream: &UnixStream) -> Result<(Answer, Vec<OwnedFd>)> {
    match receive(stream.as_fd())? {
        Some((Answer::Failed(wire), _)) => Err(wire.into()),
        Some(answer) => Ok(answer),
        None => Err(Error::new(Kind::Unavailable, "the container's monitor went away")),
    }
}

/// One request, one answer.
pub fn call(socket: &Path, request: &Request) -> Result<Answer> {
    let stream = connect(socket)?;
    send(stream.as_fd(), request, &[])?;
    Ok(answer(&stream)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_its_descriptors_arrive_together() {
        let (a, b) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(a.as_fd(), &Request::Kill { signal: 9 }, &[null.as_fd()]).unwrap();
        let (request, fds) = receive::<Request>(b.as_fd()).unwrap().unwrap();
        assert!(matches!(request, Request::Kill { signal: 9 }));
        assert_eq!(fds.len(), 1);
        drop(a);
        assert!(receive::<Request>(b.as_fd()).unwrap().is_none());
    }
}
