//! Bind mounts, prepared by the parent: it can reach their sources, and what it idmaps nobody inside can undo.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use linux_raw_sys::general::MOUNT_ATTR_NODIRATIME;
use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::options::Options;

/// Whether the parent prepares this mount. Both sides ask this, so that descriptors meet their mounts.
pub fn prepared(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || options(mount).bind
}

/// The mount's options, sorted.
pub fn options(mount: &Mount) -> Options {
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    if options.bind || mount.typ().as_deref() == Some("bind") {
        options.replace();
    }
    options
}

/// A bind source that is in the container's root, by its path from there: an earlier mount of the document may be what makes
/// it. Init opens it when its turn comes, below the root, whatever links the image has there.
pub fn within<'a>(mount: &'a Mount, root: &Path) -> Option<&'a Path> {
    let source = mount.source().as_deref()?;
    (root.parent().is_some()).then(|| source.strip_prefix(root).ok())?
}

/// Whether it is idmapped, and of what is in the root: then init makes it when its turn comes, and the parent idmaps it.
/// Both sides ask this.
pub fn idmapped_within(mount: &Mount, root: &Path) -> bool {
    prepared(mount) && within(mount, root).is_some() && is_idmapped(mount, &options(mount))
}

fn is_idmapped(mount: &Mount, options: &Options) -> bool {
    let some = |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|list| !list.is_empty());
    options.idmap.is_some() || some(mount.uid_mappings()) || some(mount.gid_mappings())
}

/// A detached copy of what is at a path below the root; `idmap` has the parent give it its mappings.
pub fn prepare_within(
    mount: &Mount,
    root: BorrowedFd<'_>,
    path: &Path,
    idmap: &dyn Fn(BorrowedFd<'_>) -> Result<()>,
) -> Result<OwnedFd> {
    let step = || format!("bind source path {}", path.display());
    let options = options(mount);
    let source = sys::path::open(root, path, OFlags::PATH).errno_step(step())?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, options.recursive);
    let tree = rustix::mount::open_tree(&source, "", flags).errno_step(step())?;
    if is_idmapped(mount, &options) {
        idmap(tree.as_fd()).step_with(step)?;
    }
    dress(mount, &options, tree, false, &mut Vec::new())
}

/// The parent's part of [`prepare_within`].
pub fn idmap_tree(
    mount: &Mount,
    tree: BorrowedFd<'_>,
    userns: Option<BorrowedFd<'_>>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let step = || format!("idmap the bind mount at {}", mount.destination().display());
    idmap(mount, &options(mount), tree, userns, warnings).step_with(step)
}

/// Detached copies of all bind sources, in the document's order; what could not be as asked for goes to `warnings`.
/// Sources that are relative are in the bundle; those within the root at `place` are left to [`prepare_within`].
pub fn prepare(
    spec: &Spec,
    bundle: &Path,
    place: &Path,
    userns: Option<BorrowedFd<'_>>,
    warnings: &mut Vec<String>,
) -> Result<Vec<OwnedFd>> {
    let list = spec.mounts().as_deref().unwrap_or_default();
    list.iter()
        .filter(|m| prepared(m) && within(m, place).is_none())
        .map(|m| prepare_one(m, bundle, userns, warnings))
        .collect()
}

/// What [`prepare`] could not do while the mount was detached: on kernels without mount_setattr(2).
pub fn finish(mount: &Mount, attached: BorrowedFd<'_>) -> Result<()> {
    if sys::mount::knows_attributes() {
        return Ok(());
    }
    let options = options(mount);
    if let Some((propagation, recursive)) = options.propagation {
        sys::mount::propagate_attached(attached, recursive, propagation).errno_step("set its propagation")?;
    }
    let set = options.set | options.set_recursive;
    match set | options.clear {
        0 => Ok(()),
        _ => sys::mount::set_attributes_attached(attached, set, options.clear).errno_step("set its options"),
    }
}

fn prepare_one(
    mount: &Mount,
    bundle: &Path,
    userns: Option<BorrowedFd<'_>>,
    warnings: &mut Vec<String>,
) -> Result<OwnedFd> {
    let options = options(mount);
    let source = &bundle.join(mount.source().as_deref().unwrap_or(Path::new("")));
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = match rustix::mount::open_tree(rustix::fs::CWD, source, flags) {
        // What is attached nowhere could not be copied before Linux 6.15: it is used itself.
        Err(Errno::INVAL) if source.starts_with("/proc/self/fd") => {
            rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        }
        other => other,
    };
    let tree = tree
        .errno_step(format!("bind source path {}", source.display()))
        .map_err(|e| match e.errno() {
            Some(2) => Error::invalid(format!("bind source path does not exist: {}", source.display())),
            _ => e,
        })?;
    idmap_tree(mount, tree.as_fd(), userns, warnings)?;
    dress(mount, &options, tree, userns.is_some(), warnings)
}

/// Gives a detached copy its propagation and options, for a container that has `users` of its own or not.
fn dress(mount: &Mount, options: &Options, tree: OwnedFd, users: bool, warnings: &mut Vec<String>) -> Result<OwnedFd> {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let step = |what: &str| format!("{what} the bind mount of {}", source.display());
    if !sys::mount::knows_attributes() {
        // Before Linux 5.12 a mount gets its options once it is attached, and those below it get none.
        if options.set_recursive != 0 && options.recursive {
            warnings.push(format!(
                "{}: this kernel cannot make mounts below it read-only, too",
                source.display()
            ));
        }
        return Ok(tree);
    }
    if let Some((propagation, recursive)) = options.propagation {
        sys::mount::set_attributes(tree.as_fd(), recursive, 0, 0, propagation, None)
            .errno_step(step("set the propagation of"))?;
    }
    let mut options = options.clone();
    if users {
        // What protects the host from its own users protects it from a container's.
        let now = sys::mount::attributes(tree.as_fd()).errno_step(step("look at"))?;
        options.unsaid &= !now;
        if let Some(words) = options.against(now) {
            return Err(protected(mount, &words));
        }
        // As with mount(8), this word alone says nothing of times.
        options.clear &= !u64::from(MOUNT_ATTR_NODIRATIME);
    }
    if options.set | options.clear | options.unsaid != 0 {
        let set = |clear| sys::mount::set_attributes(tree.as_fd(), false, options.set, clear, 0, None);
        match set(options.clear | options.unsaid) {
            // What the host's root protects stays, unless it was asked for to go.
            Err(Errno::PERM) if options.unsaid != 0 => set(options.clear),
            done => done,
        }
        .errno_step(step("set options of"))?;
    }
    if options.set_recursive | options.clear_recursive != 0 {
        let (set, clear) = (options.set_recursive, options.clear_recursive);
        sys::mount::set_attributes(tree.as_fd(), true, set, clear, 0, None).errno_step(step("set options of"))?;
    }
    Ok(tree)
}

/// In runc's words, for which engines look.
fn protected(mount: &Mount, words: &str) -> Error {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    Error::new(
        Kind::Forbidden,
        format!(
            "unable to start container process: error during container init: error mounting {source:?} to rootfs at {:?}: \
             operation not permitted",
            mount.destination()
        ),
    )
    .hint(format!(
        "the host has mounted the source {words}, which root of a user namespace cannot change: leave out the options that would"
    ))
}

/// By the mount's own mappings, or for the container's user namespace.
fn idmap(
    mount: &Mount,
    options: &Options,
    tree: BorrowedFd<'_>,
    userns: Option<BorrowedFd<'_>>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let list = |mappings: &Option<Vec<LinuxIdMapping>>| mappings.clone().filter(|m| !m.is_empty());
    let recursive = options.idmap.unwrap_or(false);
    match (list(mount.uid_mappings()), list(mount.gid_mappings())) {
        (Some(uids), Some(gids)) => {
            let own = crate::idmap::user_namespace(&uids, &gids)?;
            sys::idmap::mount_setattr_idmap(tree, recursive, own.as_fd())
                .errno_step("mount_setattr")
                .map_err(|e| e.hint("can its file system be idmapped, and does this kernel (5.12) do it?"))
        }
        (None, None) => match (options.idmap, userns) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Error::invalid(
                "it has no mappings, and the container no user namespace",
            )),
            (Some(_), Some(userns)) => match sys::idmap::mount_setattr_idmap(tree, recursive, userns) {
                Err(Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    let source = mount.source().as_deref().unwrap_or(Path::new(""));
                    warnings.push(format!(
                        "{}: its file system has no idmapped mounts; in the container its files belong to nobody",
                        source.display()
                    ));
                    Ok(())
                }
                other => other.errno_step("mount_setattr"),
            },
        },
        _ => Err(Error::invalid("mappings of users and of groups go together")),
    }
}
