//! The container's place in the host's name service: told when it runs, told again when that service was killed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::Roots;
use engine::container::Record;
use engine::names::{self, Member};
use errdefs::Result;
use network::{Attachment, attach as wire, resolver};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::event_loop::Monitor;

/// When the service cannot be started, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What a monitor has of the name service.
#[derive(Default)]
pub struct Names {
    service: Option<UnixStream>,
    /// In the container's network namespace: they are kept here, so that questions wait while there is no service.
    sockets: Option<[OwnedFd; 2]>,
    again_at: Option<Instant>,
}

impl Names {
    /// Tells the service of a process's container, which does not execute its command yet. Nothing, where nobody asks for
    /// names.
    pub fn join(roots: &Roots, record: &Record, pid: i32, networks: &[Attachment]) -> Result<Self> {
        let mut names = Names::default();
        if names::serves(record, networks) {
            names.update(roots, record, pid, networks)?;
        }
        Ok(names)
    }

    /// Tells it anew, after something changed.
    fn update(&mut self, roots: &Roots, record: &Record, pid: i32, networks: &[Attachment]) -> Result<()> {
        if self.sockets.is_none() {
            self.sockets = Some(resolver::open(wire::namespace_of(pid)?.as_fd())?);
            self.service = None;
        }
        let member = Member::new(record, networks);
        if let Some(service) = &self.service
            && names::tell(service, &member, &[]).is_ok()
        {
            return Ok(());
        }
        let sockets: Vec<BorrowedFd<'_>> = self.sockets.iter().flatten().map(|s| s.as_fd()).collect();
        self.service = Some(names::join(roots, &member, &sockets)?);
        self.again_at = None;
        Ok(())
    }

    /// The connection: when there is something to read the service is gone.
    pub fn service(&self) -> Option<BorrowedFd<'_>> {
        self.service.as_ref().map(|s| s.as_fd())
    }

    /// When it is tried again to reach it.
    pub fn deadline(&self) -> Option<Instant> {
        self.again_at
    }

    /// The container does not run any more: nobody finds it from now on, and its network namespace can go.
    pub fn leave(&mut self) {
        if let Some(service) = self.service.take() {
            let _ = names::tell(&service, &Member::default(), &[]);
        }
        *self = Names::default();
    }
}

impl Monitor {
    /// The service is gone, or could not be reached before.
    pub fn rejoin_names(&mut self, gone: bool) {
        let due = self.names.again_at.is_some_and(|at| Instant::now() >= at);
        if !gone && !due {
            return;
        }
        self.names.service = None;
        bury_service();
        // Who was killed just now is started at once; one that does not start must not keep us busy.
        if self.update_names().is_err() {
            self.names.again_at = Some(Instant::now() + AGAIN);
        }
    }

    /// Tells the service what has changed.
    pub fn update_names(&mut self) -> Result<()> {
        let Some(pid) = self.run.as_ref().map(|run| run.created.pid) else {
            return Ok(());
        };
        match self.names.sockets.is_some() || names::serves(&self.record, &self.networks) {
            true => self.names.update(&self.roots, &self.record, pid, &self.networks),
            false => Ok(()),
        }
    }
}

/// The service is the child of the monitor that started it.
fn bury_service() {
    if let Some(pid) = sys::process::ended_child()
        && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "berth-names")
        && let Some(pid) = Pid::from_raw(pid)
    {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
