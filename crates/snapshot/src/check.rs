//! Whether a layer on disk is what it was: contents by the digest of the tar that it gives, everything else by what that
//! tar says of each file.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use errdefs::{Kind, Result, Step};
use rustix::fs::{AtFlags, FileType, OFlags};

use crate::apply::SUMS;
use crate::tar::{Entry, EntryKind};
use crate::{Digest, Store};

/// So many files are told by name.
const NAMED: usize = 3;

impl Store {
    /// What is wrong with a layer; `None` if nothing is. Reads all of it.
    pub fn check(&self, diff_id: &Digest) -> Result<Option<String>> {
        if !self.has(diff_id) {
            return Ok(Some("it is not there".into()));
        }
        let mut last: HashMap<Vec<u8>, Entry> = HashMap::new();
        // Something was written over in the same tar: what was below it is gone, too.
        let replaced = self.path(diff_id).join("extra").exists();
        let sums = std::fs::read(self.path(diff_id).join(SUMS)).unwrap_or_default();
        let mut sums = sums
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut changed = Vec::new();
        let rebuilt = self.rebuild(diff_id, &mut std::io::sink(), &mut |entry, sum| {
            if entry.size > 0 && sums.next().is_some_and(|was| was != sum) {
                changed.push(String::from_utf8_lossy(&entry.path).into_owned());
            }
            if replaced && entry.kind != EntryKind::Directory {
                last.retain(|path, _| !(path.starts_with(&entry.path) && path.get(entry.path.len()) == Some(&b'/')));
            }
            last.insert(entry.path.clone(), entry.clone());
        });
        let digest = match rebuilt {
            Ok(digest) => digest,
            // The host's own troubles are not the layer's.
            Err(e) if e.kind() == Kind::Exhausted || e.kind() == Kind::Forbidden => return Err(e),
            Err(e) => return Ok(Some(e.to_string())),
        };
        if self.layer(diff_id).is_err() {
            return Ok(Some("its size is not there".into()));
        }
        let root = File::open(self.path(diff_id).join("fs")).step("open the layer")?;
        for entry in last.values() {
            if let Some(problem) = differs(&root, entry) {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                return Ok(Some(format!("{path}: {problem}")));
            }
        }
        match digest == diff_id.digest() {
            true => Ok(None),
            // Layers that were made before there were sums have none.
            false if changed.is_empty() => Ok(Some("the content of a file was changed".into())),
            false => Ok(Some(changed_contents(&changed))),
        }
    }
}

/// The first of them by name.
fn changed_contents(paths: &[String]) -> String {
    let more = match paths.len() {
        0..=NAMED => String::new(),
        all => format!(" and {} more", all - NAMED),
    };
    format!(
        "{}{more}: the content was changed",
        paths[..paths.len().min(NAMED)].join(", ")
    )
}

/// What of a file is not what its entry says.
fn differs(root: &File, entry: &Entry) -> Option<&'static str> {
    let name = entry.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if entry.path.is_empty() || name.starts_with(b".wh.") || entry.kind == EntryKind::HardLink {
        return None;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
    let parent = path.parent().unwrap_or(Path::new(""));
    // Parents that are links lead elsewhere in the layer, as they did when it was unpacked.
    let Ok(dir) = sys::path::open(root.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY) else {
        return None;
    };
    let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(_) => return Some("it is gone"),
    };
    let kind = match entry.kind {
        EntryKind::File => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Fifo | EntryKind::HardLink => FileType::Fifo,
    };
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Some("it is another kind of file");
    }
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        return Some("its owner was changed");
    }
    if kind != FileType::Symlink && stat.st_mode & 0o7777 != entry.mode {
        return Some("its mode was changed");
    }
    let link = || rustix::fs::readlinkat(&dir, name, Vec::new()).is_ok_and(|l| l.as_bytes() == entry.link);
    if kind == FileType::Symlink && !link() {
        return Some("it leads elsewhere");
    }
    None
}
