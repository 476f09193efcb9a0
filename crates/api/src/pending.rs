//! Clients of containers that do not run yet: see `engine::container::early`.
//!
//! Kept for as long as their connections, so that a start that is asked here takes them along. Who is started elsewhere is
//! found by looking.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::container::WaitCondition;
use engine::container::early::{Waiting, early};
use engine::link::{Answer, Exit, Request};
use errdefs::{Result, Step};
use tokio::net::UnixStream;

use crate::Server;
use crate::call::blocking;
use crate::frames;

/// How often one looks for a start, or a removal, that nobody told us of.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// By container: the monitor's ends of connections.
#[derive(Default)]
pub struct Pending {
    ends: Mutex<HashMap<String, Vec<(u64, OwnedFd)>>>,
    next: std::sync::atomic::AtomicU64,
}

impl Pending {
    /// What a start takes along.
    pub fn take(&self, id: &str) -> Vec<OwnedFd> {
        let taken = self.ends().remove(id).unwrap_or_default();
        taken.into_iter().map(|(_, end)| end).collect()
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<(u64, OwnedFd)>>> {
        self.ends.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn holds(&self, id: &str, number: u64) -> bool {
        let ends = self.ends();
        ends.get(id).is_some_and(|list| list.iter().any(|(n, _)| *n == number))
    }

    fn withdraw(&self, id: &str, number: u64) -> bool {
        let mut ends = self.ends();
        let Some(list) = ends.get_mut(id) else { return false };
        let before = list.len();
        list.retain(|(n, _)| *n != number);
        let found = list.len() < before;
        if list.is_empty() {
            ends.remove(id);
        }
        found
    }
}

/// One place in the table; dropped, it is given up.
struct Ticket {
    server: Arc<Server>,
    id: String,
    number: u64,
}

impl Ticket {
    fn new(server: &Arc<Server>, id: &str, end: OwnedFd) -> Self {
        let number = server.pending.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        server
            .pending
            .ends()
            .entry(id.to_owned())
            .or_default()
            .push((number, end));
        Ticket {
            server: server.clone(),
            id: id.to_owned(),
            number,
        }
    }

    /// No start has taken it yet.
    fn valid(&self) -> bool {
        self.server.pending.holds(&self.id, self.number)
    }

    /// False when a start has taken it already.
    fn withdraw(&self) -> bool {
        self.server.pending.withdraw(&self.id, self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// A monitor's socket, polled.
pub fn polled(socket: std::os::unix::net::UnixStream) -> Result<UnixStream> {
    socket.set_nonblocking(true).step("poll the monitor")?;
    UnixStream::from_std(socket).step("poll the monitor")
}

/// A place among the clients that a start takes along.
pub struct Place {
    ticket: Ticket,
    socket: UnixStream,
}

impl Place {
    /// Takes it at once.
    pub fn take(server: &Arc<Server>, id: &str, request: &Request) -> Result<Self> {
        let (ours, theirs) = early(request)?;
        Ok(Place {
            ticket: Ticket::new(server, id, theirs),
            socket: polled(ours)?,
        })
    }

    /// The first answer of the monitor, and the connection to it; `None` when the place is lost: the start failed, or
    /// somebody else did it.
    async fn answer(mut self) -> Result<Option<(Answer, UnixStream)>> {
        loop {
            match tokio::time::timeout(LOOK_AGAIN, frames::message(&mut self.socket)).await {
                Ok(answer) => return Ok(answer?.map(|a| (a, self.socket))),
                // A start has it: the monitor will say more, or hang up.
                Err(_) if !self.ticket.valid() => {
                    return Ok(frames::message(&mut self.socket).await?.map(|a| (a, self.socket)));
                }
                Err(_) => {
                    let (server, id) = (self.ticket.server.clone(), self.ticket.id.clone());
                    let runs = blocking(&server, move |engine| engine.runs(&id)).await?;
                    if runs != Some(false) && self.ticket.withdraw() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// An attached monitor: now, or as soon as the container runs. `None` when it is gone before.
pub async fn attached(server: &Arc<Server>, id: &str, stdin: bool, first: Option<Place>) -> Result<Option<UnixStream>> {
    let mut place = first;
    loop {
        if let Some(place) = place.take()
            && let Some((_, socket)) = place.answer().await?
        {
            return Ok(Some(socket));
        }
        let own = id.to_owned();
        let look = blocking(server, move |engine| {
            Ok(match engine.runs(&own)? {
                Some(true) => Some(engine.attach_with(&own, stdin).map(Some)),
                Some(false) => Some(Ok(None)),
                None => None,
            })
        });
        match look.await? {
            Some(Ok(Some(socket))) => return polled(socket).map(Some),
            Some(_) => place = Some(Place::take(server, id, &Request::Attach { stdin })?),
            None => return Ok(None),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until the condition holds; how it ended last.
pub async fn exit(
    server: &Arc<Server>,
    id: String,
    condition: WaitCondition,
    before: Option<String>,
    first: Option<Place>,
) -> Result<Exit> {
    let (mut last, mut place) = (Exit::default(), first);
    loop {
        if let Some(place) = place.take()
            && let Some((Answer::Exited(exit), socket)) = place.answer().await?
        {
            last = exit;
            if condition != WaitCondition::Removed {
                return Ok(last);
            }
            hung_up(socket).await;
        }
        let (own, since) = (id.clone(), before.clone());
        match blocking(server, move |engine| engine.waiting(&own, condition, since.as_deref())).await? {
            Waiting::Over(exit) if exit.finished_at.is_empty() => return Ok(last),
            Waiting::Over(exit) => return Ok(exit),
            Waiting::Until(socket) => {
                let mut socket = polled(socket)?;
                if let Some(Answer::Exited(exit)) = frames::message(&mut socket).await? {
                    last = exit;
                    if condition != WaitCondition::Removed {
                        return Ok(last);
                    }
                    hung_up(socket).await;
                }
            }
            Waiting::NotYet(exit) => {
                if !exit.finished_at.is_empty() {
                    last = exit;
                }
                place = Some(Place::take(server, &id, &Request::Wait)?);
            }
        }
    }
}

/// Until a monitor that has told of the end is gone: then a container that was to be removed is.
async fn hung_up(mut socket: UnixStream) {
    let _ = frames::message(&mut socket).await;
}
