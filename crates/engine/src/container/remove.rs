//! `rm`.

use std::time::{Duration, Instant};

use errdefs::{Error, Kind, Result, Step};

use super::{lock, record::Record};
use crate::container::LiveStatus;
use crate::link::Request;
use crate::{Engine, Roots};

/// How long a monitor may take to go that answers nobody any more.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    pub fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let row = self.find(name)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let live = match self.alive(&row.id) {
                Err(_) => return self.remove_restless(&row.id, volumes),
                Ok(live) => live,
            };
            if let Some(live) = live {
                let state = match live.status {
                    LiveStatus::Running => "running",
                    LiveStatus::Paused => "paused",
                    LiveStatus::Restarting => "restarting",
                };
                if !force {
                    return Err(Error::conflict(format!(
                        "cannot remove container \"{}\": container is {state}: stop the container before removing or \
                         force remove",
                        row.name
                    )));
                }
                match self.tell(&row.id, &Request::Stop { signal: 9, timeout: -1 }) {
                    // A monitor that could not tear down closes its socket a moment before it lets go of the lock.
                    Err(e) if e.kind() == Kind::Unavailable && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    // As above: it may be that nothing can be written down.
                    Err(_) if self.alive(&row.id).is_err() => continue,
                    told => told?,
                }
            }
            // `None`: somebody has started it since.
            let running = || Ok(self.roots.live_state(&row.id).exists());
            if let Some(_lock) = lock::take(&self.roots, &row.id, running)? {
                self.erase(&row.id, volumes)?;
                return self.state.tidy();
            }
        }
    }

    /// One without a monitor that cannot be brought to rest: on a full disk to remove it may be all that helps.
    fn remove_restless(&self, id: &str, volumes: bool) -> Result<()> {
        let Some(_lock) = lock::take(&self.roots, id, || Ok(false))? else {
            return Err(Error::conflict(format!("container {id} is being started")));
        };
        let record: Option<Record> = super::record::read_json(&self.roots.record(id)).unwrap_or(None);
        let cgroup = record.map_or_else(|| Record::cgroup_of(None, id), |record| record.cgroup());
        let cgroup = runtime::cgroup::Cgroup::at(&cgroup);
        cgroup.kill()?;
        cgroup.remove()?;
        self.release_networks(id)?;
        self.erase(id, volumes)?;
        self.state.tidy()
    }

    /// Takes everything of a container at rest away. The caller holds its lock. The record goes first: what is
    /// interrupted after that is finished by `reap`.
    pub(crate) fn erase(&self, id: &str, volumes: bool) -> Result<()> {
        let record: Option<Record> = super::record::read_json(&self.roots.record(id)).unwrap_or(None);
        match std::fs::remove_file(self.roots.record(id)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).step("remove the container"),
            _ => {}
        }
        let limited = |r: &Record| r.body.host_config.as_ref().is_some_and(|h| h.storage_opt.is_some());
        if record.as_ref().is_some_and(limited) {
            snapshot::quota::forget_limit(&self.roots.container(id).join("upper"));
        }
        snapshot::remove_tree(&self.roots.container(id))?;
        self.forget(id)?;
        if let Some(record) = &record {
            self.tell_of(record, "destroy", &[]);
        }
        for volume in record.iter().filter(|_| volumes).flat_map(|r| &r.anonymous_volumes) {
            match self.remove_volume(volume, false) {
                // Somebody else uses it by now, or has removed it.
                Err(e) if !matches!(e.kind(), Kind::Conflict | Kind::NotFound) => return Err(e),
                _ => {}
            }
        }
        lock::discard(&self.roots, id)
    }

    /// What a monitor does last when its container was to go with its end. The caller's monitor holds the lock.
    pub fn remove_ended(&self, id: &str) -> Result<()> {
        self.erase(id, true)
    }

    /// The last thing that a monitor does, when nobody waits for it any more.
    pub fn forget_at_leisure(&self, id: &str) -> Result<()> {
        self.forget(id)?;
        self.state.tidy()
    }

    /// Takes its name and its ids back; fine if they are.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.state.remove_container(id)
    }
}

/// The part of [`Engine::remove_ended`] that somebody may wait for, and that needs no database: from now on the container
/// is not there. Its row goes with [`Engine::forget_at_leisure`], or counts as that of an interrupted `rm`; its files go
/// with the value returned. Only for containers without volumes.
pub fn remove_from_sight(roots: &Roots, id: &str) -> Result<snapshot::Doomed> {
    let doomed = snapshot::Store::open(&roots.layers())?.doom(&roots.container(id))?;
    lock::discard(roots, id)?;
    Ok(doomed)
}
