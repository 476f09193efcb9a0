//! Project quotas: a number that directories hand down to what is made in them, and a limit for all that has it (quotactl(2),
//! ioctl_xfs_fsgetxattr(2); ext4 and xfs).

use std::os::fd::{AsRawFd, BorrowedFd};

use linux_raw_sys::general::{FS_XFLAG_PROJINHERIT, fsxattr};
use linux_raw_sys::ioctl::{FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR};
use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// `linux/quota.h`
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const PROJECT: u32 = 2;
const LIMITS: u32 = 1;
/// Bytes in the unit of limits.
const BLOCK: u64 = 1024;

/// `struct if_dqblk` of `linux/quota.h`.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard_limit: u64,
    soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// What a project has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that it may take; 0 for any number.
    pub limit: u64,
    /// Bytes that it takes.
    pub space: u64,
    /// Files.
    pub files: u64,
}

fn quotactl(on: BorrowedFd<'_>, command: u32, project: u32, block: &mut Block) -> Result<()> {
    let command = (command << 8) | PROJECT;
    // SAFETY: the structure is the one that both commands read or write, and lives through the call.
    let result = unsafe { syscall!(Sysno::quotactl_fd, on.as_raw_fd(), command, project, &raw mut *block) };
    result.map(drop).map_err(errno)
}

/// Of a project of the file system that a descriptor is on. Linux 5.14; fails where there are no project quotas.
pub fn usage(on: BorrowedFd<'_>, project: u32) -> Result<Usage> {
    let mut block = Block::default();
    match quotactl(on, GET, project, &mut block) {
        // So xfs says that nobody has ever heard of the project.
        Err(rustix::io::Errno::NOENT) => {}
        other => other?,
    }
    Ok(Usage {
        limit: block.hard_limit * BLOCK,
        space: block.space,
        files: block.inodes,
    })
}

/// Sets how many bytes a project may take, rounded up to 1024; 0 for any number.
pub fn set_limit(on: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    let limit = bytes.div_ceil(BLOCK);
    let mut block = Block {
        hard_limit: limit,
        soft_limit: limit,
        valid: LIMITS,
        ..Block::default()
    };
    quotactl(on, SET, project, &mut block)
}

fn attributes(of: BorrowedFd<'_>) -> Result<fsxattr> {
    let mut attributes = fsxattr {
        fsx_xflags: 0,
        fsx_extsize: 0,
        fsx_nextents: 0,
        fsx_projid: 0,
        fsx_cowextsize: 0,
        fsx_pad: [0; 8],
    };
    // SAFETY: the kernel writes the structure, which lives through the call.
    unsafe { syscall!(Sysno::ioctl, of.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) }.map_err(errno)?;
    Ok(attributes)
}

/// The project of a directory; 0 for none.
pub fn project(of: BorrowedFd<'_>) -> Result<u32> {
    Ok(attributes(of)?.fsx_projid)
}

/// Puts a directory, and what will be made in it, into a project.
pub fn set_project(of: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut attributes = attributes(of)?;
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads the structure, which lives through the call.
    let result = unsafe { syscall!(Sysno::ioctl, of.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) };
    result.map(drop).map_err(errno)
}
