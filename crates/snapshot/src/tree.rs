//! Whole trees: removing what a hostile container wrote, copying what an image has. By descriptors, never by path: what
//! is swapped for a link meanwhile is not followed.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// So deep a tree is walked down; what is deeper is moved up first.
const DEPTH: usize = 64;
/// Deeper directories are not counted: each takes an open file and some of the stack.
const COUNTED: usize = 400;
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes a tree that a hostile container wrote: never leaves it, whatever is swapped meanwhile. Fine if it is gone.
pub fn remove_tree(dir: &Path) -> Result<()> {
    let step = || format!("remove {}", dir.display());
    let top = match rustix::fs::open(dir, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return std::fs::remove_file(dir).step_with(step),
        Err(e) => return Err(e).errno_step(step()),
    };
    let mut moved = 0;
    // What was moved up is found by the next round.
    while remove_contents(top.as_fd(), top.as_fd(), 0, &mut moved).errno_step(step())? {}
    std::fs::remove_dir(dir).step_with(step)
}

/// Those who remove files side by side: where the disk is told of every file that goes (discard) they mostly wait for it.
const REMOVERS: usize = 12;
/// Directories that wait for one of them; who finds more goes in at once.
const WAITING: usize = 256;

/// Removes trees that nobody writes to any more.
pub fn remove_trees(dirs: &[PathBuf]) -> Result<()> {
    if dirs.is_empty() {
        return Ok(());
    }
    let open = |dir: &PathBuf| rustix::fs::open(dir, DIRECTORY, Mode::empty()).ok();
    let queue = Queue {
        waiting: Mutex::new((dirs.iter().filter_map(open).collect(), 0)),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        (0..REMOVERS).for_each(|_| drop(scope.spawn(|| while queue.work().is_some() {})));
    });
    // What is left are directories without files; or what could not be removed, which is told now.
    dirs.iter().try_for_each(|dir| remove_tree(dir))
}

/// Directories whose files are to go, and how many are being worked on.
struct Queue {
    waiting: Mutex<(Vec<OwnedFd>, usize)>,
    changed: Condvar,
}

impl Queue {
    /// Takes one; `None` when nothing is to be done and nothing can come.
    fn work(&self) -> Option<()> {
        let mut state = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
        let dir = loop {
            if let Some(dir) = state.0.pop() {
                break dir;
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        };
        state.1 += 1;
        drop(state);
        self.remove_files(dir.as_fd(), 0);
        self.waiting.lock().unwrap_or_else(|e| e.into_inner()).1 -= 1;
        self.changed.notify_all();
        Some(())
    }

    /// Files of a directory and, if nobody else can take them, of those below. What fails is for others to tell.
    fn remove_files(&self, dir: BorrowedFd<'_>, depth: usize) {
        for entry in Dir::read_from(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if entry.file_type() != FileType::Directory {
                let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
                continue;
            }
            if name == c"." || name == c".." || depth >= DEPTH {
                continue;
            }
            let Ok(below) = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) else {
                continue;
            };
            let mut state = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
            if state.0.len() < WAITING {
                state.0.push(below);
                self.changed.notify_one();
            } else {
                drop(state);
                self.remove_files(below.as_fd(), depth + 1);
            }
        }
    }
}

/// Whether anything was moved up and is still there.
fn remove_contents(
    dir: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> rustix::io::Result<bool> {
    let mut again = false;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(e),
            }
        }
        if depth >= DEPTH {
            *moved += 1;
            rustix::fs::renameat(dir, name, top, format!(".removed-{}-{moved}", std::process::id()))?;
            again = true;
            continue;
        }
        let below = match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        again |= remove_contents(below.as_fd(), top, depth + 1, moved)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Files came while we were reading: the next round sees them.
            Err(Errno::NOTEMPTY) => again = true,
            Err(e) => return Err(e),
        }
    }
    Ok(again)
}

/// Bytes that a tree takes on the disk, files of several names counted once; 0 if it is not there. What goes meanwhile
/// counts or not, and so does what lies deeper than anybody counts.
pub fn disk_usage(dir: &Path) -> Result<u64> {
    let step = || format!("look at {}", dir.display());
    let count = |stat: &Stat| stat.st_blocks as u64 * 512;
    let top = match rustix::fs::open(dir, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(0),
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::lstat(dir).map(|s| count(&s)).errno_step(step()),
        Err(e) => return Err(e).errno_step(step()),
    };
    let mut seen = std::collections::HashSet::new();
    let own = rustix::fs::fstat(&top).map(|s| count(&s)).errno_step(step())?;
    Ok(own + usage_below(top.as_fd(), 0, &mut seen).errno_step(step())?)
}

fn usage_below(
    dir: BorrowedFd<'_>,
    depth: usize,
    seen: &mut std::collections::HashSet<(u64, u64)>,
) -> rustix::io::Result<u64> {
    let mut total = 0;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            total += stat.st_blocks as u64 * 512;
        }
        if directory
            && depth < COUNTED
            && let Ok(below) = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())
        {
            total += usage_below(below.as_fd(), depth + 1, seen)?;
        }
    }
    Ok(total)
}

/// Copies the contents (not the directory itself) of `path` inside the mounted tree `root` into `target`, keeping
/// owners, modes, times, extended attributes and links. Used to fill a new volume.
pub fn copy_tree(root: BorrowedFd<'_>, path: &Path, target: &Path) -> Result<()> {
    let step = || format!("copy {} from the image", path.display());
    let from = sys::path::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY).errno_step(step())?;
    let to = rustix::fs::open(target, DIRECTORY, Mode::empty()).errno_step(step())?;
    let mut links = Vec::new();
    copy_contents(from.as_fd(), to.as_fd(), to.as_fd(), Path::new(""), 0, &mut links).step_with(step)
}

/// Files with several names: device, inode, the first copy's path below the target.
type Links = Vec<((u64, u64), std::path::PathBuf)>;

fn copy_contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    at: &Path,
    depth: usize,
    links: &mut Links,
) -> Result<()> {
    if depth > 1000 {
        return Err(Error::invalid("directories more than 1000 deep"));
    }
    for entry in Dir::read_from(from).errno_step("read a directory")? {
        let entry = entry.errno_step("read a directory")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).errno_step("look at a file")?;
        let path = at.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let step = || format!("copy {}", path.display());
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some((_, first)) = links.iter().find(|(k, _)| *k == key) {
                link_to(top, first, to, name).errno_step(step())?;
                continue;
            }
            links.push((key, path.clone()));
        }
        copy_one(from, to, name, kind, &stat).step_with(step)?;
        if kind == FileType::Directory {
            let below = rustix::fs::openat(from, name, DIRECTORY, Mode::empty()).errno_step(step())?;
            let copy = rustix::fs::openat(to, name, DIRECTORY, Mode::empty()).errno_step(step())?;
            copy_contents(below.as_fd(), copy.as_fd(), top, &path, depth + 1, links)?;
            set_times(to, name, &stat).errno_step(step())?;
        }
    }
    Ok(())
}

/// Another name for a file that was copied before. Somebody may be at work in the target: no link is followed on the way.
fn link_to(top: BorrowedFd<'_>, first: &Path, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<()> {
    use rustix::fs::ResolveFlags;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let first = rustix::fs::openat2(top, first, flags, Mode::empty(), inside)?;
    rustix::fs::linkat(&first, c"", to, name, AtFlags::EMPTY_PATH)
}

/// A file or an empty directory. What was made is changed by its descriptor: who has the volume, too, may have put
/// something else in its place.
fn copy_one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    kind: FileType,
    stat: &Stat,
) -> Result<()> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    let copy = match kind {
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).errno_step("make")?;
            let (mut source, mut copy) = (File::from(read(from, name)?), File::from(copy));
            std::io::copy(&mut source, &mut copy).step("copy its content")?;
            copy.into()
        }
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU).errno_step("make the directory")?;
            rustix::fs::openat(to, name, DIRECTORY, Mode::empty()).errno_step("open the directory")?
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new()).errno_step("read the link")?;
            rustix::fs::symlinkat(target, to, name).errno_step("make the link")?;
            rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .errno_step("give it its owner")?;
            return set_times(to, name, stat).errno_step("set its times");
        }
        kind => {
            rustix::fs::mknodat(to, name, kind, Mode::empty(), stat.st_rdev).errno_step("make the node")?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(to, name, flags, Mode::empty()).errno_step("open the node")?
        }
    };
    rustix::fs::chownat(&copy, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).errno_step("give it its owner")?;
    let own_name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    rustix::fs::chmod(own_name, Mode::from_raw_mode(stat.st_mode & 0o7777)).errno_step("set its mode")?;
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        copy_attributes(read(from, name)?.as_fd(), copy.as_fd())?;
    }
    set_times(to, name, stat).errno_step("set its times")
}

/// What the image has: nobody is at work there.
fn read(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(dir, name, flags, Mode::empty()).errno_step("open")
}

pub(crate) fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<()> {
    copy_attributes(read(from, name)?.as_fd(), read(to, name)?.as_fd())
}

fn copy_attributes(source: BorrowedFd<'_>, copy: BorrowedFd<'_>) -> Result<()> {
    let mut list = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(source, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e).errno_step("read its attributes"),
    };
    let wanted =
        |n: &&[u8]| n.starts_with(b"user.") || *n == b"security.capability" || n.starts_with(b"system.posix_acl_");
    for attribute in list[..length].split(|b| *b == 0).filter(wanted) {
        let mut value = vec![0u8; 64 * 1024];
        let length = rustix::fs::fgetxattr(source, attribute, &mut value).errno_step("read its attributes")?;
        rustix::fs::fsetxattr(copy, attribute, &value[..length], rustix::fs::XattrFlags::empty())
            .errno_step("set its attributes")?;
    }
    Ok(())
}

pub(crate) fn set_times(to: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> rustix::io::Result<()> {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes the content of a tar's entry; a file with holes stays one.
pub fn copy_content(entry: &crate::tar::Entry, from: &mut dyn BufRead, to: &mut File) -> std::io::Result<()> {
    let Some(sparse) = &entry.sparse else {
        return copy_exact(from, to, entry.size);
    };
    for (offset, bytes) in &sparse.pieces {
        std::io::Seek::seek(to, std::io::SeekFrom::Start(*offset))?;
        copy_exact(from, to, *bytes)?;
    }
    to.set_len(sparse.length)
}

/// Writes the next `size` bytes of a reader, from where they lie.
pub fn copy_exact(from: &mut dyn BufRead, to: &mut dyn Write, size: u64) -> std::io::Result<()> {
    let mut left = size;
    while left > 0 {
        let there = from.fill_buf()?;
        let taken = (there.len() as u64).min(left) as usize;
        if taken == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&there[..taken])?;
        from.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn deep_trees_and_links_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outside"), "x").unwrap();
        let tree = dir.path().join("tree");
        let mut deep = tree.clone();
        for _ in 0..300 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "x").unwrap();
        symlink(dir.path(), tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && dir.path().join("outside").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn copies_keep_owners_modes_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("data/sub")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("data/a"), "abc").unwrap();
        std::fs::hard_link(from.join("data/a"), from.join("data/sub/b")).unwrap();
        std::os::unix::fs::chown(from.join("data/a"), Some(33), Some(34)).unwrap();
        symlink("../a", from.join("data/sub/link")).unwrap();
        let root = File::open(&from).unwrap();
        copy_tree(root.as_fd(), Path::new("/data"), &to).unwrap();
        let (a, b) = (
            std::fs::metadata(to.join("a")).unwrap(),
            std::fs::metadata(to.join("sub/b")).unwrap(),
        );
        assert_eq!((a.ino(), a.uid(), a.gid()), (b.ino(), 33, 34));
        assert_eq!(std::fs::read_link(to.join("sub/link")).unwrap(), Path::new("../a"));
    }
}
