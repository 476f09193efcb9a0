//! Devices of the host: all of them for `--privileged`, or those of `--device`.
//!
//! A user namespace cannot make nodes, and in the host's own nodes its root is nobody: a node of the container's own is
//! made beside its other files, belongs to whom it belongs to on the host, and is bound to its place.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bollard_stubs::models::{DeviceMapping, HostConfig};
use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::oci::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount};
use rustix::fs::{FileType, Gid, Mode, Uid};

use crate::Roots;
use crate::container::Record;

/// File systems of their own below `/dev`, and what every container has its own of.
const NOT_THESE: &[&str] = &[
    "pts",
    "shm",
    "mqueue",
    "hugepages",
    "fd",
    "console",
    ".lxc",
    ".lxd-mounts",
    ".udev",
];
/// `/dev/bus/usb/001/001` is the deepest.
const DEPTH: usize = 5;

/// Every node below `/dev`; what cannot be read is left out.
pub fn all() -> Vec<LinuxDevice> {
    let mut devices = Vec::new();
    let mut todo = vec![(PathBuf::from("/dev"), 0)];
    while let Some((dir, depth)) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let wanted = !NOT_THESE.iter().any(|name| entry.file_name() == *name);
            match entry.metadata() {
                Ok(m) if m.is_dir() && wanted && depth < DEPTH => todo.push((entry.path(), depth + 1)),
                Ok(m) if wanted => devices.extend(device(&entry.path(), &m)),
                _ => {}
            }
        }
    }
    devices
}

/// One of `--device`.
pub struct Asked {
    /// As the container is to have it.
    pub device: LinuxDevice,
    /// What may be done with it: letters of `rwm`.
    pub access: String,
    /// On the host.
    source: PathBuf,
}

/// The devices that a container asks for, as they are on the host now.
pub fn asked(host: &HostConfig) -> Result<Vec<Asked>> {
    let mut list = Vec::new();
    for mapping in host.devices.iter().flatten() {
        list.extend(found(mapping)?);
    }
    Ok(list)
}

/// A node, or all nodes of a directory.
fn found(mapping: &DeviceMapping) -> Result<Vec<Asked>> {
    let source = PathBuf::from(mapping.path_on_host.clone().unwrap_or_default());
    let step = || {
        format!(
            "error gathering device information while adding custom device \"{}\"",
            source.display()
        )
    };
    let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let target = filled(&mapping.path_in_container).map_or(source.clone(), PathBuf::from);
    let access = filled(&mapping.cgroup_permissions).unwrap_or("rwm".into());
    let metadata = std::fs::metadata(&source)
        .step_with(step)
        .map_err(|e| e.kind_is(errdefs::Kind::Invalid))?;
    let asked = |from: &Path, to: &Path, metadata: &std::fs::Metadata| {
        device(to, metadata).map(|device| Asked {
            device,
            access: access.clone(),
            source: from.to_owned(),
        })
    };
    if let Some(one) = asked(&source, &target, &metadata) {
        return Ok(vec![one]);
    }
    let mut list = Vec::new();
    let mut todo = vec![(source.clone(), target, 0)];
    while let Some((from, to, depth)) = todo.pop() {
        for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
            let to = to.join(entry.file_name());
            match std::fs::metadata(entry.path()) {
                Ok(m) if m.is_dir() && depth < DEPTH => todo.push((entry.path(), to, depth + 1)),
                Ok(m) => list.extend(asked(&entry.path(), &to, &m)),
                Err(_) => {}
            }
        }
    }
    match list.is_empty() {
        true => Err(Error::invalid(format!("{}: not a device node", step()))),
        false => Ok(list),
    }
}

/// Leave to use them.
pub fn rules(host: &HostConfig) -> Result<Vec<LinuxDeviceCgroup>> {
    let mut list = Vec::new();
    for asked in asked(host)? {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(asked.device.typ()))
            .set_major(Some(asked.device.major()))
            .set_minor(Some(asked.device.minor()))
            .set_access(Some(asked.access));
        list.push(rule);
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        list.push(rule(text)?);
    }
    Ok(list)
}

/// `c 13:* rwm`.
pub fn rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else {
        return Err(bad());
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(bad());
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(number(major)?)
        .set_minor(number(minor)?)
        .set_access(Some(access.into()));
    Ok(rule)
}

/// For a user namespace of its own: nodes, and the mounts that bring them to their places.
pub fn mounts(roots: &Roots, record: &Record) -> Result<Vec<Mount>> {
    let range = match record.ids {
        Some(range) => range,
        // Of a user's own users nobody makes nodes either.
        None if !sys::process::has_hosts_users() => crate::state::IdRange { first: 0, count: 1 },
        None => return Ok(Vec::new()),
    };
    let mut list = Vec::new();
    for (number, asked) in asked(record.host())?.into_iter().enumerate() {
        let path = roots.container(&record.id).join(format!("device-{number}"));
        let source = match node(&path, &asked.device, range) {
            Ok(()) => path,
            // Where we may make no nodes the host's own has to do.
            Err(e) if e.errno() == Some(1) => asked.source,
            Err(e) => return Err(e),
        };
        let mut mount = Mount::default();
        mount.set_destination(asked.device.path().clone());
        mount.set_typ(Some("bind".into()));
        mount.set_source(Some(source));
        mount.set_options(Some(vec!["bind".into(), "rprivate".into()]));
        list.push(mount);
    }
    Ok(list)
}

/// As it is on the host; owners that the container has no id for become its root.
fn node(path: &Path, device: &LinuxDevice, range: crate::state::IdRange) -> Result<()> {
    let step = || format!("make a node for {}", device.path().display());
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).step_with(step),
        _ => {}
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        _ => FileType::CharacterDevice,
    };
    let number = rustix::fs::makedev(device.major() as u32, device.minor() as u32);
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666));
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, number).errno_step(step())?;
    let outside = |id: Option<u32>| range.first + id.filter(|id| *id < range.count).unwrap_or(0);
    let (uid, gid) = (
        Uid::from_raw(outside(device.uid())),
        Gid::from_raw(outside(device.gid())),
    );
    rustix::fs::chown(path, Some(uid), Some(gid)).errno_step(step())?;
    rustix::fs::chmod(path, mode).errno_step(step())
}

fn device(path: &Path, metadata: &std::fs::Metadata) -> Option<LinuxDevice> {
    let kind = metadata.file_type();
    let typ = match () {
        () if kind.is_char_device() => LinuxDeviceType::C,
        () if kind.is_block_device() => LinuxDeviceType::B,
        () => return None,
    };
    let mut device = LinuxDevice::default();
    device.set_path(path.to_owned());
    device.set_typ(typ);
    device.set_major(rustix::fs::major(metadata.rdev()).into());
    device.set_minor(rustix::fs::minor(metadata.rdev()).into());
    device.set_file_mode(Some(metadata.mode() & 0o7777));
    device.set_uid(Some(metadata.uid()));
    device.set_gid(Some(metadata.gid()));
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_strictly() {
        let good = rule("c 13:* rw").unwrap();
        assert_eq!(
            (good.major(), good.minor(), good.access().as_deref()),
            (Some(13), None, Some("rw"))
        );
        for bad in [
            "",
            "c 13",
            "x 1:1 r",
            "c 1:1 rwmx",
            "c 1 r",
            "c 1:-1 r",
            "c  1:1 r",
            "c 1:1 ",
        ] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
