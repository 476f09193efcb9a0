//! A front door that is connected: what it waits for, and what is still to be sent to it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::link::{self, Answer, Exit, FRAME_LIMIT, FrameKind};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// While more than this waits for an attached client, the container's output is not read: a slow reader slows the
/// container down, as a pipe would, and the monitor stays small.
pub const BACKLOG: usize = 256 * 1024;

/// Who takes nothing for so long while others read is let go: it holds up itself alone.
pub const STUCK: Duration = Duration::from_secs(10);

/// What a client is there for.
pub enum Role {
    /// It has not asked anything yet.
    New,
    /// It gets the container's output; its input reaches the container if `stdin`.
    Attached { stdin: bool },
    /// It wants to know when the container has ended.
    Waiting,
    /// It asked for a stop, and wants to know when that is done.
    Stopping,
    /// It wants to know when the process it added has ended.
    Exec,
}

/// One connection.
pub struct Client {
    /// Names it as long as it is there.
    pub number: u64,
    /// Non-blocking once attached.
    pub socket: UnixStream,
    pub role: Role,
    outgoing: Vec<u8>,
    /// Since when it takes nothing of that.
    stuck: Option<Instant>,
    incoming: Vec<u8>,
    /// It is gone, or has sent what is no frame.
    pub gone: bool,
}

/// When the next one that takes nothing is to be let go: only as long as somebody reads whom it holds up.
pub fn next_let_go(clients: &[Client]) -> Option<Instant> {
    let reads = |c: &Client| matches!(c.role, Role::Attached { .. }) && c.backlog() < BACKLOG;
    let next = clients.iter().filter_map(Client::let_go_at).min();
    next.filter(|_| clients.iter().any(reads))
}

/// Lets those go whose time has come.
pub fn let_stuck_go(clients: &mut [Client]) {
    let now = Instant::now();
    if next_let_go(clients).is_some_and(|at| at <= now) {
        let over = |c: &Client| c.let_go_at().is_some_and(|at| at <= now);
        clients.iter_mut().for_each(|c| c.gone |= over(c));
    }
}

/// A frame from an attached client.
pub struct Frame {
    pub kind: FrameKind,
    pub bytes: Vec<u8>,
}

impl Client {
    /// A connection that has not asked anything yet.
    pub fn new(number: u64, socket: UnixStream) -> Self {
        Client {
            number,
            socket,
            role: Role::New,
            outgoing: Vec::new(),
            stuck: None,
            incoming: Vec::new(),
            gone: false,
        }
    }

    /// From now on frames go both ways.
    pub fn attach(&mut self, stdin: bool) {
        self.role = Role::Attached { stdin };
        self.gone |= self.socket.set_nonblocking(true).is_err();
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.outgoing.len()
    }

    /// Sends one message; a client that does not take it is gone.
    pub fn answer(&mut self, answer: &Answer, fds: &[std::os::fd::BorrowedFd<'_>]) {
        self.gone |= link::send(self.socket.as_fd(), answer, fds).is_err();
    }

    /// Queues a frame and sends what can be sent.
    pub fn push(&mut self, kind: FrameKind, bytes: &[u8]) {
        if self.outgoing.is_empty() {
            self.outgoing.reserve_exact(bytes.len() + 8);
        }
        self.outgoing.extend_from_slice(&kind.header(bytes.len()));
        self.outgoing.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends what can be sent now.
    pub fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match rustix::net::send(&self.socket, &self.outgoing[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.outgoing.drain(..sent);
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
        if sent > 0 || self.outgoing.is_empty() {
            self.stuck = None;
        } else if self.stuck.is_none() {
            self.stuck = Some(Instant::now());
        }
    }

    /// When it will have taken nothing for too long, if it holds up the others.
    pub fn let_go_at(&self) -> Option<Instant> {
        self.stuck
            .filter(|_| self.backlog() >= BACKLOG)
            .map(|since| since + STUCK)
    }

    /// Reads what has come; whole frames.
    pub fn frames(&mut self, buffer: &mut [u8]) -> Vec<Frame> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.gone = true,
            Ok((read, _)) => self.incoming.extend_from_slice(&buffer[..read]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
        let mut frames = Vec::new();
        let mut start = 0;
        while let Some(header) = self.incoming.get(start..start + 8) {
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            let Some(kind) = FrameKind::from_byte(header[0]).filter(|_| length <= FRAME_LIMIT) else {
                self.gone = true;
                break;
            };
            let Some(bytes) = self.incoming.get(start + 8..start + 8 + length) else {
                break;
            };
            frames.push(Frame {
                kind,
                bytes: bytes.to_vec(),
            });
            start += 8 + length;
        }
        self.incoming.drain(..start);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        frames
    }

    /// Tells it that the container has ended; waits for slow readers, but not for ever.
    pub fn finish(&mut self, exit: &Exit) {
        match self.role {
            Role::Attached { .. } => {
                let _ = self.socket.set_nonblocking(false);
                let _ = self.socket.set_write_timeout(Some(std::time::Duration::from_secs(10)));
                self.push(FrameKind::Exit, &serde_json::to_vec(exit).unwrap_or_default());
            }
            Role::Waiting => self.answer(&Answer::Exited(exit.clone()), &[]),
            Role::Stopping => self.answer(&Answer::Done, &[]),
            Role::Exec | Role::New => {}
        }
    }
}
