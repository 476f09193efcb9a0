//! `tmpcopyup`: a tmpfs that begins with what the image has at its place. By descriptors, never following a link of the
//! image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Result, Step};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT};

/// No tree is deeper.
const DEPTH: u32 = 256;

/// Copies what is in one directory into another.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(from).errno_step("look at the directory")?;
    entries(from, to, DEPTH)?;
    attributes(to, &stat)
}

fn entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    let step = "read the directory";
    for entry in Dir::read_from(from).errno_step(step)? {
        let entry = entry.errno_step(step)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth).step_with(|| format!("copy {}", name.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr, depth: u32) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).errno_step("look at it")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if depth == 0 => Err(errdefs::Error::invalid("directories are too deep")),
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU).errno_step("make the directory")?;
            let (source, target) = (open(from, name, OFlags::DIRECTORY)?, open(to, name, OFlags::DIRECTORY)?);
            entries(source.as_fd(), target.as_fd(), depth - 1)?;
            attributes(target.as_fd(), &stat)
        }
        FileType::RegularFile => {
            let source = open(from, name, OFlags::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::openat(to, name, flags, Mode::RWXU).errno_step("make the file")?;
            let (mut source, mut target) = (std::fs::File::from(source), std::fs::File::from(target));
            std::io::copy(&mut source, &mut target).step("copy the file")?;
            attributes(target.as_fd(), &stat)
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new()).errno_step("read the link")?;
            rustix::fs::symlinkat(&link, to, name).errno_step("make the link")?;
            let (uid, gid) = owner(&stat);
            rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).errno_step("give the link its owner")
        }
        // Devices, sockets and pipes are nothing that a temporary directory begins with.
        _ => Ok(()),
    }
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr, more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(dir, name, flags, Mode::empty()).errno_step("open it")
}

fn owner(stat: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    let uid = rustix::fs::Uid::from_raw(stat.st_uid);
    (Some(uid), Some(rustix::fs::Gid::from_raw(stat.st_gid)))
}

/// Owner first: a change of owner takes set-user-id away.
fn attributes(fd: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    let step = "copy its attributes";
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(fd, uid, gid).errno_step(step)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode as RawMode & 0o7777)).errno_step(step)?;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    };
    rustix::fs::futimens(fd, &times).errno_step(step)
}
