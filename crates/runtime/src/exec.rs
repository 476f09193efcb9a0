//! One more process in a running container.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT};
use rustix::process::{WaitId, WaitIdOptions};
use sys::process::Forked;

use crate::namespaces::Namespaces;
use crate::process::{Plan, keep_open, set_groups, set_limits, set_oom_score, take_streams};
use crate::schedule::Affinity;
use crate::sync::{FromInit, Socket, ToInit};
use crate::{Exec, Execed, Stdio, TakeListener, cgroup, go_between};

/// Starts a process inside a running container and returns once it executed its command. The caller is its parent, and
/// single-threaded. `take` gets the process's number and its listener.
pub fn exec(request: Exec<'_>, take: &mut dyn FnMut(i32, OwnedFd) -> Result<()>) -> Result<Execed> {
    let mut joining = begin_exec(request)?;
    let pid = joining.pid;
    loop {
        if let Some(execed) = joining.advance(&mut |listener| take(pid, listener))? {
            return Ok(execed);
        }
    }
}

/// As [`exec`], but returns as soon as the process is on its way: a container's root can stop a process that has joined
/// its namespaces, for as long as it likes.
pub fn begin_exec(request: Exec<'_>) -> Result<Joining> {
    let mut plan = Plan::new(request.spec, request.process, !request.outlives, request.filters)?;
    let namespaces = Namespaces::of(request.spec)?;
    let entrance = cgroup::Entrance::open(request.cgroup, request.below)?;
    let affinity = Affinity::of(request.process)?;
    let root = root_of(&request, &namespaces)?;
    let (ours, theirs) = Socket::pair()?;
    let terminal = matches!(request.stdio, Stdio::Terminal { .. });
    // A user has rights over the container's namespaces only within its user namespace, and none over his own.
    let root_here = rustix::process::geteuid().is_root() && sys::process::has_hosts_users();
    let among_others = (namespaces.user() || namespaces.pid()) && !root_here;
    let (forked, back) = match among_others {
        true => {
            let flag = |has: bool, flag: u32| if has { flag } else { 0 };
            let flags = flag(namespaces.user(), CLONE_NEWUSER) | flag(namespaces.pid(), CLONE_NEWPID);
            let bear = || {
                sys::process::setns(request.pidfd, flags.into()).errno_step("enter the container's users")?;
                sys::process::clone3(CLONE_PARENT.into(), None).errno_step(BIRTH)
            };
            (go_between::bear(BIRTH, bear)?, Ok(()))
        }
        false => {
            let make = || sys::process::clone3(0, entrance.directory());
            let (forked, back) = in_pid_namespace(&request, &namespaces, make)?;
            (forked.errno_step(BIRTH)?, back)
        }
    };
    match forked {
        Forked::Child => {
            drop(ours);
            let Err(error) = live(
                &request.pidfd,
                Enter {
                    root,
                    flags: namespaces.for_join() & !if among_others { u64::from(CLONE_NEWUSER) } else { 0 },
                    user: namespaces.user(),
                },
                request.stdio,
                &mut plan,
                &theirs,
                &affinity,
                request.preserved,
            );
            theirs.send_failure(&error);
            sys::process::exit_now(error.kind().exit_code().into())
        }
        Forked::Parent { pid, pidfd } => {
            let mut joining = Joining {
                pid,
                pidfd: Some(pidfd),
                socket: ours,
                terminal,
                console: None,
                untold: None,
            };
            back.and_then(|()| entrance.join(pid))
                .and_then(|()| set_limits(pid, request.process.rlimits().as_deref().unwrap_or_default()))
                .and_then(|()| set_oom_score(pid, request.process))
                .and_then(|()| (request.born)(pid))?;
            // If it cannot be told it has failed before, and says why.
            joining.untold = joining.socket.send(&ToInit::Execute, &[]).err();
            Ok(joining)
        }
    }
}

const BIRTH: &str = "make a process in the container (clone3)";

/// A process on its way into a container: it ends with this value unless it got there.
pub struct Joining {
    /// In the caller's pid namespace.
    pub pid: i32,
    pidfd: Option<OwnedFd>,
    socket: Socket,
    terminal: bool,
    console: Option<OwnedFd>,
    untold: Option<Error>,
}

impl Joining {
    /// Takes its next word, for which it waits: [`Joining::as_fd`] is readable when there is one. The process, once it
    /// executes its command; the reason if it does not.
    pub fn advance(&mut self, take: &mut TakeListener<'_>) -> Result<Option<Execed>> {
        match self.socket.receive()? {
            Some((FromInit::Ready, mut fds)) => self.console = fds.pop(),
            Some((FromInit::Listener, mut fds)) => fds.pop().map_or(Ok(()), take)?,
            Some((FromInit::Failed(wire), _)) => return Err(wire.into()),
            Some((FromInit::Born { .. } | FromInit::Mounted | FromInit::Idmap, _)) => {
                return Err(Error::system("the process said something out of turn"));
            }
            None if self.terminal && self.console.is_none() => {
                return Err(Error::system("the process was killed while it was set up"));
            }
            None => {
                self.untold.take().map_or(Ok(()), Err)?;
                let arrived = self.pidfd.take().map(|pidfd| Execed {
                    pid: self.pid,
                    pidfd,
                    console: self.console.take(),
                });
                return Ok(arrived);
            }
        }
        Ok(None)
    }
}

impl AsFd for Joining {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), 9);
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// Children made by `make` are born in the container's pid namespace. We stay where we are; the second result says
/// whether our later children do, too.
fn in_pid_namespace(
    request: &Exec<'_>,
    namespaces: &Namespaces,
    make: impl FnOnce() -> rustix::io::Result<Forked>,
) -> Result<(rustix::io::Result<Forked>, Result<()>)> {
    if !namespaces.pid() {
        return Ok((make(), Ok(())));
    }
    let own = File::open("/proc/self/ns/pid").step("open our own pid namespace")?;
    sys::process::setns(request.pidfd, CLONE_NEWPID.into()).errno_step("enter the container's pid namespace")?;
    let made = make();
    if matches!(made, Ok(Forked::Child)) {
        return Ok((made, Ok(())));
    }
    let back = sys::process::setns(own.as_fd(), CLONE_NEWPID.into()).errno_step("go back to our own pid namespace");
    Ok((made, back))
}

/// What the process is still to enter.
struct Enter {
    flags: u64,
    /// The container has a user namespace, entered now or before.
    user: bool,
    /// The container's root, if it has no mount namespace that leads there.
    root: Option<File>,
}

fn root_of(request: &Exec<'_>, namespaces: &Namespaces) -> Result<Option<File>> {
    if namespaces.mount() {
        return Ok(None);
    }
    let root = File::open(format!("/proc/{}/root", request.pid)).step("open the container's root")?;
    Ok(Some(root))
}

/// The child's life.
fn live(
    container: &impl AsFd,
    enter: Enter,
    stdio: Stdio,
    plan: &mut Plan,
    parent: &Socket,
    affinity: &Affinity,
    preserved: u32,
) -> Result<std::convert::Infallible> {
    affinity.before()?;
    let labels = plan.labels.clone();
    let labels = labels.open()?;
    sys::process::set_dumpable(false).errno_step("hide from others")?;
    match parent.expect()? {
        (ToInit::Execute, _) => {}
        _ => return Err(Error::system("the monitor said something that is no start")),
    }
    affinity.after()?;
    sys::process::setns(container.as_fd(), enter.flags).errno_step("enter the container's namespaces")?;
    if let Some(root) = &enter.root {
        rustix::process::fchdir(root)
            .and_then(|()| rustix::process::chroot("."))
            .errno_step("enter the container's root")?;
    }
    if enter.user {
        let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
        set_groups(&[])
            .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
            .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
            .errno_step("become the container's root")?;
        // The change of user made us dumpable again.
        sys::process::set_dumpable(false).errno_step("hide from others")?;
    }
    plan.settle();
    rustix::process::setsid().errno_step("make a session")?;
    let _ = sys::process::new_session_keyring();
    if let Some(master) = take_streams(stdio, plan.uid())? {
        parent.send(&FromInit::Ready, &[master.as_fd()])?;
    }
    sys::process::close_on_exec_from(3).errno_step("close descriptors")?;
    sys::signal::reset();
    plan.drop_privileges(parent)?;
    labels.apply()?;
    keep_open(preserved)?;
    Err(plan.command.execute())
}
