//! The files of an archive, be it a directory or a tar, behind one door: nothing outside of it can be reached.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::verify::read_bounded;
use crate::{DOCUMENT_LIMIT, decompress};

/// More entries are no archive of images.
const ENTRIES: usize = 200_000;
/// Links that lead to links.
const LINKS: usize = 8;

/// An archive.
pub enum Files {
    /// A directory, by its descriptor.
    Directory(File),
    /// A tar: where each file's bytes are.
    Tar {
        file: Arc<File>,
        entries: HashMap<String, Place>,
    },
}

/// A file in a tar.
pub enum Place {
    At(u64, u64),
    Link(String),
}

/// Some bytes of a file; can be opened as often as needed.
#[derive(Clone)]
pub struct Section {
    file: Arc<File>,
    start: u64,
    pub size: u64,
}

impl Section {
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(SectionReader {
            section: self.clone(),
            at: 0,
        }))
    }
}

struct SectionReader {
    section: Section,
    at: u64,
}

impl Read for SectionReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = (self.section.size - self.at).min(buffer.len() as u64) as usize;
        let read = self
            .section
            .file
            .read_at(&mut buffer[..left], self.section.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Files {
    /// A directory, or a tar, which may be compressed.
    pub fn open(path: &Path, spool: &Path) -> Result<Self> {
        let step = || format!("open {}", path.display());
        let mut file = File::open(path).step_with(step)?;
        if file.metadata().step_with(step)?.is_dir() {
            return Ok(Files::Directory(file));
        }
        let mut head = [0; 512];
        let read = file.read(&mut head).step_with(step)?;
        file.seek(SeekFrom::Start(0)).step_with(step)?;
        if read == 512 && &head[257..262] == b"ustar" {
            return Self::index(file);
        }
        Self::spool(&mut file, spool)
    }

    /// From a stream: uncompressed into a file that has no name any more.
    pub fn spool(from: &mut (dyn Read + Send), spool: &Path) -> Result<Self> {
        let mut file = nameless(spool)?;
        // The decompressor wants to own what it reads: a thread carries it there.
        let (mut reader, mut writer) = std::io::pipe().step("make a pipe")?;
        std::thread::scope(|scope| {
            let copy = scope.spawn(move || {
                let copied = std::io::copy(from, &mut writer);
                drop(writer);
                copied
            });
            let unpacked = decompress(Box::new(reader.try_clone().step("make a pipe")?))
                .and_then(|mut plain| std::io::copy(&mut plain, &mut file).step("keep the archive meanwhile"));
            // If it failed half way the thread must not wait for ever.
            let _ = unpacked
                .is_err()
                .then(|| std::io::copy(&mut reader, &mut std::io::sink()));
            drop(reader);
            let copied = copy.join().map_err(|_| Error::system("reading the archive failed"))?;
            unpacked?;
            copied.step("read the archive").map(drop)
        })?;
        Self::index(file)
    }

    fn index(mut file: File) -> Result<Self> {
        file.seek(SeekFrom::Start(0)).step("read the archive")?;
        let file = Arc::new(file);
        let mut archive = tar::Archive::new(&*file);
        let mut entries = HashMap::new();
        let invalid = |e: std::io::Error| Error::caused("read the archive", e).kind_is(errdefs::Kind::Invalid);
        for entry in archive.entries_with_seek().map_err(invalid)? {
            let entry = entry.map_err(invalid)?;
            if entries.len() >= ENTRIES {
                return Err(Error::invalid("the archive has too many entries"));
            }
            let Some(name) = clean("", &String::from_utf8_lossy(&entry.path_bytes())) else {
                continue;
            };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                entries.insert(name, Place::At(entry.raw_file_position(), entry.size()));
            } else if kind.is_symlink() || kind.is_hard_link() {
                let link = entry.link_name_bytes().unwrap_or_default();
                let base = if kind.is_symlink() {
                    name.rsplit_once('/').map_or("", |(dir, _)| dir)
                } else {
                    ""
                };
                if let Some(target) = clean(base, &String::from_utf8_lossy(&link)) {
                    entries.insert(name, Place::Link(target));
                }
            }
        }
        Ok(Files::Tar { file, entries })
    }

    pub fn has(&self, name: &str) -> bool {
        self.section(name).is_ok()
    }

    /// Where a file's bytes are.
    pub fn section(&self, name: &str) -> Result<Section> {
        let missing = || Error::invalid(format!("the archive has no {name}"));
        match self {
            Files::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let file = match rustix::fs::openat2(dir.as_fd(), name, flags, Mode::empty(), resolve) {
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV) => return Err(missing()),
                    other => File::from(other.errno_step(format!("open the archive's {name}"))?),
                };
                let metadata = file.metadata().step_with(|| format!("open the archive's {name}"))?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                Ok(Section {
                    file: Arc::new(file),
                    start: 0,
                    size: metadata.len(),
                })
            }
            Files::Tar { file, entries } => {
                let mut name = clean("", name).ok_or_else(missing)?;
                for _ in 0..LINKS {
                    match entries.get(&name).ok_or_else(missing)? {
                        Place::At(start, size) => {
                            return Ok(Section {
                                file: file.clone(),
                                start: *start,
                                size: *size,
                            });
                        }
                        Place::Link(target) => name = target.clone(),
                    }
                }
                Err(missing())
            }
        }
    }

    /// A small file, whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_bounded(
            self.section(name)?.open()?,
            DOCUMENT_LIMIT,
            &format!("the archive's {name}"),
        )
    }
}

/// A file without a name: nothing of it stays, whoever is killed.
pub fn nameless(dir: &Path) -> Result<File> {
    let step = || format!("make a file in {}", dir.display());
    std::fs::create_dir_all(dir).step_with(step)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(fd.into()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = dir.join(format!(".spool-{}", std::process::id()));
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .step_with(step)?;
            std::fs::remove_file(&path).step_with(step)?;
            Ok(file)
        }
        Err(e) => Err(e).errno_step(step()),
    }
}

/// A relative name without dots; `None` when it leaves the archive.
fn clean(base: &str, name: &str) -> Option<String> {
    if name.starts_with('/') && !base.is_empty() {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|p| !p.is_empty()).collect();
    for part in name.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}
