//! How a front door talks to the monitor of one container, over `LIVE/monitor.sock` (SOCK_STREAM).
//!
//! ```text
//! front door                                   monitor
//!    | {"attach":{...}}\n  ----------------------->|   one JSON request line; exec passes three descriptors with it
//!    |<----------------- {"ok":...}\n or {"error"} |   one JSON answer line (exec: the terminal's master with it)
//!    | frames: Stdin, CloseStdin, Resize --------->|   attach only: frames follow in both directions
//!    |<----------- frames: Stdout, Stderr, Exit ---|
//! ```
#![allow(missing_docs)]

use std::os::fd::OwnedFd;

use errdefs::Result;

/// A frame of an attached stream: Docker's 8-byte header (`[kind, 0, 0, 0, len u32 BE]`) and `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind { Stdin = 0, Stdout = 1, Stderr = 2, /// JSON `Exit`; the last frame
    Exit = 3, /// rows, cols as two u16 BE
    Resize = 4, /// no more input
    CloseStdin = 5 }

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exit { pub code: i32, pub oom_killed: bool, pub error: Option<String>, /// RFC 3339
    pub finished_at: String }

/// An attached container.
pub struct Attached { pub socket: std::os::unix::net::UnixStream, pub tty: bool }

impl Attached {
    /// The next frame, into `buffer`; `None` when the monitor is gone.
    pub fn read_frame(&mut self, _buffer: &mut Vec<u8>) -> Result<Option<FrameKind>> { todo!() }
    pub fn write_frame(&mut self, _kind: FrameKind, _bytes: &[u8]) -> Result<()> { todo!() }
}

/// A process started by `exec`: its streams belong to the front door, its exit is told on the socket.
pub struct ExecProcess { pub pid: i32, pub console: Option<OwnedFd> }
