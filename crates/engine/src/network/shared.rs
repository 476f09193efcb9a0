//! `--network container:NAME`: the network of another container, which has to run.
//!
//! Rights over a network belong to the user namespace that it was made in. So who shares a network shares the users, too,
//! unless the other one's are the host's: those nobody gets who did not ask for them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use bollard_stubs::models::ContainerCreateBody;
use errdefs::{Error, Kind, Result, Step};

use crate::container::Record;
use crate::container::record::read_json;
use crate::container::status::{Status, status};
use crate::state::{IdRange, Users};
use crate::{Engine, Roots};

const PREFIX: &str = "container:";

/// Whose network a mode says to share.
pub fn owner(mode: &str) -> Option<&str> {
    mode.strip_prefix(PREFIX)
}

/// What makes no sense for a container without a network of its own is refused in Docker's words.
pub fn check(body: &ContainerCreateBody) -> Result<()> {
    let Some(owner) = owner(super::endpoint::mode(body)) else {
        return Ok(());
    };
    if owner.is_empty() {
        return Err(Error::invalid(
            "invalid network mode: invalid container format container:<name|id>",
        ));
    }
    let host = body.host_config.clone().unwrap_or_default();
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let endpoints = body
        .networking_config
        .iter()
        .flat_map(|n| n.endpoints_config.iter().flatten());
    let settings: Vec<_> = endpoints.map(|(_, settings)| settings).collect();
    let published = host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports == Some(true);
    let asked = [
        (
            body.hostname.as_ref().is_some_and(|h| !h.is_empty()),
            "hostname and the network mode",
        ),
        (
            some(&host.links),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (some(&host.dns), "dns and the network mode"),
        (
            some(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode",
        ),
        (published, "port publishing and the container type network mode"),
        (
            body.exposed_ports.as_ref().is_some_and(|p| !p.is_empty()),
            "port exposing and the container type network mode",
        ),
        (
            settings
                .iter()
                .any(|s| s.mac_address.as_ref().is_some_and(|m| !m.is_empty())),
            "mac-address and the network mode",
        ),
        (
            settings.iter().any(|s| some(&s.aliases) || s.ipam_config.is_some()),
            "addresses and aliases, and the network mode",
        ),
        // The files are the other container's.
        (
            some(&host.dns_search) || some(&host.dns_options),
            "dns and the network mode",
        ),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, words)) => Err(Error::invalid(format!("conflicting options: {words}"))),
        None => Ok(()),
    }
}

impl Engine {
    /// Writes the id of the container whose network is to be shared into the request, and the host name that comes with
    /// it; whose users the new container has.
    pub(crate) fn share_network(&self, body: &mut ContainerCreateBody, own_users: bool) -> Result<Users> {
        let users = if own_users { Users::Own } else { Users::Hosts };
        let Some(name) = owner(super::endpoint::mode(body)) else {
            return Ok(users);
        };
        let theirs = self.record(name).map_err(joining)?;
        body.hostname.clone_from(&theirs.body.hostname);
        body.domainname.clone_from(&theirs.body.domainname);
        if let Some(host) = &mut body.host_config {
            host.network_mode = Some(format!("{PREFIX}{}", theirs.id));
        }
        Ok(match theirs.ids {
            Some(ids) if own_users => Users::Of(ids),
            _ => users,
        })
    }

    /// Whose network is to be shared must run.
    pub(crate) fn check_owner_runs(&self, record: &Record) -> Result<()> {
        let Some(id) = owner(record.network()) else {
            return Ok(());
        };
        self.find(id).map_err(joining)?;
        match self.settled(id)? {
            Status::Alive(live) if live.pid != 0 => Ok(()),
            Status::Alive(_) => Err(Error::conflict(format!(
                "container {id} is restarting, wait until the container is running"
            ))),
            _ => Err(not_running(id)),
        }
    }
}

fn joining(error: Error) -> Error {
    let words = format!("joining network namespace of container: {error}");
    Error::new(error.kind(), words)
}

fn not_running(id: &str) -> Error {
    Error::new(
        Kind::Conflict,
        format!("cannot join network of a non running container: {id}"),
    )
    .hint("start it first")
}

/// The namespaces of a container whose network is shared, held open.
pub(crate) struct Shared {
    network: File,
    /// `None`: the sharer's users are others.
    users: Option<File>,
    owner: String,
}

impl Shared {
    /// `None` for a container with a network of its own, or with the host's.
    pub(crate) fn open(roots: &Roots, record: &Record) -> Result<Option<Self>> {
        let Some(id) = owner(record.network()) else {
            return Ok(None);
        };
        let pid = || {
            let running = status(roots, id)?.running().map(|live| live.pid);
            running.ok_or_else(|| not_running(id))
        };
        let first = pid()?;
        let open = |kind: &str| {
            File::open(format!("/proc/{first}/ns/{kind}")).step_with(|| format!("join the {kind} namespace of {id}"))
        };
        let theirs: Option<Record> = read_json(&roots.record(id))?;
        let ids: Option<IdRange> = theirs.and_then(|r| r.ids);
        let shared = Shared {
            network: open("net")?,
            users: (ids.is_some() && ids == record.ids).then(|| open("user")).transpose()?,
            owner: id.to_owned(),
        };
        // Its number may have become another process's meanwhile.
        match pid()? == first {
            true => Ok(Some(shared)),
            false => Err(not_running(id)),
        }
    }

    /// For the document: good in this process and those that it makes, as long as this is held.
    pub(crate) fn network_path(&self) -> PathBuf {
        path(&self.network)
    }

    /// The same of the users.
    pub(crate) fn users_path(&self) -> Option<PathBuf> {
        self.users.as_ref().map(path)
    }

    /// Whose network it is.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }
}

fn path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_stubs::models::HostConfig;

    #[test]
    fn what_needs_a_network_of_its_own_is_refused_in_dockers_words() {
        let body = |host: HostConfig| ContainerCreateBody {
            host_config: Some(HostConfig {
                network_mode: Some("container:x".into()),
                ..host
            }),
            ..Default::default()
        };
        assert!(check(&body(HostConfig::default())).is_ok());
        let list = || Some(vec!["a:1.2.3.4".to_owned()]);
        for (host, words) in [
            (
                HostConfig {
                    dns: list(),
                    ..Default::default()
                },
                "dns and the network mode",
            ),
            (
                HostConfig {
                    links: list(),
                    ..Default::default()
                },
                "can't be used with links",
            ),
            (
                HostConfig {
                    extra_hosts: list(),
                    ..Default::default()
                },
                "custom host-to-IP mapping",
            ),
            (
                HostConfig {
                    publish_all_ports: Some(true),
                    ..Default::default()
                },
                "port publishing",
            ),
        ] {
            let error = check(&body(host)).unwrap_err().to_string();
            assert!(
                error.starts_with("conflicting options: ") && error.contains(words),
                "{error}"
            );
        }
    }
}
