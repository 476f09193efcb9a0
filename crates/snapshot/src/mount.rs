//! Layers and a container's own directory as one overlay (Documentation/filesystems/overlayfs.rst).
//!
//! Everything is detached: nothing appears in anybody's list of mounts until a container attaches it to its own, so
//! that nothing stays behind, whoever is killed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{CLONE_FS, CLONE_NEWNS, MOUNT_ATTR_NODEV, MS_PRIVATE, MS_REC};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::{Digest, Store, mount_points, shift};

/// A container's own changes: `DIR/upper` and `DIR/work`, owned by the container's first host id.
#[derive(Clone, Debug)]
pub struct Writable {
    /// The container's directory.
    pub dir: PathBuf,
    /// Whether it has to be there after a power cut. If not, the kernel does not force it to disk when the container asks
    /// for it (fsync) or ends (overlayfs' `volatile`, Linux 5.10).
    pub lasting: bool,
    /// Only what is changed of a file is copied up: its owner without its content (overlayfs' `metacopy`).
    pub(crate) metadata: bool,
}

impl Writable {
    /// Makes the two directories for a container whose root is `uid:gid` on the host.
    pub fn create(dir: &Path, uid: u32, gid: u32) -> Result<Self> {
        for name in ["upper", "work"] {
            let path = dir.join(name);
            std::fs::create_dir(&path).step_with(|| format!("make {}", path.display()))?;
        }
        let upper = dir.join("upper");
        std::os::unix::fs::chown(&upper, Some(uid), Some(gid))
            .step_with(|| format!("give {} to the container", upper.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&upper, mode).step_with(|| format!("set the mode of {}", upper.display()))?;
        Ok(Writable::at(dir, true))
    }

    /// Those made before.
    pub fn at(dir: &Path, lasting: bool) -> Self {
        Writable {
            dir: dir.into(),
            lasting,
            metadata: false,
        }
    }

    /// Takes away the mark by which overlayfs knows an upper side that may not have reached the disk. Since it was
    /// written this kernel has been up, or the container would have been removed: nothing is lost.
    fn forget_volatile(&self) -> Result<()> {
        match std::fs::remove_dir_all(self.dir.join("work/work/incompat")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).step("clear the overlay's work directory"),
            _ => Ok(()),
        }
    }
}

/// A detached overlay, and the view of the layer store that it was made through. The overlay does without the view from
/// now on; but to let go of it the kernel waits for all processors, so that it is for the caller to say when.
pub struct Mounted {
    /// The root.
    pub root: OwnedFd,
    /// To be dropped when nobody waits.
    pub view: OwnedFd,
}

impl Store {
    /// Mounts what a container sees, to be read: its own directory is a layer among layers, so that a running container
    /// is not disturbed.
    pub fn mount_to_read(&self, layers: &[Digest], own: &Writable) -> Result<Mounted> {
        let mut lower = self.lower(layers)?;
        lower.insert(0, own.dir.join("upper").to_string_lossy().into_owned());
        lower.push(mount_points::provide(&self.dir)?.into());
        let view = self.view(None)?;
        let root = self.stack(&view, &lower, None)?;
        Ok(Mounted { root, view })
    }

    /// Mounts layers (bottom first) and a container's own directory as one detached overlay.
    /// `userns`: idmap the layers for this user namespace. No mount appears in the caller's namespace.
    pub fn mount(&self, layers: &[Digest], own: Option<&Writable>, userns: Option<BorrowedFd<'_>>) -> Result<Mounted> {
        let lower = self.lower(layers)?;
        let (root, view) = match (self.mount_mapped(lower.clone(), own, userns), own) {
            (Err(error), Some(own)) if userns.is_some() && shift::is_wanted(&error) => {
                let root = self.mount_shifted(lower, own).map_err(|second| {
                    if second.to_string() == error.to_string() {
                        return second;
                    }
                    Error::caused(error.to_string(), second).hint("--userns=host does without a user namespace")
                })?;
                let view = root.try_clone().step("mount the layers")?;
                (root, view)
            }
            (mapped, _) => mapped?,
        };
        if userns.is_some() && sys::mount::knows_attributes() {
            // Overlayfs is the host's: nodes of an image would be devices.
            sys::mount::set_attributes(root.as_fd(), false, MOUNT_ATTR_NODEV.into(), 0, 0, None)
                .errno_step("forbid the devices of the image")?;
        }
        Ok(Mounted { root, view })
    }

    fn mount_mapped(
        &self,
        mut lower: Vec<String>,
        own: Option<&Writable>,
        userns: Option<BorrowedFd<'_>>,
    ) -> Result<(OwnedFd, OwnedFd)> {
        let view = self.view(userns)?;
        match own {
            Some(_) => lower.push(mount_points::provide(&self.dir)?.into()),
            // overlayfs wants two if there is nothing above.
            None if lower.len() < 2 => {
                std::fs::create_dir_all(self.dir.join("empty")).step("make an empty layer")?;
                lower.resize(2, "empty".into());
            }
            None => {}
        }
        let root = self.stack(&view, &lower, own).map_err(|error| match error.errno() {
            Some(19) => error.hint("this kernel has no overlayfs: load the module overlay"),
            Some(22) if userns.is_some() => {
                error.hint("overlayfs takes idmapped layers from Linux 5.19 on; --userns=host does without")
            }
            _ => error,
        })?;
        Ok((root, view))
    }

    /// The layers' directories below the store's, the uppermost first.
    fn lower(&self, layers: &[Digest]) -> Result<Vec<String>> {
        if let Some(missing) = layers.iter().find(|l| !self.has(l)) {
            return Err(Error::not_found(format!("layer {missing} is not there"))
                .hint("`berth system check --repair` fetches it again"));
        }
        let mut lower: Vec<String> = layers.iter().rev().flat_map(|l| self.lower_of(l)).collect();
        // A layer that comes twice is wholly covered by its upper self, and overlayfs refuses to see it again.
        let mut seen = std::collections::HashSet::new();
        lower.retain(|dir| seen.insert(dir.clone()));
        Ok(lower)
    }

    /// One overlay of directories, named from the store's.
    fn stack(&self, view: &OwnedFd, lower: &[String], own: Option<&Writable>) -> Result<OwnedFd> {
        match overlay(
            &format!("/proc/self/fd/{}/", view.as_raw_fd()),
            lower,
            own,
            Lower::OneByOne,
        ) {
            Err(error) if error.errno() == Some(22) => attached(view.as_fd(), &self.dir, || {
                overlay("", lower, own, Lower::OneByOne).or_else(|_| overlay("", lower, own, Lower::AtOnce))
            })?,
            done => done,
        }
    }

    /// A layer's files, and what is laid over them; the uppermost first.
    fn lower_of(&self, layer: &Digest) -> Vec<String> {
        let over = self
            .amendment
            .as_ref()
            .map(|name| format!("{}/{name}/fs", layer.digest()));
        let mut list = vec![format!("{}/fs", layer.digest())];
        list.splice(0..0, over.filter(|dir| self.dir.join(dir).is_dir()));
        list
    }

    /// The store's directory as a mount of its own, seen through a user namespace.
    pub(crate) fn view(&self, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let view =
            rustix::mount::open_tree(rustix::fs::CWD, &self.dir, flags).errno_step("open the layers (open_tree)")?;
        if let Some(userns) = userns {
            sys::idmap::mount_setattr_idmap(view.as_fd(), false, userns)
                .errno_step("idmap the layers (mount_setattr)")
                .map_err(|e| self.explain_idmap(e))?;
        }
        Ok(view)
    }

    fn explain_idmap(&self, error: Error) -> Error {
        match error.errno().map(Errno::from_raw_os_error) {
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => error.hint(format!(
                "the file system of {} has no idmapped mounts (ext4, xfs, btrfs and tmpfs have, from Linux 5.12 to 6.3 on); \
                 --userns=host does without",
                self.dir.display()
            )),
            _ => error,
        }
    }
}

/// Before Linux 6.15 layers have to be attached somewhere. Does something while the store's view is attached over the
/// store itself, and is the working directory; only the thread that does it can see that.
pub(crate) fn attached<T: Send>(view: BorrowedFd<'_>, place: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let inside = || -> Result<T> {
        let step = "attach the layers";
        sys::process::unshare((CLONE_FS | CLONE_NEWNS).into()).errno_step(step)?;
        sys::mount::mount(c"", c"/", c"", u64::from(MS_REC | MS_PRIVATE), c"").errno_step(step)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(view, "", rustix::fs::CWD, place, flags).errno_step(step)?;
        rustix::process::chdir(place).errno_step(step)?;
        Ok(work())
    };
    let done = std::thread::scope(|scope| scope.spawn(inside).join());
    done.unwrap_or_else(|_| Err(Error::system("attaching the layers failed")))
}

/// How overlayfs is told the layers.
#[derive(Clone, Copy)]
pub(crate) enum Lower {
    /// Linux 6.8.
    OneByOne,
    /// Before that; in a mount namespace of one's own.
    AtOnce,
}

/// Layers (the uppermost first), each with the same words before its name, and a container's own above them.
pub(crate) fn overlay(before: &str, lower: &[String], own: Option<&Writable>, way: Lower) -> Result<OwnedFd> {
    let step = "mount the layers (overlay)";
    // Also what an attempt that failed left.
    own.map_or(Ok(()), Writable::forget_volatile)?;
    if matches!(way, Lower::AtOnce) {
        return crate::at_once::overlay(lower, own);
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).errno_step(step)?;
    let whole = |dir: &String| match dir.starts_with('/') {
        true => dir.clone(),
        false => format!("{before}{dir}"),
    };
    let lower: Vec<String> = lower.iter().map(whole).collect();
    if let Err(errno) = configure(context.as_fd(), &lower, own) {
        let step = complaint(&context).map_or(step.into(), |words| format!("mount the layers ({words})"));
        return Err(errno).errno_step(step);
    }
    // A mount for a container with ids of its own is given no devices; before Linux 5.12 that can be said now alone.
    let attributes = match own.is_some() && !sys::mount::knows_attributes() {
        true => MountAttrFlags::MOUNT_ATTR_NODEV,
        false => MountAttrFlags::empty(),
    };
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).errno_step(step)
}

fn configure(fd: BorrowedFd<'_>, lower: &[String], own: Option<&Writable>) -> rustix::io::Result<()> {
    rustix::mount::fsconfig_set_string(fd, "source", "overlay")?;
    lower
        .iter()
        .try_for_each(|dir| rustix::mount::fsconfig_set_string(fd, "lowerdir+", dir))?;
    if own.is_none() {
        // A running container's upper side may be among what is read. Older kernels do without the word.
        let _ = rustix::mount::fsconfig_set_string(fd, "index", "off");
    }
    let hosts = sys::process::has_hosts_users();
    if !hosts {
        rustix::mount::fsconfig_set_flag(fd, "userxattr")?;
    }
    if let Some(own) = own {
        // Whatever the kernel was built with: the upper side alone is to tell what the container changed.
        if own.metadata {
            rustix::mount::fsconfig_set_string(fd, "metacopy", "on")?;
        } else if hosts {
            // With attributes of the user's there are neither.
            for option in ["redirect_dir", "metacopy"] {
                let _ = rustix::mount::fsconfig_set_string(fd, option, "off");
            }
        }
        rustix::mount::fsconfig_set_string(fd, "upperdir", own.dir.join("upper"))?;
        rustix::mount::fsconfig_set_string(fd, "workdir", own.dir.join("work"))?;
        if !own.lasting {
            // Older kernels do without.
            let _ = rustix::mount::fsconfig_set_flag(fd, "volatile");
        }
    }
    rustix::mount::fsconfig_create(fd)
}

/// What the file system says about its last error: the context is read, a message at a time ("e overlay: ...").
fn complaint(context: &OwnedFd) -> Option<String> {
    let mut last = None;
    let mut buffer = [0u8; 1024];
    while let Ok(read @ 1..) = rustix::io::read(context, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..read]).trim().to_owned();
        last = text.strip_prefix("e ").map(String::from).or(last);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::layer;

    fn read(root: &OwnedFd, path: &str) -> Option<String> {
        let fd = sys::path::open(root.as_fd(), Path::new(path), rustix::fs::OFlags::RDONLY).ok()?;
        std::io::read_to_string(std::fs::File::from(fd)).ok()
    }

    #[test]
    fn upper_layers_cover_and_hide_lower_ones() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("layers")).unwrap();
        let bottom = layer(&store, &[("a", "1"), ("b", "1"), ("d/x", "1")]);
        let top = layer(
            &store,
            &[("a", "2"), (".wh.b", ""), ("d/.wh..wh..opq", ""), ("d/y", "2")],
        );
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = store.mount(&[bottom.clone(), top.clone()], None, None).unwrap().root;
        let seen = ["a", "b", "d/x", "d/y"].map(|p| read(&root, p));
        assert_eq!(seen, [Some("2".into()), None, None, Some("2".into())]);
        let layers = [bottom.clone(), top.clone()];
        for (path, expected) in [
            ("a", Some("2")),
            ("b", None),
            ("d/x", None),
            ("d/y", Some("2")),
            ("no/such", None),
        ] {
            let found = store.read_file(&layers, None, path, 10).unwrap();
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path} without a mount");
        }
        let container = dir.path().join("c");
        std::fs::create_dir(&container).unwrap();
        let own = Writable::create(&container, 1000, 1000).unwrap();
        for layers in [vec![], vec![bottom.clone()], vec![bottom, top]] {
            let root = store.mount(&layers, Some(&own), None).unwrap().root;
            sys::path::make_file(root.as_fd(), Path::new("new")).unwrap();
        }
        assert!(container.join("upper/new").exists());
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }

    #[test]
    fn many_layers_mount() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers: Vec<_> = (0..400).map(|n| layer(&store, &[(&format!("f{n}"), "x")])).collect();
        let root = store.mount(&layers, None, None).unwrap().root;
        assert!(read(&root, "f0").is_some() && read(&root, "f399").is_some());
        // As kernels before 6.8 want it.
        let container = dir.path().join("c");
        std::fs::create_dir(&container).unwrap();
        let own = Writable::create(&container, 0, 0).unwrap();
        let lower = store.lower(&layers).unwrap();
        for own in [None, Some(&own)] {
            let view = store.view(None).unwrap();
            let made = attached(view.as_fd(), &store.dir, || overlay("", &lower, own, Lower::AtOnce));
            let root = made.unwrap().unwrap();
            assert!(read(&root, "f0").is_some() && read(&root, "f399").is_some());
        }
    }
}
