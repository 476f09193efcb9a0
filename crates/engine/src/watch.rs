//! Hearing of what changes in a directory.

use std::os::fd::OwnedFd;
use std::path::Path;

use errdefs::{ErrnoStep, Result};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How often one looks where nobody tells.
const LOOK_AGAIN_NS: i64 = 100_000_000;

/// Does not block, and is readable when something of `what` may have happened in a directory: to be read empty before one looks.
///
/// That is inotify(7), of which each user of the host has a limited number (128 by default): where other programs have taken
/// all of them, or the kernel has none, it is readable every now and then.
pub fn directory(dir: &Path, what: inotify::WatchFlags, step: &'static str) -> Result<OwnedFd> {
    let told = || {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, dir, what)?;
        Ok(watch)
    };
    match told() {
        Err(Errno::MFILE | Errno::NOSPC | Errno::NOMEM | Errno::NOSYS) => timer().errno_step(step),
        watch => watch.errno_step(step),
    }
}

fn timer() -> rustix::io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK_AGAIN_NS,
    };
    let often = Itimerspec {
        it_interval: pause,
        it_value: pause,
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &often)?;
    Ok(timer)
}
