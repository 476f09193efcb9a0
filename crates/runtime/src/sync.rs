//! What the parent and the container's first process (or a process added by exec) tell each other.
//!
//! ```text
//! parent                                         init
//!   |  (writes id maps, joins cgroups, limits)    | waits
//!   |-- Go ------------------------------------>  | root of its namespaces; session, host name, loopback
//!   |  (mounts layers, idmaps bind sources)       |
//!   |-- Descriptors (root, bind sources) x n -->  | mounts, pivots, devices, terminal
//!   |  <------------- Ready (+ terminal's master) |
//!   |-- Execute ------------------------------->  | seccomp, user, capabilities, execve
//!   |  <---- end of stream: executed, or Failed   |
//! ```
//!
//! An init that was made before anybody knew for what (see `newborn`) hears `Become` before everything else.
//!
//! A caller that is not root says `Prepare` in the place of Descriptors: init finds the files itself.
//!
//! Between Descriptors and Ready init says `Idmap` for each mount of what an earlier one made, and waits for `Idmapped`; and
//! `Mounted` if there are hooks of the caller's namespaces, and waits for `Hooked`.
//!
//! Execute comes at once, unless there is a door: then it comes from whoever knocks, who also hears how it went.
//!
//! A filter that passes calls on has a listener: init sends it (`Listener`) as soon as it has one, before it goes on towards
//! execve, to whoever said Execute.
//!
//! At any point init may send `Failed` and exit. A process added by exec gets nothing and sends `Ready` only with a
//! terminal.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step, Wire};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Descriptors in one message; the kernel's limit is 253.
pub const DESCRIPTORS: usize = 64;
/// No message is longer.
const LIMIT: usize = 16 * 1024;

/// To init.
#[derive(Serialize, Deserialize)]
pub enum ToInit {
    /// To one that was made ahead: what it is to be. Comes with the document, and with the standard streams unless there is a
    /// terminal.
    Become {
        /// Of the document.
        bundle: PathBuf,
        /// Lines and characters in a line of a terminal, and whether it is plain.
        terminal: Option<(u16, u16, bool)>,
        /// A reaper stays as process 1.
        reaper: bool,
    },
    /// The ids are mapped, the limits are set.
    Go {
        /// Init's own number, as its parent sees it.
        pid: i32,
        /// The version 1 cgroup hierarchies that were joined, by controller.
        joined: Vec<String>,
    },
    /// Some of the descriptors: the root first, then the bind mounts in the document's order.
    Descriptors {
        /// How many are still to come.
        left: usize,
    },
    /// There are no descriptors: the caller has no rights over mounts, init has them in its own user namespace.
    Prepare,
    /// The mount that came has its mappings.
    Idmapped,
    /// The hooks that wait for the mounts have run.
    Hooked,
    /// Execute the command.
    Execute,
}

/// From init.
#[derive(Serialize, Deserialize)]
pub enum FromInit {
    /// From whoever made init in the user namespace of others; comes with its pidfd.
    Born {
        /// As its parent sees it.
        pid: i32,
    },
    /// Comes with a detached mount: the next one of the document that is [`crate::mounts::idmapped_within`].
    Idmap,
    /// The mounts are made, and hooks wait for them.
    Mounted,
    /// Everything is set up.
    Ready,
    /// Comes with the descriptor at which the calls that the seccomp filter passes on arrive.
    Listener,
    /// Something is not.
    Failed(Wire),
}

/// One end. Keeps the boundaries of messages.
pub struct Socket(OwnedFd);

impl Socket {
    /// Both ends.
    pub fn pair() -> Result<(Socket, Socket)> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .errno_step("make a socket for init")?;
        Ok((Socket(a), Socket(b)))
    }

    /// At a path of any length: a socket's own name is short.
    pub fn listen(path: &Path) -> Result<OwnedFd> {
        let step = "make the door of the container's init";
        let socket = seqpacket(step)?;
        let (_dir, address) = address(path, step)?;
        rustix::net::bind(&socket, &address).errno_step(step)?;
        rustix::net::listen(&socket, 1).errno_step(step)?;
        Ok(socket)
    }

    /// To one that listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let step = "knock at the door of the container's init";
        let socket = seqpacket(step)?;
        let (_dir, address) = address(path, step)?;
        rustix::net::connect(&socket, &address).errno_step(step)?;
        Ok(Socket(socket))
    }

    /// Whoever connects first.
    pub fn accept(door: &OwnedFd) -> Result<Self> {
        loop {
            match rustix::net::accept_with(door, SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(Socket).errno_step("wait at the door"),
            }
        }
    }

    /// Sends one message with descriptors.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message).step("encode a message to init")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .errno_step("talk to the container's init")?;
        Ok(())
    }

    /// Receives one message; `None` at the end of the stream.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LIMIT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                // The other side went without reading everything. That is told once, and before what it had to say.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.errno_step("talk to the container's init")?,
            }
        };
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(Some((
            serde_json::from_slice(&bytes[..got.bytes]).step("decode a message of init")?,
            fds,
        )))
    }

    /// Receives a message that must come.
    pub fn expect<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>)> {
        self.receive()?
            .ok_or_else(|| Error::system("the other side of the container's set-up died"))
    }

    /// Sends the reason of a failure. There is nobody else to tell if that fails.
    pub fn send_failure(&self, error: &Error) {
        let _ = self.send(&FromInit::Failed(error.to_wire()), &[]);
    }
}

fn seqpacket(step: &'static str) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).errno_step(step)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The address of a socket in a directory that is held open.
fn address(path: &Path, step: &'static str) -> Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path.parent().unwrap_or(Path::new("/")), flags, Mode::empty()).errno_step(step)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).errno_step(step)?;
    Ok((dir, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_also_from_who_did_not_listen() {
        let (ours, theirs) = Socket::pair().unwrap();
        ours.send(&ToInit::Execute, &[]).unwrap();
        theirs.send_failure(&Error::invalid("no such directory"));
        drop(theirs);
        let (word, _) = ours.expect::<FromInit>().unwrap();
        assert!(matches!(word, FromInit::Failed(_)));
        assert!(ours.receive::<FromInit>().unwrap().is_none());
    }
}
