//! `create` and `run`: a bundle to a container.

use std::path::{Path, PathBuf};

use errdefs::{Result, Step};
use runtime::{Create, Created, Life, Rootfs, hooks, oci};

use super::state::{Saved, Status, base_state};
use super::{Host, document, lifecycle, listener, own_program, streams, write_pid};
use crate::cli::flag::Given;

/// Sets a container up; its init waits at the door.
pub fn create(host: &Host, given: &Given) -> Result<u8> {
    let asked = read(host, given)?;
    make(host, given, asked, true).map(|_| 0)
}

/// Sets a container up and executes its command at once; its exit code, unless detached.
pub fn run(host: &Host, given: &Given) -> Result<u8> {
    let id = &given.words[0];
    let asked = read(host, given)?;
    let detached = given.on("detach");
    // From the beginning, so that none is lost.
    let signals = if detached { None } else { Some(streams::signals()?) };
    let (saved, mut created) = make(host, given, asked, false)?;
    let ran = created
        .started(&mut |fd| listener::hand_over(&saved, saved.pid, Status::Created, fd))
        .and_then(|()| hooks::run("poststart", poststart(&saved), &saved.state(Status::Running)?));
    if let Err(error) = ran {
        lifecycle::remove(host, &saved)?;
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = streams::follow(&created.pidfd, created.console.as_ref(), &signals)?;
    if !given.on("keep") {
        lifecycle::remove(host, &host.load(id)?)?;
    }
    Ok(code)
}

/// The hooks that run after the command was started.
pub fn poststart(saved: &Saved) -> Option<&[oci::Hook]> {
    saved
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststart().as_deref())
}

/// What is asked for.
pub struct Asked {
    /// Absolute.
    pub bundle: PathBuf,
    /// With a cgroup, and destinations of mounts that are inside.
    pub spec: oci::Spec,
    preserved: u32,
}

/// Reads the document, before anything is made of it.
pub fn read(host: &Host, given: &Given) -> Result<Asked> {
    let bundle = std::path::absolute(given.one("bundle").unwrap_or(".")).step("find the bundle")?;
    let preserved = streams::preserved(given)?;
    let document::Read {
        document: mut spec,
        warnings,
    } = document::config(&bundle)?;
    own_program::protect(&spec)?;
    warnings.iter().for_each(|warning| host.warn(warning));
    place_cgroup(&mut spec, &given.words[0], host.systemd);
    place_mounts(&mut spec, &bundle);
    Ok(Asked {
        bundle,
        spec,
        preserved,
    })
}

fn make(host: &Host, given: &Given, asked: Asked, waits: bool) -> Result<(Saved, Created)> {
    let id = &given.words[0];
    let Asked {
        bundle,
        spec,
        preserved,
    } = asked;
    let terminal = spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false);
    let console = streams::Console::new(given, terminal, waits || given.on("detach"))?;
    let dir = host.claim(id)?;
    let made = (|| {
        let door = if waits {
            Some(runtime::door(&dir.join("door"))?)
        } else {
            None
        };
        let state = base_state(id, &bundle, &spec)?;
        let mut created = runtime::create(Create {
            id,
            spec: &spec,
            bundle: &bundle,
            rootfs: Rootfs::Document,
            network: None,
            stdio: console.stdio(spec.process().as_ref()),
            init: false,
            life: Life::OfItsOwn { door },
            preserved,
            no_pivot: given.on("no-pivot"),
            no_new_keyring: given.on("no-new-keyring"),
            newborn: None,
            filters: Some(&host.filters()),
            cgroups: host.cgroups(),
            born: &mut |_| Ok(()),
            state: Some(&state),
            interpreters: &[],
            old_systemd: false,
        })?;
        created.warnings.iter().for_each(|warning| host.warn(warning));
        let saved = Saved::new(id, &bundle, created.pid, created.cgroup.clone(), spec);
        let kept = host
            .save(&saved)
            .and_then(|()| console.hand_over(&mut created.console))
            .and_then(|()| streams::send_pidfd(given, &created.pidfd))
            .and_then(|()| write_pid(given, created.pid));
        match kept {
            Ok(()) => Ok((saved, created)),
            Err(error) => {
                lifecycle::remove(host, &saved)?;
                Err(error)
            }
        }
    })();
    made.inspect_err(|_| {
        // Best effort: the error that is told is the first one.
        let _ = std::fs::remove_dir_all(&dir);
    })
}

/// Destinations are inside; some engines write them with the root's own path in front (runc takes that off, too).
fn place_mounts(spec: &mut oci::Spec, bundle: &Path) {
    let root = spec.root().as_ref().map(|root| bundle.join(root.path()));
    let (Some(root), Some(mut mounts)) = (root.filter(|r| r.parent().is_some()), spec.mounts().clone()) else {
        return;
    };
    for mount in &mut mounts {
        if let Ok(inside) = mount.destination().strip_prefix(&root) {
            let inside = Path::new("/").join(inside);
            mount.set_destination(inside);
        }
    }
    spec.set_mounts(Some(mounts));
}

/// A container that names no cgroup gets one of its own name.
fn place_cgroup(spec: &mut oci::Spec, id: &str, systemd: bool) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let path = match linux.cgroups_path() {
        Some(path) if systemd && !path.as_os_str().is_empty() => path.clone(),
        _ if systemd => format!(":berth:{id}").into(),
        Some(path) if !path.as_os_str().is_empty() => Path::new("/").join(path),
        _ => PathBuf::from("/").join(id),
    };
    linux.set_cgroups_path(Some(path));
    spec.set_linux(Some(linux));
}
