//! From a set-up child to the command: terminal, limits, user, capabilities, filter. The same for the first process and
//! for added ones.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use errdefs::{ErrnoStep, Error, Result, Step};
use oci_spec::runtime::{Capability, PosixRlimit, PosixRlimitType, Process, Spec};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use crate::Stdio;
use crate::capabilities::Sets;
use crate::command::Command;
use crate::labels::Labels;
use crate::schedule::Schedule;
use crate::seccomp::Compiled;
use crate::sync::{FromInit, Socket};

/// Everything about a process that can be worked out before it exists.
pub struct Plan {
    /// What to execute.
    pub command: Command,
    sets: Sets,
    filter: Option<Compiled>,
    no_new_privileges: bool,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: Option<u32>,
    schedule: Schedule,
    /// Of security modules.
    pub labels: Labels,
    /// Whether it dies with its parent.
    pub follows: bool,
    /// Working directory.
    pub cwd: std::path::PathBuf,
}

impl Plan {
    /// Of a process of this container; compiled filters are kept in `filters`.
    pub fn new(spec: &Spec, process: &Process, follows: bool, filters: Option<&Path>) -> Result<Self> {
        let arguments = process.args().as_deref().unwrap_or_default();
        let environment = process.env().as_deref().unwrap_or_default();
        let filter = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let user = process.user();
        Ok(Plan {
            command: Command::new(arguments, environment)?,
            sets: Sets::of(process.capabilities().as_ref()),
            filter: filter.map(|f| crate::seccomp::compile_in(f, filters)).transpose()?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask(),
            schedule: Schedule::of(spec, process)?,
            labels: Labels::of(process)?,
            follows,
            cwd: process.cwd().clone(),
        })
    }

    /// The user's number, for what must belong to it.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Everything that takes privileges away, in the order in which each step still can: the filter needs
    /// CAP_SYS_ADMIN unless no-new-privileges is set, and then it comes last.
    pub fn drop_privileges(&self, parent: &Socket) -> Result<()> {
        self.schedule.apply()?;
        if !self.no_new_privileges {
            self.install_filter(parent)?;
        }
        self.sets.limit_bounding()?;
        rustix::thread::set_keep_capabilities(true).errno_step("keep the capabilities")?;
        let early = rustix::process::chdir(&self.cwd);
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        set_groups(&groups).errno_step("set the groups")?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .errno_step(format!("become group {}", self.gid))
            .map_err(|e| beyond_range(e, self.gid))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .errno_step(format!("become user {}", self.uid))
            .map_err(|e| beyond_range(e, self.uid))?;
        rustix::thread::set_keep_capabilities(false).errno_step("keep the capabilities")?;
        self.sets.apply()?;
        // The change of user took it away.
        self.follow_parent()?;
        if let Some(umask) = self.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        }
        self.enter_cwd(early.is_ok())?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).errno_step("set no-new-privileges")?;
            self.install_filter(parent)?;
        }
        Ok(())
    }

    /// Looks at the container's files, where that is needed; in its root.
    pub fn settle(&mut self) {
        self.command.find_home(self.uid);
    }

    /// A change of user takes this away: it is to be said again.
    pub fn follow_parent(&self) -> Result<()> {
        match self.follows {
            true => sys::process::set_parent_death_signal(9).errno_step("follow the parent's death"),
            false => Ok(()),
        }
    }

    /// Calls that the filter passes on wait from now on until somebody has the listener: nothing but sending stands in
    /// between.
    fn install_filter(&self, parent: &Socket) -> Result<()> {
        let Some((filter, flags)) = &self.filter else {
            return Ok(());
        };
        match sys::seccomp::install(filter, *flags).errno_step("install the seccomp filter")? {
            Some(listener) => parent.send(&FromInit::Listener, &[listener.as_fd()]),
            None => Ok(()),
        }
    }

    /// A working directory that is really inside: one that a leaked descriptor led out of the root has no name there
    /// (CVE-2024-21626). Some can be entered only with the rights that are gone now, and some only by the user itself: both do
    /// (runc).
    fn enter_cwd(&self, entered: bool) -> Result<()> {
        let shown = self.cwd.display();
        let entering = if entered {
            Ok(())
        } else {
            rustix::process::chdir(&self.cwd)
        };
        entering
            .errno_step(format!("chdir to cwd ({shown:?}) set in config.json failed"))
            .map_err(|e| match e.errno() {
                Some(2) => e.kind_is(errdefs::Kind::CommandNotFound),
                _ => e,
            })?;
        let inside = std::env::current_dir().is_ok_and(|dir| dir.is_absolute());
        inside
            .then_some(())
            .ok_or_else(|| Error::invalid(format!("the working directory {shown} is outside of the container")))
    }
}

/// What of a process cannot be as the document says.
pub fn warnings(process: &Process) -> Vec<String> {
    let name = |capability: &Capability| capability.to_string().trim_start_matches("CAP_").to_owned();
    let words = |c: Capability| {
        format!(
            "can't raise ambient capability CAP_{}: operation not permitted",
            name(&c)
        )
    };
    let sets = Sets::of(process.capabilities().as_ref());
    sets.not_ambient().into_iter().map(words).collect()
}

fn beyond_range(error: Error, id: u32) -> Error {
    match error.errno() {
        Some(22) => error.hint(format!(
            "{id} is none of the ids of the container's user namespace (see /proc/self/uid_map in it)"
        )),
        _ => error,
    }
}

/// The supplementary groups; where a user namespace may not set any (setgroups(2) is denied in one that a user mapped alone),
/// none but our own is what is asked for, and they stay.
pub fn set_groups(groups: &[Gid]) -> rustix::io::Result<()> {
    match rustix::thread::set_thread_groups(groups) {
        Err(Errno::PERM) if groups.iter().all(|g| *g == rustix::process::getegid()) && denied() => Ok(()),
        other => other,
    }
}

fn denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// The caller's descriptors that are the command's: so many from 3 on. The last step before execve, so that nothing else that
/// is executed has them.
pub fn keep_open(preserved: u32) -> Result<()> {
    sys::process::keep_open_at_exec(3, preserved).errno_step("keep the preserved descriptors open")
}

/// The streams on 0, 1 and 2. A terminal is made in the container's own devpts; its master is returned.
pub fn take_streams(stdio: Stdio, owner: u32) -> Result<Option<OwnedFd>> {
    match stdio {
        Stdio::Inherit => {
            give_streams(owner)?;
            Ok(None)
        }
        Stdio::Files { stdin, stdout, stderr } => {
            put_streams(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())?;
            Ok(None)
        }
        Stdio::Terminal { rows, cols, plain } => {
            let (master, slave) = open_terminal(rows, cols, owner)?;
            if plain {
                plain_lines(&slave).errno_step("set up the terminal")?;
            }
            put_streams(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
            rustix::process::ioctl_tiocsctty(&slave).errno_step("take the terminal")?;
            Ok(Some(master))
        }
    }
}

fn plain_lines(terminal: &OwnedFd) -> rustix::io::Result<()> {
    use rustix::termios::{OptionalActions, OutputModes};
    let mut attributes = rustix::termios::tcgetattr(terminal)?;
    attributes.output_modes.remove(OutputModes::ONLCR);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &attributes)
}

/// The caller's own streams become the user's, so that `/dev/stderr` can be opened again (runc `fixStdioPermissions`).
fn give_streams(owner: u32) -> Result<()> {
    let null = rustix::fs::stat("/dev/null").map(|s| s.st_rdev).unwrap_or(0);
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        // A stream may be closed.
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        if stat.st_uid == owner || stat.st_rdev == null {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(owner)), None::<Gid>) {
            // It belongs to somebody who is nobody here, or cannot change hands.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOSYS) => {}
            Err(e) => return Err(e).errno_step("give the user its standard streams"),
        }
    }
    Ok(())
}

fn put_streams(
    stdin: std::os::fd::BorrowedFd<'_>,
    stdout: std::os::fd::BorrowedFd<'_>,
    stderr: std::os::fd::BorrowedFd<'_>,
) -> Result<()> {
    rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr))
        .errno_step("set the standard streams")
}

/// Both ends of a new terminal, that of the container owned by its user.
fn open_terminal(rows: u16, cols: u16, owner: u32) -> Result<(OwnedFd, OwnedFd)> {
    let step = "make a terminal in the container's /dev/pts";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, rustix::fs::Mode::empty()).errno_step(step)?;
    rustix::pty::unlockpt(&master).errno_step(step)?;
    let slave_flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, slave_flags).errno_step(step)?;
    if rows > 0 && cols > 0 {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).errno_step(step)?;
    }
    rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>).errno_step(step)?;
    Ok((master, slave))
}

/// Limits are set from outside: init has no right to raise any.
pub fn set_limits(pid: i32, limits: &[PosixRlimit]) -> Result<()> {
    for limit in limits {
        let number = |n: u64| (n != u64::MAX).then_some(n);
        let wanted = Rlimit {
            current: number(limit.soft()),
            maximum: number(limit.hard()),
        };
        let resource = resource(limit.typ());
        let Some(resource) = resource else {
            return Err(Error::invalid(format!(
                "a limit of type {:?} is not known here",
                limit.typ()
            )));
        };
        if let Err(e) = rustix::process::prlimit(rustix::process::Pid::from_raw(pid), resource, wanted) {
            let own = rustix::process::getrlimit(resource).maximum;
            let error: Result<()> = Err(e).errno_step(format!(
                "set the limit {:?} to {}:{}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            ));
            return error.map_err(|error| match own {
                Some(own) => error.hint(format!(
                    "the hard limit here is {own}, and raising it takes CAP_SYS_RESOURCE"
                )),
                None => error,
            });
        }
    }
    Ok(())
}

fn resource(typ: PosixRlimitType) -> Option<Resource> {
    use PosixRlimitType::*;
    Some(match typ {
        RlimitCpu => Resource::Cpu,
        RlimitFsize => Resource::Fsize,
        RlimitData => Resource::Data,
        RlimitStack => Resource::Stack,
        RlimitCore => Resource::Core,
        RlimitRss => Resource::Rss,
        RlimitNproc => Resource::Nproc,
        RlimitNofile => Resource::Nofile,
        RlimitMemlock => Resource::Memlock,
        RlimitAs => Resource::As,
        RlimitLocks => Resource::Locks,
        RlimitSigpending => Resource::Sigpending,
        RlimitMsgqueue => Resource::Msgqueue,
        RlimitNice => Resource::Nice,
        RlimitRtprio => Resource::Rtprio,
        RlimitRttime => Resource::Rttime,
    })
}

/// How soon the kernel kills it for lack of memory (proc_pid_oom_score_adj(5)); set from outside, as limits are.
pub fn set_oom_score(pid: i32, process: &Process) -> Result<()> {
    match process.oom_score_adj() {
        Some(score) => std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
            .step(format!("set the OOM score adjustment to {score}")),
        None => Ok(()),
    }
}
