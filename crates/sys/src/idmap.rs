//! Idmapped mounts (mount_setattr(2), Linux 5.12): the ids on a file system, seen as another user namespace maps them.

use std::os::fd::BorrowedFd;

use linux_raw_sys::general::MOUNT_ATTR_IDMAP;

use crate::Result;

/// Maps a detached mount (or tree) for `userns`. `EINVAL` when a file system in it cannot be idmapped.
pub fn mount_setattr_idmap(mount: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> Result<()> {
    crate::mount::set_attributes(mount, recursive, MOUNT_ATTR_IDMAP.into(), 0, 0, Some(userns))
}
