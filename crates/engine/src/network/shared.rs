//! `container:NAME` as `--network`, `--pid` and `--ipc`: the network, the processes, the System V objects, message queues and
//! shared memory of another container, which has to run.
//!
//! Rights over any of them belong to the user namespace that it was made in. So who shares them shares the users, too, unless
//! the other one's are the host's: those nobody gets who did not ask for them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use bollard_stubs::models::{ContainerCreateBody, MountPoint};
use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{CLONE_FS, CLONE_NEWNS};
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use crate::container::Record;
use crate::container::record::read_json;
use crate::container::status::{Status, status};
use crate::state::{IdRange, Users};
use crate::{Engine, Roots};

const PREFIX: &str = "container:";

/// Whose namespace a mode says to share.
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
    /// Writes the ids of the containers whose namespaces are to be shared into the request, and the host name that comes with a
    /// network; whose users the new container has.
    pub(crate) fn share(&self, body: &mut ContainerCreateBody, own_users: bool) -> Result<Users> {
        let mut users = if own_users { Users::Own } else { Users::Hosts };
        if let Some(name) = owner(super::endpoint::mode(body)) {
            let theirs = self.record(name).map_err(|e| joining(Kind::Network, e))?;
            body.hostname.clone_from(&theirs.body.hostname);
            body.domainname.clone_from(&theirs.body.domainname);
            if let Some(host) = &mut body.host_config {
                host.network_mode = Some(format!("{PREFIX}{}", theirs.id));
            }
            if let (Some(ids), true) = (theirs.ids, own_users) {
                users = Users::Of(ids);
            }
        }
        let host = body.host_config.get_or_insert_default();
        if let Some(name) = owner(host.pid_mode.as_deref().unwrap_or_default()) {
            let theirs = self.record(name).map_err(|e| joining(Kind::Processes, e))?;
            users = users_with(users, Kind::Processes, &theirs)?;
            host.pid_mode = Some(format!("{PREFIX}{}", theirs.id));
        }
        if let Some(name) = owner(host.ipc_mode.as_deref().unwrap_or_default()) {
            let theirs = self.record(name)?;
            users = users_with(users, Kind::Ipc, &theirs)?;
            host.ipc_mode = Some(format!("{PREFIX}{}", theirs.id));
        }
        Ok(users)
    }

    /// Whose namespaces are to be shared must run, and let them be shared.
    pub(crate) fn check_owners_run(&self, record: &Record) -> Result<()> {
        owners(record).into_iter().try_for_each(|(kind, id)| {
            self.find(id).map_err(|e| joining(kind, e))?;
            match self.settled(id)? {
                Status::Alive(live) if live.pid != 0 => {}
                Status::Alive(_) => {
                    return Err(Error::conflict(format!(
                        "container {id} is restarting, wait until the container is running"
                    )));
                }
                _ => return Err(not_running(kind, id)),
            }
            match kind == Kind::Ipc && !shares_memory(&self.read_record(id)?) {
                true => Err(Error::invalid(format!(
                    "{JOIN_IPC}: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                ))),
                false => Ok(()),
            }
        })
    }
}

/// What is shared.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Network,
    Processes,
    /// System V objects, message queues, and the files of `/dev/shm`.
    Ipc,
}

const JOIN_IPC: &str = "failed to join IPC namespace";

/// Whether others may join what `--ipc` is about, as Docker has it: not in its default mode.
fn shares_memory(record: &Record) -> bool {
    let mode = record.host().ipc_mode.as_deref().unwrap_or_default();
    let own = |point: &MountPoint| point.destination.as_deref() == Some("/dev/shm");
    (["shareable", "host"].contains(&mode) || owner(mode).is_some()) && !record.mounts.iter().any(own)
}

/// What a container shares, and with whom.
fn owners(record: &Record) -> Vec<(Kind, &str)> {
    let host = record.host();
    let modes = [
        (Kind::Network, record.network()),
        (Kind::Processes, host.pid_mode.as_deref().unwrap_or_default()),
        (Kind::Ipc, host.ipc_mode.as_deref().unwrap_or_default()),
    ];
    modes
        .into_iter()
        .filter_map(|(kind, mode)| Some((kind, owner(mode)?)))
        .collect()
}

/// Whoever shares processes must have rights over them, for a `/proc` of its own alone; whose memory is shared must be
/// somebody, for its files to have owners.
fn users_with(users: Users, kind: Kind, theirs: &Record) -> Result<Users> {
    let (what, flag) = match kind {
        Kind::Ipc => ("IPC namespace", "--ipc"),
        _ => ("processes", "--pid"),
    };
    let refused = |words: &str| {
        let hint = format!(
            "use --userns=host, or share all of one container: --network container:{0} {flag} container:{0}",
            theirs.name
        );
        Err(Error::invalid(format!("cannot share the {what} of container {}: {words}", theirs.id)).hint(hint))
    };
    match (users, theirs.ids) {
        (Users::Hosts, _) => Ok(Users::Hosts),
        (Users::Own, Some(ids)) => Ok(Users::Of(ids)),
        (Users::Of(others), Some(ids)) if others == ids => Ok(users),
        (_, None) => refused("its users are the host's"),
        _ => refused("its users are not those of the other container whose namespaces are shared"),
    }
}

fn joining(kind: Kind, error: Error) -> Error {
    let words = match kind {
        Kind::Network => format!("joining network namespace of container: {error}"),
        Kind::Processes => format!("joining PID namespace of container: {error}"),
        Kind::Ipc => format!("{JOIN_IPC}: {error}"),
    };
    Error::new(error.kind(), words)
}

fn not_running(kind: Kind, id: &str) -> Error {
    let words = match kind {
        Kind::Network => format!("cannot join network of a non running container: {id}"),
        Kind::Processes => format!("cannot join PID namespace of a non running container: {id}"),
        Kind::Ipc => format!("{JOIN_IPC}: container {id} is not running"),
    };
    Error::conflict(words).hint("start it first")
}

/// Namespaces of other containers, held open.
#[derive(Default)]
pub(crate) struct Shared {
    /// And whose it is.
    network: Option<(File, String)>,
    processes: Option<File>,
    ipc: Option<Ipc>,
    /// `None`: the sharer's users are others.
    users: Option<File>,
}

impl Shared {
    /// `None` for a container that shares nothing with another.
    pub(crate) fn open(roots: &Roots, record: &Record) -> Result<Option<Self>> {
        let owners = owners(record);
        let mut shared = Shared::default();
        for (kind, id) in &owners {
            shared.join(roots, record, *kind, id)?;
        }
        Ok((!owners.is_empty()).then_some(shared))
    }

    fn join(&mut self, roots: &Roots, record: &Record, kind: Kind, id: &str) -> Result<()> {
        let pid = || {
            let running = status(roots, id)?.running().map(|live| live.pid);
            running.ok_or_else(|| not_running(kind, id))
        };
        let first = pid()?;
        let open = |name: &str| {
            File::open(format!("/proc/{first}/ns/{name}")).step_with(|| format!("join the {name} namespace of {id}"))
        };
        match kind {
            Kind::Network => self.network = Some((open("net")?, id.to_owned())),
            Kind::Processes => self.processes = Some(open("pid")?),
            Kind::Ipc => self.ipc = Some(Ipc::of(open("ipc")?, open("mnt")?)?),
        }
        let theirs: Option<Record> = read_json(&roots.record(id))?;
        let ids: Option<IdRange> = theirs.and_then(|r| r.ids);
        if ids.is_some() && ids == record.ids {
            self.users = Some(open("user")?);
        }
        // Its number may have become another process's meanwhile.
        match pid()? == first {
            true => Ok(()),
            false => Err(not_running(kind, id)),
        }
    }

    /// For the document: good in this process and those that it makes, as long as this is held.
    pub(crate) fn network_path(&self) -> Option<PathBuf> {
        self.network.as_ref().map(|(file, _)| path(file))
    }

    /// The same of the processes.
    pub(crate) fn processes_path(&self) -> Option<PathBuf> {
        self.processes.as_ref().map(path)
    }

    /// The same of System V objects and message queues.
    pub(crate) fn ipc_path(&self) -> Option<PathBuf> {
        self.ipc.as_ref().map(|ipc| path(&ipc.namespace))
    }

    /// What is to be seen of them in the container: places, and mounts that are attached nowhere.
    pub(crate) fn ipc_mounts(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let mounts = self.ipc.iter().flat_map(|ipc| &ipc.mounts);
        mounts.map(|(place, mount)| (*place, path(mount)))
    }

    /// The same of the users.
    pub(crate) fn users_path(&self) -> Option<PathBuf> {
        self.users.as_ref().map(path)
    }

    /// Whose network it is.
    pub(crate) fn network_owner(&self) -> Option<&str> {
        self.network.as_ref().map(|(_, owner)| owner.as_str())
    }
}

fn path(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// What processes talk to each other by.
struct Ipc {
    namespace: File,
    /// Copies of the other container's, by their places.
    mounts: Vec<(&'static str, OwnedFd)>,
}

impl Ipc {
    fn of(namespace: File, mounts: File) -> Result<Self> {
        let step = "share the memory of the other container";
        // Mounts are copied within their own mount namespace alone. A thread goes there: it never comes back.
        let copy = || {
            sys::process::unshare(CLONE_FS.into()).errno_step(step)?;
            sys::process::setns(mounts.as_fd(), CLONE_NEWNS.into()).errno_step(step)?;
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).errno_step(step)?;
            let flags =
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
            let copy = |place| {
                // Whatever the other one has made of its own files, it is one of them.
                let at = match sys::path::open(root.as_fd(), Path::new(place), OFlags::PATH | OFlags::DIRECTORY) {
                    Err(rustix::io::Errno::NOENT) => return Ok(None),
                    other => other?,
                };
                let tree = rustix::mount::open_tree(&at, "", flags)?;
                Ok(Some((place, tree)))
            };
            let copies: Result<Vec<_>, rustix::io::Errno> = ["/dev/shm", "/dev/mqueue"].into_iter().map(copy).collect();
            Ok(copies.errno_step(step)?.into_iter().flatten().collect())
        };
        let copies = std::thread::scope(|scope| scope.spawn(copy).join());
        Ok(Ipc {
            namespace,
            mounts: copies.unwrap_or_else(|_| Err(Error::system(step)))?,
        })
    }
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
