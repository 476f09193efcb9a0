//! Paths that cannot leave a root: every component is resolved by the kernel below it (openat2(2), Linux 5.6).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Result;

/// How the kernel resolves: `/` and `..` end at the root, `/proc`'s magic links are none.
pub const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// So many links to nothing are followed, as the kernel does.
const LINKS: u32 = 40;

/// Opens `path` below `root`.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open_by(root, path, flags, IN_ROOT)
}

/// The same, where whatever leads out of the root, be it a link or `..`, is refused (`XDEV`).
pub fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open_by(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

fn open_by(root: BorrowedFd<'_>, path: &Path, flags: OFlags, way: ResolveFlags) -> Result<OwnedFd> {
    let path = relative(path);
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), way) {
            // A rename somewhere in the tree made the kernel unsure: it asks to be asked again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Opens a file of the kernel's own process file system at `proc` below `root`: `XDEV` if something else is mounted there, or
/// anything over the file; no link is followed (CVE-2019-16884, CVE-2025-52881).
pub fn open_proc(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    const MAGIC: i64 = 0x9fa0;
    let way = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let proc = open_by(
        root,
        Path::new("proc"),
        OFlags::PATH | OFlags::DIRECTORY,
        way | ResolveFlags::IN_ROOT,
    )?;
    if rustix::fs::fstatfs(&proc)?.f_type as i64 != MAGIC {
        return Err(Errno::XDEV);
    }
    let way = way | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
    open_by(proc.as_fd(), path, flags, way)
}

/// The directory at `path` below `root`, made with its parents (mode 0755) where it is not there.
pub fn make_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make_dir_by(root, path, IN_ROOT)
}

/// The same without following any link: `ELOOP` if there is one on the way.
pub fn make_real_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make_dir_by(root, path, IN_ROOT.union(ResolveFlags::NO_SYMLINKS))
}

fn make_dir_by(root: BorrowedFd<'_>, path: &Path, way: ResolveFlags) -> Result<OwnedFd> {
    make_dir_at_most(root, path, way, LINKS)
}

fn make_dir_at_most(root: BorrowedFd<'_>, path: &Path, way: ResolveFlags, links: u32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_by(root, path, flags, way) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (above, name) = split(path)?;
    let parent = make_dir_at_most(root, above, way, links)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => open_by(root, path, flags, way),
        Err(Errno::EXIST) => match open_by(root, path, flags, way) {
            // A link to nothing: what it means is made.
            Err(Errno::NOENT) => {
                let target = follow(&parent, above, name)?;
                make_dir_at_most(root, &target, way, links.checked_sub(1).ok_or(Errno::LOOP)?)
            }
            other => other,
        },
        Err(e) => Err(e),
    }
}

/// Where a link in a directory leads, as a path below the root.
fn follow(parent: &OwnedFd, above: &Path, name: &std::ffi::OsStr) -> Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(|e| match e {
        Errno::INVAL => Errno::NOENT,
        e => e,
    })?;
    Ok(above.join(Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()))))
}

/// The file at `path` below `root`, made empty where it is not there; its parents, too.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make_file_at_most(root, path, LINKS)
}

fn make_file_at_most(root: BorrowedFd<'_>, path: &Path, links: u32) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (above, name) = split(path)?;
    let parent = make_dir(root, above)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) => open(root, path, OFlags::PATH),
        Err(Errno::EXIST) => match open(root, path, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let target = follow(&parent, above, name)?;
                make_file_at_most(root, &target, links.checked_sub(1).ok_or(Errno::LOOP)?)
            }
            other => other,
        },
        Err(e) => Err(e),
    }
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => Ok((parent, name)),
        _ => Err(Errno::NOENT),
    }
}

/// openat2 takes an empty path for nothing, and `.` for the root itself.
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_end_at_the_root() {
        let dir = std::env::temp_dir().join(format!("berth-path-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/etc")).unwrap();
        std::fs::write(dir.join("outside"), "x").unwrap();
        symlink("/", dir.join("root/up")).unwrap();
        symlink("../../outside", dir.join("root/etc/out")).unwrap();
        symlink(dir.join("outside"), dir.join("root/abs")).unwrap();
        let root = std::fs::File::open(dir.join("root")).unwrap();
        for path in ["etc/out", "/abs", "../outside", "/../../outside"] {
            assert_eq!(
                open(root.as_fd(), Path::new(path), OFlags::PATH).unwrap_err(),
                Errno::NOENT,
                "{path}"
            );
        }
        make_file(root.as_fd(), Path::new("/up/new/deep/file")).unwrap();
        assert!(dir.join("root/new/deep/file").is_file());
        symlink("/new/place/file", dir.join("root/later")).unwrap();
        make_file(root.as_fd(), Path::new("/later")).unwrap();
        assert!(dir.join("root/new/place/file").is_file());
        symlink("../../../there", dir.join("root/etc/dir")).unwrap();
        make_dir(root.as_fd(), Path::new("/etc/dir/below")).unwrap();
        assert!(dir.join("root/there/below").is_dir() && !dir.join("there").exists());
        symlink("round", dir.join("root/round")).unwrap();
        assert_eq!(make_dir(root.as_fd(), Path::new("/round")).unwrap_err(), Errno::LOOP);
        make_real_dir(root.as_fd(), Path::new("/real/dir")).unwrap();
        for path in ["up", "up/new", "/up/other"] {
            assert_eq!(
                make_real_dir(root.as_fd(), Path::new(path)).unwrap_err(),
                Errno::LOOP,
                "{path}"
            );
        }
        make_dir(root.as_fd(), Path::new("/a/b")).unwrap();
        assert!(dir.join("root/a/b").is_dir());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
