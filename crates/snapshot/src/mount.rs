//! Layers and a container's own directory as one overlay (Documentation/filesystems/overlayfs.rst).
//!
//! Everything is detached: nothing appears in anybody's list of mounts until a container attaches it to its own, so
//! that nothing stays behind, whoever is killed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::{Digest, Store, mount_points};

/// A container's own changes: `DIR/upper` and `DIR/work`, owned by the container's first host id.
#[derive(Clone, Debug)]
pub struct Writable {
    /// The container's directory.
    pub dir: PathBuf,
    /// Whether it has to be there after a power cut. If not, the kernel does not force it to disk when the container asks
    /// for it (fsync) or ends (overlayfs' `volatile`, Linux 5.10).
    pub lasting: bool,
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
    /// Mounts layers (bottom first) and a container's own directory as one detached overlay.
    /// `userns`: idmap the layers for this user namespace. No mount appears in the caller's namespace.
    pub fn mount(&self, layers: &[Digest], own: Option<&Writable>, userns: Option<BorrowedFd<'_>>) -> Result<Mounted> {
        if let Some(missing) = layers.iter().find(|l| !self.has(l)) {
            return Err(Error::not_found(format!("layer {missing} is not there")).hint("pull the image again"));
        }
        let store = self.view(userns)?;
        let below = format!("/proc/self/fd/{}", store.as_raw_fd());
        let mut lower: Vec<String> = layers
            .iter()
            .rev()
            .map(|l| format!("{below}/{}/fs", l.digest()))
            .collect();
        // A layer that comes twice is wholly covered by its upper self, and overlayfs refuses to see it again.
        let mut seen = std::collections::HashSet::new();
        lower.retain(|dir| seen.insert(dir.clone()));
        if own.is_none() && lower.len() == 1 {
            let root = clone_of(&lower[0]).errno_step("mount the layer")?;
            return Ok(Mounted { root, view: store });
        }
        match own {
            Some(own) => {
                own.forget_volatile()?;
                lower.push(format!("{below}/{}", mount_points::provide(&self.dir)?));
            }
            None => {
                // overlayfs wants two if there is nothing above.
                while lower.len() < 2 {
                    let empty = self.dir.join("empty");
                    std::fs::create_dir_all(&empty).step("make an empty layer")?;
                    lower.push(format!("{below}/empty"));
                }
            }
        }
        let root = overlay(&lower, own)
            .errno_step("mount the layers (overlay)")
            .map_err(|error| match error.errno() {
                Some(19) => error.hint("this kernel has no overlayfs: load the module overlay"),
                Some(22) if userns.is_some() => {
                    error.hint("overlayfs takes idmapped layers from Linux 5.19 on; --userns=host does without")
                }
                _ => error,
            })?;
        Ok(Mounted { root, view: store })
    }

    /// The store's directory as a mount of its own, seen through a user namespace.
    fn view(&self, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
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

fn clone_of(path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
}

fn overlay(lower: &[String], own: Option<&Writable>) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fd = context.as_fd();
    rustix::mount::fsconfig_set_string(fd, "source", "overlay")?;
    // Linux 6.8 takes layers one by one; before that all of them in one string.
    match rustix::mount::fsconfig_set_string(fd, "lowerdir+", &lower[0]) {
        Ok(()) => lower[1..]
            .iter()
            .try_for_each(|dir| rustix::mount::fsconfig_set_string(fd, "lowerdir+", dir))?,
        Err(Errno::INVAL) => rustix::mount::fsconfig_set_string(fd, "lowerdir", lower.join(":"))?,
        Err(e) => return Err(e),
    }
    if let Some(own) = own {
        rustix::mount::fsconfig_set_string(fd, "upperdir", own.dir.join("upper"))?;
        rustix::mount::fsconfig_set_string(fd, "workdir", own.dir.join("work"))?;
        if !own.lasting {
            // Older kernels do without.
            let _ = rustix::mount::fsconfig_set_flag(fd, "volatile");
        }
    }
    rustix::mount::fsconfig_create(fd)?;
    rustix::mount::fsmount(fd, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of these files.
    fn layer(store: &Store, files: &[(&str, &str)]) -> Digest {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(5);
            header.set_gid(6);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        store.apply(&mut &tar.into_inner().unwrap()[..], None).unwrap().diff_id
    }

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
        let layers: Vec<_> = (0..120).map(|n| layer(&store, &[(&format!("f{n}"), "x")])).collect();
        let root = store.mount(&layers, None, None).unwrap().root;
        assert!(read(&root, "f0").is_some() && read(&root, "f119").is_some());
    }
}
