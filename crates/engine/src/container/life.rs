//! `start`, `attach`, `stop`, `kill`, `restart`, `pause`, `wait`.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use errdefs::{Error, Kind, Result};

use super::lock;
use super::record::{LiveStatus, Record, read_json};
use super::spawn::Monitor;
use super::status::{Status, status};
use crate::link::{self, Answer, Attached, Exit, Request};
use crate::signal;
use crate::state::ContainerRow;
use crate::{Engine, container::Live};

/// How often `wait` looks for what no monitor can tell: a start, a removal.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run (now, or from its next end on).
    NotRunning,
    /// It ends, having been started if need be.
    NextExit,
    /// It is gone.
    Removed,
}

impl Engine {
    /// By name, id or id prefix, in Docker's words when it is not there.
    pub fn find(&self, name: &str) -> Result<ContainerRow> {
        self.state.find_container(name.strip_prefix('/').unwrap_or(name))
    }

    /// Starts it, and returns once its command runs. With `attach`, connected before the first byte is written.
    /// Kind `NotModified` when it runs already.
    pub fn start(&self, name: &str, attach: bool) -> Result<Option<Attached>> {
        self.start_for(name, attach, &[])
    }

    fn runs_already(&self, id: &str, name: &str) -> Error {
        match self.alive(id) {
            Ok(Some(live)) if live.status == LiveStatus::Paused => {
                Error::conflict("cannot start a paused container, try unpause instead")
            }
            _ => Error::new(Kind::NotModified, format!("container {name} is already running")),
        }
    }

    /// As [`Engine::start`], with the clients that were there before (see [`super::early`]).
    pub(super) fn start_for(&self, name: &str, attach: bool, early: &[OwnedFd]) -> Result<Option<Attached>> {
        let record = self.record(name)?;
        let running = || Ok(read_json::<Live>(&self.roots.live_state(&record.id))?.is_some());
        let Some(lock) = lock::take(&self.roots, &record.id, running)? else {
            return match attach {
                true => self.attach(name).map(Some),
                false => Err(self.runs_already(&record.id, name)),
            };
        };
        if self.roots.live_state(&record.id).exists() {
            self.bring_to_rest(&record.id)?;
            // With the live directory the lock has gone, too.
            drop(lock);
            return self.start_for(&record.id, attach, early);
        }
        let mut monitor = Monitor::start(&self.roots, &record, lock)?;
        self.begin_for(&mut monitor, &record, attach, early).map(Some)
    }

    /// Has a monitor run its container, on its networks.
    pub fn begin(&self, monitor: &mut Monitor, record: &Record, attach: bool) -> Result<Attached> {
        self.begin_for(monitor, record, attach, &[])
    }

    fn begin_for(&self, monitor: &mut Monitor, record: &Record, attach: bool, early: &[OwnedFd]) -> Result<Attached> {
        let ready = self.check_owners_run(record).and_then(|()| self.allocate(record));
        let networks = ready.inspect_err(|_| {
            // The caller's monitor holds the lock.
            if record.auto_remove() {
                let _ = self.erase(&record.id, true);
            }
        })?;
        let networked = !networks.is_empty();
        let attached = monitor.begin(attach, record.tty(), networks, early).inspect_err(|_| {
            if networked {
                // The error that is told is the first one; a dead container's addresses are free anyway.
                let _ = self.release_networks(&record.id);
            }
        })?;
        if networked {
            // It runs, whatever becomes of others' files.
            let _ = self.renew_links_to(record);
        }
        Ok(attached)
    }

    /// Connects to a running container. Kind `Conflict` when it does not run.
    pub fn attach(&self, name: &str) -> Result<Attached> {
        let record = self.record(name)?;
        let live = self.alive(&record.id)?;
        match live.map(|l| l.status) {
            None => Err(Error::conflict(
                "You cannot attach to a stopped container, start it first",
            )),
            Some(LiveStatus::Paused) => Err(Error::conflict(
                "You cannot attach to a paused container, unpause it first",
            )),
            Some(LiveStatus::Restarting) => Err(Error::conflict(
                "You cannot attach to a restarting container, wait until it is running",
            )),
            Some(LiveStatus::Running) => {
                let socket = link::connect(&self.roots.socket(&record.id))?;
                link::send(socket.as_fd(), &Request::Attach { stdin: true }, &[])?;
                link::answer(&socket)?;
                Ok(Attached {
                    socket,
                    tty: record.tty(),
                    warnings: Vec::new(),
                })
            }
        }
    }

    /// Asks it to stop, waits `timeout` seconds (negative: for ever), then kills it. `None`: as the container says.
    /// Kind `NotModified` when it does not run.
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let record = self.record(name)?;
        let signal = signal::parse(signal.unwrap_or_else(|| record.stop_signal()))?;
        let timeout = timeout.unwrap_or_else(|| record.stop_timeout());
        if self.alive(&record.id)?.is_none() {
            return Err(Error::new(
                Kind::NotModified,
                format!("container {name} is already stopped"),
            ));
        }
        self.tell(&record.id, &Request::Stop { signal, timeout })?;
        self.tell_of(&record, "stop", &[]);
        Ok(())
    }

    /// Sends a signal to its first process. SIGKILL also ends its restart policy, and is waited for.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let cannot = |error: Error| {
            let words = format!("cannot kill container: {name}: {error}");
            Error::new(error.kind(), words)
        };
        let row = self.find(name).map_err(cannot)?;
        let number = signal::parse(signal).map_err(cannot)?;
        if self.alive(&row.id)?.is_none_or(|live| live.pid == 0) {
            return Err(Error::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                row.id
            )));
        }
        match number {
            9 => self.tell(&row.id, &Request::Stop { signal: 9, timeout: -1 }),
            signal => self.tell(&row.id, &Request::Kill { signal }),
        }
    }

    /// `stop` if it runs, then `start`.
    pub fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let row = self.find(name)?;
        match self.stop(&row.id, signal, timeout) {
            Err(e) if e.kind() != Kind::NotModified => return Err(e),
            _ => {}
        }
        self.start(&row.id, false)?;
        self.tell_of(&self.read_record(&row.id)?, "restart", &[]);
        Ok(())
    }

    /// Freezes or thaws all of its processes.
    pub fn pause(&self, name: &str, paused: bool) -> Result<()> {
        let row = self.find(name)?;
        match self.alive(&row.id)?.map(|l| l.status) {
            Some(LiveStatus::Paused) if paused => {
                Err(Error::conflict(format!("Container {} is already paused", row.id)))
            }
            Some(LiveStatus::Running) if !paused => Err(Error::conflict(format!("Container {} is not paused", row.id))),
            Some(_) => self.tell(&row.id, &Request::Pause { paused }),
            None if paused => Err(Error::conflict(format!("container {} is not running", row.id))),
            None => Err(Error::conflict(format!("Container {} is not paused", row.id))),
        }
    }

    /// Blocks until the condition holds; how it ended last.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Exit> {
        let id = self.find(name)?.id;
        let mut last = Exit::default();
        loop {
            match status(&self.roots, &id)? {
                Status::Alive(_) | Status::Changing => {
                    if let Some(exit) = self.wait_for_exit(&id)? {
                        last = exit;
                        if condition != WaitCondition::Removed {
                            return Ok(last);
                        }
                    }
                }
                Status::Orphaned(_) => self.reap_one(&id)?,
                Status::Exited(ended) => {
                    last = ended.exit;
                    if condition == WaitCondition::NotRunning {
                        return Ok(last);
                    }
                }
                Status::Created if condition == WaitCondition::NotRunning => return Ok(last),
                Status::Created => {}
            }
            if !self.roots.record(&id).exists() {
                return Ok(last);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// `None` when its monitor went away without an answer.
    fn wait_for_exit(&self, id: &str) -> Result<Option<Exit>> {
        match link::call(&self.roots.socket(id), &Request::Wait) {
            Ok(Answer::Exited(exit)) => Ok(Some(exit)),
            Ok(_) => Err(Error::system("the monitor gave an answer that fits no wait")),
            Err(e) if e.kind() == Kind::Unavailable => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What is live of it, if anything. A container whose monitor is dead is brought to rest first.
    pub(crate) fn alive(&self, id: &str) -> Result<Option<Live>> {
        loop {
            match status(&self.roots, id)? {
                Status::Alive(live) => return Ok(Some(live)),
                Status::Orphaned(_) => self.reap_one(id)?,
                Status::Changing => std::thread::sleep(Duration::from_millis(1)),
                Status::Created | Status::Exited(_) => return Ok(None),
            }
        }
    }

    /// One request whose answer says nothing more. A monitor that goes away has ended its container.
    pub(crate) fn tell(&self, id: &str, request: &Request) -> Result<()> {
        match link::call(&self.roots.socket(id), request) {
            Err(e) if e.kind() == Kind::Unavailable && self.alive(id)?.is_none() => Ok(()),
            other => other.map(drop),
        }
    }
}
