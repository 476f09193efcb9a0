//! `/dev`: the devices that every program expects, and links into `/proc` (OCI runtime specification, "Default Devices").

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Result, Step};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::rootfs::{Root, move_mount};

/// name, major, minor
const DEFAULT: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// Fills `/dev`, unless the user has mounted one.
pub fn fill(root: &Root, spec: &Spec, in_userns: bool) -> Result<()> {
    if spec.mounts().iter().flatten().any(own_dev) {
        return Ok(());
    }
    let dev = sys::path::make_dir(root.as_fd(), Path::new("/dev")).errno_step("open /dev")?;
    for (name, major, minor) in DEFAULT {
        let node = Node {
            path: &Path::new("/dev").join(name),
            kind: FileType::CharacterDevice,
            number: (*major, *minor),
            mode: 0o666,
        };
        node.make(dev.as_fd(), in_userns)
            .step_with(|| format!("make /dev/{name}"))?;
    }
    for device in spec.linux().iter().flat_map(|l| l.devices().iter().flatten()) {
        make_asked(root, device, in_userns).step_with(|| format!("make {}", device.path().display()))?;
    }
    for (target, name) in LINKS {
        match rustix::fs::symlinkat(*target, &dev, *name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).errno_step(format!("make /dev/{name}")),
        }
    }
    Ok(())
}

fn own_dev(mount: &Mount) -> bool {
    crate::mounts::prepared(mount) && mount.destination() == Path::new("/dev")
}

fn make_asked(root: &Root, device: &LinuxDevice, in_userns: bool) -> Result<()> {
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let parent = device.path().parent().unwrap_or(Path::new("/dev"));
    let dir = sys::path::make_dir(root.as_fd(), parent).errno_step("make its directory")?;
    let node = Node {
        path: device.path(),
        kind,
        number: (device.major() as u32, device.minor() as u32),
        mode: device.file_mode().unwrap_or(0o666),
    };
    node.make(dir.as_fd(), in_userns)?;
    if !in_userns {
        let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
        rustix::fs::chownat(&dir, node.name()?, uid, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .errno_step("give it its owner")?;
    }
    Ok(())
}

/// A device that the container is to have.
struct Node<'a> {
    /// Inside; and on the host, where the host's own is bound.
    path: &'a Path,
    kind: FileType,
    number: (u32, u32),
    mode: u32,
}

impl Node<'_> {
    fn name(&self) -> Result<&std::ffi::OsStr> {
        self.path
            .file_name()
            .ok_or_else(|| Error::invalid("a device without a name"))
    }

    /// Makes it in its directory; in a user namespace, which may make none, the host's own is bound.
    fn make(&self, dir: BorrowedFd<'_>, in_userns: bool) -> Result<()> {
        if in_userns && self.kind != FileType::Fifo {
            return self.bind_host(dir);
        }
        let (name, mode) = (self.name()?, Mode::from_raw_mode(self.mode));
        match rustix::fs::mknodat(dir, name, self.kind, mode, makedev(self.number.0, self.number.1)) {
            // mknod obeys the umask.
            Ok(()) => rustix::fs::chmodat(dir, name, mode, rustix::fs::AtFlags::empty()).errno_step("set its mode"),
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e).errno_step("make the node"),
        }
    }

    fn bind_host(&self, dir: BorrowedFd<'_>) -> Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let device = rustix::mount::open_tree(rustix::fs::CWD, self.path, flags).errno_step("take the host's")?;
        let target = sys::path::make_file(dir, Path::new(self.name()?)).errno_step("make its mount point")?;
        move_mount(device.as_fd(), target.as_fd(), "").errno_step("attach the host's")
    }
}

/// `/dev/console` is the container's terminal. After `pivot`.
pub fn bind_console(root: &Root, terminal: BorrowedFd<'_>) -> Result<()> {
    let step = "make /dev/console";
    let copy = crate::rootfs::clone_mount(terminal).errno_step(step)?;
    let target = sys::path::make_file(root.as_fd(), Path::new("/dev/console")).errno_step(step)?;
    move_mount(copy.as_fd(), target.as_fd(), "").errno_step(step)
}
