//! Making a container: the parent's side.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{CLONE_PARENT, MS_PRIVATE, MS_SLAVE};
use oci_spec::runtime::{ContainerState, LinuxIdMapping, Process, Spec, State};
use rustix::mount::OpenTreeFlags;
use rustix::process::{WaitId, WaitIdOptions};
use sys::process::Forked;

use crate::cgroup::Membership;
use crate::init::Init;
use crate::namespaces::Namespaces;
use crate::process::{Plan, set_limits, set_oom_score};
use crate::sync::{DESCRIPTORS, FromInit, Socket, ToInit};
use crate::{Attach, Create, Created, Interpreter, Life, Rootfs, Stdio, go_between, hooks, idmap, mounts};

/// Sets up a container up to, but without, executing its command. On error nothing is left behind.
/// The caller must be single-threaded.
pub fn create(mut request: Create<'_>) -> Result<Created> {
    let process = process_of(request.spec)?;
    let namespaces = Namespaces::of(request.spec)?;
    if !namespaces.mount() && matches!(request.rootfs, Rootfs::Detached(_)) {
        return Err(Error::invalid(
            "a root that is made for a container needs a mount namespace of its own",
        ));
    }
    // One that does not fit is gone before its cgroup is made anew.
    let newborn = request.newborn.take().filter(|n| n.fits(&request, &namespaces));
    let place = place_of(request.spec, request.bundle, &request.rootfs);
    let parent = Parent {
        spec: request.spec,
        bundle: request.bundle,
        namespaces: &namespaces,
        place: &place,
        waits: matches!(request.life, Life::OfItsOwn { door: Some(_) }),
        state: request.state,
        warnings: crate::process::warnings(process),
    };
    let (membership, child) = match newborn {
        Some(newborn) => newborn
            .tell(&request)
            .map(|(child, membership)| (membership, Ok(child)))?,
        None => {
            let follows = matches!(request.life, Life::WithCaller);
            let plan = Plan::new(request.spec, process, follows, request.filters)?;
            let membership = Membership::make(request.spec, request.cgroups, request.old_systemd)?;
            let birth = Birth {
                spec: request.spec,
                plan,
                namespaces: namespaces.clone(),
                stdio: request.stdio,
                reaper: request.init,
                door: match request.life {
                    Life::WithCaller => None,
                    Life::OfItsOwn { door } => door,
                },
                preserved: request.preserved,
                no_pivot: request.no_pivot,
                no_new_keyring: request.no_new_keyring,
                state: request.state,
                interpreters: request.interpreters,
                bundle: request.bundle,
                place: place.clone(),
            };
            let child = birth.bear(&membership);
            (membership, child)
        }
    };
    let cgroup = membership.cgroup.clone();
    let mut rootfs = request.rootfs;
    let mut network = request.network;
    let born = request.born;
    let result =
        child.and_then(
            |mut child| match child.bring_up(&parent, &membership, &mut rootfs, &mut network, born) {
                Ok((console, warnings)) => Ok(Created {
                    pid: child.pid,
                    pidfd: child.pidfd,
                    console,
                    cgroup: cgroup.clone(),
                    warnings,
                    init: (!parent.waits).then_some(child.socket),
                }),
                Err(error) => {
                    child.end();
                    Err(child.last_words().unwrap_or(error))
                }
            },
        );
    result.inspect_err(|_| {
        // The error that is told is the first one; a cgroup that stays is found by its path.
        let _ = cgroup.remove();
    })
}

pub(crate) fn process_of(spec: &Spec) -> Result<&Process> {
    let process = spec.process().as_ref();
    process.ok_or_else(|| Error::invalid("the document has no process"))
}

/// Everything init gets.
struct Birth<'a> {
    spec: &'a Spec,
    plan: Plan,
    namespaces: Namespaces,
    stdio: Stdio,
    reaper: bool,
    door: Option<OwnedFd>,
    preserved: u32,
    no_pivot: bool,
    no_new_keyring: bool,
    state: Option<&'a State>,
    interpreters: &'a [Interpreter],
    bundle: &'a Path,
    place: PathBuf,
}

/// What the parent's half of the set-up needs.
struct Parent<'a> {
    spec: &'a Spec,
    bundle: &'a Path,
    namespaces: &'a Namespaces,
    /// Where the root will be attached.
    place: &'a Path,
    /// Init waits at a door.
    waits: bool,
    state: Option<&'a State>,
    /// What is known so far not to be as asked for.
    warnings: Vec<String>,
}

impl Birth<'_> {
    /// The one clone3.
    fn bear(self, membership: &Membership) -> Result<Child> {
        let (ours, theirs) = Socket::pair()?;
        let namespaces = self.namespaces.clone();
        let born_outside = namespaces.joins_user();
        let (forked, back) = match born_outside {
            true => {
                let flags = namespaces.for_clone() | u64::from(CLONE_PARENT);
                let bear = || {
                    let (forked, _) = namespaces.enter_others(self.spec, || sys::process::clone3(flags, None))?;
                    forked.errno_step(BIRTH).map_err(hint_for_clone)
                };
                (go_between::bear(BIRTH, bear)?, Ok(()))
            }
            false => {
                let make = || sys::process::clone3(namespaces.for_clone(), membership.directory());
                let (forked, back) = namespaces.enter_others(self.spec, make)?;
                (forked.errno_step(BIRTH).map_err(hint_for_clone)?, back)
            }
        };
        match forked {
            Forked::Child => {
                drop(ours);
                let Birth {
                    spec,
                    plan,
                    namespaces,
                    stdio,
                    reaper,
                    door,
                    preserved,
                    no_pivot,
                    no_new_keyring,
                    state,
                    interpreters,
                    bundle,
                    place,
                } = self;
                Init {
                    spec,
                    plan,
                    namespaces,
                    stdio,
                    parent: theirs,
                    reaper,
                    door,
                    preserved,
                    no_pivot,
                    no_new_keyring,
                    state,
                    interpreters,
                    bundle,
                    place,
                }
                .run()
            }
            Forked::Parent { pid, pidfd } => {
                let child = Child {
                    pid,
                    pidfd,
                    socket: ours,
                    born_outside,
                };
                match back {
                    Ok(()) => Ok(child),
                    Err(error) => {
                        child.end();
                        Err(error)
                    }
                }
            }
        }
    }
}

pub(crate) const BIRTH: &str = "make the container's first process (clone3)";

pub(crate) fn hint_for_clone(error: Error) -> Error {
    match error.errno() {
        Some(28) => {
            error.hint("the limit on namespaces is reached: see /proc/sys/user/max_user_namespaces and its siblings")
        }
        Some(1) => error.hint(
            "making namespaces is not allowed here; run as root, or see /proc/sys/kernel/unprivileged_userns_clone",
        ),
        Some(38) => error.hint("this kernel has no clone3: Linux 5.7 or newer is needed"),
        _ => error,
    }
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// A first process that is being set up.
pub(crate) struct Child {
    pid: i32,
    pidfd: OwnedFd,
    socket: Socket,
    /// Not in its cgroup yet.
    born_outside: bool,
}

impl Child {
    /// One that was born in its cgroup.
    pub fn new(pid: i32, pidfd: OwnedFd, socket: Socket) -> Self {
        Child {
            pid,
            pidfd,
            socket,
            born_outside: false,
        }
    }

    /// Something that comes before the set-up.
    pub fn tell(&self, word: &ToInit, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.socket.send(word, fds)
    }

    /// The parent's half of the set-up, until init says that it is ready.
    fn bring_up(
        &mut self,
        parent: &Parent<'_>,
        membership: &Membership,
        rootfs: &mut Rootfs<'_>,
        network: &mut Option<Attach<'_>>,
        born: &mut dyn FnMut(i32) -> Result<()>,
    ) -> Result<(Option<OwnedFd>, Vec<String>)> {
        let spec = parent.spec;
        let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
        membership.join(self.pid, self.born_outside, resources)?;
        // Our own processors are no business of the container's.
        sys::schedule::reset_affinity(self.pid).errno_step("allow all processors")?;
        if parent.namespaces.new_user() {
            self.map_ids(spec)?;
        }
        let userns = match parent.namespaces.user() {
            true => Some(File::open(format!("/proc/{}/ns/user", self.pid)).step("open the user namespace")?),
            false => None,
        };
        let process = process_of(spec)?;
        set_limits(self.pid, process.rlimits().as_deref().unwrap_or_default())?;
        match set_oom_score(self.pid, process) {
            // A user may not make its processes less likely to be killed than itself.
            Err(error) if !is_hosts_root() && matches!(error.errno(), Some(EPERM | EACCES)) => {}
            set => set?,
        }
        let userns = userns.as_ref().map(|fd| fd.as_fd());
        // Init has things to do that need no files, while the files are made ready here.
        let mut told = self.socket.send(
            &ToInit::Go {
                pid: self.pid,
                joined: membership.joined(),
            },
            &[],
        );
        let mut warnings = parent.warnings.clone();
        warnings.extend(membership.warning.clone());
        let files = files(parent, rootfs, userns, &mut warnings)?;
        born(self.pid)?;
        told = told.and_then(|()| match &files {
            Some(files) => self.send_descriptors(files),
            None => self.socket.send(&ToInit::Prepare, &[]),
        });
        // While init mounts.
        if let Some(attach) = network {
            attach(self.pid)?;
        }
        if files.is_some() && told.is_ok() {
            self.idmap_inner_mounts(parent, userns, &mut warnings)?;
        }
        if hooks::of_the_runtime(spec, parent.state).is_some() && told.is_ok() {
            if let Some(failed) = self.wait_for_mounts()? {
                return Err(failed);
            }
            self.hooks(parent)?;
            told = self.socket.send(&ToInit::Hooked, &[]);
        }
        membership.restrict_devices(resources)?;
        if !parent.waits {
            told = told.and_then(|()| self.socket.send(&ToInit::Execute, &[]));
        }
        // If it could not be told it has failed before, and says why.
        match (self.socket.receive()?, told) {
            (Some((FromInit::Ready, mut fds)), Ok(())) => Ok((fds.pop(), warnings)),
            (Some((FromInit::Failed(wire), _)), _) => Err(wire.into()),
            (Some(_), Ok(())) => Err(Error::system("init said something out of turn")),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::system(
                "the container's first process was killed while it was set up",
            )),
        }
    }

    /// Those that init can make only while it mounts: it asks for them in the document's order.
    fn idmap_inner_mounts(
        &self,
        parent: &Parent<'_>,
        userns: Option<BorrowedFd<'_>>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let mounts = parent.spec.mounts().iter().flatten();
        for mount in mounts.filter(|m| mounts::idmapped_within(m, parent.place)) {
            match self.socket.receive()? {
                Some((FromInit::Idmap, fds)) => {
                    let tree = fds.first().ok_or_else(|| Error::system("init's mount did not come"))?;
                    mounts::idmap_tree(mount, tree.as_fd(), userns, warnings)?;
                    self.socket.send(&ToInit::Idmapped, &[])?;
                }
                Some((FromInit::Failed(wire), _)) => return Err(wire.into()),
                _ => {
                    return Err(Error::system(
                        "the container's first process was killed while it was set up",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Until init has made the mounts; the reason if it could not.
    fn wait_for_mounts(&self) -> Result<Option<Error>> {
        match self.socket.receive()? {
            Some((FromInit::Mounted, _)) => Ok(None),
            Some((FromInit::Failed(wire), _)) => Ok(Some(wire.into())),
            _ => Ok(Some(Error::system(
                "the container's first process was killed while it was set up",
            ))),
        }
    }

    /// Hooks that run in the caller's namespaces, once the container's are there and its root is filled: some mount more
    /// into it (runc).
    fn hooks(&self, parent: &Parent<'_>) -> Result<()> {
        let Some((all, state)) = hooks::of_the_runtime(parent.spec, parent.state) else {
            return Ok(());
        };
        let mut state = state.clone();
        state.set_pid(Some(self.pid)).set_status(ContainerState::Creating);
        hooks::run("prestart", all.prestart().as_deref(), &state)?;
        hooks::run("createRuntime", all.create_runtime().as_deref(), &state)
    }

    fn send_descriptors(&self, descriptors: &[OwnedFd]) -> Result<()> {
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|d| d.as_fd()).collect();
        let mut left = borrowed.len();
        borrowed.chunks(DESCRIPTORS).try_for_each(|chunk| {
            left -= chunk.len();
            self.socket.send(&ToInit::Descriptors { left }, chunk)
        })
    }

    /// Writes both maps (user_namespaces(7)).
    fn map_ids(&self, spec: &Spec) -> Result<()> {
        let linux = spec
            .linux()
            .as_ref()
            .ok_or_else(|| Error::invalid("the document has no linux part"))?;
        let list = |mappings: &Option<Vec<LinuxIdMapping>>| mappings.clone().unwrap_or_default();
        idmap::write(self.pid, &list(linux.uid_mappings()), &list(linux.gid_mappings()))
    }

    /// Why it failed, of one that has ended: what it had to say comes before what we met on its account.
    fn last_words(&self) -> Option<Error> {
        loop {
            match self.socket.receive() {
                Ok(Some((FromInit::Failed(wire), _))) => return Some(wire.into()),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Kills and collects it.
    pub fn end(&self) {
        let _ = sys::process::pidfd_send_signal(self.pidfd.as_fd(), 9);
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Where init attaches the root while it fills it. One of the document is where hooks look for it; one that was made for us
/// is nobody's to find.
fn place_of(spec: &Spec, bundle: &Path, rootfs: &Rootfs<'_>) -> PathBuf {
    match (rootfs, spec.root()) {
        (Rootfs::Document, Some(root)) => bundle.join(root.path()),
        _ => "/".into(),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_hosts_root() -> bool {
    is_root() && sys::process::has_hosts_users()
}

/// The root and the bind sources, made ready here; none if we are not root: then we have no right to, and init finds them.
fn files(
    parent: &Parent<'_>,
    rootfs: &mut Rootfs<'_>,
    userns: Option<BorrowedFd<'_>>,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<OwnedFd>>> {
    let root = match rootfs {
        Rootfs::Document if !is_root() => return Ok(None),
        Rootfs::Document => document_root(parent.spec, parent.bundle)?,
        Rootfs::Detached(mount) => mount(userns)?,
    };
    let mut descriptors = vec![root];
    descriptors.extend(mounts::prepare(
        parent.spec,
        parent.bundle,
        parent.place,
        userns,
        warnings,
    )?);
    Ok(Some(descriptors))
}

/// `root.path`, as a detached mount of its own.
pub(crate) fn document_root(spec: &Spec, bundle: &Path) -> Result<OwnedFd> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| Error::invalid("the document has no root"))?;
    let path = bundle.join(root.path());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, &path, flags)
        .errno_step(format!("open the root {}", path.display()))?;
    // What the host mounts below it later is seen inside only if the document says so.
    let word = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().as_deref());
    let propagation = match word {
        Some("slave" | "rslave") => MS_SLAVE,
        _ => MS_PRIVATE,
    };
    // Where the kernel cannot say it of a detached mount, it becomes what init's mounts are: private.
    if sys::mount::knows_attributes() {
        sys::mount::set_attributes(tree.as_fd(), true, 0, 0, propagation.into(), None)
            .errno_step("make the root private")?;
    }
    Ok(tree)
}
