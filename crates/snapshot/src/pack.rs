//! Writing tars of trees: ustar headers, with pax records for what does not fit into them (tar(5), POSIX pax).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::tar::BLOCK;

/// Deeper trees are nobody's; each level costs a descriptor.
pub const DEPTH: usize = 900;
const BUFFER: usize = 256 * 1024;

/// The host ids of a container: what is its root's on disk is root's in a tar.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// The container's 0.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// As the container sees an id; ids that are none of its own are the image's, which is not mapped on disk.
pub fn inside(ids: Option<Ids>, id: u32) -> u32 {
    match ids {
        Some(ids) if id >= ids.first && id - ids.first < ids.count => id - ids.first,
        _ => id,
    }
}

/// Something in a tree that is walked.
pub struct Found<'a> {
    pub dir: BorrowedFd<'a>,
    pub name: &'a std::ffi::CStr,
    /// From the tree's root, without a slash before it.
    pub path: &'a [u8],
    pub stat: Stat,
}

impl Found<'_> {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// The names in a directory, sorted.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>> {
    let mut list = Vec::new();
    for entry in Dir::read_from(dir).errno_step("read a directory")? {
        let name = entry.errno_step("read a directory")?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            list.push(name);
        }
    }
    list.sort();
    Ok(list)
}

/// Opens a directory that was just seen; `None` if something else is there by now.
pub fn enter(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Option<std::os::fd::OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e).errno_step(format!("open {}", name.to_string_lossy())),
    }
}

/// What is there; `None` for nothing.
pub fn stat(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e).errno_step(format!("look at {}", name.to_string_lossy())),
    }
}

/// A path and a name below it.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.is_empty() {
        true => name.to_vec(),
        false => [path, b"/", name].concat(),
    }
}

/// Visits everything below a directory, parents first, in the order of names.
pub fn walk(top: BorrowedFd<'_>, visit: &mut dyn FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
    walk_at(top, &[], 0, visit)
}

fn walk_at(
    dir: BorrowedFd<'_>,
    at: &[u8],
    depth: usize,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<()>,
) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::invalid(format!("directories more than {DEPTH} deep")));
    }
    for name in names(dir)? {
        let Some(stat) = stat(dir, &name)? else { continue };
        let path = join(at, name.to_bytes());
        let found = Found {
            dir,
            name: &name,
            path: &path,
            stat,
        };
        visit(&found)?;
        if found.kind() == FileType::Directory
            && let Some(below) = enter(dir, &name)?
        {
            walk_at(below.as_fd(), &path, depth + 1, visit)?;
        }
    }
    Ok(())
}

/// Writes one file, or a directory with all that is in it, as a tar in which it is called `path`.
pub fn pack(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    path: &[u8],
    ids: Option<Ids>,
    out: &mut dyn Write,
) -> Result<()> {
    let stat = stat(dir, name)?.ok_or_else(|| Error::not_found(format!("{}: it is gone", name.to_string_lossy())))?;
    let found = Found { dir, name, path, stat };
    let mut packer = Packer::new(out, ids);
    packer.add(&found)?;
    if found.kind() == FileType::Directory
        && let Some(below) = enter(dir, name)?
    {
        walk_at(below.as_fd(), path, 0, &mut |found| packer.add(found))?;
    }
    packer.finish()
}

/// A tar that is being written.
pub struct Packer<'a> {
    out: &'a mut dyn Write,
    ids: Option<Ids>,
    /// The first name of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// What a header says.
struct Header<'a> {
    kind: u8,
    path: &'a [u8],
    link: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: (i64, u32),
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Packer<'a> {
    pub fn new(out: &'a mut dyn Write, ids: Option<Ids>) -> Self {
        Packer {
            out,
            ids,
            links: HashMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// One file, whatever it is. Sockets have no place in a tar.
    pub fn add(&mut self, found: &Found<'_>) -> Result<()> {
        self.add_inner(found)
            .step_with(|| format!("pack {}", String::from_utf8_lossy(found.path)))
    }

    fn add_inner(&mut self, found: &Found<'_>) -> Result<()> {
        let (stat, kind) = (&found.stat, found.kind());
        let mut header = Header {
            kind: b'0',
            path: found.path,
            link: &[],
            mode: stat.st_mode & 0o7777,
            uid: inside(self.ids, stat.st_uid),
            gid: inside(self.ids, stat.st_gid),
            size: 0,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                header.kind = b'1';
                header.link = &first;
                return self.header(&header);
            }
            self.links.insert(key, found.path.to_vec());
        }
        let target;
        match kind {
            FileType::RegularFile => return self.file(found, header),
            FileType::Directory => {
                let path = [found.path, b"/"].concat();
                header.xattrs = self.xattrs(found)?;
                return self.header(&Header {
                    kind: b'5',
                    path: &path,
                    ..header
                });
            }
            FileType::Symlink => {
                target = rustix::fs::readlinkat(found.dir, found.name, Vec::new()).errno_step("read the link")?;
                header.kind = b'2';
                header.link = target.as_bytes();
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                header.kind = if kind == FileType::BlockDevice { b'4' } else { b'3' };
                header.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            FileType::Fifo => header.kind = b'6',
            _ => return Ok(()),
        }
        self.header(&header)
    }

    fn file(&mut self, found: &Found<'_>, mut header: Header<'_>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file: File = match rustix::fs::openat(found.dir, found.name, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(e).errno_step("open it"),
        };
        header.xattrs = self.xattrs_of(&file)?;
        header.size = file.metadata().step("look at it")?.len();
        self.header(&header)?;
        let mut left = header.size;
        while left > 0 {
            let want = left.min(BUFFER as u64) as usize;
            let read = match file.read(&mut self.buffer[..want]).step("read its content")? {
                // It became shorter while it was read.
                0 => {
                    self.buffer[..want].fill(0);
                    want
                }
                read => read,
            };
            self.out.write_all(&self.buffer[..read]).step("write its content")?;
            left -= read as u64;
        }
        self.pad(header.size)
    }

    /// A whiteout: the file of this name that lower layers have is gone.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let slash = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let path = [&path[..slash], b".wh.", &path[slash..]].concat();
        self.header(&Header {
            kind: b'0',
            path: &path,
            link: &[],
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        })
    }

    /// Two empty blocks end a tar.
    pub fn finish(self) -> Result<()> {
        self.out.write_all(&[0; 2 * BLOCK]).step("end the tar")
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.out
            .write_all(&[0; BLOCK][..padding as usize])
            .step("write its content")
    }

    fn xattrs(&self, found: &Found<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match enter(found.dir, found.name)? {
            Some(dir) => self.xattrs_of(dir),
            None => Ok(Vec::new()),
        }
    }

    fn xattrs_of(&self, fd: impl AsFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut list = vec![0u8; 64 * 1024];
        let length = match rustix::fs::flistxattr(&fd, &mut list) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e).errno_step("read its attributes"),
        };
        let kept = |n: &&[u8]| {
            *n == b"security.capability"
                || n.starts_with(b"system.posix_acl_")
                || (n.starts_with(b"user.") && !n.starts_with(b"user.overlay."))
        };
        let mut found = Vec::new();
        for name in list[..length].split(|b| *b == 0).filter(kept) {
            let mut value = vec![0u8; 64 * 1024];
            let length = rustix::fs::fgetxattr(&fd, name, &mut value).errno_step("read its attributes")?;
            value.truncate(length);
            match name {
                b"security.capability" => capability(&mut value, self.ids),
                n if n.starts_with(b"system.posix_acl_") => acl(&mut value, self.ids),
                _ => {}
            }
            found.push((name.to_vec(), value));
        }
        Ok(found)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<()> {
        let records = records(header);
        let mut bytes = Vec::new();
        if !records.is_empty() {
            bytes.extend(block(
                b"pax",
                &[],
                b'x',
                &Header {
                    size: records.len() as u64,
                    mtime: (0, 0),
                    mode: 0o644,
                    uid: 0,
                    gid: 0,
                    device: (0, 0),
                    xattrs: Vec::new(),
                    ..*header
                },
            ));
            bytes.extend(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(block(header.path, header.link, header.kind, header));
        self.out.write_all(&bytes).step("write a header")
    }
}

/// File capabilities that a user namespace's root has set are the container's own (capabilities(7), version 3).
fn capability(value: &mut Vec<u8>, ids: Option<Ids>) {
    let root = value.get(20..24).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if let (24, Some(ids)) = (value.len(), ids)
        && root == Some(ids.first)
    {
        value.truncate(20);
        value[3] = 2;
    }
}

/// The other way round: they become those of this user namespace's root.
pub fn own_capability(value: &mut Vec<u8>, ids: Option<Ids>) {
    if let (20, Some(ids)) = (value.len(), ids)
        && value[3] == 2
    {
        value[3] = 3;
        value.extend(ids.first.to_le_bytes());
    }
}

/// Named users and groups in an access control list (linux/posix_acl_xattr.h).
fn acl(value: &mut [u8], ids: Option<Ids>) {
    const NAMED: [u16; 2] = [2, 8];
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        if NAMED.contains(&u16::from_le_bytes([entry[0], entry[1]])) {
            let id = inside(ids, u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]));
            entry[4..8].copy_from_slice(&id.to_le_bytes());
        }
    }
}

const OCTAL_7: u32 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;

/// pax records for what the header has no place for.
fn records(header: &Header<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut put = |key: &[u8], value: &[u8]| {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        text.extend(format!("{length} ").as_bytes());
        text.extend([key, b"=", value, b"\n"].concat());
    };
    if header.path.len() > 100 {
        put(b"path", header.path);
    }
    if header.link.len() > 100 {
        put(b"linkpath", header.link);
    }
    for (key, id) in [(b"uid", header.uid), (b"gid", header.gid)] {
        if id > OCTAL_7 {
            put(key, id.to_string().as_bytes());
        }
    }
    if header.size > OCTAL_11 {
        put(b"size", header.size.to_string().as_bytes());
    }
    if header.mtime.1 != 0 || header.mtime.0 < 0 {
        put(b"mtime", time(header.mtime).as_bytes());
    }
    for (name, value) in &header.xattrs {
        put(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    text
}

/// Decimal seconds; before 1970 the fraction counts the other way.
fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let text = match (seconds < 0, nanoseconds) {
        (_, 0) => return seconds.to_string(),
        (false, n) => format!("{seconds}.{n:09}"),
        (true, n) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - n),
    };
    text.trim_end_matches('0').to_owned()
}

/// One ustar header.
fn block(path: &[u8], link: &[u8], kind: u8, header: &Header<'_>) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, length: usize, bytes: &[u8]| {
        let n = bytes.len().min(length);
        block[at..at + n].copy_from_slice(&bytes[..n]);
    };
    let octal = |number: u64, digits: usize| format!("{number:0digits$o}").into_bytes();
    put(0, 100, path);
    put(100, 8, &octal(header.mode.into(), 7));
    put(
        108,
        8,
        &octal(if header.uid > OCTAL_7 { 0 } else { header.uid }.into(), 7),
    );
    put(
        116,
        8,
        &octal(if header.gid > OCTAL_7 { 0 } else { header.gid }.into(), 7),
    );
    put(
        124,
        12,
        &octal(if header.size > OCTAL_11 { 0 } else { header.size }, 11),
    );
    let mtime = u64::try_from(header.mtime.0).unwrap_or(0).min(OCTAL_11);
    put(136, 12, &octal(mtime, 11));
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    if matches!(kind, b'3' | b'4') {
        put(329, 8, &octal(header.device.0.into(), 7));
        put(337, 8, &octal(header.device.1.into(), 7));
    }
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
