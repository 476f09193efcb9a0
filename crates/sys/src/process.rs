//! Making processes and moving them between namespaces.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use linux_raw_sys::general::{CLONE_INTO_CGROUP, CLONE_PARENT, CLONE_PIDFD, SIGCHLD, clone_args};
use linux_raw_sys::prctl::{PR_SET_DUMPABLE, PR_SET_PDEATHSIG};
use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// Which side of [`clone3`] one is on.
pub enum Forked {
    /// The new process. It shares nothing, but it is a copy of a process: it should do its work and execute or exit.
    Child,
    /// The old one.
    Parent {
        /// In the caller's pid namespace.
        pid: i32,
        /// Close-on-exec.
        pidfd: OwnedFd,
    },
}

/// clone3(2) (Linux 5.3) without shared memory: fork, in new namespaces (`CLONE_NEW*`) and into a cgroup (5.7). With
/// `CLONE_PARENT` our own parent becomes the new process's.
///
/// The caller must be single-threaded: of other threads only their locks would reach the child. That is checked; one that was
/// joined may not be gone for the kernel yet, and is waited for.
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked> {
    if !(0..PATIENCE_MS).any(|_| single_threaded() || wait_a_moment()) {
        return Err(rustix::io::Errno::DEADLK);
    }
    let mut pidfd: i32 = -1;
    let mut args = clone_args {
        flags: namespaces | u64::from(CLONE_PIDFD),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // With our parent comes our own signal.
        exit_signal: if namespaces & u64::from(CLONE_PARENT) == 0 {
            SIGCHLD.into()
        } else {
            0
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of everything, the stack it returns on included. There is one
    // thread, so that no lock is held by somebody who does not exist in the child. `pidfd` lives through the call.
    let result = unsafe { syscall!(Sysno::clone3, &raw const args, size_of::<clone_args>()) };
    match result.map_err(errno)? {
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// How long a thread takes to go, at most.
const PATIENCE_MS: u32 = 1000;

/// A millisecond passes; false.
fn wait_a_moment() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(1));
    false
}

/// Whether this process has one thread.
fn single_threaded() -> bool {
    // Links of a directory: itself, its name above, and one for each thread below.
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink <= 3)
}

/// Whether this process has the host's own users: root is root (user_namespaces(7)). The number is the kernel's
/// `PROC_USER_INIT_INO` (include/linux/proc_ns.h).
pub fn has_hosts_users() -> bool {
    const INITIAL: &str = "user:[4026531837]";
    rustix::fs::readlink("/proc/self/ns/user", Vec::new()).map_or(true, |name| name.as_bytes() == INITIAL.as_bytes())
}

/// Leaves namespaces for new ones (unshare(2)). Of a new user namespace the ids are still to be mapped by somebody outside.
pub fn unshare(namespaces: u64) -> Result<()> {
    // SAFETY: namespaces change what names mean, not memory; descriptors and address space stay.
    unsafe { syscall!(Sysno::unshare, namespaces) }.map(drop).map_err(errno)
}

/// Joins namespaces of a process by its pidfd (Linux 5.8), or one namespace by its file.
pub fn setns(fd: BorrowedFd<'_>, namespaces: u64) -> Result<()> {
    // SAFETY: as for `unshare`.
    unsafe { syscall!(Sysno::setns, fd.as_raw_fd(), namespaces) }
        .map(drop)
        .map_err(errno)
}

/// Sends any signal, those for applications included, which rustix cannot name.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) }
        .map(drop)
        .map_err(errno)
}

/// kill(2); see [`pidfd_send_signal`].
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::kill, pid, signal) }.map(drop).map_err(errno)
}

/// The signal that this process gets when its parent dies. A change of credentials takes it away again.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0) }
        .map(drop)
        .map_err(errno)
}

/// Whether others of the same user may look into this process (ptrace, `/proc/PID/exe`) before it executes.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::prctl, PR_SET_DUMPABLE, u64::from(dumpable), 0, 0, 0) }
        .map(drop)
        .map_err(errno)
}

/// A child that has ended and that nobody has collected yet; it is left as it is (waitid(2), `WNOWAIT`).
pub fn ended_child() -> Option<i32> {
    const P_ALL: u32 = 0;
    const WNOHANG: u32 = 1;
    const WEXITED: u32 = 4;
    const WNOWAIT: u32 = 0x0100_0000;
    /// Where `si_pid` is in 64-bit architectures' siginfo_t of 128 bytes, counted in ints.
    const SI_PID: usize = 4;
    let mut info = [0i32; 32];
    let options = WNOHANG | WEXITED | WNOWAIT;
    // SAFETY: `info` has the size of a siginfo_t and lives through the call; no usage is asked for.
    let asked = unsafe { syscall!(Sysno::waitid, P_ALL, 0, info.as_mut_ptr(), options, 0) };
    asked.ok()?;
    Some(info[SI_PID]).filter(|pid| *pid > 0)
}

/// The descriptors that were passed by whoever started us (sd_listen_fds(3)): `count` of them, from 3 on. From now on
/// they close at execve.
///
/// Only the first call gets them: who calls has looked at `LISTEN_PID`.
pub fn passed_descriptors(count: i32) -> Result<Vec<OwnedFd>> {
    static TAKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let mut list = Vec::new();
    if TAKEN.swap(true, std::sync::atomic::Ordering::Relaxed) {
        return Ok(list);
    }
    for number in 3..3 + count {
        // SAFETY: it was open before we began, so that nobody else here owns it, and it is taken once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        list.push(fd);
    }
    Ok(list)
}

/// A session keyring of its own: keys of the caller do not reach the container (keyctl(2)).
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { syscall!(Sysno::keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) }
        .map(drop)
        .map_err(errno)
}

/// Every descriptor from `first` on closes at execve (close_range(2), Linux 5.11 with this flag).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no memory is passed; nothing is closed now.
    match unsafe { syscall!(Sysno::close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) } {
        Err(syscalls::Errno::EINVAL | syscalls::Errno::ENOSYS) => close_each_on_exec_from(first),
        done => done.map(drop).map_err(errno),
    }
}

/// One by one: those that `/proc` names, and without it all that there may be.
fn close_each_on_exec_from(first: u32) -> Result<()> {
    const F_SETFD: u32 = 2;
    const FD_CLOEXEC: u32 = 1;
    const MOST: u32 = 1 << 16;
    let named = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let numbers: Vec<u32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(list) => list.flatten().filter_map(named).filter(|n| *n >= first).collect(),
        Err(_) => (first..MOST).collect(),
    };
    for number in numbers {
        // SAFETY: no memory is passed; a number that is no descriptor is refused.
        match unsafe { syscall!(Sysno::fcntl, number, F_SETFD, FD_CLOEXEC) } {
            Ok(_) | Err(syscalls::Errno::EBADF) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(())
}

/// A user namespace in which `0..count` are the host's ids from `first` on. It lives as long as its descriptor, or
/// something that was made with it.
pub fn user_namespace(first: u32, count: u32) -> Result<OwnedFd> {
    let flags = u64::from(linux_raw_sys::general::CLONE_NEWUSER | SIGCHLD);
    // SAFETY: the child gets a copy of everything. It waits for its end and nothing else, so that other threads of the
    // caller do not matter.
    let pid = match unsafe { syscall!(Sysno::clone, flags, 0, 0, 0, 0) }.map_err(errno)? {
        0 => loop {
            // SAFETY: it waits for nothing, without a time limit; no memory is passed.
            let _ = unsafe { syscall!(Sysno::ppoll, 0, 0, 0, 0, 0) };
        },
        pid => pid as i32,
    };
    let io = |e: std::io::Error| {
        e.raw_os_error()
            .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error)
    };
    let map = |file: &str| std::fs::write(format!("/proc/{pid}/{file}"), format!("0 {first} {count}")).map_err(io);
    let opened = map("uid_map").and_then(|()| map("gid_map")).and_then(|()| {
        let file = std::fs::File::open(format!("/proc/{pid}/ns/user")).map_err(io)?;
        Ok(OwnedFd::from(file))
    });
    let _ = kill(pid, 9);
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    opened
}

/// So many descriptors from `first` on stay open at execve, after all; those that are not there are left out.
pub fn keep_open_at_exec(first: u32, count: u32) -> Result<()> {
    const F_SETFD: u32 = 2;
    for number in first..first.saturating_add(count) {
        // SAFETY: no memory is passed, and nothing is opened or closed.
        match unsafe { syscall!(Sysno::fcntl, number, F_SETFD, 0) } {
            Ok(_) | Err(syscalls::Errno::EBADF) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on but one, now. For a forked process that goes on with that one alone: what else
/// its memory knows of descriptors is a copy, which it has no use for.
pub fn close_others(first: u32, kept: &OwnedFd) -> Result<()> {
    let kept = kept.as_raw_fd() as u32;
    let close = |from: u32, to: u32| match from <= to {
        // SAFETY: no memory is passed; who uses a closed descriptor all the same gets EBADF.
        true => unsafe { syscall!(Sysno::close_range, from, to, 0) }
            .map(drop)
            .map_err(errno),
        false => Ok(()),
    };
    close(first, kept.saturating_sub(1))?;
    close(first.max(kept + 1), u32::MAX)
}

/// Closes every descriptor from `first` on, now.
///
/// # Safety
/// No owner of such a descriptor may use it any more, nor be dropped into a program that goes on.
pub unsafe fn close_from(first: u32) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { syscall!(Sysno::close_range, first, u32::MAX, 0) }
        .map(drop)
        .map_err(errno)
}

/// For a process that will only wait and exit: closes every descriptor and never returns to code that owns any.
pub fn close_everything_and(run: impl FnOnce() -> i32) -> ! {
    // SAFETY: `run` owns no descriptor of before, and after it the process exits without dropping anything.
    let _ = unsafe { close_from(0) };
    exit_now(run())
}

/// Ends the process without running anything more of it.
pub fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: it does not return.
        let _ = unsafe { syscall!(Sysno::exit_group, code) };
    }
}

/// execve(2); returns only the error.
pub fn execve(path: &CString, arguments: &[CString], environment: &[CString]) -> rustix::io::Errno {
    let pointers = |list: &[CString]| -> Vec<*const std::ffi::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and they and their strings live through the call.
    match unsafe { syscall!(Sysno::execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) } {
        Ok(_) => rustix::io::Errno::NOEXEC,
        Err(e) => errno(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_clone() {
        let (end, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || ended.recv());
        assert!(matches!(clone3(0, None), Err(rustix::io::Errno::DEADLK)));
        end.send(()).unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn an_ended_child_is_seen_and_stays() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        while ended_child().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(ended_child(), Some(pid));
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_signal_that_is_none_is_refused() {
        let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
        assert!(pidfd_send_signal(std::os::fd::AsFd::as_fd(&own), 65).is_err());
        assert!(pidfd_send_signal(std::os::fd::AsFd::as_fd(&own), 0).is_ok());
    }
}
