//! `rename` and `update`: what can change about a container that was made.
//!
//! Its monitor writes it down while it lives, since limits and restart policy have to follow; else whoever has the lock.

use bollard_stubs::models::{ContainerUpdateBody, HostConfig, RestartPolicyNameEnum};
use errdefs::{Error, Kind, Result};

use super::record::{Record, read_json, write_json};
use super::{lock, names};
use crate::link::{self, Amendment, Request};
use crate::network::egress::EGRESS;
use crate::{Engine, spec};

impl Amendment {
    /// Changes the record.
    pub fn apply(&self, record: &mut Record) {
        match self {
            Amendment::Name(name) => record.name.clone_from(name),
            Amendment::Egress(text) => {
                let host = record.body.host_config.get_or_insert_default();
                let annotations = host.annotations.get_or_insert_default();
                match text.as_str() {
                    "" => _ = annotations.remove(EGRESS),
                    text => _ = annotations.insert(EGRESS.into(), text.into()),
                }
            }
            Amendment::Settings(update) => update_host(record.body.host_config.get_or_insert_default(), update),
            Amendment::Unlink(alias) => {
                let host = record.body.host_config.get_or_insert_default();
                let own = |link: &String| link.split_once(':').map_or(link.as_str(), |(_, alias)| alias) == alias;
                host.links.iter_mut().for_each(|links| links.retain(|link| !own(link)));
            }
        }
    }
}

impl Engine {
    /// Gives it another name.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        let row = self.find(name)?;
        let new = match new {
            "" => return Err(Error::invalid("Neither old nor new names may be empty")),
            new => names::check(new)?,
        };
        if row.name == new {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.state.rename_container(&row.id, new)?;
        if let Err(error) = self.amend(&row.id, Amendment::Name(new.into())) {
            let _ = self.state.rename_container(&row.id, &row.name);
            return Err(error);
        }
        let record = self.read_record(&row.id)?;
        self.tell_of(&record, "rename", &[("oldName", &format!("/{}", row.name))]);
        Ok(())
    }

    /// Changes limits and restart policy, of a running container at once. What the user should know.
    pub fn update(&self, name: &str, update: &ContainerUpdateBody) -> Result<Vec<String>> {
        let record = self.record(name)?;
        let cannot = |error: Error| {
            let kind = error.kind();
            Error::caused(format!("Cannot update container {}", record.id), error).kind_is(kind)
        };
        let mut host = record.host().clone();
        update_host(&mut host, update);
        check(&host, record.host()).map_err(cannot)?;
        self.amend(&record.id, Amendment::Settings(Box::new(update.clone())))
            .map_err(cannot)?;
        self.tell_of(&record, "update", &[]);
        Ok(Vec::new())
    }

    /// Takes a link away: `CONTAINER/ALIAS`.
    pub fn unlink(&self, path: &str) -> Result<()> {
        let Some((parent, alias)) = path.trim_start_matches('/').rsplit_once('/') else {
            return Err(Error::conflict(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let record = self.record(parent)?;
        self.amend(&record.id, Amendment::Unlink(alias.into()))?;
        match self.alive(&record.id)? {
            Some(_) => self.rewrite_names(&self.read_record(&record.id)?),
            // Its next start writes them.
            None => Ok(()),
        }
    }

    pub(crate) fn amend(&self, id: &str, amendment: Amendment) -> Result<()> {
        let request = Request::Amend(Box::new(amendment));
        loop {
            if self.alive(id)?.is_some() {
                match link::call(&self.roots.socket(id), &request) {
                    Err(e) if e.kind() == Kind::Unavailable => {}
                    other => return other.map(drop),
                }
            }
            let running = || Ok(self.roots.live_state(id).exists());
            if let Some(_lock) = lock::take(&self.roots, id, running)? {
                let record = read_json::<Record>(&self.roots.record(id))?;
                let Some(mut record) = record else {
                    lock::discard(&self.roots, id)?;
                    return Err(Error::not_found(format!("No such container: {id}")));
                };
                if let Request::Amend(amendment) = &request {
                    amendment.apply(&mut record);
                }
                let written = write_json(&self.roots.record(id), &record);
                return written.and(lock::discard(&self.roots, id));
            }
        }
    }
}

fn check(new: &HostConfig, old: &HostConfig) -> Result<()> {
    spec::check_limits(new)?;
    let policy = |host: &HostConfig| {
        host.restart_policy
            .as_ref()
            .and_then(|p| p.name)
            .filter(|name| !matches!(name, RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO))
    };
    if old.auto_remove == Some(true) && policy(new).is_some() {
        return Err(Error::invalid(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    Ok(())
}

/// What is set in the update is the container's from now on; zero and empty say nothing.
fn update_host(host: &mut HostConfig, update: &ContainerUpdateBody) {
    macro_rules! take {
        ($($field:ident: $meant:expr),* $(,)?) => {
            $(if let Some(value) = update.$field.clone().filter($meant) {
                host.$field = Some(value);
            })*
        };
    }
    // A quota in one form takes the place of one in the other.
    if update.nano_cpus.is_some_and(|n| n != 0) {
        (host.cpu_quota, host.cpu_period) = (None, None);
    }
    if update.cpu_quota.is_some_and(|n| n != 0) || update.cpu_period.is_some_and(|n| n != 0) {
        host.nano_cpus = None;
    }
    take! {
        cpu_shares: |n| *n != 0,
        memory: |n| *n != 0,
        blkio_weight: |n| *n != 0,
        cpu_period: |n| *n != 0,
        cpu_quota: |n| *n != 0,
        cpu_realtime_period: |n| *n != 0,
        cpu_realtime_runtime: |n| *n != 0,
        cpuset_cpus: |t| !t.is_empty(),
        cpuset_mems: |t| !t.is_empty(),
        memory_reservation: |n| *n != 0,
        memory_swap: |n| *n != 0,
        nano_cpus: |n| *n != 0,
        pids_limit: |n| *n != 0,
        restart_policy: |p| p.name.is_some_and(|name| name != RestartPolicyNameEnum::EMPTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut host = HostConfig {
            memory: Some(64 << 20),
            cpu_quota: Some(5000),
            ..Default::default()
        };
        let update = ContainerUpdateBody {
            memory: Some(0),
            nano_cpus: Some(500_000_000),
            pids_limit: Some(-1),
            ..Default::default()
        };
        update_host(&mut host, &update);
        assert_eq!(
            (host.memory, host.cpu_quota, host.nano_cpus),
            (Some(64 << 20), None, Some(500_000_000))
        );
        assert_eq!(host.pids_limit, Some(-1));
    }
}
