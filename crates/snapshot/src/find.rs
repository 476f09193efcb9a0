//! Reading one file of layers without mounting them: users are looked up at each start, and a mount made for that would
//! cost as much as the rest of the start.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Result, Step};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::{Digest, Store, Writable};

/// What one layer says about a path.
enum Says {
    /// Here it is.
    File(File),
    /// It is not there, and nothing below counts.
    Gone,
    /// Nothing: the layer below is to be asked.
    Nothing,
    /// It goes through a link: only the whole can tell.
    Unclear,
}

impl Store {
    /// The first `limit` bytes of a regular file of these layers (bottom first) and a container's own directory; `None` if
    /// it is not there.
    pub fn read_file(
        &self,
        layers: &[Digest],
        own: Option<&Writable>,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        let upper = own.map(|own| own.dir.join("upper"));
        let lower = layers.iter().rev().map(|l| self.dir.join(l.digest()).join("fs"));
        for dir in upper.into_iter().chain(lower) {
            match look(&dir, path)? {
                Says::File(file) => return read(file, path, limit).map(Some),
                Says::Gone => return Ok(None),
                Says::Nothing => {}
                Says::Unclear => return self.read_mounted(layers, own, path, limit),
            }
        }
        Ok(None)
    }

    fn read_mounted(
        &self,
        layers: &[Digest],
        own: Option<&Writable>,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        let mounted = self.mount(layers, own, None)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match sys::path::open(mounted.root.as_fd(), Path::new(path), flags) {
            Ok(fd) => read(fd.into(), path, limit).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Component by component, without following anything.
fn look(layer: &Path, path: &str) -> Result<Says> {
    let step = || format!("look for /{path} in a layer");
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::open(layer, directory, Mode::empty()).errno_step(step())?;
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    for (index, name) in parts.iter().enumerate() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let stat = match rustix::fs::statat(&at, *name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(if opaque(&at) { Says::Gone } else { Says::Nothing }),
            Err(e) => return Err(e).errno_step(step()),
        };
        let last = index + 1 == parts.len();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if !last => {}
            FileType::RegularFile if last => {}
            FileType::Symlink => return Ok(Says::Unclear),
            _ => return Ok(Says::Gone),
        }
        at = rustix::fs::openat(&at, *name, flags, Mode::empty()).errno_step(step())?;
    }
    Ok(Says::File(at.into()))
}

/// The attribute by which overlayfs knows a directory that hides what is below. `trusted` ones are for the host's root alone:
/// in a user namespace overlayfs keeps its marks where the user may (`userxattr`, Linux 5.11).
pub(crate) fn opaque_mark() -> &'static str {
    match sys::process::has_hosts_users() {
        true => "trusted.overlay.opaque",
        false => "user.overlay.opaque",
    }
}

/// Whether a directory hides all of what is below it.
pub(crate) fn opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::fgetxattr(dir, opaque_mark(), &mut value).is_ok_and(|n| n == 1 && value[0] == b'y')
}

fn read(file: File, path: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.metadata().is_ok_and(|m| m.is_file()) {
        file.take(limit)
            .read_to_end(&mut bytes)
            .step_with(|| format!("read the container's /{path}"))?;
    }
    Ok(bytes)
}
