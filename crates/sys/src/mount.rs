//! mount_setattr(2) (Linux 5.12).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_RECURSIVE, MOUNT_ATTR_RDONLY, mount_attr};
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

/// A detached, read-only view of one file: who opens it through this view cannot write to it.
pub fn read_only_view(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    set_attributes(
        std::os::fd::AsFd::as_fd(&view),
        false,
        MOUNT_ATTR_RDONLY.into(),
        0,
        0,
        None,
    )?;
    Ok(view)
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
