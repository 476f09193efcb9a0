//! Answering uname(2) for a container that is to see another release (seccomp_unotify(2)): the kernel's own answer, but
//! for that field. Other calls never come here.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use linux_raw_sys::general::CLONE_NEWUTS;
use runtime::uname::{SIZE, lay_out, machine};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use sys::seccomp::{Answer, Notification};

/// Who waits for answers, and what they are told.
#[derive(Default)]
pub struct Uname {
    /// `None`: the kernel's own.
    release: Option<String>,
    listeners: Vec<OwnedFd>,
}

impl Uname {
    /// Of a container that is to see this release.
    pub fn new(release: Option<String>) -> Self {
        Uname {
            release,
            listeners: Vec::new(),
        }
    }

    /// One more process, with all its descendants.
    pub fn take(&mut self, listener: OwnedFd) -> errdefs::Result<()> {
        match self.release {
            Some(_) => self.listeners.push(listener),
            None => return runtime::no_listener(listener),
        }
        Ok(())
    }

    /// To be polled.
    pub fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|l| l.as_fd())
    }

    /// Answers who waits; forgets listeners whose processes are gone.
    pub fn answer(&mut self) {
        let release = self.release.clone().unwrap_or_default();
        self.listeners.retain(|listener| {
            let events = events(listener.as_fd());
            if events.contains(PollFlags::IN) {
                answer_one(listener.as_fd(), &release);
            }
            !events.intersects(PollFlags::HUP | PollFlags::ERR)
        });
    }
}

fn events(listener: BorrowedFd<'_>) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn answer_one(listener: BorrowedFd<'_>, release: &str) {
    // It may have been killed while it waited.
    let Ok(call) = sys::seccomp::receive(listener) else {
        return;
    };
    let answer = match fill(listener, &call, release) {
        Ok(()) => Answer::Value(0),
        Err(errno) => Answer::Errno(errno.raw_os_error()),
    };
    let _ = sys::seccomp::answer(listener, call.id, answer);
}

/// Writes the structure where the caller wants it.
fn fill(listener: BorrowedFd<'_>, call: &Notification, release: &str) -> Result<(), Errno> {
    let gone = |_| Errno::NOSYS;
    let memory = OpenOptions::new()
        .write(true)
        .open(format!("/proc/{}/mem", call.pid))
        .map_err(gone)?;
    let answer = structure(call.pid, release)?;
    // Only now is it sure that it was this process that we looked at.
    if !sys::seccomp::waits(listener, call.id) {
        return Err(Errno::INTR);
    }
    memory
        .write_all_at(&answer, call.arguments[0])
        .map_err(|_| Errno::FAULT)
}

/// The kernel's answer, as in the caller's namespace, with another release.
fn structure(pid: u32, release: &str) -> Result<[u8; SIZE], Errno> {
    let open = |path: String| File::open(path).map_err(|_| Errno::NOSYS);
    let (own, theirs) = (open("/proc/self/ns/uts".into())?, open(format!("/proc/{pid}/ns/uts"))?);
    sys::process::setns(theirs.as_fd(), CLONE_NEWUTS.into())?;
    let uname = rustix::system::uname();
    // Without it we would answer for the wrong container; there is no reason why it should fail.
    sys::process::setns(own.as_fd(), CLONE_NEWUTS.into())?;
    let personality = std::fs::read_to_string(format!("/proc/{pid}/personality")).unwrap_or_default();
    Ok(lay_out([
        uname.sysname().to_bytes(),
        uname.nodename().to_bytes(),
        release.as_bytes(),
        uname.version().to_bytes(),
        machine(&personality, uname.machine().to_bytes()),
        uname.domainname().to_bytes(),
    ]))
}
