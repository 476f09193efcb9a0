//! Programs that execute those of other machines, in the container's own binfmt_misc (Linux 6.7): the host's has no part in
//! it, and forgets nothing.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Result};
use linux_raw_sys::general::MOUNT_ATTR_RDONLY;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::rootfs::{Root, move_mount};

/// Where it is mounted, as on hosts; what is mounted there stays as long as the container.
const PLACE: &str = "/proc/sys/fs/binfmt_misc";
/// Its name in argv[0] stays, credentials are the program's, and it is opened now (binfmt_misc, "flags").
const FLAGS: &str = "POCF";

/// What executes the programs that begin like this.
#[derive(Debug)]
pub struct Interpreter {
    /// `arm64`.
    pub name: String,
    /// The first bytes of its programs.
    pub magic: Vec<u8>,
    /// Which bits of them count.
    pub mask: Vec<u8>,
    /// It needs no other file.
    pub program: OwnedFd,
}

/// Makes them known to the kernel, as long as the host's `/proc` is in sight; `own_users`: in a user namespace of the
/// container's, else they would be the host's.
pub fn register(root: &Root, list: &[Interpreter], own_users: bool) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    if !own_users {
        return Err(Error::invalid(
            "interpreters take a user namespace of the container's own",
        ));
    }
    let step = "make a binfmt_misc of the container's own";
    let hint = "it takes Linux 6.7 and the module binfmt_misc; --compat=off does without";
    let context = rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).errno_step(step);
    let context = context.map_err(|e| e.hint(hint))?;
    let made = rustix::mount::fsconfig_create(context.as_fd()).errno_step(step);
    made.map_err(|e| e.hint(hint))?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).errno_step(step)?;
    let door =
        rustix::fs::openat(&mount, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).errno_step(step)?;
    for interpreter in list {
        let step = format!("give the programs for {} an interpreter", interpreter.name);
        let line = line(interpreter);
        match rustix::io::write(&door, line.as_bytes()).errno_step(&step)? {
            written if written == line.len() => {}
            _ => return Err(Error::system(step)),
        }
    }
    drop(door);
    // The container may not change it.
    sys::mount::set_attributes(mount.as_fd(), false, MOUNT_ATTR_RDONLY.into(), 0, 0, None).errno_step(step)?;
    let place = sys::path::open(root.as_fd(), Path::new(PLACE), OFlags::PATH | OFlags::DIRECTORY).errno_step(step)?;
    move_mount(mount.as_fd(), place.as_fd(), "").errno_step(step)
}

/// `:name:type:offset:magic:mask:interpreter:flags`
fn line(of: &Interpreter) -> String {
    let bytes = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\x{b:02x}")).collect() };
    let program = format!("/proc/self/fd/{}", of.program.as_raw_fd());
    format!(
        ":{}:M:0:{}:{}:{program}:{FLAGS}",
        of.name,
        bytes(&of.magic),
        bytes(&of.mask)
    )
}
