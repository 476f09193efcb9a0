//! The version 1 hierarchy without controllers in which a systemd before 226 keeps its services (`name=systemd`). Hosts of
//! today have none: it is made for the container, mounted nowhere else, and gone with its last cgroup.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use errdefs::{ErrnoStep, Result, Step};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{Cgroup, make_new, remove_below};

/// As [`super::Membership::joined`] names it.
pub const SYSTEMD: &str = "name=systemd";

/// How often, and how long after one another, the hierarchy's end is tried.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A container's directory in it.
pub struct Named {
    /// By a name that holds as long as the mount.
    pub dir: PathBuf,
    mount: OwnedFd,
}

impl Named {
    /// Made new; it belongs to the container's root, who makes cgroups below it.
    pub fn make(cgroup: &Cgroup, owner: u32) -> Result<Named> {
        let named = Named::find(cgroup)?;
        make_new(&named.dir)?;
        for name in ["", "cgroup.procs", "tasks"] {
            let path = if name.is_empty() {
                named.dir.clone()
            } else {
                named.dir.join(name)
            };
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).step("give it to the container")?;
        }
        Ok(named)
    }

    /// The container's directory, wherever it was made.
    pub fn find(cgroup: &Cgroup) -> Result<Named> {
        let mount = mount().errno_step("mount the cgroup hierarchy name=systemd")?;
        let dir = cgroup.below(&PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())));
        Ok(Named { dir, mount })
    }
}

fn mount() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("cgroup", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "none")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "name", "systemd")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

impl Cgroup {
    /// Removes what a container had in the hierarchy `name=systemd`, once its processes are gone; fine if that is nothing.
    pub fn remove_named(&self) -> Result<()> {
        let named = Named::find(self)?;
        remove_below(&named.dir).step_with(|| format!("remove the cgroup {} of {SYSTEMD}", self.path))?;
        // The directory of all containers, if this was the last.
        if let Some(all) = named
            .dir
            .parent()
            .filter(|_| self.path.trim_start_matches('/').contains('/'))
        {
            let _ = std::fs::remove_dir(all);
        }
        forget(named);
        Ok(())
    }
}

/// The kernel forgets a hierarchy with its last mount if no cgroup is left in it; one that was removed is gone a little
/// later. Others may use it: then it stays.
fn forget(named: Named) {
    let mut mount = Some(named.mount);
    for _ in 0..ATTEMPTS {
        let root = mount
            .as_ref()
            .map(|m| PathBuf::from(format!("/proc/self/fd/{}", m.as_raw_fd())));
        let entries = root.and_then(|root| std::fs::read_dir(root).ok());
        let is_dir = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
        if entries.is_some_and(|list| list.flatten().any(|e| is_dir(&e))) {
            return;
        }
        drop(mount.take());
        let list = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if !list.contains(":name=systemd:") {
            return;
        }
        std::thread::sleep(PAUSE);
        mount = self::mount().ok();
    }
}
