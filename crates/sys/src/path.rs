//! Paths that cannot leave a root: every component is resolved by the kernel below it (openat2(2), Linux 5.6).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Result;

/// How the kernel resolves: `/` and `..` end at the root, `/proc`'s magic links are none.
pub const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` below `root`.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open_by(root, path, flags, IN_ROOT)
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

/// The directory at `path` below `root`, made with its parents (mode 0755) where it is not there.
pub fn make_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make_dir_by(root, path, IN_ROOT)
}

/// The same without following any link: `ELOOP` if there is one on the way.
pub fn make_real_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make_dir_by(root, path, IN_ROOT.union(ResolveFlags::NO_SYMLINKS))
}

fn make_dir_by(root: BorrowedFd<'_>, path: &Path, way: ResolveFlags) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_by(root, path, flags, way) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (parent, name) = split(path)?;
    let parent = make_dir_by(root, parent, way)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_by(root, path, flags, way),
        Err(e) => Err(e),
    }
}

/// The file at `path` below `root`, made empty where it is not there; its parents, too.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (parent, name) = split(path)?;
    let parent = make_dir(root, parent)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => open(root, path, OFlags::PATH),
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
