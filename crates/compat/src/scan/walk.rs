//! Through a tree, on all processors: nothing is followed, nothing but regular files is opened, and there are limits.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File as StdFile;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use errdefs::{ErrnoStep, Result};
use rustix::fs::{Advice, Dir, FileType, Mode, OFlags};

use super::{File, Scan, VERSION, What, file};
use crate::elf;

/// Files of one tree that are looked at.
const FILES: usize = 2_000_000;
/// Longest path.
const PATH: usize = 4096;
/// Largest file that is read: two at a time.
const LARGEST: u64 = 768 << 20;
/// Bytes that tell what a file is.
const HEAD: usize = 512;
/// Files that a thread takes at a time.
const BATCH: usize = 64;

/// Looks at a directory tree.
pub fn directory(root: &Path) -> Result<Scan> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_fd = rustix::fs::open(root, flags, Mode::empty()).errno_step(format!("open {}", root.display()))?;
    let mut scan = Scan {
        version: VERSION,
        ..Scan::default()
    };
    let paths = list(root_fd.as_fd(), &mut scan.complaints);
    scan.seen = paths.len();
    let (next, found) = (AtomicUsize::new(0), Mutex::new((Vec::new(), 0u64)));
    let work = || {
        let (mut files, mut bytes, mut buffer) = (Vec::new(), 0u64, Vec::new());
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = paths.get(from..paths.len().min(from + BATCH)).filter(|b| !b.is_empty()) else {
                break;
            };
            for path in batch {
                files.extend(look(root_fd.as_fd(), path, &mut buffer, &mut bytes));
            }
        }
        if let Ok(mut all) = found.lock() {
            all.0.append(&mut files);
            all.1 += bytes;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8);
    std::thread::scope(|scope| {
        // The first of them is this one.
        for _ in 1..threads.min(paths.len() / BATCH + 1) {
            scope.spawn(work);
        }
        work();
    });
    let (mut files, bytes) = found.into_inner().unwrap_or_default();
    files.sort_by(|a: &File, b: &File| a.path.cmp(&b.path));
    (scan.files, scan.bytes) = (files, bytes);
    Ok(scan)
}

/// All regular files below.
fn list(root: BorrowedFd<'_>, complaints: &mut Vec<String>) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), VecDeque::from([PathBuf::new()]));
    let complain = |complaints: &mut Vec<String>, path: &Path, why: &str| {
        if complaints.len() < 100 {
            complaints.push(format!("/{}: {why}", path.display()));
        }
    };
    while let Some(path) = todo.pop_back() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = sys::path::open(root, &path, flags).and_then(Dir::new);
        let dir = match opened {
            Ok(dir) => dir,
            Err(errno) => {
                complain(complaints, &path, &errno.to_string());
                continue;
            }
        };
        for entry in dir.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name));
            if below.as_os_str().len() > PATH {
                complain(complaints, &path, "its paths are too long");
                break;
            }
            match entry.file_type() {
                FileType::Directory => todo.push_back(below),
                FileType::RegularFile | FileType::Unknown => found.push(below),
                _ => {}
            }
            if found.len() >= FILES {
                complain(complaints, &path, "there are more files than are looked at");
                return found;
            }
        }
    }
    found
}

/// One file.
fn look(root: BorrowedFd<'_>, path: &Path, buffer: &mut Vec<u8>, bytes: &mut u64) -> Option<File> {
    let shown = format!("/{}", path.display());
    let failed = |size: u64, executable: bool, why: String| {
        Some(File {
            path: shown.clone(),
            size,
            executable,
            what: What::NotAnalysed(why),
        })
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match sys::path::open(root, path, flags) {
        Ok(fd) => StdFile::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return None,
        // Whether it matters cannot be told but by its name.
        Err(errno) if shown.contains("/bin/") || shown.contains(".so") => {
            return failed(0, false, format!("it cannot be read: {errno}"));
        }
        Err(_) => return None,
    };
    let meta = file.metadata().ok().filter(|m| m.is_file())?;
    let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
    *bytes += meta.len();
    let mut head = [0u8; HEAD];
    let read = file.read_at(&mut head, 0).ok()?;
    let head = &head[..read];
    let shown_path = shown.as_str();
    if !elf::is_elf(head) {
        let what = file::other(shown_path, executable, head, &file)?;
        return Some(File {
            path: shown,
            size: meta.len(),
            executable,
            what,
        });
    }
    if file::not_wanted(shown_path, head) {
        return None;
    }
    if meta.len() > LARGEST {
        return failed(meta.len(), executable, format!("it has {} bytes", meta.len()));
    }
    // All of it is wanted: from a disk that comes in large pieces then, also while we work on another.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::WillNeed);
    // The buffer stays what it was: only what is larger than any before has to be cleared.
    let size = meta.len() as usize;
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    if let Err(error) = file.read_exact_at(&mut buffer[..size], 0) {
        return failed(meta.len(), executable, format!("it cannot be read: {error}"));
    }
    let what = file::what(shown_path, executable, &buffer[..size])?;
    Some(File {
        path: shown,
        size: meta.len(),
        executable,
        what,
    })
}
