//! Asking the kernel whether it knows a system call.

use rustix::io::Errno;
use syscalls::Sysno;

/// The kernel's answer to a call whose arguments are all -1; `None` if it took that.
///
/// Only for calls that can do nothing with such arguments: see [`SAFE`].
fn answer(call: Sysno) -> Option<Errno> {
    let no = usize::MAX;
    // SAFETY: the calls of SAFE read memory through their pointers at most, which the kernel checks, and have no file,
    // process or size that could be -1.
    let answer = unsafe { syscalls::raw_syscall!(call, no, no, no, no, no, no) };
    let answer = answer as isize;
    (-4095..0)
        .contains(&answer)
        .then(|| Errno::from_raw_os_error(-answer as i32))
}

/// Calls that fail harmlessly when all their arguments are -1.
const SAFE: &[&str] = &[
    "bpf",
    "cachestat",
    "clone3",
    "copy_file_range",
    "epoll_pwait2",
    "faccessat2",
    "fchmodat2",
    "fsopen",
    "futex_waitv",
    "io_uring_setup",
    "landlock_create_ruleset",
    "listmount",
    "lsm_list_modules",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mount_setattr",
    "move_mount",
    "mseal",
    "open_tree",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "preadv2",
    "process_madvise",
    "quotactl_fd",
    "renameat2",
    "rseq",
    "set_mempolicy_home_node",
    "setxattrat",
    "statmount",
    "statx",
    "userfaultfd",
];

/// What the kernel says to calls that newer programs like to use: `None` for a call that cannot be asked.
/// `Some(true)`: it knows the call (and may forbid it).
pub fn knows(name: &str) -> Option<bool> {
    if !SAFE.contains(&name) {
        return None;
    }
    let call: Sysno = name.parse().ok()?;
    Some(answer(call) != Some(Errno::NOSYS))
}

/// The names that [`knows`] answers for.
pub fn names() -> impl Iterator<Item = &'static str> {
    SAFE.iter().copied()
}

/// Whether user namespaces have a binfmt_misc of their own (Linux 6.7): a process in a new one asks for it, once.
pub fn own_binfmt_misc() -> bool {
    static OWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *OWN.get_or_init(|| ask_in_user_namespace().unwrap_or(false))
}

fn ask_in_user_namespace() -> crate::Result<bool> {
    use linux_raw_sys::general::{CLONE_NEWNS, CLONE_NEWUSER, SIGCHLD};
    const FSCONFIG_CMD_CREATE: u32 = 6;
    let flags = u64::from(CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD);
    // SAFETY: the child gets a copy of everything. It makes two system calls with numbers and a constant string, and
    // ends, so that other threads of the caller do not matter.
    let pid = unsafe {
        match syscalls::syscall!(Sysno::clone, flags, 0, 0, 0, 0).map_err(crate::errno)? {
            0 => {
                let made = syscalls::syscall!(Sysno::fsopen, c"binfmt_misc".as_ptr(), 0)
                    .and_then(|context| syscalls::syscall!(Sysno::fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0));
                crate::process::exit_now(made.is_err().into())
            }
            pid => pid as i32,
        }
    };
    let pid = rustix::process::Pid::from_raw(pid);
    let status = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    Ok(status.and_then(|(_, status)| status.exit_status()) == Some(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kernel_that_we_run_on_knows_these_and_lets_us_live() {
        for name in ["clone3", "openat2", "pidfd_open", "statx", "mount_setattr"] {
            assert_eq!(super::knows(name), Some(true), "{name}");
        }
        assert!(super::names().all(|name| super::knows(name).is_some()));
        assert_eq!(super::knows("reboot"), None);
    }
}
