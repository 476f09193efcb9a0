//! Questions that are passed on: to the host's resolvers, or to those that a container was given.
//!
//! Each question has a socket of its own, and with it a port that the kernel drew; it goes out under an id that we drew.
//! Only an answer from there, with that id and that question, counts. Nothing is kept for later.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::poller::Source;
use crate::serve::{Asker, Service};
use crate::wire::{self, LONGEST, Query, code};

/// Questions that are on their way at once: of all containers, and of one.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 256;
/// Resolvers that are asked one after the other, as the C library does.
const SERVERS: usize = 3;
/// How long one is waited for if there is another, and the last one: the C library asks again after five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);
const LAST_PATIENCE: Duration = Duration::from_secs(4);
const PORT: u16 = 53;

/// A question on its way.
pub struct Forward {
    member: u64,
    asker: Asker,
    query: Query,
    /// As it was asked, but for the id.
    bytes: Vec<u8>,
    /// Under which it was asked.
    asked_id: u16,
    servers: VecDeque<SocketAddr>,
    attempt: Option<Attempt>,
    /// An answer that says that this resolver cannot answer.
    excuse: Option<Vec<u8>>,
}

/// One resolver, asked.
struct Attempt {
    socket: Socket,
    token: u64,
    deadline: Instant,
}

enum Socket {
    Datagram(UdpSocket),
    Stream {
        stream: TcpStream,
        output: Vec<u8>,
        input: Vec<u8>,
    },
}

/// What has come of a resolver.
enum Heard {
    Nothing,
    Message(Vec<u8>),
    /// It will not answer.
    Failed,
}

/// The host's resolvers, read again when the file changes.
#[derive(Default)]
pub struct Resolvers {
    addresses: Vec<IpAddr>,
    changed: Option<SystemTime>,
}

impl Resolvers {
    fn current(&mut self) -> &[IpAddr] {
        let changed = std::fs::metadata(engine::names::HOST_RESOLVERS)
            .and_then(|m| m.modified())
            .ok();
        if changed.is_none() || changed != self.changed {
            self.addresses = engine::names::host_resolvers();
            self.changed = changed;
        }
        &self.addresses
    }
}

impl Service {
    /// Asks others.
    pub fn pass_on(&mut self, member: u64, asker: Asker, query: Query, bytes: &[u8]) {
        if self.denies(member, &query) {
            let answer = query.answer(bytes, code::REFUSED, &[], query.room);
            return self.reply(member, asker, &answer);
        }
        let Some(connected) = self.members.get_mut(&member) else {
            return;
        };
        // A container's loopback is not the host's.
        let hosts_own = connected.member.servers.is_empty();
        let servers: VecDeque<SocketAddr> = match connected.member.servers.as_slice() {
            [] => self.resolvers.current(),
            own => own,
        }
        .iter()
        .filter(|address| hosts_own || !address.is_loopback())
        .take(SERVERS)
        .map(|address| SocketAddr::new(*address, PORT))
        .collect();
        if connected.waiting >= MOST_OF_ONE || self.forwards.len() >= MOST {
            let answer = query.answer(bytes, code::FAILED, &[], query.room);
            return self.reply(member, asker, &answer);
        }
        connected.waiting += 1;
        let key = self.new_key();
        let forward = Forward {
            member,
            asker,
            asked_id: u16::from_be_bytes([bytes[0], bytes[1]]),
            bytes: bytes.to_vec(),
            query,
            servers,
            attempt: None,
            excuse: None,
        };
        self.forwards.insert(key, forward);
        self.ask_next(key);
    }

    /// The next resolver; when there is none left that is the answer.
    fn ask_next(&mut self, key: u64) {
        let Some(forward) = self.forwards.get_mut(&key) else {
            return;
        };
        if let Some(attempt) = forward.attempt.take() {
            self.poller.remove(&attempt.socket, attempt.token);
        }
        while let Some(server) = forward.servers.pop_front() {
            let last = forward.servers.is_empty();
            let Ok(socket) = forward.ask(server) else { continue };
            let write = matches!(socket, Socket::Stream { .. });
            let Ok(token) = self.poller.add(&socket, Source::Resolver(key), write) else {
                continue;
            };
            let patience = if last { LAST_PATIENCE } else { PATIENCE };
            forward.attempt = Some(Attempt {
                socket,
                token,
                deadline: Instant::now() + patience,
            });
            return;
        }
        let excuse = forward.excuse.take();
        let none = || forward.query.answer(&forward.bytes, code::FAILED, &[], LONGEST);
        let answer = excuse.unwrap_or_else(none);
        self.finish(key, answer);
    }

    fn finish(&mut self, key: u64, mut answer: Vec<u8>) {
        let Some(forward) = self.forget_forward(key) else {
            return;
        };
        // What the answer leads to may be reached before anybody knows of it.
        if self.grant(forward.member, &forward.query, &answer).is_err() {
            answer = forward.query.answer(&forward.bytes, code::FAILED, &[], LONGEST);
        }
        if matches!(forward.asker, Asker::Datagram(_)) && answer.len() > forward.query.room {
            answer = forward.query.cut_off(&answer);
        }
        wire::set_id(&mut answer, forward.asked_id);
        self.reply(forward.member, forward.asker, &answer);
    }

    fn forget_forward(&mut self, key: u64) -> Option<Forward> {
        let mut forward = self.forwards.remove(&key)?;
        if let Some(attempt) = forward.attempt.take() {
            self.poller.remove(&attempt.socket, attempt.token);
        }
        if let Some(connected) = self.members.get_mut(&forward.member) {
            connected.waiting = connected.waiting.saturating_sub(1);
        }
        Some(forward)
    }

    /// Something has come from a resolver.
    pub fn hear_resolver(&mut self, key: u64, buffer: &mut [u8]) {
        let Some(forward) = self.forwards.get_mut(&key) else {
            return;
        };
        let Some(attempt) = &mut forward.attempt else {
            return;
        };
        let message = match attempt.socket.hear(buffer) {
            Heard::Nothing => {
                let write = matches!(&attempt.socket, Socket::Stream { output, .. } if !output.is_empty());
                let _ = self.poller.change(&attempt.socket, attempt.token, write);
                return;
            }
            Heard::Failed => return self.ask_next(key),
            Heard::Message(message) => message,
        };
        let id = u16::from_be_bytes([forward.bytes[0], forward.bytes[1]]);
        if !forward.query.is_answered_by(&forward.bytes, id, &message) {
            // Somebody guesses, or it is late: the right one may still come.
            return;
        }
        if [code::FAILED, code::REFUSED, code::NOT_IMPLEMENTED].contains(&wire::code_of(&message)) {
            forward.excuse.get_or_insert(message);
            return self.ask_next(key);
        }
        self.finish(key, message);
    }

    /// When the next resolver has had its time.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = |f: &Forward| f.attempt.as_ref().map(|a| a.deadline);
        self.forwards.values().filter_map(deadline).min()
    }

    /// Those that had are not waited for.
    pub fn give_up_late(&mut self) {
        let now = Instant::now();
        let late = |f: &Forward| f.attempt.as_ref().is_none_or(|a| a.deadline <= now);
        let keys: Vec<u64> = self.forwards.iter().filter(|(_, f)| late(f)).map(|(k, _)| *k).collect();
        keys.into_iter().for_each(|key| self.ask_next(key));
    }

    /// Of a container that ended.
    pub fn forget_forwards_of(&mut self, member: u64) {
        let keys: Vec<u64> = self
            .forwards
            .iter()
            .filter(|(_, f)| f.member == member)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.forget_forward(key);
        }
    }
}

impl Forward {
    /// Asks one resolver, under a new id.
    fn ask(&mut self, server: SocketAddr) -> Result<Socket> {
        let mut id = [0u8; 2];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).errno_step("draw an id")?;
        wire::set_id(&mut self.bytes, u16::from_be_bytes(id));
        match self.asker {
            Asker::Datagram(_) => {
                let any: IpAddr = match server {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let step = || format!("ask {server}");
                let socket = UdpSocket::bind(SocketAddr::new(any, 0)).step_with(step)?;
                socket.set_nonblocking(true).step_with(step)?;
                // What comes from elsewhere never gets here.
                socket.connect(server).step_with(step)?;
                socket.send(&self.bytes).step_with(step)?;
                Ok(Socket::Datagram(socket))
            }
            Asker::Caller(_) => {
                let mut output = (self.bytes.len() as u16).to_be_bytes().to_vec();
                output.extend_from_slice(&self.bytes);
                Ok(Socket::Stream {
                    stream: connect(server)?,
                    output,
                    input: Vec::new(),
                })
            }
        }
    }
}

/// A connection that is about to be made.
fn connect(server: SocketAddr) -> Result<TcpStream> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).errno_step("make a socket")?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(e) => Err(Error::caused(format!("ask {server}"), std::io::Error::from(e))),
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Datagram(socket) => socket.as_fd(),
            Socket::Stream { stream, .. } => stream.as_fd(),
        }
    }
}

impl Socket {
    /// Says what is still to be said, and takes what has come.
    fn hear(&mut self, buffer: &mut [u8]) -> Heard {
        let later = |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        match self {
            Socket::Datagram(socket) => match socket.recv(buffer) {
                Ok(length) => Heard::Message(buffer[..length].to_vec()),
                Err(e) if later(&e) => Heard::Nothing,
                Err(_) => Heard::Failed,
            },
            Socket::Stream { stream, output, input } => {
                while !output.is_empty() {
                    match stream.write(output) {
                        Ok(length) => _ = output.drain(..length),
                        Err(e) if later(&e) => return Heard::Nothing,
                        Err(_) => return Heard::Failed,
                    }
                }
                match stream.read(buffer) {
                    Ok(0) => return Heard::Failed,
                    Ok(length) => input.extend_from_slice(&buffer[..length]),
                    Err(e) if later(&e) => return Heard::Nothing,
                    Err(_) => return Heard::Failed,
                }
                let Some([high, low]) = input.first_chunk::<2>().copied() else {
                    return Heard::Nothing;
                };
                let end = 2 + usize::from(u16::from_be_bytes([high, low]));
                match input.get(2..end) {
                    Some(message) => Heard::Message(message.to_vec()),
                    None => Heard::Nothing,
                }
            }
        }
    }
}
