//! mount_setattr(2) (Linux 5.12), and what can be done without.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_BIND, MS_NOATIME, MS_NODEV, MS_NODIRATIME,
    MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, mount_attr,
};
use rustix::mount::OpenTreeFlags;
use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// Sets and clears attributes (`MOUNT_ATTR_*`) of a mount, or of a tree of mounts; `userns` goes with
/// `MOUNT_ATTR_IDMAP`.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let attributes = mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure is valid for the size that is passed with it, both live
    // through the call, and the kernel only reads them.
    let result = unsafe {
        syscall!(
            Sysno::mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<mount_attr>()
        )
    };
    result.map(drop).map_err(errno)
}

/// Whether this kernel has mount_setattr(2).
pub fn knows_attributes() -> bool {
    static KNOWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // SAFETY: nothing is passed but numbers, and no structure is big enough: the kernel refuses, if it knows the call.
    let ask = || unsafe { syscall!(Sysno::mount_setattr, usize::MAX, 0, 0, 0, 0) } != Err(syscalls::Errno::ENOSYS);
    *KNOWN.get_or_init(ask)
}

/// As [`set_attributes`], of one mount that is attached in our mount namespace; on older kernels by mount(2), through our
/// own `/proc`.
pub fn set_attributes_attached(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<()> {
    if knows_attributes() {
        return set_attributes(mount, false, set, clear, 0, None);
    }
    // Flags that are not named are taken away, and some of them may not be.
    let now = rustix::fs::fstatvfs(mount)?.f_flag.bits();
    let flag = |(attribute, flag, stat): (u32, u32, u64)| {
        let asked = (set | clear) & u64::from(attribute) != 0;
        let on = if asked {
            set & u64::from(attribute) != 0
        } else {
            now & stat != 0
        };
        if on { u64::from(flag) } else { 0 }
    };
    let flags = FLAGS.iter().copied().map(flag).fold(0, |all, flag| all | flag);
    remount(mount, flags | u64::from(MS_REMOUNT | MS_BIND))
}

/// What the kernel locks of a mount for user namespaces, attached or not: what it protects from (`MOUNT_ATTR_RDONLY`, `NOSUID`,
/// `NODEV`, `NOEXEC`), and how times of access are kept (`NOATIME`, `NODIRATIME`, `STRICTATIME`).
pub fn attributes(mount: BorrowedFd<'_>) -> Result<u64> {
    let now = rustix::fs::fstatvfs(mount)?.f_flag.bits();
    let set = FLAGS.iter().filter(|(_, _, stat)| now & stat != 0);
    let all = set.fold(0, |all, (attribute, _, _)| all | u64::from(*attribute));
    // Neither now and then nor never: always.
    let always = now & (ST_NOATIME | ST_RELATIME) == 0;
    Ok(all | if always { MOUNT_ATTR_STRICTATIME.into() } else { 0 })
}

/// Sets the propagation of one attached mount, or of a tree, by mount(2).
pub fn propagate_attached(mount: BorrowedFd<'_>, recursive: bool, propagation: u64) -> Result<()> {
    remount(mount, propagation | if recursive { u64::from(MS_REC) } else { 0 })
}

fn remount(target: BorrowedFd<'_>, flags: u64) -> Result<()> {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", target.as_raw_fd()));
    let path = path.map_err(|_| rustix::io::Errno::INVAL)?;
    mount(c"", &path, c"", flags, c"")
}

/// attribute, flag of mount(2), flag of statvfs(3)
const FLAGS: &[(u32, u32, u64)] = &[
    (MOUNT_ATTR_RDONLY, MS_RDONLY, 1),
    (MOUNT_ATTR_NOSUID, MS_NOSUID, 2),
    (MOUNT_ATTR_NODEV, MS_NODEV, 4),
    (MOUNT_ATTR_NOEXEC, MS_NOEXEC, 8),
    (MOUNT_ATTR_NOATIME, MS_NOATIME, ST_NOATIME),
    (MOUNT_ATTR_NODIRATIME, MS_NODIRATIME, 2048),
    (0, MS_RELATIME, ST_RELATIME),
];

const ST_NOATIME: u64 = 1024;
const ST_RELATIME: u64 = 4096;

/// A file to which nobody who opens it through this descriptor can write: a detached, read-only view of it; where there can be
/// none (before Linux 5.12, or without rights over mounts) a sealed copy.
pub fn unwritable(path: &Path) -> Result<OwnedFd> {
    read_only_view(path).or_else(|_| sealed_copy(path))
}

fn read_only_view(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    set_attributes(view.as_fd(), false, MOUNT_ATTR_RDONLY.into(), 0, 0, None)?;
    Ok(view)
}

fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::fs::memfd_create(c"berth", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    while rustix::fs::sendfile(&copy, &file, None, 1 << 30)? > 0 {}
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, all)?;
    Ok(copy)
}

/// mount(2) with an option string as is: rustix wants flags it knows.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, options: &CStr) -> Result<()> {
    // SAFETY: all four are C strings that live through the call; the kernel only reads them.
    let result = unsafe {
        syscall!(
            Sysno::mount,
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr()
        )
    };
    result.map(drop).map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_is_the_same_and_cannot_be_changed() {
        use std::io::{Read, Seek, Write};
        let mut copy = std::fs::File::from(sealed_copy(Path::new("/proc/self/exe")).unwrap());
        let mut bytes = Vec::new();
        copy.rewind().unwrap();
        copy.read_to_end(&mut bytes).unwrap();
        assert!(bytes == std::fs::read("/proc/self/exe").unwrap());
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(1));
        assert!(copy.set_len(0).is_err());
    }
}
