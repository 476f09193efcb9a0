//! Mounts of what no path may name: the files of an image, and paths within a volume, whose content is not to lead out of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bollard_stubs::models::MountPoint;
use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use snapshot::Store;

use super::inside;
use super::record::Record;
use crate::Roots;

/// Whether it is an image that is mounted.
pub(crate) fn is_image(point: &MountPoint) -> bool {
    point.typ.as_deref() == Some("image")
}

/// What is to be mounted, opened; `None` if it is just what the source's path says. An image is a mount of its own, attached
/// nowhere, and belongs to the container's users.
pub(crate) fn open(roots: &Roots, record: &Record, point: &MountPoint) -> Result<Option<OwnedFd>> {
    if is_image(point) {
        return image(roots, record, point).map(Some);
    }
    let Some(subpath) = &record.part(point).subpath else {
        return Ok(None);
    };
    let path = point.source.as_deref().unwrap_or_default();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let volume = rustix::fs::open(path, flags, Mode::empty()).errno_step(format!("open {path}"))?;
    within(&volume, path, subpath).map(Some)
}

/// Below a directory, wherever its links lead.
fn within(root: &OwnedFd, name: &str, subpath: &str) -> Result<OwnedFd> {
    sys::path::open_beneath(root.as_fd(), Path::new(subpath), OFlags::PATH).map_err(|errno| match errno {
        Errno::XDEV => Error::invalid(format!(
            "path concatenation escapes the base directory, base: {name}, subpath: {subpath}"
        )),
        _ => Error::caused(
            format!("cannot access path {name}/{subpath}"),
            std::io::Error::from(errno),
        ),
    })
}

fn image(roots: &Roots, record: &Record, point: &MountPoint) -> Result<OwnedFd> {
    let part = record.part(point);
    let digests: Result<Vec<snapshot::Digest>> = part
        .layers
        .iter()
        .map(|l| l.parse().step_with(|| format!("read the layer's digest {l}")))
        .collect();
    let userns = record
        .ids
        .map(|range| sys::process::user_namespace(range.first, range.count))
        .transpose()
        .errno_step("make a user namespace")?;
    let name = point.source.as_deref().unwrap_or_default();
    let mounted = Store::open(&roots.layers())?
        .mount(&digests?, None, userns.as_ref().map(|fd| fd.as_fd()))
        .step_with(|| format!("mount the image {name}"))?;
    let Some(subpath) = &part.subpath else {
        return Ok(mounted.root);
    };
    // Until Linux 6.15 parts are copied of what is attached alone. It is where only this thread sees it.
    let place = roots.container(&record.id);
    let copy = || {
        inside::leave_the_host()?;
        inside::attach(mounted.root.as_fd(), &place)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&place, flags, Mode::empty()).errno_step("open the image")?;
        let part = within(&root, name, subpath)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        rustix::mount::open_tree(&part, "", flags).errno_step(format!("mount {subpath} of the image {name}"))
    };
    let done = std::thread::scope(|scope| scope.spawn(copy).join());
    done.unwrap_or_else(|_| Err(Error::system("mounting a part of an image failed")))
}
