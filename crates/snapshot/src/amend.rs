//! Copies of some of a layer's files, changed, in a directory of their own that is laid over the layer when it is mounted.
//! The layer stays what it is, and so does its digest; a layer above hides a changed copy as it hides the file itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Result, Step};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::store::Staging;
use crate::tree::{DIRECTORY, copy_xattrs, set_times};
use crate::{Digest, Store};

/// Deeper trees are not looked at.
const DEPTH: usize = 128;
/// What was changed, a line each.
const NOTES: &str = "notes";
/// So much of them is read.
const NOTES_LIMIT: u64 = 64 * 1024;

/// A regular file of a layer.
pub struct Original<'a> {
    /// From the layer's root.
    pub path: &'a Path,
    /// Bytes.
    pub size: u64,
    /// At its start.
    pub file: File,
}

/// Another content for a file, and a note on it; either may be missing.
#[derive(Default)]
pub struct Edit {
    /// All of it.
    pub content: Option<Vec<u8>>,
    /// One line.
    pub note: Option<String>,
}

/// What is known of a layer's copies under one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amended {
    /// A line each.
    pub notes: Vec<String>,
}

impl Store {
    /// From now on the copies of this name are laid over the layers that have some, whenever layers are mounted.
    pub fn lay_over(&mut self, name: &str) {
        self.amendment = Some(name.to_owned());
    }

    /// What was found when the layer's files were looked at under this name; `None` if they were not.
    pub fn amended(&self, layer: &Digest, name: &str) -> Result<Option<Amended>> {
        let path = self.path(layer).join(name).join(NOTES);
        match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => {
                let file = std::io::Read::take(opened.step_with(|| format!("open {}", path.display()))?, NOTES_LIMIT);
                let text = std::io::read_to_string(file).step_with(|| format!("read {}", path.display()))?;
                Ok(Some(Amended {
                    notes: text.lines().map(String::from).collect(),
                }))
            }
        }
    }

    /// Shows every regular file of a layer once, and keeps what comes back. Two at once: one wins, both succeed.
    pub fn amend(
        &self,
        layer: &Digest,
        name: &str,
        edit: &mut dyn FnMut(Original<'_>) -> Result<Edit>,
    ) -> Result<Amended> {
        let staging = Staging::new(&self.dir)?;
        let source = self.path(layer).join("fs");
        let root = rustix::fs::open(&source, DIRECTORY, Mode::empty()).errno_step(format!("open layer {layer}"))?;
        let mut amending = Amending {
            root: root.as_fd(),
            target: staging.dir.join("fs"),
            edit,
            linked: HashMap::new(),
            directories: Vec::new(),
            notes: Vec::new(),
        };
        amending.directory(root.as_fd(), Path::new(""), 0)?;
        amending.finish()?;
        let mut notes = std::mem::take(&mut amending.notes);
        notes.sort();
        let text: String = notes.iter().map(|n| format!("{}\n", n.replace('\n', " "))).collect();
        std::fs::write(staging.dir.join(NOTES), text).step("write what was changed in the layer")?;
        let place = self.path(layer).join(name);
        match std::fs::rename(&staging.dir, &place) {
            Err(e) if !place.exists() => Err(e).step("put the changed files into the store"),
            _ => Ok(Amended { notes }),
        }
    }
}

/// A walk through a layer.
struct Amending<'a> {
    root: BorrowedFd<'a>,
    target: PathBuf,
    edit: &'a mut dyn FnMut(Original<'_>) -> Result<Edit>,
    /// Files with several names, by inode: the copy, if one was made.
    linked: HashMap<u64, Option<PathBuf>>,
    /// Made for the copies.
    directories: Vec<(PathBuf, Stat)>,
    notes: Vec<String>,
}

impl Amending<'_> {
    fn directory(&mut self, dir: BorrowedFd<'_>, at: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Ok(());
        }
        let step = || format!("look through the layer's /{}", at.display());
        for entry in Dir::read_from(dir).errno_step(step())? {
            let entry = entry.errno_step(step())?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = at.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            match entry.file_type() {
                FileType::Directory => {
                    let below = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).errno_step(step())?;
                    self.directory(below.as_fd(), &path, depth + 1)?;
                }
                FileType::RegularFile => self.file(dir, name, &path).step_with(step)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &std::ffi::CStr, path: &Path) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty()).errno_step("open")?;
        let stat = rustix::fs::fstat(&file).errno_step("look at it")?;
        if let Some(copy) = self.linked.get(&stat.st_ino).filter(|_| stat.st_nlink > 1) {
            return match copy.clone() {
                Some(copy) => {
                    let target = self.place(path)?;
                    std::fs::hard_link(copy, target).step("link the changed copy")
                }
                None => Ok(()),
            };
        }
        let original = Original {
            path,
            size: stat.st_size as u64,
            file: file.into(),
        };
        let Edit { content, note } = (self.edit)(original)?;
        self.notes.extend(note);
        let copy = match content {
            Some(content) => Some(self.copy(dir, name, path, &stat, &content)?),
            None => None,
        };
        if stat.st_nlink > 1 {
            self.linked.insert(stat.st_ino, copy);
        }
        Ok(())
    }

    /// The same file, with another content.
    fn copy(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        path: &Path,
        stat: &Stat,
        content: &[u8],
    ) -> Result<PathBuf> {
        let target = self.place(path)?;
        let mut file = File::create_new(&target).step("make the changed copy")?;
        file.write_all(content).step("write the changed copy")?;
        let parent = target.parent().unwrap_or(&self.target);
        let to = rustix::fs::open(parent, DIRECTORY, Mode::empty()).errno_step("open the copy's directory")?;
        dress(dir, to.as_fd(), name, stat)?;
        set_times(to.as_fd(), name, stat).errno_step("set its times")?;
        Ok(target)
    }

    /// Where a copy goes; the directories on the way are made as they are in the layer.
    fn place(&mut self, path: &Path) -> Result<PathBuf> {
        let parents: Vec<&Path> = path.ancestors().skip(1).collect();
        for dir in parents.into_iter().rev() {
            let target = self.target.join(dir);
            match std::fs::create_dir(&target) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.step_with(|| format!("make {}", target.display()))?,
            }
            let shown = if dir == Path::new("") { Path::new(".") } else { dir };
            let original = self.open_directory(shown)?;
            let stat = rustix::fs::fstat(&original).errno_step("look at the layer's directory")?;
            let copy = rustix::fs::open(&target, DIRECTORY, Mode::empty()).errno_step("open the copy")?;
            dress(original.as_fd(), copy.as_fd(), c".", &stat)?;
            self.directories.push((target, stat));
        }
        Ok(self.target.join(path))
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        sys::path::open(self.root, path, flags).errno_step("open the layer's directory")
    }

    /// Times of directories, once nothing comes into them any more.
    fn finish(&self) -> Result<()> {
        for (path, stat) in self.directories.iter().rev() {
            let dir = rustix::fs::open(path, DIRECTORY, Mode::empty()).errno_step("open the copy")?;
            set_times(dir.as_fd(), c".", stat).errno_step("set its times")?;
        }
        Ok(())
    }
}

/// Owner, extended attributes, mode; in this order, because a change of owner takes capabilities and set-id bits away.
fn dress(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).errno_step("give it its owner")?;
    copy_xattrs(from, to, name)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::chmodat(to, name, mode, AtFlags::empty()).errno_step("set its mode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layer;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// Upper case for whoever says so.
    fn shout(original: Original<'_>) -> Result<Edit> {
        let text = std::io::read_to_string(original.file).unwrap();
        if !text.starts_with("shout") {
            return Ok(Edit::default());
        }
        Ok(Edit {
            content: Some(text.to_uppercase().into()),
            note: Some(format!("/{}", original.path.display())),
        })
    }

    fn read(store: &Store, layers: &[Digest], path: &str) -> Option<(String, u32, u32, i64)> {
        let root = store.mount(layers, None, None).unwrap().root;
        let fd = sys::path::open(root.as_fd(), Path::new(path), OFlags::RDONLY).ok()?;
        let file = File::from(fd);
        let meta = file.metadata().unwrap();
        let text = std::io::read_to_string(file).unwrap();
        Some((text, meta.permissions().mode() & 0o7777, meta.uid(), meta.mtime()))
    }

    #[test]
    fn changed_copies_lie_over_their_layer_and_below_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("layers")).unwrap();
        let files = [
            ("d/e/a", "shout a"),
            ("d/b", "whisper"),
            ("d/link", "-> d/e/a"),
            ("c", "shout c"),
        ];
        let (bottom, top) = (
            layer(&store, &files),
            layer(&store, &[("c", "shout from above"), (".wh.d", "")]),
        );
        let both = [bottom.clone(), top.clone()];
        assert_eq!(store.amended(&bottom, "shouted").unwrap(), None);
        for digest in &both {
            store.amend(digest, "shouted", &mut shout).unwrap();
        }
        let notes = store.amended(&bottom, "shouted").unwrap().unwrap().notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        let one = std::slice::from_ref(&bottom);
        assert_eq!(read(&store, one, "d/e/a").unwrap().0, "shout a", "not asked for yet");
        store.lay_over("shouted");
        let expected = Some(("SHOUT A".to_owned(), 0o4755, 5, 1_000_000_000));
        assert_eq!(read(&store, one, "d/e/a"), expected);
        assert_eq!(read(&store, one, "d/link"), expected);
        assert_eq!(read(&store, one, "d/b").unwrap().0, "whisper");
        assert_eq!(read(&store, &both, "c").unwrap().0, "SHOUT FROM ABOVE");
        assert_eq!(read(&store, &both, "d/e/a"), None);
        let mut tar = Vec::new();
        store.write_tar(&bottom, &mut tar).unwrap();
        store.remove(one).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("layers/staging")).unwrap().count(), 0);
    }
}
