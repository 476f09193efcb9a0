//! Docker's body to an OCI runtime document: the one place where the one becomes the other.
//!
//! Made by the monitor at each start, since users and ids are looked up in the container's own files. The defaults are
//! Docker's (moby `oci/defaults.go`), except that every container has a user namespace of its own.

mod capabilities;
mod devices;
mod limits;
mod mounts;
mod process;
mod seccomp;
pub mod user;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use bollard_stubs::models::HostConfig;
use errdefs::{Result, Step};
use runtime::Newborn;
use runtime::oci::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Root, Spec,
};

use crate::Roots;
use crate::container::Record;
use crate::network::linked;
use crate::network::shared::{self, Shared};
use crate::state::IdRange;
use crate::users::{self, Ids};

pub use capabilities::{capabilities, check as check_capabilities};
pub use devices::{asked as check_devices, rule as check_device_rule};
pub use limits::{check as check_limits, discard as discard_limits, resources};
pub use process::{check_ulimit, exec_process};
pub use user::ReadFile;

/// A document, and what the user should know about it.
pub struct Built {
    /// For `runtime::create`.
    pub spec: Spec,
    /// Things that are not as asked for, or less safe.
    pub warnings: Vec<String>,
    /// Namespaces that the document says to join: to be held until the container is made.
    _shared: Option<Shared>,
    /// What mounts of the document are of.
    _held: Vec<OwnedFd>,
}

/// The document for the next run of a container. `read` reads its files, for looking up users.
pub fn build(roots: &Roots, record: &Record, read: &ReadFile<'_>) -> Result<Built> {
    let host = record.host();
    let mut warnings = Vec::new();
    if privileged(host) {
        let who = if roots.is_users() { "you" } else { "root" };
        warnings.push(format!(
            "--privileged uses the host's user namespace: root in the container is {who} on the host"
        ));
    }
    let caps = capabilities(host)?;
    let mut spec = Spec::default();
    spec.set_version("1.2.0".into());
    spec.set_hostname(
        (!shares(&host.uts_mode))
            .then(|| record.body.hostname.clone())
            .flatten(),
    );
    spec.set_domainname(
        (!shares(&host.uts_mode))
            .then(|| record.body.domainname.clone())
            .flatten()
            .filter(|d| !d.is_empty()),
    );
    let linked = linked::variables(roots, record);
    spec.set_process(Some(process::process(record, read, &caps, &linked)?));
    let shared = Shared::open(roots, record)?;
    let (mut mounts, held) = mounts::mounts(roots, record, shared.as_ref())?;
    mounts.extend(devices::mounts(roots, record)?);
    spec.set_mounts(Some(mounts));
    spec.set_annotations(host.annotations.clone().filter(|a| !a.is_empty()));
    let mut rootfs = Root::default();
    rootfs.set_path("rootfs".into());
    rootfs.set_readonly(host.readonly_rootfs);
    spec.set_root(Some(rootfs));
    spec.set_linux(Some(linux(
        record,
        seccomp::adapt(seccomp::filter(host, &caps)?, &crate::mend::asked(host)?),
        shared.as_ref(),
    )?));
    Ok(Built {
        spec,
        warnings,
        _shared: shared,
        _held: held,
    })
}

/// What most containers need is made ready, for a monitor that waits to begin.
pub fn get_ready() {
    if let Ok(caps) = capabilities::capabilities(&HostConfig::default()) {
        runtime::get_ready(&caps);
    }
}

/// Whether a container has one new namespace of every kind, and the usual place among cgroups: what a monitor can make before
/// it hears more (`runtime::Newborn`).
pub fn usual(host: &HostConfig) -> bool {
    let modes = [
        &host.pid_mode,
        &host.ipc_mode,
        &host.uts_mode,
        &host.network_mode,
        &host.userns_mode,
    ];
    let others = |mode: &str| mode == "host" || mode.starts_with("container:");
    !modes.into_iter().flatten().any(|mode| others(mode))
        && !host_users(host)
        && !host_cgroups(host)
        && host.cgroup_parent.as_deref().is_none_or(str::is_empty)
        && rustix::process::geteuid().is_root()
        && sys::process::has_hosts_users()
}

/// The first process of a container that is a [`usual`] one.
pub fn bear(id: &str) -> Result<Option<Newborn>> {
    let capabilities = capabilities::capabilities(&HostConfig::default())?;
    Newborn::bear(&Record::cgroup_of(None, id), &capabilities)
}

/// All capabilities, all devices, no filter, the host's users.
pub fn privileged(host: &HostConfig) -> bool {
    host.privileged.unwrap_or(false)
}

/// Whether the container's users are the host's.
pub fn host_users(host: &HostConfig) -> bool {
    privileged(host) || shares(&host.userns_mode)
}

/// Whether it sees the host's cgroups by their whole names.
fn host_cgroups(host: &HostConfig) -> bool {
    host.cgroupns_mode.is_some_and(|mode| mode.to_string() == "host")
}

/// Whether a mode says to share the host's namespace.
fn shares(mode: &Option<String>) -> bool {
    mode.as_deref() == Some("host")
}

fn linux(record: &Record, filter: Option<LinuxSeccomp>, shared: Option<&Shared>) -> Result<Linux> {
    let host = record.host();
    let mut linux = Linux::default();
    let own = record.ids.filter(|_| shared.is_none_or(|s| s.users_path().is_none()));
    linux.set_uid_mappings(own.map(|range| mappings(range, Ids::Users)).transpose()?);
    linux.set_gid_mappings(own.map(|range| mappings(range, Ids::Groups)).transpose()?);
    linux.set_namespaces(Some(namespaces(record, shared)));
    linux.set_cgroups_path(Some(record.cgroup().into()));
    linux.set_resources(Some(limits::resources(host)?));
    linux.set_sysctl(Some(sysctls(record)).filter(|s| !s.is_empty()));
    linux.set_seccomp(filter);
    linux.set_devices(own_nodes(record)?);
    linux.set_rootfs_propagation(None);
    let visible = privileged(host)
        || host
            .security_opt
            .iter()
            .flatten()
            .any(|o| o == "systempaths=unconfined");
    let paths = |asked: &Option<Vec<String>>, default: fn() -> Vec<String>| match (asked, visible) {
        (Some(paths), _) => Some(paths.clone()),
        (None, true) => None,
        (None, false) => Some(default()),
    };
    linux.set_masked_paths(paths(&host.masked_paths, masked_paths));
    linux.set_readonly_paths(paths(&host.readonly_paths, readonly_paths));
    Ok(linux)
}

/// A range of the host's; or, from 0 on, ours as they are: the kernel takes no mapping across a seam of its maker's.
fn mappings(range: IdRange, kind: Ids) -> Result<Vec<LinuxIdMapping>> {
    let parts = match range.first {
        0 => users::mapped(kind)?
            .into_iter()
            .map(|(first, count)| (first, first, count))
            .collect(),
        first => vec![(0, first, range.count)],
    };
    let mapping = |(inside, outside, count): (u32, u32, u32)| {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(inside)
            .host_id(outside)
            .size(count);
        mapping.build().step("describe the user namespace")
    };
    parts.into_iter().map(mapping).collect()
}

/// The nodes that the container's root can make itself: with the host's users.
fn own_nodes(record: &Record) -> Result<Option<Vec<runtime::oci::LinuxDevice>>> {
    if record.ids.is_some() || !sys::process::has_hosts_users() {
        return Ok(None);
    }
    let mut list = if privileged(record.host()) {
        devices::all()
    } else {
        Vec::new()
    };
    for asked in devices::asked(record.host())? {
        list.retain(|d| d.path() != asked.device.path());
        list.push(asked.device);
    }
    Ok(Some(list).filter(|l| !l.is_empty()))
}

/// Those that were asked for, and Docker's: in a network of its own everybody may use all ports, and ping.
fn sysctls(record: &Record) -> HashMap<String, String> {
    let mut all = record.host().sysctls.clone().unwrap_or_default();
    let name = record.network();
    if name == "host" || shared::owner(name).is_some() {
        return all;
    }
    let ids = record.ids.or_else(|| users::of_a_user().ok().flatten());
    let groups = ids.map_or(i32::MAX as u32, |ids| ids.count - 1);
    for (name, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "0".to_owned()),
        ("net.ipv4.ping_group_range", format!("0 {groups}")),
    ] {
        // A kernel without has nothing to allow.
        if Path::new("/proc/sys").join(name.replace('.', "/")).exists() {
            all.entry(name.into()).or_insert(value);
        }
    }
    all
}

fn namespaces(record: &Record, shared: Option<&Shared>) -> Vec<LinuxNamespace> {
    let host = record.host();
    let asked = [
        (LinuxNamespaceType::User, record.ids.is_some()),
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Pid, !shares(&host.pid_mode)),
        (LinuxNamespaceType::Ipc, !shares(&host.ipc_mode)),
        (LinuxNamespaceType::Uts, !shares(&host.uts_mode)),
        (LinuxNamespaceType::Network, record.network() != "host"),
        (LinuxNamespaceType::Cgroup, !host_cgroups(host)),
    ];
    let namespace = |typ| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace.set_path(match typ {
            LinuxNamespaceType::Network => shared.and_then(Shared::network_path),
            LinuxNamespaceType::Pid => shared.and_then(Shared::processes_path),
            LinuxNamespaceType::Ipc => shared.and_then(Shared::ipc_path),
            LinuxNamespaceType::User => shared.and_then(Shared::users_path),
            _ => None,
        });
        namespace
    };
    asked
        .into_iter()
        .filter(|(_, own)| *own)
        .map(|(typ, _)| namespace(typ))
        .collect()
}

/// What tells of, or acts on, the host as a whole (moby `oci/defaults.go`).
/// What a container does not see of the host: Docker's list.
pub fn masked_paths() -> Vec<String> {
    const PATHS: &[&str] = &[
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    PATHS.iter().map(|p| (*p).to_owned()).collect()
}

/// What it cannot write: Docker's list.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        .map(String::from)
        .into()
}
