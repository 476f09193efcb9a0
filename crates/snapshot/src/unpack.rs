//! Unpacking a tar into a directory of a container's root: what `cp` brings in.
//!
//! The container may run meanwhile, and change its files under our hands: each path is resolved by the kernel, below the
//! container's root, each time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::apply::times;
use crate::pack::{Ids, enter, names};
use crate::tar::{Entry, EntryKind, Reader, Source};

const BUFFER: usize = 256 * 1024;
/// More entries are no copy.
const ENTRY_LIMIT: u64 = 50_000_000;

/// Where to, and how.
pub struct Unpack<'a> {
    /// The container's root.
    pub root: BorrowedFd<'a>,
    /// The directory below it; it has to be there.
    pub path: &'a Path,
    /// The container's own ids on the host.
    pub ids: Option<Ids>,
    /// Everything belongs to this user and group of the container, whatever the tar says.
    pub owner: Option<(u32, u32)>,
    /// A directory is never replaced by something else, nor the other way round.
    pub keep_kinds: bool,
}

struct Plain<'a>(BufReader<&'a mut dyn Read>);

impl Source for Plain<'_> {
    fn raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Unpack<'_> {
    /// Does it. The caller acts as somebody whom the mounts there map.
    pub fn unpack(&self, tar: &mut dyn Read) -> Result<()> {
        let mut stream = Plain(BufReader::with_capacity(BUFFER, tar));
        let mut reader = Reader::default();
        let mut directories = Vec::new();
        let mut number = 0;
        while let Some(entry) = reader.next(&mut stream)? {
            number += 1;
            if number > ENTRY_LIMIT {
                return Err(Error::invalid("invalid tar: too many entries"));
            }
            let step = || format!("unpack {}", String::from_utf8_lossy(&entry.path));
            self.entry(&entry, &mut stream.0).step_with(step)?;
            if entry.kind == EntryKind::Directory {
                directories.push((entry.path, entry.mtime));
            }
        }
        // Every file made in a directory changes its time.
        for (path, mtime) in directories.iter().rev() {
            if let Ok(dir) = sys::path::open(self.root, &self.place(path)?, OFlags::RDONLY | OFlags::DIRECTORY) {
                let _ = rustix::fs::futimens(&dir, &times(*mtime));
            }
        }
        Ok(())
    }

    /// From the container's root.
    fn place(&self, path: &[u8]) -> Result<PathBuf> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        match path.components().any(|c| c == Component::ParentDir) {
            true => Err(Error::invalid(format!("{} leads out of the directory", path.display()))),
            false => Ok(self.path.join(path.strip_prefix("/").unwrap_or(path))),
        }
    }

    fn entry(&self, entry: &Entry, stream: &mut dyn BufRead) -> Result<()> {
        let place = self.place(&entry.path)?;
        if place == self.path {
            // The directory itself: it is what it is.
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(Error::invalid("an entry without a name")),
            };
        }
        let (parent, name) = match (place.parent(), place.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(Error::invalid("an entry without a name")),
        };
        let dir = sys::path::make_dir(self.root, parent).errno_step("open its directory")?;
        let name = std::ffi::CString::new(name.as_bytes()).step("read its name")?;
        self.make_room(entry, dir.as_fd(), &name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match entry.kind {
            EntryKind::File => {
                let made = rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR).errno_step("make it")?;
                let mut file = File::from(made);
                crate::tree::copy_content(entry, stream, &mut file).step("write its content")?;
                self.attributes(file.as_fd(), entry)?;
                rustix::fs::futimens(&file, &times(entry.mtime)).errno_step("set its time")
            }
            EntryKind::Directory => {
                let made = match rustix::fs::mkdirat(&dir, &name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => enter(dir.as_fd(), &name)?,
                    Err(e) => return Err(e).errno_step("make the directory"),
                };
                let made = made.ok_or_else(|| Error::conflict("something else took its place"))?;
                self.attributes(made.as_fd(), entry)
            }
            EntryKind::HardLink => self.hard_link(entry, &dir, &name),
            EntryKind::Symlink => {
                rustix::fs::symlinkat(entry.link.as_slice(), &dir, &name).errno_step("make it")?;
                self.own(entry, &dir, &name)
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.node(entry, &dir, &name),
        }
    }

    /// What is there gives way, unless both are directories.
    fn make_room(&self, entry: &Entry, dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<()> {
        let there = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e).errno_step("look at what is there"),
        };
        let shown = name.to_string_lossy();
        match (there, entry.kind == EntryKind::Directory) {
            (true, true) => Ok(()),
            (true, false) if self.keep_kinds => Err(Error::invalid(format!(
                "cannot overwrite directory \"{shown}\" with non-directory \"{shown}\""
            ))),
            (false, true) if self.keep_kinds => Err(Error::invalid(format!(
                "cannot overwrite non-directory \"{shown}\" with directory \"{shown}\""
            ))),
            (true, false) => remove_below(dir, name),
            (false, _) => rustix::fs::unlinkat(dir, name, AtFlags::empty()).errno_step("take away what is there"),
        }
    }

    fn hard_link(&self, entry: &Entry, dir: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
        let target = self.place(&entry.link)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = sys::path::open(self.root, &target, flags).errno_step("find what it is a hard link to")?;
        rustix::fs::linkat(&found, "", dir, name, AtFlags::EMPTY_PATH).errno_step("make the hard link")
    }

    fn node(&self, entry: &Entry, dir: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo && self.ids.is_some() {
            return Err(Error::invalid(
                "a device, which a container with users of its own cannot have",
            ));
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::mknodat(dir, name, kind, mode, device).errno_step("make it")?;
        self.own(entry, dir, name)?;
        rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).errno_step("set its mode")
    }

    /// Who an entry belongs to, on the host.
    fn owner(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        let (uid, gid) = self.owner.unwrap_or((entry.uid, entry.gid));
        let outside = |id: u32| match self.ids {
            Some(ids) if id < ids.count => Ok(ids.first + id),
            Some(_) => Err(Error::invalid(format!("the container has no user or group {id}"))),
            None => Ok(id),
        };
        Ok((Uid::from_raw(outside(uid)?), Gid::from_raw(outside(gid)?)))
    }

    fn own(&self, entry: &Entry, dir: &OwnedFd, name: &std::ffi::CStr) -> Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .errno_step("give it its owner")?;
        rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).errno_step("set its time")
    }

    /// Owner first: a change of owner takes setuid bits away. File capabilities are those of the container's root.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rustix::fs::fchown(fd, Some(uid), Some(gid)).errno_step("give it its owner")?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).errno_step("set its mode")?;
        for (name, value) in &entry.xattrs {
            let mut value = value.clone();
            match name.as_slice() {
                b"security.capability" => crate::pack::own_capability(&mut value, self.ids),
                n if n.starts_with(b"user.") && !n.starts_with(b"user.overlay.") => {}
                _ => continue,
            }
            // Where the file system has none it is as with any copy.
            let _ = rustix::fs::fsetxattr(fd, name.as_slice(), &value, XattrFlags::empty());
        }
        Ok(())
    }
}

/// Removes a directory with all that is in it, without following anything.
fn remove_below(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<()> {
    let step = "take away what is there";
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e).errno_step(step),
    }
    if let Some(below) = enter(dir, name)? {
        for inner in names(below.as_fd())? {
            remove_below(below.as_fd(), &inner)?;
        }
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).errno_step(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(text).unwrap();
                header.set_size(0);
                header.set_cksum();
                tar.append(&header, &[][..]).unwrap();
            } else {
                header.set_size(text.len() as u64);
                header.set_cksum();
                tar.append(&header, text.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn hostile_entries_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("to")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("to/out")).unwrap();
        let opened = File::open(&root).unwrap();
        let unpack = |bytes: &[u8], keep_kinds| {
            let unpack = Unpack {
                root: opened.as_fd(),
                path: Path::new("/to"),
                ids: None,
                owner: None,
                keep_kinds,
            };
            unpack.unpack(&mut &bytes[..])
        };
        use tar::EntryType::{Directory, Regular, Symlink};
        unpack(&tar(&[("out/evil", Regular, "x")]), false).unwrap();
        assert!(!dir.path().join("evil").exists(), "the link was followed on the host");
        let inside = root.join(dir.path().strip_prefix("/").unwrap()).join("evil");
        assert!(
            inside.exists(),
            "the link leads to nothing below the root, which is made"
        );
        std::fs::create_dir(root.join("etc")).unwrap();
        assert!(unpack(&tar(&[("../up", Regular, "x")]), false).is_err());
        unpack(
            &tar(&[
                ("l", Symlink, "/etc"),
                ("l/passwd", Regular, "x"),
                ("d", Directory, ""),
                ("d/f", Regular, "y"),
            ]),
            false,
        )
        .unwrap();
        assert!(root.join("etc/passwd").exists() && root.join("to/d/f").exists());
        let error = unpack(&tar(&[("d", Regular, "x")]), true).unwrap_err().to_string();
        assert!(error.contains("cannot overwrite directory"), "{error}");
        unpack(&tar(&[("d", Regular, "x")]), false).unwrap();
        assert!(root.join("to/d").is_file());
    }
}
