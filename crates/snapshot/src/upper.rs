//! What a container changed: read from its overlay's upper side (Documentation/filesystems/overlayfs.rst), not by
//! comparing trees.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::pack::{DEPTH, Found, Ids, Packer, enter, inside, join, names, stat, walk};
use crate::{Digest, Store, Writable};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another now, or something in it is.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// One path that is not what it is in the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From the root, without a slash before it; any bytes.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What is seen on the way through the upper side.
enum Seen<'a> {
    /// A file, and what the layers have in its place: with their directory.
    There(&'a Found<'a>, Option<(BorrowedFd<'a>, Stat)>),
    /// What the layers have and the container has not.
    Gone(&'a [u8]),
}

type Visit<'a> = dyn FnMut(Seen<'_>) -> Result<()> + 'a;

impl Store {
    /// The paths that a container changed, sorted. `ids`: the container's own on the host.
    pub fn changes(&self, layers: &[Digest], own: &Writable, ids: Option<Ids>) -> Result<Vec<Change>> {
        let mut list: Vec<Change> = Vec::new();
        let mut touched: HashSet<Vec<u8>> = HashSet::new();
        self.differences(layers, own, &mut |seen| {
            let change = |path: &[u8], kind| Change {
                path: path.to_vec(),
                kind,
            };
            let found = match seen {
                Seen::Gone(path) => change(path, ChangeKind::Deleted),
                Seen::There(found, None) => change(found.path, ChangeKind::Added),
                Seen::There(found, Some((dir, before)))
                    if differs(&found.stat, &before, ids)
                        || capability(found.dir, found)? != capability(dir, found)? =>
                {
                    change(found.path, ChangeKind::Modified)
                }
                Seen::There(..) => return Ok(()),
            };
            // A directory in which something changed has changed.
            let mut path = found.path.as_slice();
            while let Some(slash) = path.iter().rposition(|b| *b == b'/') {
                path = &path[..slash];
                if !touched.insert(path.to_vec()) {
                    break;
                }
            }
            list.push(found);
            Ok(())
        })?;
        let said: HashSet<&Vec<u8>> = list.iter().map(|c| &c.path).collect();
        let parents: Vec<Change> = touched
            .iter()
            .filter(|p| !said.contains(p))
            .map(|p| Change {
                path: p.clone(),
                kind: ChangeKind::Modified,
            })
            .collect();
        list.extend(parents);
        list.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(list)
    }

    /// Writes a container's changes as a layer's tar, with explicit whiteouts. `ids`: the container's own on the host.
    pub fn write_changes(
        &self,
        layers: &[Digest],
        own: &Writable,
        ids: Option<Ids>,
        out: &mut dyn Write,
    ) -> Result<()> {
        let mut packer = Packer::new(out, ids);
        self.differences(layers, own, &mut |seen| match seen {
            Seen::There(found, _) => packer.add(found),
            Seen::Gone(path) => packer.whiteout(path),
        })?;
        packer.finish()
    }

    /// Writes a container's whole root as a tar: the layers, its changes, and the mount points that every container has.
    pub fn write_root(&self, layers: &[Digest], own: &Writable, ids: Option<Ids>, out: &mut dyn Write) -> Result<()> {
        let mounted = self.mount_to_read(layers, own)?;
        let mut packer = Packer::new(out, ids);
        let root = readable(&mounted.root)?;
        walk(root.as_fd(), &mut |found| packer.add(found))?;
        packer.finish()
    }

    fn differences(&self, layers: &[Digest], own: &Writable, visit: &mut Visit<'_>) -> Result<()> {
        let lower = readable(&self.mount(layers, None, None)?.root)?;
        let upper = File::open(own.dir.join("upper")).step("open the container's changes")?;
        compare(upper.as_fd(), Some(lower.as_fd()), &[], 0, false, visit)
    }
}

/// A directory of the upper side beside the one below it, if there is one. `hidden`: nothing below is seen through.
fn compare(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    at: &[u8],
    depth: usize,
    hidden: bool,
    visit: &mut Visit<'_>,
) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::invalid(format!("directories more than {DEPTH} deep")));
    }
    let names = names(upper)?;
    if let Some(lower) = lower.filter(|_| hidden) {
        for gone in self::names(lower)? {
            if names.binary_search(&gone).is_err() {
                visit(Seen::Gone(&join(at, gone.to_bytes())))?;
            }
        }
    }
    for name in names {
        let Some(now) = stat(upper, &name)? else { continue };
        let before = lower.map(|lower| stat(lower, &name)).transpose()?.flatten();
        let path = join(at, name.to_bytes());
        if is_whiteout(&now) {
            if before.is_some() {
                visit(Seen::Gone(&path))?;
            }
            continue;
        }
        let found = Found {
            dir: upper,
            name: &name,
            path: &path,
            stat: now,
        };
        visit(Seen::There(&found, lower.zip(before)))?;
        let directory = |s: &Stat| FileType::from_raw_mode(s.st_mode) == FileType::Directory;
        if !directory(&now) {
            continue;
        }
        let Some(below) = enter(upper, &name)? else { continue };
        let beside: Option<OwnedFd> = match (lower, before.as_ref().is_some_and(directory)) {
            (Some(lower), true) => enter(lower, &name)?,
            _ => None,
        };
        let hidden = hidden || crate::find::opaque(&below);
        let beside = beside.as_ref().map(AsFd::as_fd);
        compare(below.as_fd(), beside, &path, depth + 1, hidden, visit)?;
    }
    Ok(())
}

/// A mount's root as a directory that can be listed.
fn readable(root: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(root, ".", flags, Mode::empty()).errno_step("open the root")
}

/// A file's capabilities without whom they are for: setting them changes nothing else.
fn capability(dir: BorrowedFd<'_>, found: &Found<'_>) -> Result<Option<Vec<u8>>> {
    if found.kind() != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(dir, found.name, flags, Mode::empty()) else {
        return Ok(None);
    };
    let mut value = vec![0u8; 64];
    match rustix::fs::fgetxattr(&file, "security.capability", &mut value) {
        Ok(length) => Ok(value.get(4..20.min(length)).map(<[u8]>::to_vec)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e).errno_step("read a file's capabilities"),
    }
}

/// overlayfs' mark for what is gone.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a file is another now. Of directories neither time nor size count: what is in them does.
fn differs(now: &Stat, before: &Stat, ids: Option<Ids>) -> bool {
    let directory = FileType::from_raw_mode(now.st_mode) == FileType::Directory;
    now.st_mode != before.st_mode
        || now.st_rdev != before.st_rdev
        || (inside(ids, now.st_uid), inside(ids, now.st_gid)) != (before.st_uid, before.st_gid)
        || (!directory
            && (now.st_size != before.st_size
                || (now.st_mtime, now.st_mtime_nsec) != (before.st_mtime, before.st_mtime_nsec)))
}
