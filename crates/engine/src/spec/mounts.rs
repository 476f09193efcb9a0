//! The mounts of the document: the kernel's file systems, the container's own files, then the user's.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use bollard_stubs::models::MountPoint;
use errdefs::Result;
use runtime::oci::Mount;

use super::{privileged, shares};
use crate::Roots;
use crate::container::{Record, parts};
use crate::network::shared::Shared;

/// All, in the order in which they are mounted.
/// Some name what was opened for them, which is to be held until the container is made.
pub fn mounts(roots: &Roots, record: &Record, shared: Option<&Shared>) -> Result<(Vec<Mount>, Vec<OwnedFd>)> {
    // Of a network whose users are others.
    let foreign = shared.is_some_and(|s| s.network_path().is_some() && s.users_path().is_none());
    let mut list = system(record, foreign || record.network() == "host");
    list.extend(memory(record, shared));
    list.extend(own_files(roots, record, shared));
    let mut held = Vec::new();
    for point in &record.mounts {
        let mut mount = asked(record, point);
        if let Some(part) = parts::open(roots, record, point)? {
            mount.set_source(Some(format!("/proc/self/fd/{}", part.as_raw_fd()).into()));
            held.push(part);
        }
        list.push(mount);
    }
    // What the user mounts over one of the system's directories takes its place.
    let taken = |m: &Mount| {
        record
            .mounts
            .iter()
            .any(|p| p.destination.as_deref().map(Path::new) == Some(m.destination()))
    };
    let own = record.mounts.len();
    let system_count = list.len() - own;
    let mut index = 0;
    list.retain(|m| {
        index += 1;
        index > system_count || !taken(m)
    });
    Ok((list, held))
}

fn mount(destination: &str, typ: &str, source: &str, options: &str) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(typ.into()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.split(',').map(String::from).collect()));
    mount
}

/// Docker's (moby `oci/defaults.go`). A user namespace may mount only what belongs to its own namespaces: of those
/// shared with the host it gets the host's mount.
fn system(record: &Record, foreign_network: bool) -> Vec<Mount> {
    let host = record.host();
    let foreign = |shared: bool| shared && (record.ids.is_some() || !sys::process::has_hosts_users());
    // The group of terminals; not there for a user without subordinate ids.
    let group = match record.ids {
        Some(ids) if ids.count <= 5 => "",
        _ => ",gid=5",
    };
    let access = if privileged(host) { "rw" } else { "ro" };
    vec![
        match foreign(shares(&host.pid_mode)) {
            true => mount("/proc", "bind", "/proc", "rbind,nosuid,noexec,nodev"),
            false => mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        },
        mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620{group}"),
        ),
        match foreign(foreign_network) {
            true => mount("/sys", "bind", "/sys", &format!("rbind,nosuid,noexec,nodev,{access}")),
            false => mount("/sys", "sysfs", "sysfs", &format!("nosuid,noexec,nodev,{access}")),
        },
        match super::host_cgroups(host) {
            true => mount(
                "/sys/fs/cgroup",
                "bind",
                "/sys/fs/cgroup",
                &format!("rbind,nosuid,noexec,nodev,{access}"),
            ),
            false => mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &format!("nosuid,noexec,nodev,{access}"),
            ),
        },
    ]
}

/// What `--ipc` is about: message queues and shared memory, the container's own, another's or the host's.
fn memory(record: &Record, shared: Option<&Shared>) -> Vec<Mount> {
    let bind = |place: &str, source: &str| mount(place, "bind", source, "bind,nosuid,noexec,nodev");
    if shared.is_some_and(|s| s.ipc_path().is_some()) {
        let mounts = shared.into_iter().flat_map(Shared::ipc_mounts);
        return mounts
            .map(|(place, source)| bind(place, &source.to_string_lossy()))
            .collect();
    }
    let host = record.host();
    let shm = host.shm_size.filter(|s| *s > 0).unwrap_or(64 << 20);
    let mut list = Vec::new();
    if !(shares(&host.ipc_mode) && record.ids.is_some()) {
        list.push(mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"));
    } else if Path::new("/dev/mqueue").is_dir() {
        list.push(bind("/dev/mqueue", "/dev/mqueue"));
    }
    match host.ipc_mode.as_deref() {
        Some("none") => {}
        Some("host") => list.push(bind("/dev/shm", "/dev/shm")),
        _ => list.push(mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &format!("nosuid,noexec,nodev,mode=1777,size={shm}"),
        )),
    }
    list
}

/// Name resolution: files of the container's own, so that it may change them, or of whose network it shares.
fn own_files(roots: &Roots, record: &Record, shared: Option<&Shared>) -> Vec<Mount> {
    let dir = roots.container(shared.and_then(Shared::network_owner).unwrap_or(&record.id));
    let options = if record.is_idmapped() && sys::mount::knows_attributes() {
        "bind,rprivate,idmap"
    } else {
        "bind,rprivate"
    };
    let file = |name: &str| {
        let mut mount = mount(&format!("/etc/{name}"), "bind", "", options);
        mount.set_source(Some(dir.join(name)));
        mount
    };
    ["resolv.conf", "hostname", "hosts"].map(file).into()
}

/// A bind mount, volume or tmpfs of the user's. Bind mounts and volumes are idmapped: ids on the disk are those inside.
fn asked(record: &Record, point: &MountPoint) -> Mount {
    let destination = point.destination.as_deref().unwrap_or_default();
    let mut options = Vec::new();
    let typ = if point.typ.as_deref() == Some("tmpfs") {
        options.extend(["noexec", "nosuid", "nodev"].map(String::from));
        tmpfs_options(&mut options, point.mode.as_deref().unwrap_or_default());
        "tmpfs"
    } else if parts::is_image(point) {
        // Its owners are the container's already.
        options.extend(["bind", "rprivate", "ro", "nodev"].map(String::from));
        "bind"
    } else {
        let recursive = !point
            .mode
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .any(|o| o == "nonrecursive");
        options.push(if recursive { "rbind" } else { "bind" }.to_owned());
        options.push(
            point
                .propagation
                .clone()
                .filter(|p| !p.is_empty())
                .unwrap_or("rprivate".into()),
        );
        if !point.rw.unwrap_or(true) {
            // All of the tree, where the kernel can (5.12): a read-only volume with a writable hole is a surprise.
            options.push(if recursive { "rro" } else { "ro" }.to_owned());
        }
        if record.is_idmapped() {
            options.push(if recursive { "ridmap" } else { "idmap" }.to_owned());
        }
        "bind"
    };
    let mut mount = mount(destination, typ, if typ == "tmpfs" { "tmpfs" } else { "" }, "");
    if typ == "bind" {
        mount.set_source(point.source.as_deref().map(Into::into));
    }
    mount.set_options(Some(options));
    mount
}

/// Docker's defaults for `--tmpfs`, each of which the user may turn round.
fn tmpfs_options(options: &mut Vec<String>, asked: &str) {
    for word in asked.split(',').filter(|w| !w.is_empty()) {
        let opposite = match word {
            "exec" => "noexec",
            "suid" => "nosuid",
            "dev" => "nodev",
            _ => "",
        };
        options.retain(|o| o != opposite && o != word);
        options.push(word.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_defaults_can_be_turned_round() {
        let mut options = vec!["noexec".to_owned(), "nosuid".to_owned(), "nodev".to_owned()];
        tmpfs_options(&mut options, "exec,size=64m,nosuid");
        assert_eq!(options, ["nodev", "exec", "size=64m", "nosuid"]);
    }
}
