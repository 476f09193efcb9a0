//! The files of an image as a container sees them: facts of all layers, looked up through the merged root.
//!
//! Files are told apart by device and inode, so that links of all sorts lead to the same facts. Everything is resolved by
//! the kernel below the root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File as StdFile;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};

use crate::scan::{self, File, Scan};

/// Largest file that is read on demand.
const LARGEST: u64 = 256 << 20;
/// Largest text (lists of packages, configuration).
const TEXT: u64 = 64 << 20;

type Identity = (u64, u64);

/// An image's files.
pub struct Tree {
    root: OwnedFd,
    files: RefCell<HashMap<Identity, Rc<File>>>,
    /// In the order of paths: what the scans found, and the root still has.
    listed: Vec<Rc<File>>,
    /// What the scans could not look at.
    pub complaints: Vec<String>,
    found: RefCell<HashMap<String, Option<Rc<File>>>>,
}

impl Tree {
    /// Of a merged root, and the scans of its layers, the lowest first.
    pub fn new(root: OwnedFd, scans: &[Rc<Scan>]) -> Tree {
        let mut tree = Tree {
            root,
            files: RefCell::default(),
            listed: Vec::new(),
            complaints: scans
                .iter()
                .flat_map(|s| s.complaints.iter().cloned())
                .take(100)
                .collect(),
            found: RefCell::default(),
        };
        let mut seen = std::collections::HashSet::new();
        for scan in scans.iter().rev() {
            for file in &scan.files {
                // A layer above has another file of that name, or hides it.
                if !seen.insert(file.path.as_str()) || !tree.has(file) {
                    continue;
                }
                tree.listed.push(Rc::new(file.clone()));
            }
        }
        tree.listed.sort_by(|a, b| a.path.cmp(&b.path));
        for file in &tree.listed {
            if let Some((identity, _)) = tree.identity(&file.path, true) {
                tree.files.borrow_mut().entry(identity).or_insert_with(|| file.clone());
            }
        }
        tree
    }

    /// Whether the merged root has this very file there.
    fn has(&self, file: &File) -> bool {
        self.identity(&file.path, true)
            .is_some_and(|(_, size)| size == file.size || file.size == 0)
    }

    /// Device, inode and size of a regular file.
    fn identity(&self, path: &str, itself: bool) -> Option<(Identity, u64)> {
        let nofollow = if itself { OFlags::NOFOLLOW } else { OFlags::empty() };
        let fd = sys::path::open(self.root.as_fd(), Path::new(path), OFlags::PATH | nofollow).ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then_some(((stat.st_dev as u64, stat.st_ino as u64), stat.st_size as u64))
    }

    /// All that matter, by path.
    pub fn files(&self) -> &[Rc<File>] {
        &self.listed
    }

    /// Whether anything is there, of whatever kind.
    pub fn exists(&self, path: &str) -> bool {
        sys::path::open(self.root.as_fd(), Path::new(path), OFlags::PATH).is_ok()
    }

    /// The facts of the file that a path leads to; read now if no scan has them. `None` if there is no such file, or it is
    /// none that matters.
    pub fn find(&self, path: &str) -> Option<Rc<File>> {
        if let Some(known) = self.found.borrow().get(path) {
            return known.clone();
        }
        let found = self.look(path);
        self.found.borrow_mut().insert(path.to_owned(), found.clone());
        found
    }

    fn look(&self, path: &str) -> Option<Rc<File>> {
        let (identity, _) = self.identity(path, false)?;
        if let Some(file) = self.files.borrow().get(&identity) {
            return Some(file.clone());
        }
        let (bytes, executable) = self.bytes(path, LARGEST)?;
        let file = Rc::new(scan::bytes(path, executable, &bytes)?);
        self.files.borrow_mut().insert(identity, file.clone());
        Some(file)
    }

    /// The content of a regular file, and whether it may be executed.
    pub fn bytes(&self, path: &str, limit: u64) -> Option<(Vec<u8>, bool)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = StdFile::from(sys::path::open(self.root.as_fd(), Path::new(path), flags).ok()?);
        let meta = file.metadata().ok().filter(|m| m.is_file() && m.len() <= limit)?;
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some((bytes, meta.mode() & 0o111 != 0))
    }

    /// A text, its bad bytes replaced.
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path, TEXT)
            .map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(dir) = sys::path::open(self.root.as_fd(), Path::new(path), flags).and_then(rustix::fs::Dir::new) else {
            return Vec::new();
        };
        let names = dir
            .flatten()
            .take(100_000)
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|n| n != "." && n != "..").collect();
        names.sort();
        names
    }
}
