//! What a kill -9 left behind is found by looking at locks, and brought to rest by whoever comes next.

use errdefs::{Result, Step};
use runtime::cgroup::Cgroup;

use super::record::{Ended, Live, Record, now, read_json, write_json};
use super::{lock, status};
use crate::link::Exit;
use crate::state::ContainerRow;
use crate::{Engine, event};

impl Engine {
    /// Brings containers whose monitor is dead to rest, and removes the files of those that are gone. Looks at no more than
    /// `limit` live containers.
    pub(crate) fn reap_some(&self, limit: usize) -> Result<()> {
        let entries = std::fs::read_dir(&self.roots.run).step("look for containers without a monitor")?;
        for entry in entries.flatten().take(limit) {
            if let Some(id) = entry.file_name().to_str().filter(|n| n.len() == 64)
                && !lock::held(&self.roots, id)?
            {
                // One that cannot be brought to rest is in nobody's way; whoever asks for it is told.
                let _ = self.reap_one(id);
            }
        }
        self.layers.sweep()
    }

    /// Brings one container to rest, if its monitor is dead and nobody else is about to.
    pub(crate) fn reap_one(&self, id: &str) -> Result<()> {
        if !self.roots.live(id).exists() {
            return Ok(());
        }
        let Some(_lock) = lock::try_take(&self.roots, id)? else {
            return Ok(());
        };
        self.bring_to_rest(id)
    }

    /// Ends what still runs of a container without a monitor, and writes down that it ended. The caller holds its lock.
    pub(crate) fn bring_to_rest(&self, id: &str) -> Result<()> {
        let live: Option<Live> = read_json(&self.roots.live_state(id)).unwrap_or(None);
        let record = match read_json::<Record>(&self.roots.record(id)) {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.release_networks(id)?;
                return self.erase(id, true);
            }
            // Its files are the user's all the same.
            Err(_) => {
                let cgroup = Cgroup::at(&Record::cgroup_of(None, id));
                cgroup.kill()?;
                cgroup.remove()?;
                self.release_networks(id)?;
                return lock::discard(&self.roots, id);
            }
        };
        let cgroup = Cgroup::at(&record.cgroup());
        cgroup.kill()?;
        cgroup.remove()?;
        if crate::mend::asked(record.host())?.old_systemd {
            cgroup.remove_named()?;
        }
        // Without a document no monitor has begun with it: somebody was just about to start it.
        let began = live.is_some() || self.roots.document(id).exists();
        if !began {
            return lock::discard(&self.roots, id);
        }
        self.release_networks(id)?;
        if let Some(live) = live {
            let exit = Exit {
                code: 137,
                oom_killed: false,
                error: Some("the container's monitor was killed".into()),
                why: None,
                finished_at: now(),
            };
            let mut events = vec![event::of_container(&record, "die", &[("exitCode", "137")])];
            events.extend(event::of_mounts(&record, false));
            event::tell(&self.roots, &events);
            let ended = Ended {
                exit,
                started_at: live.started_at,
                restart_count: live.restart_count,
                health: None,
            };
            write_json(&self.roots.ended(id), &ended)?;
        }
        match record.auto_remove() {
            true => self.erase(id, true),
            false => lock::discard(&self.roots, id),
        }
    }

    /// Rows without a record and directories without a row: a `create` or an `rm` was interrupted.
    pub(crate) fn reap_half_made(&self, rows: &[ContainerRow]) -> Result<()> {
        // What cannot be removed keeps nobody from what he wants.
        for row in rows.iter().filter(|r| !self.roots.record(&r.id).exists()) {
            let _ = self.erase_abandoned(&row.id);
        }
        let entries = std::fs::read_dir(self.roots.containers()).step("look for half-made containers")?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let unknown = |name: &&str| name.len() == 64 && !rows.iter().any(|r| r.id == **name);
            if let Some(id) = name.to_str().filter(unknown) {
                let _ = self.erase_abandoned(id);
            }
        }
        Ok(())
    }

    /// Erases a container without a record, unless somebody is at work on it.
    pub(crate) fn erase_abandoned(&self, id: &str) -> Result<()> {
        let Some(_lock) = lock::try_take(&self.roots, id)? else {
            return Ok(());
        };
        match self.roots.record(id).exists() {
            true => lock::discard(&self.roots, id),
            false => self.erase(id, true),
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
