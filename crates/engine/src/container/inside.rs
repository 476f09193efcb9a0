//! A container's root as its front doors reach into it: of a running one through its first process, of one at rest by
//! mounting it for as long as that takes, in a mount namespace that nobody else sees.
//!
//! What is done there is done by a thread of its own, which may act as the container's root: new files on idmapped mounts
//! have to belong to somebody whom they map.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bollard_stubs::models::MountPoint;
use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use linux_raw_sys::general::{CLONE_FS, CLONE_NEWNS, MS_PRIVATE};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use snapshot::{Ids, Store, Writable};

use super::record::Record;
use super::{lock, parts, status};
use crate::{Engine, Roots};

/// What a container's ids are on the host.
pub fn ids(record: &Record) -> Option<Ids> {
    record.ids.map(|range| Ids {
        first: range.first,
        count: range.count,
    })
}

impl Engine {
    /// Does something with a container's root.
    pub(super) fn inside<T: Send>(
        &self,
        record: &Record,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let id = &record.id;
        loop {
            if let Some(live) = self.alive(id)?.filter(|live| live.pid != 0) {
                let root = File::open(format!("/proc/{}/root", live.pid));
                // It may have ended, and its number may be another's by now.
                let same = status::status(&self.roots, id)?
                    .running()
                    .is_some_and(|now| now.pid == live.pid);
                match root {
                    Ok(root) if same => return on_a_thread(record, || work(root.as_fd())),
                    _ => continue,
                }
            }
            let running = || Ok(status::status(&self.roots, id)?.running().is_some());
            if let Some(_lock) = lock::take(&self.roots, id, running)? {
                if self.roots.live_state(id).exists() {
                    self.bring_to_rest(id)?;
                    continue;
                }
                let done = on_a_thread_with_mounts(&self.roots, record, work);
                return done.and_then(|done| lock::discard(&self.roots, id).map(|()| done));
            }
        }
    }
}

fn on_a_thread<T: Send>(record: &Record, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                become_root_of(record)?;
                work()
            })
            .join()
    });
    done.unwrap_or_else(|_| Err(Error::system("reaching into the container failed")))
}

/// Files are made as its root, with all that the host's root may do. This thread's credentials alone are changed.
fn become_root_of(record: &Record) -> Result<()> {
    let Some(range) = record.ids else { return Ok(()) };
    let step = "act as the container's root";
    let before = rustix::thread::capabilities(None).errno_step(step)?;
    let (uid, gid) = (Uid::from_raw(range.first), Gid::from_raw(range.first));
    rustix::thread::set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT)
        .and_then(|()| rustix::thread::set_thread_res_uid(Uid::ROOT, uid, Uid::ROOT))
        .and_then(|()| rustix::thread::set_capabilities(None, before))
        .errno_step(step)
}

fn on_a_thread_with_mounts<T: Send>(
    roots: &Roots,
    record: &Record,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
) -> Result<T> {
    let done = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let root = mount(roots, record)?;
                become_root_of(record)?;
                work(root.as_fd())
            })
            .join()
    });
    done.unwrap_or_else(|_| Err(Error::system("reaching into the container failed")))
}

/// Its layers, bind mounts and volumes, over its live directory, for this thread alone.
fn mount(roots: &Roots, record: &Record) -> Result<OwnedFd> {
    let step = "mount the container's root";
    let digests: Result<Vec<snapshot::Digest>> = record
        .layers
        .iter()
        .map(|l| l.parse().step_with(|| format!("read the layer's digest {l}")))
        .collect();
    let userns = record
        .ids
        .map(|range| sys::process::user_namespace(range.first, range.count));
    let userns = userns.transpose().errno_step("make a user namespace")?;
    let userns = userns.as_ref().map(|fd| fd.as_fd());
    let own = Writable::at(&roots.container(&record.id), true);
    let mounted = Store::open(&roots.layers())?.mount(&digests?, Some(&own), userns)?;
    // Their sources are the host's: opened before anything is mounted over.
    let points: Vec<&MountPoint> = record
        .mounts
        .iter()
        .filter(|m| m.typ.as_deref() != Some("tmpfs"))
        .collect();
    leave_the_host()?;
    let sources: Result<Vec<Option<OwnedFd>>> = points
        .iter()
        .map(|point| source(roots, record, point, userns))
        .collect();
    let place = roots.live(&record.id);
    attach(mounted.root.as_fd(), &place)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&place, flags, Mode::empty()).errno_step(step)?;
    for (point, source) in points.into_iter().zip(sources?) {
        if let Some(source) = source {
            attach_inside(root.as_fd(), point, source.as_fd())?;
        }
    }
    Ok(root)
}

/// From here on what this thread mounts is seen by nobody else.
pub(super) fn leave_the_host() -> Result<()> {
    let step = "make a mount namespace";
    sys::process::unshare((CLONE_FS | CLONE_NEWNS).into()).errno_step(step)?;
    let host = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).errno_step(step)?;
    sys::mount::set_attributes(host.as_fd(), true, 0, 0, MS_PRIVATE.into(), None).errno_step(step)
}

/// A copy of what is to be mounted; `None` if it is gone.
fn source(
    roots: &Roots,
    record: &Record,
    point: &MountPoint,
    userns: Option<BorrowedFd<'_>>,
) -> Result<Option<OwnedFd>> {
    let part = match parts::open(roots, record, point) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        part => part?,
    };
    if parts::is_image(point) {
        return Ok(part);
    }
    let path = point.source.as_deref().unwrap_or_default();
    let step = || format!("mount {path}");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let copy = match &part {
        Some(part) => rustix::mount::open_tree(part, "", flags | OpenTreeFlags::AT_EMPTY_PATH),
        None => rustix::mount::open_tree(rustix::fs::CWD, path, flags),
    };
    let copy = match copy {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.errno_step(step())?,
    };
    if let Some(userns) = userns {
        sys::idmap::mount_setattr_idmap(copy.as_fd(), true, userns).errno_step(step())?;
    }
    if point.rw == Some(false) {
        let read_only = linux_raw_sys::general::MOUNT_ATTR_RDONLY.into();
        sys::mount::set_attributes(copy.as_fd(), true, read_only, 0, 0, None).errno_step(step())?;
    }
    Ok(Some(copy))
}

pub(super) fn attach(mount: BorrowedFd<'_>, place: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", rustix::fs::CWD, place, flags).errno_step("mount the container's root")
}

/// Where the container would have it; made if no run has made it yet.
fn attach_inside(root: BorrowedFd<'_>, point: &MountPoint, source: BorrowedFd<'_>) -> Result<()> {
    let destination = Path::new(point.destination.as_deref().unwrap_or_default());
    let step = || format!("mount over {}", destination.display());
    let stat = rustix::fs::fstat(source).errno_step(step())?;
    let target = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => sys::path::make_dir(root, destination),
        _ => sys::path::make_file(root, destination),
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(source, "", target.errno_step(step())?, "", flags).errno_step(step())
}

/// What the kernel says about a read-only place, in Docker's words.
pub(super) fn explain(error: Error) -> Error {
    const READ_ONLY: i32 = 30;
    match error.errno() {
        Some(READ_ONLY) => Error::new(Kind::Invalid, "container rootfs or mounted volume is marked read-only"),
        _ => error,
    }
}
