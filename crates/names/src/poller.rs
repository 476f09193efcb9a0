//! Which descriptors are waited for, and what each of them is.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use errdefs::{ErrnoStep, Result};
use rustix::event::{Timespec, epoll};

/// What one of the descriptors is; the numbers are keys of the service's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Monitors connect here.
    Listener,
    /// What a monitor says.
    Member(u64),
    /// A container's questions by datagram.
    Questions(u64),
    /// A container's connections.
    Door(u64),
    /// One of those.
    Caller(u64),
    /// A resolver.
    Resolver(u64),
    /// What policies kept back.
    Reports,
    /// Others changed the firewall.
    Firewall,
}

/// Descriptors and sources.
pub struct Poller {
    epoll: OwnedFd,
    sources: HashMap<u64, Source>,
    next: u64,
}

/// Events that are taken at once.
const AT_ONCE: usize = 64;

impl Poller {
    /// Without any.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).errno_step("make an epoll descriptor")?;
        Ok(Poller {
            epoll,
            sources: HashMap::new(),
            next: 0,
        })
    }

    /// One more; its token. `write`: wait until it takes bytes, too.
    pub fn add(&mut self, fd: impl AsFd, source: Source, write: bool) -> Result<u64> {
        self.next += 1;
        let data = epoll::EventData::new_u64(self.next);
        epoll::add(&self.epoll, fd, data, flags(write)).errno_step("wait for a socket")?;
        self.sources.insert(self.next, source);
        Ok(self.next)
    }

    /// Whether it is waited for until it takes bytes.
    pub fn change(&self, fd: impl AsFd, token: u64, write: bool) -> Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(&self.epoll, fd, data, flags(write)).errno_step("wait for a socket")
    }

    /// One less. To close it is not enough: somebody else may have the same socket open.
    pub fn remove(&mut self, fd: impl AsFd, token: u64) {
        self.sources.remove(&token);
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Sleeps until something is to do, or until then.
    pub fn wait(&self, until: Option<Instant>) -> Result<Vec<Source>> {
        let timeout = until.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut events = Vec::with_capacity(AT_ONCE);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            other => _ = other.errno_step("wait for questions")?,
        }
        Ok(events
            .iter()
            .filter_map(|event| self.sources.get(&event.data.u64()).copied())
            .collect())
    }
}

fn flags(write: bool) -> epoll::EventFlags {
    match write {
        true => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        false => epoll::EventFlags::IN,
    }
}
