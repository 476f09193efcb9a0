//! Layers for a user namespace on kernels without idmapped mounts: their files are given to the container's ids.
//!
//! Only owners are copied, not contents (overlayfs' `metacopy`): an overlay of its own, whose upper side is the container's
//! `shifted-...`, is below the container's overlay. It is filled once, at the first start.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use crate::mount::{Lower, Writable, attached, overlay};
use crate::tree::DIRECTORY;
use crate::{Store, mount_points};

/// Deeper trees are refused.
const DEPTH: usize = 1000;
/// Written once all owners are changed.
const DONE: &str = "done";
const CAPABILITY: &str = "security.capability";
/// `VFS_CAP_REVISION_2` and `_3`, and the bytes that they have.
const REVISION_2: u8 = 2;
const REVISION_3: u8 = 3;
const SIZE_2: usize = 20;

/// Whether an error says that this kernel, or the layers' file system, has no idmapped mounts below overlayfs.
pub fn is_wanted(error: &Error) -> bool {
    matches!(
        error.errno().map(Errno::from_raw_os_error),
        Some(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP)
    )
}

impl Store {
    /// As [`Store::mount`], without idmapped mounts: for the ids that the container's own directory belongs to.
    pub(crate) fn mount_shifted(&self, mut lower: Vec<String>, own: &Writable) -> Result<OwnedFd> {
        let owner = rustix::fs::stat(own.dir.join("upper")).errno_step("look at the container's own directory")?;
        if lower.is_empty() {
            std::fs::create_dir_all(self.dir.join("empty")).step("make an empty layer")?;
        }
        lower.push(mount_points::provide(&self.dir)?.into());
        let shifted = Writable {
            dir: own
                .dir
                .join(format!("shifted-{}", self.amendment.as_deref().unwrap_or("plain"))),
            lasting: false,
            metadata: true,
        };
        for name in ["upper", "work"] {
            std::fs::create_dir_all(shifted.dir.join(name)).step("make a directory for the layers' owners")?;
        }
        let place = own.dir.join("shifted");
        std::fs::create_dir_all(&place).step("make a directory for the layers' owners")?;
        let view = self.view(None)?;
        attached(view.as_fd(), &self.dir, || {
            let inner = either_way(&lower, &shifted)?;
            let done = shifted.dir.join(DONE);
            if !done.exists() {
                give(inner.as_fd(), owner.st_uid, owner.st_gid)
                    .step("give the layers' files to the container's ids")?;
                std::fs::write(&done, "").step("give the layers' files to the container's ids")?;
            }
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(inner.as_fd(), "", rustix::fs::CWD, &place, flags)
                .errno_step("attach the layers")?;
            either_way(&[place.display().to_string()], own)
        })?
    }
}

fn either_way(lower: &[String], own: &Writable) -> Result<OwnedFd> {
    overlay("", lower, Some(own), Lower::OneByOne).or_else(|_| overlay("", lower, Some(own), Lower::AtOnce))
}

/// Every file below, and the root itself.
fn give(root: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    let root = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty()).errno_step("open the root")?;
    contents(root.as_fd(), uid, gid, 0)?;
    let stat = rustix::fs::fstat(&root).errno_step("look at the root")?;
    if stat.st_uid >= uid {
        return Ok(());
    }
    let owner = (
        Uid::from_raw(uid + stat.st_uid),
        Gid::from_raw(gid.saturating_add(stat.st_gid)),
    );
    rustix::fs::fchown(&root, Some(owner.0), Some(owner.1)).errno_step("give the root away")
}

fn contents(dir: BorrowedFd<'_>, uid: u32, gid: u32, depth: usize) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::invalid(format!("directories more than {DEPTH} deep")));
    }
    for entry in Dir::read_from(dir).errno_step("read a directory")? {
        let entry = entry.errno_step("read a directory")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let step = || format!("change the owner of {}", Path::new(&*name.to_string_lossy()).display());
        if entry.file_type() == FileType::Directory {
            let below = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).errno_step(step())?;
            contents(below.as_fd(), uid, gid, depth + 1)?;
        }
        one(dir, name, uid, gid).step_with(step)?;
    }
    Ok(())
}

/// One file: a change of owner takes set-id bits and capabilities, which come back.
fn one(dir: BorrowedFd<'_>, name: &std::ffi::CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statat(dir, name, flags).errno_step("look at it")?;
    // Another name of a file that was done already: container's ids begin far above all that images have.
    if stat.st_uid >= uid && stat.st_gid >= gid {
        return Ok(());
    }
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let capability = if regular { capability(dir, name, uid)? } else { None };
    let (new_uid, new_gid) = (uid.saturating_add(stat.st_uid), gid.saturating_add(stat.st_gid));
    rustix::fs::chownat(
        dir,
        name,
        Some(Uid::from_raw(new_uid)),
        Some(Gid::from_raw(new_gid)),
        flags,
    )
    .errno_step("give it away")?;
    if regular && stat.st_mode & 0o6000 != 0 {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
            .errno_step("set its mode")?;
    }
    if let Some(value) = capability {
        let file = open(dir, name)?;
        rustix::fs::fsetxattr(&file, CAPABILITY, &value, XattrFlags::empty()).errno_step("set its capabilities")?;
    }
    Ok(())
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).errno_step("open it")
}

/// Its capabilities, as those that count in the container's user namespace (capabilities(7), "Namespaced file capabilities").
fn capability(dir: BorrowedFd<'_>, name: &std::ffi::CStr, root: u32) -> Result<Option<Vec<u8>>> {
    let file = open(dir, name)?;
    let mut value = [0u8; 64];
    match rustix::fs::fgetxattr(&file, CAPABILITY, &mut value) {
        Ok(SIZE_2) if value[3] == REVISION_2 => {
            value[3] = REVISION_3;
            let mut value = value[..SIZE_2].to_vec();
            value.extend(root.to_le_bytes());
            Ok(Some(value))
        }
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e).errno_step("read its capabilities"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn owners_are_shifted_once_and_contents_stay_where_they_are() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(&dir.path().join("layers")).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for (name, mode, text) in [("d/suid", 0o4755, "x".repeat(100_000)), ("plain", 0o644, "y".into())] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(mode);
            header.set_uid(5);
            header.set_gid(6);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let layer: Digest = store.apply(&mut &tar.into_inner().unwrap()[..], None).unwrap().diff_id;
        let container = dir.path().join("c");
        std::fs::create_dir(&container).unwrap();
        let own = Writable::create(&container, 70_000, 70_000).unwrap();
        for round in 0..2 {
            let root = store
                .mount_shifted(vec![format!("{}/fs", layer.digest())], &own)
                .unwrap();
            for (path, uid, mode) in [
                ("d/suid", 70_005, 0o4755),
                ("plain", 70_005, 0o644),
                ("d", 70_000, 0o755),
                ("proc", 70_000, 0o755),
                (".", 70_000, 0o755),
            ] {
                let stat = rustix::fs::statat(&root, path, AtFlags::empty()).unwrap();
                assert_eq!(
                    (stat.st_uid, stat.st_mode & 0o7777),
                    (uid, mode),
                    "{path} in round {round}"
                );
            }
            let file = sys::path::open(root.as_fd(), Path::new("d/suid"), OFlags::RDONLY).unwrap();
            assert_eq!(
                std::io::read_to_string(std::fs::File::from(file)).unwrap().len(),
                100_000
            );
        }
        let copied = std::fs::metadata(container.join("shifted-plain/upper/d/suid")).unwrap();
        // Attributes may need a block of their own.
        let bytes = std::os::unix::fs::MetadataExt::blocks(&copied) * 512;
        assert!(bytes <= 4096, "no content is copied: {bytes} bytes");
        assert!(std::fs::read_dir(container.join("upper")).unwrap().next().is_none());
    }
}
