//! What a kill -9 left behind is found by looking at locks, and brought to rest by whoever comes next.

use std::fs::File;
use std::time::Duration;

use errdefs::{Result, Step};
use runtime::cgroup::Cgroup;
use rustix::fs::FlockOperation;

use super::record::{Ended, Live, Record, now, read_json, write_json};
use super::{lock, status};
use crate::Engine;
use crate::link::Exit;

/// A directory without a row younger than this may belong to a `create` that is about to lock it.
const NEWBORN: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings every container whose monitor is dead to rest, and removes what interrupted commands left half made.
    pub fn reap(&self) -> Result<()> {
        self.reap_some(usize::MAX)?;
        self.reap_half_made()?;
        self.layers.sweep()
    }

    /// Looks at no more than `limit` live containers.
    pub(crate) fn reap_some(&self, limit: usize) -> Result<()> {
        let entries = std::fs::read_dir(&self.roots.run).step("look for containers without a monitor")?;
        for entry in entries.flatten().take(limit) {
            if let Some(id) = entry.file_name().to_str().filter(|n| n.len() == 64) {
                if !lock::held(&self.roots, id)? {
                    self.reap_one(id)?;
                }
            }
        }
        Ok(())
    }

    /// Brings one container to rest, if its monitor is dead and nobody else is about to.
    pub(crate) fn reap_one(&self, id: &str) -> Result<()> {
        if !self.roots.live(id).exists() {
            return Ok(());
        }
        let Some(_lock) = lock::try_take(&self.roots, id)? else { return Ok(()) };
        self.bring_to_rest(id)
    }

    /// Ends what still runs of a container without a monitor, and writes down that it ended. The caller holds its lock.
    pub(crate) fn bring_to_rest(&self, id: &str) -> Result<()> {
        let live: Option<Live> = read_json(&self.roots.live_state(id)).unwrap_or(None);
        let record: Option<Record> = read_json(&self.roots.record(id)).unwrap_or(None);
        let Some(record) = record else {
            return lock::discard(self, id);
        };
        let cgroup = Cgroup::at(&record.cgroup());
        cgroup.kill()?;
        cgroup.remove()?;
        if let Some(live) = live {
            let exit = Exit {
                code: 137,
                oom_killed: false,
                error: Some("the container's monitor was killed".into()),
                finished_at: now(),
            };
            let ended = Ended { exit, started_at: live.started_at, restart_count: live.restart_count };
            write_json(&self.roots.ended(id), &ended)?;
        }
        match record.auto_remove() {
            true => self.erase(id, true),
            false => lock::discard(self, id),
        }
    }

    /// Rows without a record and directories without a row: a `create` or an `rm` was interrupted.
    fn reap_half_made(&self) -> Result<()> {
        let rows = self.state.containers()?;
        for row in rows.iter().filter(|r| !self.roots.record(&r.id).exists()) {
            self.erase_abandoned(&row.id)?;
        }
        let entries = std::fs::read_dir(self.roots.containers()).step("look for half-made containers")?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().filter(|n| n.len() == 64 && !rows.iter().any(|r| r.id == **n)) else { continue };
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > NEWBORN) {
                self.erase_abandoned(id)?;
            }
        }
        Ok(())
    }

    /// Erases a container without a record, unless somebody is at work on it.
    pub(crate) fn erase_abandoned(&self, id: &str) -> Result<()> {
        let dir = File::open(self.roots.container(id)).ok();
        let busy = |dir: &File| rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive).is_err();
        if dir.as_ref().is_some_and(busy) || self.roots.record(id).exists() {
            return Ok(());
        }
        match lock::try_take(&self.roots, id)? {
            Some(_lock) => self.erase(id, true),
            None => Ok(()),
        }
    }

    /// The state of a container, dead monitors dealt with.
    pub(crate) fn settled(&self, id: &str) -> Result<status::Status> {
        match status::status(&self.roots, id)? {
            status::Status::Orphaned(_) => {
                self.reap_one(id)?;
                status::status(&self.roots, id)
            }
            other => Ok(other),
        }
    }
}
