//! The container's view of files: root, mounts, devices, masked paths. Runs in the child, before anything of the image
//! does; the image may hold any link at any place, so every target is resolved by the kernel below the root.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_MOVE, MS_PRIVATE, MS_RDONLY, MS_REC,
};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::mountinfo::{self, Mounted};
use crate::mounts::{finish, options, prepare_within, prepared, within};
use crate::options::{Options, propagation};
use crate::{cgroup, labels};

const DEV: &str = "/dev";

/// What a container sees of cgroups.
pub struct Cgroups<'a> {
    /// The version 1 hierarchies that it is in.
    pub joined: &'a [String],
    /// It sees its cgroup as the root of all.
    pub own: bool,
}

/// A root that is being filled; not yet the process's own.
pub struct Root {
    fd: OwnedFd,
    place: PathBuf,
}

impl Root {
    /// Takes a detached mount into this mount namespace, at a place of the old root; out of everybody's sight if it is the
    /// container's `own`.
    pub fn attach(mount: OwnedFd, place: &Path, own: bool) -> Result<Self> {
        if own {
            // Nothing that we do here shall reach the host.
            let private = u64::from(MS_REC | MS_PRIVATE);
            sys::mount::mount(c"", c"/", c"", private, c"").errno_step("make the mounts private")?;
        }
        rustix::mount::move_mount(
            &mount,
            "",
            rustix::fs::CWD,
            place,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .errno_step("attach the root file system")?;
        Ok(Root {
            fd: mount,
            place: place.into(),
        })
    }

    /// Its name while the old root's `/proc` is in sight.
    pub fn name(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// For resolving paths below it.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// All mounts of the document, in its order; `sources` are the prepared ones, and `idmap` gives those their mappings that
    /// only now can be prepared.
    pub fn mount_all(
        &self,
        spec: &Spec,
        sources: Vec<OwnedFd>,
        view: &Cgroups<'_>,
        idmap: &dyn Fn(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let cgroup = spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
        let label = spec.linux().as_ref().and_then(|l| l.mount_label().as_deref());
        let mut sources = sources.into_iter();
        for mount in spec.mounts().iter().flatten() {
            let step = || format!("mount {}", mount.destination().display());
            if prepared(mount) {
                let source = match within(mount, &self.place) {
                    Some(path) => prepare_within(mount, self.as_fd(), path, idmap).step_with(step)?,
                    None => sources
                        .next()
                        .ok_or_else(|| Error::system("a bind mount's source did not come"))?,
                };
                self.bind(&source, mount.destination()).step_with(step)?;
                finish(mount, source.as_fd()).step_with(step)?;
            } else if mount.typ().as_deref() == Some("cgroup") {
                match (view.own, cgroup) {
                    (false, Some(cgroup)) => self.hosts_cgroups(mount, view.joined, cgroup),
                    _ => self.cgroups(mount, view.joined),
                }
                .step_with(step)?;
            } else {
                self.mount_new(mount, label).step_with(step)?;
            }
        }
        Ok(())
    }

    /// A prepared bind mount on a file or directory, whichever it is itself.
    fn bind(&self, source: &OwnedFd, destination: &Path) -> Result<()> {
        let stat = rustix::fs::fstat(source).errno_step("look at the source")?;
        let target = match rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            true => sys::path::make_dir(self.as_fd(), destination),
            false => sys::path::make_file(self.as_fd(), destination),
        };
        let target = target.errno_step("make the mount point")?;
        refuse_proc(target.as_fd(), destination)?;
        move_mount(source.as_fd(), target.as_fd(), "").errno_step("attach")
    }

    /// A new file system.
    fn mount_new(&self, mount: &Mount, label: Option<&str>) -> Result<()> {
        let mut options = options(mount);
        let kind = mount.typ().as_deref().unwrap_or_default();
        if kind == "tmpfs" {
            self.keep_mode(mount.destination(), &mut options)?;
        }
        if let Some(option) = labels::mount_option(kind, label) {
            let comma = if options.data.is_empty() { "" } else { "," };
            options.data.push_str(&format!("{comma}{option}"));
        }
        if mount.destination() == Path::new(DEV) {
            // Devices are made there first: see `finish_dev`.
            options.flags &= !u64::from(MS_RDONLY);
        }
        let target = self.place_of_new(kind, mount.destination())?;
        let source = mount.source().as_deref().unwrap_or(Path::new(kind));
        refuse_proc(target.as_fd(), mount.destination())?;
        if !options.copy_up {
            return mount_at(target.as_fd(), kind, &source.to_string_lossy(), &options);
        }
        if kind != "tmpfs" {
            return Err(Error::invalid("tmpcopyup is for a tmpfs alone"));
        }
        let open = || sys::path::open(self.as_fd(), mount.destination(), OFlags::RDONLY | OFlags::DIRECTORY);
        let before = open().errno_step("open what is there")?;
        // Read-only comes once it is full.
        let writable = Options {
            flags: options.flags & !u64::from(MS_RDONLY),
            data: options.data.clone(),
            ..Default::default()
        };
        mount_at(target.as_fd(), kind, &source.to_string_lossy(), &writable)?;
        let after = open().errno_step("open the mount")?;
        crate::copy_up::copy(before.as_fd(), after.as_fd()).step("copy what is there")?;
        match options.flags & u64::from(MS_RDONLY) {
            0 => Ok(()),
            _ => sys::mount::set_attributes_attached(after.as_fd(), MOUNT_ATTR_RDONLY.into(), 0)
                .errno_step("make it read-only"),
        }
    }

    /// A tmpfs has the mode of what it covers, unless it is said.
    fn keep_mode(&self, destination: &Path, options: &mut Options) -> Result<()> {
        if options.data.split(',').any(|word| word.starts_with("mode=")) {
            return Ok(());
        }
        let Some(covered) = self.existing(destination)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&covered).errno_step("look at the mount point")?;
        let comma = if options.data.is_empty() { "" } else { "," };
        options
            .data
            .push_str(&format!("{comma}mode={:o}", stat.st_mode & 0o7777));
        Ok(())
    }

    /// A `/dev` that is to be read-only becomes so once everything in it is made.
    pub fn finish_dev(&self, spec: &Spec) -> Result<()> {
        let asked = |m: &&Mount| {
            m.destination() == Path::new(DEV) && !prepared(m) && options(m).flags & u64::from(MS_RDONLY) != 0
        };
        if !spec.mounts().iter().flatten().any(|m| asked(&m)) {
            return Ok(());
        }
        let step = "make /dev read-only";
        let dev = sys::path::open(self.as_fd(), Path::new(DEV), OFlags::PATH).errno_step(step)?;
        sys::mount::set_attributes_attached(dev.as_fd(), MOUNT_ATTR_RDONLY.into(), 0).errno_step(step)
    }

    /// Those of the kernel's own file systems are where they seem to be: a container that shares its root with another could
    /// otherwise be given a `/proc` that is none (CVE-2019-19921, CVE-2023-27561).
    fn place_of_new(&self, kind: &str, destination: &Path) -> Result<OwnedFd> {
        let step = "make the mount point";
        if !["proc", "sysfs"].contains(&kind) {
            return sys::path::make_dir(self.as_fd(), destination).errno_step(step);
        }
        match sys::path::make_real_dir(self.as_fd(), destination) {
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::invalid(format!(
                "a {kind} must be mounted on ordinary directory, and {} is none",
                destination.display()
            ))),
            other => other.errno_step(step),
        }
    }

    /// `/sys/fs/cgroup`: version 2 alone, unless limits made us join version 1 hierarchies; then as a host has it.
    fn cgroups(&self, mount: &Mount, joined: &[String]) -> Result<()> {
        let mut options = options(mount);
        let target = sys::path::make_dir(self.as_fd(), mount.destination()).errno_step("make the mount point")?;
        if joined.is_empty() {
            options.data.clear();
            return mount_at(target.as_fd(), "cgroup2", "cgroup", &options);
        }
        let writable = Options {
            flags: options.flags & !u64::from(MS_RDONLY),
            data: "mode=755".into(),
            ..Default::default()
        };
        mount_at(target.as_fd(), "tmpfs", "tmpfs", &writable)?;
        for controllers in joined {
            // A hierarchy without controllers has a name of its own.
            let named = controllers == cgroup::named::SYSTEMD;
            let place = controllers.trim_start_matches("name=");
            let dir = sys::path::make_dir(self.as_fd(), &mount.destination().join(place))
                .errno_step("make the mount point")?;
            let (kind, data) = if controllers == "unified" {
                ("cgroup2", "")
            } else {
                ("cgroup", controllers.as_str())
            };
            // A systemd makes cgroups in its own hierarchy; there is nothing else in it.
            let read_only = if named { u64::from(MS_RDONLY) } else { 0 };
            let options = Options {
                flags: options.flags & !read_only,
                data: data.into(),
                ..Default::default()
            };
            mount_at(dir.as_fd(), kind, "cgroup", &options)?;
        }
        Ok(())
    }

    /// `/sys/fs/cgroup` for a container that sees the host's paths of cgroups: version 2 whole, as it is there; of version 1
    /// its own directories. Bound, as a user namespace may not mount what is not its own.
    fn hosts_cgroups(&self, mount: &Mount, joined: &[String], cgroup: &Path) -> Result<()> {
        let options = options(mount);
        let target = sys::path::make_dir(self.as_fd(), mount.destination()).errno_step("make the mount point")?;
        if joined.is_empty() {
            let source = cgroup::place("unified", Path::new("/"))?;
            return bind_host(&source, target.as_fd(), options.set);
        }
        let writable = Options {
            flags: options.flags & !u64::from(MS_RDONLY),
            data: "mode=755".into(),
            ..Default::default()
        };
        mount_at(target.as_fd(), "tmpfs", "tmpfs", &writable)?;
        joined.iter().try_for_each(|name| {
            let own = name.trim_start_matches("name=");
            let dir =
                sys::path::make_dir(self.as_fd(), &mount.destination().join(own)).errno_step("make the mount point")?;
            bind_host(&cgroup::place(name, cgroup)?, dir.as_fd(), options.set)
        })
    }

    /// `/etc/mtab`, which old programs read (mount(8)), for images that have none; a root without `/etc` does without.
    pub fn link_mtab(&self) -> Result<()> {
        let Some(etc) = self.existing(Path::new("/etc"))? else {
            return Ok(());
        };
        match rustix::fs::symlinkat("/proc/mounts", &etc, "mtab") {
            // A root that is not ours to write to does without, too.
            Ok(()) | Err(Errno::EXIST | Errno::NOTDIR | Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(()),
            Err(e) => Err(e).errno_step("make /etc/mtab"),
        }
    }

    /// Becomes the process's root; the old one is let go.
    pub fn pivot(&self) -> Result<()> {
        rustix::process::fchdir(&self.fd).errno_step("enter the root file system")?;
        rustix::process::pivot_root(".", ".").errno_step("change the root (pivot_root)")?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).errno_step("let go of the old root")?;
        rustix::process::chdir("/").errno_step("enter the root file system")
    }

    /// Becomes the process's root for a container that shares the host's mounts: they stay in sight of the host, at the root's
    /// own place, until somebody unmounts them (as with runc).
    pub fn enter(&self) -> Result<()> {
        rustix::process::fchdir(&self.fd).errno_step("enter the root file system")?;
        rustix::process::chroot(".").errno_step("change the root (chroot)")?;
        rustix::process::chdir("/").errno_step("enter the root file system")
    }

    /// Becomes the process's root in the place of one that cannot be left (an initramfs). The old one is covered, and not
    /// gone; its whole views of processes and devices are taken away, as the kernel would let the container make its own
    /// as long as there is one (runc `msMoveRoot`).
    pub fn replace(&self) -> Result<()> {
        let step = "enter the root file system";
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").step("read the list of mounts")?;
        rustix::process::fchdir(&self.fd).errno_step(step)?;
        let whole = |m: &Mounted| ["proc", "sysfs"].contains(&m.kind.as_str()) && !m.place.starts_with(&self.place);
        for view in mountinfo::parse(&mounts).into_iter().filter(whole) {
            cover(&view.place).step_with(|| format!("take {} away", view.place.display()))?;
        }
        sys::mount::mount(c".", c"/", c"", MS_MOVE.into(), c"").errno_step("move the root file system (MS_MOVE)")?;
        rustix::process::chroot(".").errno_step("change the root (chroot)")?;
        rustix::process::chdir("/").errno_step(step)
    }

    /// `linux.rootfsPropagation`. After `pivot`.
    pub fn propagate(&self, spec: &Spec) -> Result<()> {
        let word = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().as_deref());
        match word.and_then(propagation) {
            Some(flags) => sys::mount::mount(c"", c"/", c"", flags, c"").errno_step("set linux.rootfsPropagation"),
            None => Ok(()),
        }
    }

    /// `--read-only`.
    pub fn make_read_only(&self) -> Result<()> {
        sys::mount::set_attributes_attached(self.as_fd(), MOUNT_ATTR_RDONLY.into(), 0)
            .errno_step("make the root file system read-only")
    }

    /// What the document hides, and what it protects from writing. After `pivot`.
    pub fn protect(&self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        for path in linux.readonly_paths().iter().flatten() {
            self.read_only(Path::new(path))
                .step_with(|| format!("make {path} read-only"))?;
        }
        let mut masks = Masks::default();
        for path in linux.masked_paths().iter().flatten() {
            self.mask(Path::new(path), &mut masks)
                .step_with(|| format!("mask {path}"))?;
        }
        Ok(())
    }

    fn read_only(&self, path: &Path) -> Result<()> {
        let Some(target) = self.existing(path)? else {
            return Ok(());
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&target, "", flags).errno_step("copy the mount")?;
        move_with(tree.as_fd(), target.as_fd(), MOUNT_ATTR_RDONLY.into()).errno_step("set it read-only")
    }

    fn mask(&self, path: &Path, masks: &mut Masks) -> Result<()> {
        let Some(target) = self.existing(path)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&target).errno_step("look at it")?;
        let mask = match rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            true => masks.directory()?,
            false => masks.file(self.as_fd())?,
        };
        move_mount(mask.as_fd(), target.as_fd(), "").errno_step("attach")
    }

    /// `None` if it is not there.
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match sys::path::open(self.as_fd(), path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).errno_step("open it"),
        }
    }
}

/// Out of sight: unmounted, or where that is not allowed covered with nothing.
fn cover(place: &Path) -> Result<()> {
    use rustix::mount::{MountFlags, UnmountFlags};
    match rustix::mount::unmount(place, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::PERM) => {
            rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::RDONLY, None).errno_step("cover it")
        }
        Err(e) => Err(e).errno_step("unmount it"),
    }
}

/// A mount point that is in `/proc`, by whatever links of the image it got there (CVE-2019-16884).
fn refuse_proc(target: BorrowedFd<'_>, destination: &Path) -> Result<()> {
    const PROC: i64 = 0x9fa0;
    let system = rustix::fs::fstatfs(target).errno_step("look at the mount point")?;
    let replaceable = crate::REPLACEABLE_IN_PROC
        .iter()
        .any(|path| Path::new(path) == destination);
    match system.f_type as i64 == PROC && !replaceable {
        true => Err(Error::invalid(format!(
            "{destination:?} cannot be mounted because it is inside /proc"
        ))),
        false => Ok(()),
    }
}

/// What hides others: one empty read-only directory and `/dev/null`, copied as often as needed.
#[derive(Default)]
struct Masks {
    directory: Option<OwnedFd>,
}

impl Masks {
    /// The first is attached itself, the others are copies of it: one that is never attached would have to be taken apart
    /// again, for which the kernel waits for all processors.
    fn directory(&mut self) -> Result<OwnedFd> {
        let step = "make an empty directory";
        let mask = match &self.directory {
            Some(attached) => return clone_mount(attached.as_fd()).errno_step(step),
            None => empty_directory().errno_step(step)?,
        };
        self.directory = Some(rustix::io::fcntl_dupfd_cloexec(&mask, 3).errno_step(step)?);
        Ok(mask)
    }

    fn file(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        let null = sys::path::open(root, Path::new("/dev/null"), OFlags::PATH).errno_step("open /dev/null")?;
        // `/dev` may be the user's or the image's, and a link there (CVE-2025-31133).
        let stat = rustix::fs::fstat(&null).errno_step("look at /dev/null")?;
        let device = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device();
        if !device || stat.st_rdev != rustix::fs::makedev(1, 3) {
            return Err(Error::invalid("the container's /dev/null is not the null device"));
        }
        clone_mount(null.as_fd()).errno_step("copy /dev/null")
    }
}

fn empty_directory() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "nr_blocks", "1")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "755")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached copy of the one mount that `fd` is in, from `fd` on.
pub fn clone_mount(fd: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, "", flags)
}

/// A directory of the host, which is still in sight, at a place of the container.
fn bind_host(source: &Path, target: BorrowedFd<'_>, attributes: u64) -> Result<()> {
    let step = || format!("bind {}", source.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, source, flags).errno_step(step())?;
    move_with(tree.as_fd(), target, attributes).errno_step(step())
}

/// Attaches a detached mount that has these attributes, from the first moment on where the kernel can do that.
fn move_with(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, attributes: u64) -> rustix::io::Result<()> {
    if sys::mount::knows_attributes() {
        sys::mount::set_attributes(mount, false, attributes, 0, 0, None)?;
        return move_mount(mount, target, "");
    }
    move_mount(mount, target, "")?;
    sys::mount::set_attributes_attached(mount, attributes, 0)
}

/// Attaches a detached mount.
pub fn move_mount(mount: BorrowedFd<'_>, at: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    rustix::mount::move_mount(mount, "", at, path, flags)
}

/// mount(2) on a directory that is open: by its name in the host's `/proc`, which the image has no hand in.
fn mount_at(target: BorrowedFd<'_>, kind: &str, source: &str, options: &Options) -> Result<()> {
    let c = |text: &str| CString::new(text).step("a zero byte in a mount");
    let path = c(&format!("/proc/self/fd/{}", target.as_raw_fd()))?;
    sys::mount::mount(&c(source)?, &path, &c(kind)?, options.flags, &c(&options.data)?)
        .errno_step(format!("mount a {kind}"))
        .map_err(|error| match error.errno() {
            Some(22) if !options.data.is_empty() => {
                error.hint(format!("is one of these options wrong? {}", options.data))
            }
            _ => error,
        })
}
