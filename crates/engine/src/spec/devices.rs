//! All devices of the host, for `--privileged`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use runtime::oci::{LinuxDevice, LinuxDeviceType};

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
