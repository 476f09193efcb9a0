//! The firewall's keeper: one small process per host, as long as containers are on networks.
//!
//! Others change the host's firewall as well: `nft flush ruleset`, a reload of the distribution's rules, a Docker that
//! starts and drops what it does not know. The kernel tells of it, and the keeper puts back what of ours is missing. Who
//! starts a container looks, too; the keeper is for those that run.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use errdefs::{ErrnoStep, Result, Step};
use network::bridge;
use network::netlink::Socket;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;

use crate::container::{lock, spawn};
use crate::state::database;
use crate::{Engine, Roots};

/// What it is called among our processes (see [`spawn::arguments`]).
pub const PROCESS: &str = "keeper";
/// There is one.
const ONE: &str = "host";
/// Who changes a firewall changes much of it at once.
const SETTLE: Duration = Duration::from_millis(100);
/// Somebody who is about to come, or to go, is looked for again.
const SOON: Duration = Duration::from_millis(300);

/// Who needs the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Containers that are there: when they go, the kernel tells.
    Yes,
    /// Some that start or end just now.
    Soon,
    /// Nobody.
    No,
}

impl Engine {
    /// Starts the keeper, unless there is one. The lock is its standard input: it is held as long as it lives.
    pub(crate) fn have_keeper(&self) -> Result<()> {
        let step = "start the keeper of the firewall";
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.roots.keeper_lock())
            .step(step)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
            other => other.errno_step(step)?,
        }
        spawn::start(&self.roots, PROCESS, ONE, file.as_fd())
    }

    /// Puts back what is missing of the firewall; who needs it.
    pub fn mend_firewall(&self) -> Result<Needed> {
        let _lock = self.lock_networks()?;
        let table = self.firewall_table()?;
        let up = self.networks_up(&table)?;
        let links = Socket::route()?;
        let mut needed = self.somebody_starts_or_ends()?;
        for network in &up {
            let index = network.bridge().and_then(network::link::index);
            if let Some(index) = index
                && network::link::has_ports(&links, index)?
            {
                needed = Needed::Yes;
            }
        }
        if needed != Needed::No && !up.is_empty() {
            let socket = Socket::netfilter()?;
            let mut whole = bridge::is_intact(&socket, &table)?;
            for network in &up {
                whole = whole && bridge::is_guarded(&socket, network)?;
            }
            match whole {
                true => bridge::heed_others(&socket, &table, &self.all_of(up)?)?,
                false => self.rebuild_firewall(&socket, &table)?,
            }
        }
        Ok(needed)
    }

    /// Addresses belong to containers whose monitors live.
    fn somebody_starts_or_ends(&self) -> Result<Needed> {
        let query = "SELECT DISTINCT container FROM address";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let mut rows = statement.query([]).map_err(database)?;
        while let Some(row) = rows.next().map_err(database)? {
            if lock::held(&self.roots, &row.get::<_, String>(0).map_err(database)?)? {
                return Ok(Needed::Soon);
            }
        }
        Ok(Needed::No)
    }
}

/// The keeper's whole life; what `berth keeper` calls. Returns the process's exit code.
pub fn run(roots: &Roots) -> i32 {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"berth-keeper");
    // Nobody listens: whoever starts the next container starts another keeper.
    keep(roots).is_err().into()
}

fn keep(roots: &Roots) -> Result<()> {
    let (firewall, links) = (Socket::firewall_news()?, Socket::link_news()?);
    loop {
        // Opened for a moment: a process that waits is to be small.
        let engine = Engine::open(roots.clone())?;
        let (needed, table) = (engine.mend_firewall()?, engine.firewall_table()?);
        drop(engine);
        let patience = match needed {
            Needed::Yes => None,
            Needed::Soon => Some(SOON),
            Needed::No => return Ok(()),
        };
        wait_for_news(&firewall, &links, &table, patience)?;
    }
}

/// Until something has changed that concerns us, or the time is over.
fn wait_for_news(firewall: &Socket, links: &Socket, table: &str, patience: Option<Duration>) -> Result<()> {
    let timeout = patience.and_then(|p| Timespec::try_from(p).ok());
    loop {
        let mut fds = [PollFd::new(firewall, PollFlags::IN), PollFd::new(links, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.errno_step("wait for news of the firewall")?,
        };
        std::thread::sleep(SETTLE);
        let mut concerns = false;
        let whole = firewall.hear(|kind, body| concerns |= network::nft::foreign::concerns(kind, body, table))?;
        let heard = links.hear(|kind, _| concerns |= network::link::is_removal(kind))?;
        if concerns || !whole || !heard || patience.is_some() {
            return Ok(());
        }
    }
}
