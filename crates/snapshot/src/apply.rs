//! Unpacking one layer: hash, recipe and files in one pass over the stream.
//!
//! Whiteouts (`.wh.NAME`, OCI image specification, "Layers") become what overlayfs wants: a character device 0:0, and
//! `trusted.overlay.opaque` on a directory that hides all of what is below (`user.overlay.opaque` in a user namespace).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::store::hex;
use crate::tar::{Entry, EntryKind, Reader, Source};

/// The checksums of all contents, in the tar's order (CRC-32, four bytes each): of what was damaged they tell which file it is.
/// That nothing was changed, the digest of the tar tells.
pub const SUMS: &str = "sums";
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Open parent directories that are kept.
const PARENTS: usize = 32;
/// More entries are no image's.
const ENTRY_LIMIT: u64 = 50_000_000;

/// What came of it.
pub struct Applied {
    pub digest: Digest,
    pub size: u64,
}

/// Unpacks a tar into `dir/fs`, its recipe into `dir/recipe`; no more than `limit` bytes of content.
pub fn apply(tar: &mut dyn BufRead, dir: &Path, limit: u64) -> Result<Applied> {
    let fs = dir.join("fs");
    std::fs::create_dir(&fs).step("make the layer's directory")?;
    let recipe = File::create(dir.join("recipe")).step("make the layer's recipe")?;
    let recipe = zstd::Encoder::new(BufWriter::new(recipe), 3).step("make the layer's recipe")?;
    let mut stream = Stream {
        tar,
        hash: Sha256::new(),
        content: crc32fast::Hasher::new(),
        recipe,
    };
    let mut unpacker = Unpacker {
        root: File::open(&fs).step("open the layer's directory")?.into(),
        extra: dir.join("extra"),
        parents: HashMap::new(),
        directories: Vec::new(),
        contents: Vec::new(),
        size: 0,
        content: 0,
    };
    let mut reader = Reader::default();
    let mut number = 0;
    let mut sums = Vec::new();
    while let Some(entry) = reader.next(&mut stream)? {
        number += 1;
        if number > ENTRY_LIMIT {
            return Err(Error::invalid("invalid tar: too many entries"));
        }
        let step = || format!("unpack {}", String::from_utf8_lossy(&entry.path));
        unpacker.content += entry.size;
        if unpacker.content > limit {
            return Err(too_large(limit)).step_with(step);
        }
        unpacker
            .entry(&entry, number, &mut stream)
            .step_with(step)
            .map_err(name_the_cause)?;
        if entry.size > 0 {
            sums.extend(std::mem::take(&mut stream.content).finalize().to_le_bytes());
        }
    }
    unpacker.set_directory_times()?;
    std::fs::write(dir.join(SUMS), sums).step("write the layer's checksums")?;
    let recipe = stream.recipe.finish().step("write the layer's recipe")?;
    recipe
        .into_inner()
        .map_err(|e| e.into_error())
        .step("write the layer's recipe")?;
    let digest = format!("sha256:{}", hex(&stream.hash.finalize()))
        .parse()
        .step("name the layer")?;
    Ok(Applied {
        digest,
        size: unpacker.size,
    })
}

fn too_large(limit: u64) -> Error {
    Error::new(
        errdefs::Kind::Exhausted,
        format!("the layer unpacks to more than {} MiB", limit >> 20),
    )
    .hint("a decompression bomb; if not, set another limit by BERTH_LAYER_LIMIT (10g)")
}

fn name_the_cause(error: Error) -> Error {
    match error.errno() {
        Some(28) => error
            .kind_is(errdefs::Kind::Exhausted)
            .hint("free some space: unused images are removed by `berth rmi`"),
        _ => error,
    }
}

/// The tar as it comes in: all of it is hashed, what is no content goes to the recipe.
struct Stream<'a> {
    tar: &'a mut dyn BufRead,
    hash: Sha256,
    /// Of the content that comes now.
    content: crc32fast::Hasher,
    recipe: zstd::Encoder<'static, BufWriter<File>>,
}

impl Source for Stream<'_> {
    fn raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.tar.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.recipe.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Content is taken from where it lies, and not copied before it is written.
impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.tar.fill_buf()
    }
    fn consume(&mut self, taken: usize) {
        // What is consumed was there: it is given once more.
        if let Ok(there) = self.tar.fill_buf() {
            self.hash.update(&there[..taken]);
            self.content.update(&there[..taken]);
        }
        self.tar.consume(taken);
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

struct Unpacker {
    root: OwnedFd,
    extra: PathBuf,
    /// Open parent directories.
    parents: HashMap<Vec<u8>, OwnedFd>,
    /// Times of directories are set last: every file made in one changes them.
    directories: Vec<(Vec<u8>, (i64, u32))>,
    /// Files with content, by the number of their entry: where to look when one is written over.
    contents: Vec<(Vec<u8>, u64)>,
    size: u64,
    /// Bytes of content that the tar spoke of, wherever they went.
    content: u64,
}

impl Unpacker {
    fn entry(&mut self, entry: &Entry, number: u64, stream: &mut Stream<'_>) -> Result<()> {
        if entry.path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent, name) = match entry.path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&b""[..], &entry.path[..]),
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            self.whiteout(parent, name, hidden)?;
            return self.keep_content(entry, number, stream);
        }
        self.ensure_parent(parent)?;
        match entry.kind {
            EntryKind::File => self.file(entry, parent, name, number, stream)?,
            EntryKind::Directory => self.directory(entry, parent, name)?,
            EntryKind::HardLink => return self.hard_link(entry, parent, name),
            EntryKind::Symlink => self.symlink(entry, parent, name)?,
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.node(entry, parent, name)?,
        }
        Ok(())
    }

    /// `./`: the attributes of the layer's root.
    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::invalid("an entry without a name"));
        }
        self.directories.push((Vec::new(), entry.mtime));
        attributes(self.root.as_fd(), entry)
    }

    /// Opens the parent, making it where the tar does not name it.
    fn ensure_parent(&mut self, parent: &[u8]) -> Result<()> {
        if parent.is_empty() || self.parents.contains_key(parent) {
            return Ok(());
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(parent));
        let dir = match sys::path::make_dir(self.root.as_fd(), path) {
            // The layer takes away what is below and has something of that name itself.
            Err(Errno::NOTDIR) => {
                self.reveal(parent)?;
                sys::path::make_dir(self.root.as_fd(), path)
            }
            made => made,
        };
        let dir = dir.errno_step("open its directory")?;
        if self.parents.len() >= PARENTS {
            self.parents.clear();
        }
        self.parents.insert(parent.to_vec(), dir);
        Ok(())
    }

    /// Whiteouts on the way to a directory become directories that hide what is below.
    fn reveal(&self, path: &[u8]) -> Result<()> {
        let ends = (0..=path.len()).filter(|i| *i == path.len() || path[*i] == b'/');
        for end in ends {
            let part = Path::new(std::ffi::OsStr::from_bytes(&path[..end]));
            let (Some(above), Some(name)) = (part.parent(), part.file_name()) else {
                continue;
            };
            let Ok(above) = sys::path::open(self.root.as_fd(), above, OFlags::PATH | OFlags::DIRECTORY) else {
                return Ok(());
            };
            if is_whiteout(above.as_fd(), name.as_bytes()) {
                rustix::fs::unlinkat(&above, name, AtFlags::empty()).errno_step("make its directory")?;
                rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).errno_step("make its directory")?;
                hide_below(above.as_fd(), name.as_bytes())?;
            }
        }
        Ok(())
    }

    fn dir(&self, parent: &[u8]) -> std::os::fd::BorrowedFd<'_> {
        self.parents.get(parent).unwrap_or(&self.root).as_fd()
    }

    fn file(&mut self, entry: &Entry, parent: &[u8], name: &[u8], number: u64, stream: &mut Stream<'_>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self.make(entry, parent, name, |dir| rustix::fs::openat(dir, name, flags, mode))?;
        let mut file = File::from(file);
        crate::tree::copy_content(entry, stream, &mut file).step("write its content")?;
        self.size += entry.size;
        if entry.size > 0 {
            self.contents.push((entry.path.clone(), number));
        }
        attributes(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).errno_step("set its time")
    }

    fn directory(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.dir(parent);
        let made = rustix::fs::mkdirat(dir, name, Mode::RWXU);
        let opened = match made {
            Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(dir, name, flags, Mode::empty()),
            Err(e) => Err(e),
        };
        let opened = match opened {
            Ok(fd) => fd,
            // Something else is there: it gives way.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let hides = is_whiteout(self.dir(parent), name);
                self.move_aside(&entry.path, parent, name)?;
                rustix::fs::mkdirat(self.dir(parent), name, Mode::RWXU).errno_step("make the directory")?;
                if hides {
                    hide_below(self.dir(parent), name)?;
                }
                rustix::fs::openat(self.dir(parent), name, flags, Mode::empty()).errno_step("open the directory")?
            }
            Err(e) => return Err(e).errno_step("make the directory"),
        };
        self.directories.push((entry.path.clone(), entry.mtime));
        attributes(opened.as_fd(), entry)
    }

    /// Only to what is inside, and never followed.
    fn hard_link(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let target = Path::new(std::ffi::OsStr::from_bytes(&entry.link));
        let found = sys::path::open(self.root.as_fd(), target, OFlags::PATH | OFlags::NOFOLLOW);
        let found = found.errno_step(format!("find {}, which it is a hard link to", target.display()))?;
        let stat = rustix::fs::fstat(&found).errno_step("look at the link's target")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::invalid(format!(
                "a hard link to the directory {}",
                target.display()
            )));
        }
        self.make(entry, parent, name, |dir| {
            rustix::fs::linkat(&found, "", dir, name, AtFlags::EMPTY_PATH)
        })
    }

    fn symlink(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        if entry.link.is_empty() {
            return Err(Error::invalid("a symbolic link to nothing"));
        }
        self.make(entry, parent, name, |dir| {
            rustix::fs::symlinkat(entry.link.as_slice(), dir, name)
        })?;
        self.own(entry, parent, name)
    }

    fn node(&mut self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind == FileType::CharacterDevice && entry.device == (0, 0) {
            return Err(Error::invalid("a device 0:0, which overlayfs takes for a whiteout"));
        }
        if kind != FileType::Fifo && !sys::process::has_hosts_users() {
            // Nobody but the host's root makes devices, and a container could not use them: the recipe alone has it.
            return Ok(());
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode);
        self.make(entry, parent, name, |dir| {
            rustix::fs::mknodat(dir, name, kind, mode, device)
        })?;
        self.own(entry, parent, name)?;
        rustix::fs::chmodat(self.dir(parent), name, mode, AtFlags::empty()).errno_step("set its mode")
    }

    /// Owner and time of what is not opened.
    fn own(&self, entry: &Entry, parent: &[u8], name: &[u8]) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(self.dir(parent), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .errno_step("give it its owner")
            .map_err(|e| name_ids(e, entry))?;
        rustix::fs::utimensat(self.dir(parent), name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .errno_step("set its time")
    }

    /// Makes a name; what the same tar put there before gives way.
    fn make<T>(
        &mut self,
        entry: &Entry,
        parent: &[u8],
        name: &[u8],
        make: impl Fn(std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make(self.dir(parent)) {
            Err(Errno::EXIST) => {
                self.move_aside(&entry.path, parent, name)?;
                make(self.dir(parent)).errno_step("make it")
            }
            other => other.errno_step("make it"),
        }
    }

    /// Takes away what is there. Contents that the recipe refers to are kept outside.
    fn move_aside(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<()> {
        std::fs::create_dir_all(&self.extra).step("make a place for what is written over")?;
        let below = |other: &[u8]| other == path || (other.starts_with(path) && other.get(path.len()) == Some(&b'/'));
        let (gone, kept) = std::mem::take(&mut self.contents)
            .into_iter()
            .partition(|(other, _)| below(other));
        self.contents = kept;
        let gone: Vec<(Vec<u8>, u64)> = gone;
        for (other, number) in gone {
            let from = Path::new(std::ffi::OsStr::from_bytes(&other));
            let file = sys::path::open(self.root.as_fd(), from, OFlags::PATH | OFlags::NOFOLLOW);
            let file = file.errno_step("keep what is written over")?;
            rustix::fs::linkat(
                &file,
                "",
                rustix::fs::CWD,
                self.extra.join(number.to_string()),
                AtFlags::EMPTY_PATH,
            )
            .errno_step("keep what is written over")?;
        }
        self.directories.retain(|(other, _)| !below(other));
        self.parents.retain(|other, _| !below(other));
        let doomed = self.extra.join("gone");
        rustix::fs::renameat(self.dir(parent), name, rustix::fs::CWD, &doomed).errno_step("take away what is there")?;
        crate::tree::remove_tree(&doomed)
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8], hidden: &[u8]) -> Result<()> {
        self.ensure_parent(parent)?;
        if name == OPAQUE {
            return hide_below(self.dir(parent), b".");
        }
        // Other names of this kind are notes of a storage driver of old.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Error::invalid("a whiteout of nothing"));
        }
        match rustix::fs::mknodat(self.dir(parent), hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // What the same layer puts there stays, and is not merged with what it hides.
            Err(Errno::EXIST) => match hide_below(self.dir(parent), hidden) {
                Err(e) if matches!(e.errno(), Some(20 | 40)) => Ok(()),
                other => other,
            },
            Err(e) => Err(e).errno_step("hide it"),
        }
    }

    /// Content that has no place among the files, but belongs to the tar.
    fn keep_content(&mut self, entry: &Entry, number: u64, stream: &mut Stream<'_>) -> Result<()> {
        if entry.sparse.is_some() {
            return Err(Error::invalid("a whiteout with holes"));
        }
        if entry.size == 0 {
            return Ok(());
        }
        std::fs::create_dir_all(&self.extra).step("make a place for it")?;
        let mut file = File::create(self.extra.join(number.to_string())).step("make a place for it")?;
        crate::tree::copy_exact(stream, &mut file, entry.size).step("write its content")
    }

    fn set_directory_times(&mut self) -> Result<()> {
        let directories = std::mem::take(&mut self.directories);
        for (path, mtime) in directories.iter().rev() {
            let shown = Path::new(std::ffi::OsStr::from_bytes(path));
            let dir = match sys::path::open(self.root.as_fd(), shown, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(e).errno_step(format!("set the time of {}", shown.display())),
            };
            rustix::fs::futimens(&dir, &times(*mtime)).errno_step(format!("set the time of {}", shown.display()))?;
        }
        Ok(())
    }
}

/// Whether a name is overlayfs' mark for what is gone.
fn is_whiteout(dir: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> bool {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::CharacterDevice && s.st_rdev == 0)
}

/// Makes a directory hide all of what is below it.
fn hide_below(dir: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let step = "hide what is below (overlay.opaque)";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, name, flags, Mode::empty()).errno_step(step)?;
    rustix::fs::fsetxattr(&dir, crate::find::opaque_mark(), b"y", XattrFlags::empty()).errno_step(step)
}

pub fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: i64::from(mtime.1),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// In a user namespace there are the ids that the user has.
fn name_ids(error: Error, entry: &Entry) -> Error {
    match error.errno() {
        Some(22) if !sys::process::has_hosts_users() => error.hint(format!(
            "it belongs to {}:{}, and you have no such ids: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
             YOU`, or see /etc/subuid and /etc/subgid",
            entry.uid, entry.gid
        )),
        _ => error,
    }
}

/// Owner first: a change of owner takes setuid bits and capabilities away.
fn attributes(fd: std::os::fd::BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .errno_step("give it its owner")
        .map_err(|e| name_ids(e, entry))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).errno_step("set its mode")?;
    for (name, value) in &entry.xattrs {
        let essential = match name.as_slice() {
            b"security.capability" => true,
            n if n.starts_with(b"user.") && !n.starts_with(b"user.overlay.") => false,
            n if n.starts_with(b"system.posix_acl_") => false,
            // Others are the host's business: labels, and what overlayfs itself reads.
            _ => continue,
        };
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Err(e) if essential => return Err(e).errno_step("set its capabilities"),
            _ => {}
        }
    }
    Ok(())
}
