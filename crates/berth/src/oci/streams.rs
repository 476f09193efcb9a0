//! Standard streams and terminals of containers and processes that `berth oci` starts, and waiting for them.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::{Stdio, oci};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{WaitId, WaitIdOptions};

use crate::cli::flag::Given;
use crate::terminal::{self, Raw};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
/// Not these: they cannot be caught, or tell of ourselves.
const OWN_SIGNALS: &[i32] = &[9, 19, 11, 7, 8, 4, 21, 22];
const BUFFER: usize = 32 * 1024;

/// Who gets the terminal's master.
pub struct Console {
    terminal: bool,
    socket: Option<UnixStream>,
}

impl Console {
    /// As the flags say; what does not fit together is refused in runc's words.
    pub fn new(given: &Given, terminal: bool, detached: bool) -> Result<Self> {
        let socket = given.one("console-socket").filter(|path| !path.is_empty());
        match (terminal, detached, socket) {
            (true, true, None) => Err(Error::invalid(
                "cannot allocate tty if runc will detach without setting console socket",
            )),
            (true, false, Some(_)) | (false, _, Some(_)) => Err(Error::invalid(
                "cannot use console socket if runc will not detach or allocate tty",
            )),
            (_, _, socket) => Ok(Console {
                terminal,
                socket: socket
                    .map(|path| UnixStream::connect(path).step_with(|| format!("connect to the console socket {path}")))
                    .transpose()?,
            }),
        }
    }

    /// The process's streams: a new terminal's, or our own.
    pub fn stdio(&self, process: Option<&oci::Process>) -> Stdio {
        if !self.terminal {
            return Stdio::Inherit;
        }
        let asked = process.and_then(|p| p.console_size());
        let clip = |n: u64| n.min(u16::MAX.into()) as u16;
        let (rows, cols) = match asked {
            Some(size) => (clip(size.height()), clip(size.width())),
            None if self.socket.is_none() => terminal::size(),
            None => (0, 0),
        };
        // Without a socket what is printed comes out of our own output: only a terminal there wants carriage returns.
        let plain = self.socket.is_none() && !std::io::IsTerminal::is_terminal(&std::io::stdout());
        Stdio::Terminal { rows, cols, plain }
    }

    /// Sends the master to the socket, if there is one.
    pub fn hand_over(&self, master: &mut Option<OwnedFd>) -> Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let master = master
            .take()
            .ok_or_else(|| Error::system("the container made no terminal"))?;
        send(socket, &master, b"/dev/ptmx").errno_step("send the terminal to the console socket")
    }
}

/// `--pidfd-socket`: whoever listens there can watch and signal the process.
pub fn send_pidfd(given: &Given, pidfd: &OwnedFd) -> Result<()> {
    let Some(path) = given.one("pidfd-socket").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let socket = UnixStream::connect(path).step_with(|| format!("connect to the pidfd socket {path}"))?;
    send(&socket, pidfd, b"pidfd").errno_step("send the pidfd to its socket")
}

/// Sends a descriptor, with words.
pub fn send(socket: &UnixStream, fd: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// `--preserve-fds`, and those that systemd's socket activation passes (sd_listen_fds(3)).
pub fn preserved(given: &Given) -> Result<u32> {
    let asked = given.number("preserve-fds")?.unwrap_or(0);
    let activation = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|n| n.parse::<i64>().ok())
        .unwrap_or(0);
    u32::try_from(asked + activation.max(0))
        .ok()
        .filter(|n| *n < 1 << 20)
        .ok_or_else(|| Error::invalid(format!("--preserve-fds: {asked} is no number of descriptors")))
}

/// A descriptor that tells of every signal that can be passed on.
pub fn signals() -> Result<OwnedFd> {
    let all: Vec<i32> = (1..=64).filter(|n| !OWN_SIGNALS.contains(n)).collect();
    sys::signal::descriptor(&all).errno_step("watch for signals")
}

/// Passes signals, and for a terminal input and output, until the process ends; its exit code.
pub fn follow(pidfd: &OwnedFd, master: Option<&OwnedFd>, signals: &OwnedFd) -> Result<u8> {
    let _raw = master.and_then(|_| Raw::enter());
    let mut input_open = master.is_some();
    let mut buffer = vec![0; BUFFER];
    loop {
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        if let Some(master) = master {
            fds.push(PollFd::new(master, PollFlags::IN));
            if input_open {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).errno_step("wait for the container"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let ready = |index: usize| ready.get(index).copied().unwrap_or(false);
        if ready(1) {
            pass_signals(signals, pidfd, master)?;
        }
        if let Some(master) = master {
            if ready(2) {
                copy_output(master, &mut buffer);
            }
            if ready(3) {
                input_open = copy_input(master, &mut buffer);
            }
        }
        if ready(0) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let status =
                rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options).errno_step("wait for the container")?;
            if let Some(status) = status {
                while master.is_some_and(|master| copy_output(master, &mut buffer)) {}
                let signal = status.terminating_signal().map(|s| 128 + s);
                return Ok(status.exit_status().or(signal).unwrap_or(255) as u8);
            }
        }
    }
}

fn pass_signals(signals: &OwnedFd, pidfd: &OwnedFd, master: Option<&OwnedFd>) -> Result<()> {
    while let Some(signal) = sys::signal::next(signals).errno_step("read a signal")? {
        match (signal, master) {
            (SIGCHLD, _) => {}
            (SIGWINCH, Some(master)) => {
                if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
                    let _ = rustix::termios::tcsetwinsize(master, size);
                }
            }
            // It may have ended just now.
            _ => _ = sys::process::pidfd_send_signal(pidfd.as_fd(), signal),
        }
    }
    Ok(())
}

/// Whether there was any, and may be more.
fn copy_output(master: &OwnedFd, buffer: &mut [u8]) -> bool {
    let mut fds = [PollFd::new(master, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if !rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) {
        return false;
    }
    match rustix::io::read(master, &mut *buffer) {
        Ok(n) if n > 0 => {
            let mut out = std::io::stdout().lock();
            out.write_all(&buffer[..n]).and_then(|()| out.flush()).is_ok()
        }
        _ => false,
    }
}

/// Whether there will be more.
fn copy_input(master: &OwnedFd, buffer: &mut [u8]) -> bool {
    match std::io::stdin().lock().read(buffer) {
        Ok(n) if n > 0 => {
            let mut left = &buffer[..n];
            while !left.is_empty() {
                match rustix::io::write(master, left) {
                    Ok(written) => left = &left[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        _ => false,
    }
}
