//! Questions over TCP: each message behind two bytes of its length (RFC 1035 4.2.2, RFC 7766).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::poller::Source;
use crate::serve::{Asker, Service};
use crate::wire::LONGEST;

/// Connections of one container at once.
const MOST: usize = 32;
/// One that says nothing and waits for nothing is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that it does not take are kept up to this size.
const BACKLOG: usize = 4 * LONGEST;

/// A connection.
pub struct Caller {
    member: u64,
    stream: TcpStream,
    token: u64,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions that are not answered.
    open: usize,
    last: Instant,
    gone: bool,
}

impl Service {
    /// Connections that wait at a container's door.
    pub fn admit(&mut self, member: u64) {
        loop {
            let Some(connected) = self.members.get(&member) else {
                return;
            };
            let busy = connected.callers >= MOST;
            let Some((stream, _)) = connected.accept() else {
                return;
            };
            if busy || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let key = self.new_key();
            let Ok(token) = self.poller.add(&stream, Source::Caller(key), false) else {
                continue;
            };
            let caller = Caller {
                member,
                stream,
                token,
                input: Vec::new(),
                output: Vec::new(),
                open: 0,
                last: Instant::now(),
                gone: false,
            };
            self.callers.insert(key, caller);
            self.count_caller(member, true);
        }
    }

    fn count_caller(&mut self, member: u64, more: bool) {
        if let Some(connected) = self.members.get_mut(&member) {
            connected.callers = if more {
                connected.callers + 1
            } else {
                connected.callers.saturating_sub(1)
            };
        }
    }

    /// It has said something, or takes more.
    pub fn attend(&mut self, key: u64, buffer: &mut [u8]) {
        let Some(caller) = self.callers.get_mut(&key) else {
            return;
        };
        caller.read(buffer);
        let member = caller.member;
        while let Some(message) = self.callers.get_mut(&key).and_then(Caller::message) {
            self.question(member, Asker::Caller(key), &message);
        }
        self.flush_caller(key);
    }

    /// Puts an answer on its way.
    pub fn answer_caller(&mut self, key: u64, message: &[u8]) {
        if let Some(caller) = self.callers.get_mut(&key) {
            caller.open = caller.open.saturating_sub(1);
            caller.output.extend_from_slice(&(message.len() as u16).to_be_bytes());
            caller.output.extend_from_slice(message);
            caller.gone |= caller.output.len() > BACKLOG;
        }
        self.flush_caller(key);
    }

    fn flush_caller(&mut self, key: u64) {
        let Some(caller) = self.callers.get_mut(&key) else {
            return;
        };
        caller.write();
        match caller.gone {
            true => self.hang_up(key),
            false => {
                _ = self
                    .poller
                    .change(&caller.stream, caller.token, !caller.output.is_empty())
            }
        }
    }

    fn hang_up(&mut self, key: u64) {
        if let Some(caller) = self.callers.remove(&key) {
            self.poller.remove(&caller.stream, caller.token);
            self.count_caller(caller.member, false);
        }
    }

    /// When the next one is closed that does nothing.
    pub fn next_hang_up(&self) -> Option<Instant> {
        self.callers.values().filter_map(Caller::closes_at).min()
    }

    /// Closes those.
    pub fn hang_up_idle(&mut self) {
        let now = Instant::now();
        let idle = |caller: &Caller| caller.closes_at().is_some_and(|at| at <= now);
        let keys: Vec<u64> = self.callers.iter().filter(|(_, c)| idle(c)).map(|(k, _)| *k).collect();
        keys.into_iter().for_each(|key| self.hang_up(key));
    }

    /// Of a container that ended.
    pub fn forget_callers_of(&mut self, member: u64) {
        let of = |caller: &Caller| caller.member == member;
        let keys: Vec<u64> = self.callers.iter().filter(|(_, c)| of(c)).map(|(k, _)| *k).collect();
        keys.into_iter().for_each(|key| self.hang_up(key));
    }
}

impl Caller {
    /// Who waits for an answer is not closed: the question has a deadline of its own.
    fn closes_at(&self) -> Option<Instant> {
        (self.open == 0 || !self.output.is_empty()).then_some(self.last + IDLE)
    }

    fn read(&mut self, buffer: &mut [u8]) {
        match self.stream.read(buffer) {
            Ok(0) => self.gone = true,
            Ok(length) => {
                self.last = Instant::now();
                self.input.extend_from_slice(&buffer[..length]);
                // One whole message, and the beginning of more.
                self.gone |= self.input.len() > 2 * LONGEST;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
    }

    /// A whole message that has come.
    fn message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes([*self.input.first()?, *self.input.get(1)?]));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        self.open += 1;
        Some(message)
    }

    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => {
                    self.last = Instant::now();
                    self.output.drain(..length);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}
