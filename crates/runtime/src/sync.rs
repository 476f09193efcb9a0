//! What the parent and the container's first process (or a process added by exec) tell each other.
//!
//! ```text
//! parent                                         init
//!   |  (writes id maps, joins cgroups, limits)    | waits
//!   |-- Go ------------------------------------>  | root of its namespaces; session, host name, loopback
//!   |  (mounts layers, idmaps bind sources)       |
//!   |-- Descriptors (root, bind sources) x n -->  | mounts, pivots, devices, terminal
//!   |  <------------- Ready (+ terminal's master) |
//!   |-- Execute (at once when there is no gate) ->| seccomp, user, capabilities, execve
//!   |  <---- end of stream: executed, or Failed   |
//! ```
//!
//! At any point init may send `Failed` and exit. A process added by exec gets nothing and sends `Ready` only with a
//! terminal.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use errdefs::{ErrnoStep, Error, Result, Step, Wire};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Descriptors in one message; the kernel's limit is 253.
pub const DESCRIPTORS: usize = 64;
/// No message is longer.
const LIMIT: usize = 16 * 1024;

/// To init.
#[derive(Serialize, Deserialize)]
pub enum ToInit {
    /// The ids are mapped, the limits are set.
    Go {
        /// The version 1 cgroup hierarchies that were joined, by controller.
        joined: Vec<String>,
    },
    /// Some of the descriptors: the root first, then the bind mounts in the document's order.
    Descriptors {
        /// How many are still to come.
        left: usize,
    },
    /// Execute the command.
    Execute,
}

/// From init.
#[derive(Serialize, Deserialize)]
pub enum FromInit {
    /// Everything is set up.
    Ready,
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
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
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
