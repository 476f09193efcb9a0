//! Signals: back to the defaults before a program is executed, taken one by one in a minimal init, and as a descriptor
//! for loops that poll.

use std::os::fd::{FromRawFd, OwnedFd};

use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK, SIG_BLOCK, SIG_SETMASK, kernel_sigset_t};
use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// `struct sigaction` as the kernel has it: the default for everything is all zeros.
#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SIZE: usize = 8;

/// All signals do what they do by default, and none is blocked: what a new program expects.
pub fn reset() {
    let action = Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    for signal in 1..=64 {
        // SAFETY: the structure lives through the call. SIGKILL and SIGSTOP are refused, which is fine.
        let _ = unsafe { syscall!(Sysno::rt_sigaction, signal, &raw const action, 0, SIZE) };
    }
    let _ = set_mask(SIG_SETMASK, 0);
}

/// Blocks all signals that can be.
pub fn block_all() -> Result<()> {
    set_mask(SIG_SETMASK, u64::MAX)
}

fn set_mask(how: u32, mask: u64) -> Result<()> {
    // SAFETY: the mask lives through the call.
    unsafe { syscall!(Sysno::rt_sigprocmask, how, &raw const mask, 0, SIZE) }
        .map(drop)
        .map_err(errno)
}

/// Waits for the next blocked signal; its number.
pub fn wait() -> Result<i32> {
    let all = u64::MAX;
    loop {
        // SAFETY: the mask lives through the call; nobody asks for details or gives a time limit.
        match unsafe { syscall!(Sysno::rt_sigtimedwait, &raw const all, 0, 0, SIZE) } {
            Ok(signal) => return Ok(signal as i32),
            Err(syscalls::Errno::EINTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
}

/// A descriptor that becomes readable when one of `signals` comes (signalfd(2)); they are blocked from now on.
pub fn descriptor(signals: &[i32]) -> Result<OwnedFd> {
    const NEW: i32 = -1;
    let mask: u64 = signals
        .iter()
        .filter(|s| (1..=64).contains(*s))
        .map(|s| 1u64 << (s - 1))
        .sum();
    set_mask(SIG_BLOCK, mask)?;
    // SAFETY: the mask lives through the call; the descriptor that comes back is ours.
    let fd = unsafe {
        syscall!(
            Sysno::signalfd4,
            NEW,
            &raw const mask,
            size_of::<kernel_sigset_t>(),
            O_CLOEXEC | O_NONBLOCK
        )
    };
    // SAFETY: the kernel has just made it for us.
    fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }).map_err(errno)
}

/// The next signal of a [`descriptor`]; `None` if there is none at present.
pub fn next(descriptor: &OwnedFd) -> Result<Option<i32>> {
    let mut info = [0u8; 128];
    match rustix::io::read(descriptor, &mut info) {
        Ok(n) if n >= 4 => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}
