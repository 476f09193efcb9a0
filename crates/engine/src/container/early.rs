//! For front doors that serve many clients at once: connections to a monitor that can be polled, also to one that is not
//! there yet.
//!
//! Who attaches to a container, or waits for its end, before it is started makes a pair of sockets, puts what it asks
//! into it ([`early`]), and hands the other end to whoever starts the container. The monitor serves it before it reads
//! the first output: nothing is missed, however short the run.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use errdefs::{Error, Kind, Result, Step};

use super::life::WaitCondition;
use super::record::LiveStatus;
use super::status::{Status, status};
use crate::Engine;
use crate::link::{self, Exit, Request};

/// A connection to a monitor that is still to be started: our end, and the one that it gets.
pub fn early(request: &Request) -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair().step("make a socket for the monitor")?;
    link::send(ours.as_fd(), request, &[])?;
    Ok((ours, theirs.into()))
}

/// Where one who waits stands.
pub enum Waiting {
    /// It is over.
    Over(Exit),
    /// It runs: `Answer::Exited` comes over this.
    Until(UnixStream),
    /// It has to be started, or removed, first.
    NotYet(Exit),
}

impl Engine {
    /// Starts it with the clients that were there before. Kind `NotModified` when it runs already.
    pub fn start_with(&self, name: &str, early: &[OwnedFd]) -> Result<()> {
        self.start_for(name, false, early).map(drop)
    }

    /// One look on behalf of somebody who waits; `before` is when it had ended when the waiting began.
    pub fn waiting(&self, id: &str, condition: WaitCondition, before: Option<&str>) -> Result<Waiting> {
        loop {
            let at_rest = match status(&self.roots, id)? {
                Status::Alive(_) => match self.wait_at(id)? {
                    Some(socket) => return Ok(Waiting::Until(socket)),
                    None => continue,
                },
                Status::Changing => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                Status::Orphaned(_) => {
                    self.reap_one(id)?;
                    continue;
                }
                Status::Exited(ended) => ended.exit,
                Status::Created => Exit::default(),
            };
            let gone = !self.roots.record(id).exists();
            let ended = match condition {
                WaitCondition::NotRunning => true,
                WaitCondition::NextExit => !at_rest.finished_at.is_empty() && before != Some(&at_rest.finished_at),
                WaitCondition::Removed => false,
            };
            return Ok(match ended || gone {
                true => Waiting::Over(at_rest),
                false => Waiting::NotYet(at_rest),
            });
        }
    }

    /// When it ended last, for [`Engine::waiting`].
    pub fn ended_at(&self, id: &str) -> Result<Option<String>> {
        match status(&self.roots, id)? {
            Status::Exited(ended) => Ok(Some(ended.exit.finished_at)),
            _ => Ok(None),
        }
    }

    /// `None` if its monitor went away meanwhile.
    fn wait_at(&self, id: &str) -> Result<Option<UnixStream>> {
        match link::connect(&self.roots.socket(id)) {
            Ok(socket) => {
                // One that hangs up now ends the stream, which is looked into by whoever reads it.
                let _ = link::send(socket.as_fd(), &Request::Wait, &[]);
                Ok(Some(socket))
            }
            Err(e) if e.kind() == Kind::Unavailable => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Connects to a running container, as [`Engine::attach`] does; its end of input is ours only if `stdin`.
    pub fn attach_with(&self, name: &str, stdin: bool) -> Result<UnixStream> {
        let row = self.find(name)?;
        match self.alive(&row.id)?.map(|live| live.status) {
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
                let socket = link::connect(&self.roots.socket(&row.id))?;
                link::send(socket.as_fd(), &Request::Attach { stdin }, &[])?;
                link::answer(&socket)?;
                Ok(socket)
            }
        }
    }

    /// Whether it runs; `None` when it is gone.
    pub fn runs(&self, id: &str) -> Result<Option<bool>> {
        let runs = self.alive(id)?.is_some();
        Ok((runs || self.roots.record(id).exists()).then_some(runs))
    }

    /// Gives its terminal another size.
    pub fn resize(&self, name: &str, rows: u16, cols: u16) -> Result<()> {
        let row = self.find(name)?;
        if self.alive(&row.id)?.is_none_or(|live| live.pid == 0) {
            return Err(Error::conflict(format!("container {} is not running", row.id)));
        }
        self.tell(&row.id, &Request::Resize { rows, cols })
    }
}
