//! The life of a container's first process, in order, until it is the command.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::CLONE_NEWCGROUP;
use oci_spec::runtime::{ContainerState, Hook, Hooks, Spec, State};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::hooks::Setting;
use crate::namespaces::Namespaces;
use crate::process::{Plan, keep_open, take_streams};
use crate::rootfs::{Cgroups, Root};
use crate::sync::{FromInit, Socket, ToInit};
use crate::{Interpreter, Stdio, create, devices, hooks, interpreters, mounts, process, reaper};

/// What init is born with: a copy of its parent's memory, and these.
pub struct Init<'a> {
    pub spec: &'a Spec,
    pub plan: Plan,
    pub namespaces: Namespaces,
    pub stdio: Stdio,
    pub parent: Socket,
    /// A reaper stays as process 1.
    pub reaper: bool,
    /// Where it waits before it executes the command.
    pub door: Option<OwnedFd>,
    /// So many descriptors, from 3 on, are the command's.
    pub preserved: u32,
    /// The root is entered, and not left behind.
    pub no_pivot: bool,
    /// The session's keys stay.
    pub no_new_keyring: bool,
    /// For hooks.
    pub state: Option<&'a State>,
    /// Of programs for other machines.
    pub interpreters: &'a [Interpreter],
    /// Of the document.
    pub bundle: &'a Path,
    /// Where the root is attached while it is filled.
    pub place: PathBuf,
}

impl Init<'_> {
    /// Never returns: becomes the command, or tells why not.
    pub fn run(mut self) -> ! {
        let stdio = std::mem::replace(&mut self.stdio, Stdio::Inherit);
        let Err(error) = self.live(stdio);
        self.parent.send_failure(&error);
        sys::process::exit_now(error.kind().exit_code().into())
    }

    fn live(&mut self, stdio: Stdio) -> Result<std::convert::Infallible> {
        self.plan.follow_parent()?;
        let (ToInit::Go { pid, joined }, _) = self.parent.expect()? else {
            return Err(out_of_turn());
        };
        if self.namespaces.user() {
            become_root()?;
            // The change of user took it away.
            self.plan.follow_parent()?;
        }
        let labels = self.plan.labels.clone();
        let labels = labels.open()?;
        own_session(!self.no_new_keyring)?;
        if self.namespaces.new_cgroup() {
            sys::process::unshare(CLONE_NEWCGROUP.into()).errno_step("make a cgroup namespace")?;
        }
        self.name_host()?;
        if self.namespaces.network() {
            sys::net::loopback_up().errno_step("set up the loopback interface")?;
        }
        rustix::process::umask(Mode::from_raw_mode(0));
        let mut descriptors = match receive_descriptors(&self.parent)? {
            Some(descriptors) => descriptors,
            None => self.prepare()?,
        };
        let root = Root::attach(descriptors.remove(0), &self.place, self.namespaces.mount())?;
        let view = Cgroups {
            joined: &joined,
            own: self.namespaces.cgroup(),
        };
        root.mount_all(self.spec, descriptors, &view, &|tree| self.have_idmapped(tree))?;
        interpreters::register(&root, self.interpreters, self.namespaces.new_user())?;
        devices::fill(
            &root,
            self.spec,
            self.namespaces.user() || !sys::process::has_hosts_users(),
        )?;
        root.link_mtab()?;
        make_cwd(&root, &self.plan.cwd)?;
        if hooks::of_the_runtime(self.spec, self.state).is_some() {
            self.parent.send(&FromInit::Mounted, &[])?;
            let (ToInit::Hooked, _) = self.parent.expect()? else {
                return Err(out_of_turn());
            };
        }
        let setting = Setting {
            directory: Some(&root.name()),
            ..Default::default()
        };
        self.hooks(setting, pid, "createContainer", Hooks::create_container)?;
        match (self.namespaces.mount(), self.no_pivot) {
            (false, _) => root.enter()?,
            (true, false) => root.pivot()?,
            (true, true) => root.replace()?,
        }
        root.propagate(self.spec)?;
        // The descriptor is of the root's mount itself, which is the process's root now.
        self.set_sysctls(&root)?;
        let console = take_streams(stdio, self.plan.uid())?;
        if console.is_some() {
            devices::bind_console(&root, rustix::stdio::stdin())?;
        }
        root.finish_dev(self.spec)?;
        root.protect(self.spec)?;
        if self.spec.root().as_ref().and_then(|r| r.readonly()).unwrap_or(false) {
            root.make_read_only()?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let master: Vec<_> = console.iter().map(|c| c.as_fd()).collect();
        self.plan.settle();
        if self.door.is_some() {
            // Who waits for long is to fail early.
            self.plan.command.look_up(&self.plan.cwd)?;
        }
        self.parent.send(&FromInit::Ready, &master)?;
        drop(master);
        drop(console);
        drop(root);
        drop(joined);
        if let Some(door) = self.door.take() {
            // Nobody knows how long it waits: nothing of the caller's stays open meanwhile.
            sys::process::close_others(3 + self.preserved, &door).errno_step("close descriptors")?;
            wait_at(&door)?;
            let visitor = Socket::accept(&door)?;
            // Its descriptor is closed, and its number may be the visitor's now: it is not to be closed again.
            std::mem::forget(std::mem::replace(&mut self.parent, visitor));
        }
        wait_for_word(&self.parent)?;
        sys::process::close_on_exec_from(3).errno_step("close descriptors")?;
        if self.reaper {
            reaper::split()?;
        }
        sys::signal::reset();
        self.plan.drop_privileges(&self.parent)?;
        // The container's own programs: they may do what its command may, and no more.
        let setting = Setting {
            environment: self.plan.command.environment(),
            ..Default::default()
        };
        self.hooks(setting, pid, "startContainer", Hooks::start_container)?;
        labels.apply()?;
        keep_open(self.preserved)?;
        Err(self.plan.command.execute())
    }

    /// The root and the bind sources, found by init itself. Idmapping takes rights over the file systems, which it has not:
    /// what the caller's user namespace maps is what there is.
    fn prepare(&self) -> Result<Vec<OwnedFd>> {
        // Mounts that are copied here may not be told to the host's.
        let mut list = vec![create::document_root(self.spec, self.bundle)?];
        list.extend(mounts::prepare(
            self.spec,
            self.bundle,
            &self.place,
            None,
            &mut Vec::new(),
        )?);
        Ok(list)
    }

    /// By the parent, who has rights over the file system, and whose `/proc` has the numbers that mappings are written with.
    fn have_idmapped(&self, tree: BorrowedFd<'_>) -> Result<()> {
        self.parent.send(&FromInit::Idmap, &[tree])?;
        match self.parent.expect()? {
            (ToInit::Idmapped, _) => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// Hooks that run in the container's namespaces.
    fn hooks(&self, setting: Setting<'_>, pid: i32, kind: &str, of: fn(&Hooks) -> &Option<Vec<Hook>>) -> Result<()> {
        let (Some(hooks), Some(state)) = (self.spec.hooks(), self.state) else {
            return Ok(());
        };
        let mut state = state.clone();
        state.set_pid(Some(pid)).set_status(ContainerState::Creating);
        hooks::run_in(setting, kind, of(hooks).as_deref(), &state)
    }

    fn name_host(&self) -> Result<()> {
        if !self.namespaces.uts() {
            return Ok(());
        }
        if let Some(name) = self.spec.hostname() {
            rustix::system::sethostname(name.as_bytes()).errno_step(format!("set the host name to {name:?}"))?;
        }
        if let Some(name) = self.spec.domainname() {
            rustix::system::setdomainname(name.as_bytes()).errno_step(format!("set the domain name to {name:?}"))?;
        }
        Ok(())
    }

    /// Kernel settings of the container's own namespaces. Before `/proc/sys` is made read-only.
    fn set_sysctls(&self, root: &Root) -> Result<()> {
        let settings = self.spec.linux().iter().flat_map(|l| l.sysctl().iter().flatten());
        for (name, value) in settings {
            if !namespaced(name) {
                return Err(Error::invalid(format!(
                    "sysctl {name:?} is not in a separate kernel namespace"
                )));
            }
            let step = || format!("set sysctl {name}={value}");
            let path = format!("sys/{}", name.replace('.', "/"));
            sys::path::open_proc(root.as_fd(), Path::new(&path), OFlags::WRONLY)
                .errno_step(step())
                .and_then(|file| std::io::Write::write_all(&mut File::from(file), value.as_bytes()).step_with(step))
                .map_err(|e| {
                    e.hint("does this kernel know it, and does the container have the namespace it belongs to?")
                })?;
        }
        Ok(())
    }
}

/// What a container may set without setting it for the host (moby `opts.ValidateSysctl`).
pub fn namespaced(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    NAMES.contains(&name)
        || ["net.", "fs.mqueue.", "user."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The root and the bind sources.
fn receive_descriptors(parent: &Socket) -> Result<Option<Vec<OwnedFd>>> {
    let mut list = Vec::new();
    loop {
        let (left, fds) = match parent.expect()? {
            (ToInit::Descriptors { left }, fds) => (left, fds),
            (ToInit::Prepare, _) => return Ok(None),
            _ => return Err(out_of_turn()),
        };
        list.extend(fds);
        if left == 0 {
            break;
        }
    }
    match list.is_empty() {
        true => Err(Error::system("the root file system did not come")),
        false => Ok(Some(list)),
    }
}

fn out_of_turn() -> Error {
    Error::system("the monitor said something out of turn")
}

/// Root of the new user namespace. Until now we were nobody in it.
fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    process::set_groups(&[]).errno_step("become the container's root")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).errno_step("become the container's root")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).errno_step("become the container's root")
}

/// Away from the monitor's session and its keys; nobody who gets into the pid namespace may look into us meanwhile.
fn own_session(own_keys: bool) -> Result<()> {
    rustix::process::setsid().errno_step("make a session")?;
    sys::process::set_dumpable(false).errno_step("hide from others")?;
    if !own_keys {
        return Ok(());
    }
    match sys::process::new_session_keyring() {
        // Kernels may be built without keys.
        Ok(()) | Err(rustix::io::Errno::NOSYS) => Ok(()),
        Err(e) => Err(e).errno_step("make a session keyring"),
    }
}

/// The working directory is made if the image does not have it.
fn make_cwd(root: &Root, cwd: &Path) -> Result<()> {
    match sys::path::make_dir(root.as_fd(), cwd) {
        Ok(_) => Ok(()),
        // It will be named when it cannot be entered.
        Err(_) if sys::path::open(root.as_fd(), cwd, OFlags::PATH).is_ok() => Ok(()),
        Err(e) => Err(e).errno_step(format!("make the working directory {}", cwd.display())),
    }
}

/// Until somebody knocks. The kernel keeps signals from the first process of a pid namespace unless it takes them: one that
/// would end any other process ends this one here.
fn wait_at(door: &OwnedFd) -> Result<()> {
    // HUP, INT, QUIT, USR1, USR2, ALRM, TERM.
    let signals = sys::signal::descriptor(&[1, 2, 3, 10, 12, 14, 15]).errno_step("watch for signals")?;
    loop {
        let mut fds = [PollFd::new(door, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).errno_step("wait at the door"),
        }
        if let Ok(Some(signal)) = sys::signal::next(&signals) {
            sys::process::exit_now(128 + signal)
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
    }
}

fn wait_for_word(parent: &Socket) -> Result<()> {
    match parent.expect()? {
        (ToInit::Execute, _) => Ok(()),
        _ => Err(out_of_turn()),
    }
}
