//! The monitor's ends of the container's standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::link::FrameKind;
use errdefs::{ErrnoStep, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Three pipes, or one terminal.
#[derive(Default)]
pub struct Streams {
    /// Its standard input, if it has one.
    pub input: Option<OwnedFd>,
    /// Its standard output.
    pub output: Option<OwnedFd>,
    /// Its standard error.
    pub error: Option<OwnedFd>,
    /// All three at once.
    pub terminal: Option<OwnedFd>,
}

/// What one read gave.
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at present.
    Later,
    /// There will be no more.
    End,
}

impl Streams {
    /// Those of a container with a terminal.
    pub fn terminal(master: OwnedFd) -> Result<Self> {
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK).errno_step("make the terminal non-blocking")?;
        Ok(Streams {
            terminal: Some(master),
            ..Default::default()
        })
    }

    /// What the container's output comes from.
    pub fn source(&self, kind: FrameKind) -> Option<BorrowedFd<'_>> {
        match kind {
            FrameKind::Stdout => self.terminal.as_ref().or(self.output.as_ref()).map(|f| f.as_fd()),
            FrameKind::Stderr => self.error.as_ref().map(|f| f.as_fd()),
            _ => None,
        }
    }

    /// What its input goes to.
    pub fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().or(self.input.as_ref()).map(|f| f.as_fd())
    }

    /// Reads what is there.
    pub fn read(&self, kind: FrameKind, buffer: &mut [u8]) -> Read {
        let Some(fd) = self.source(kind) else { return Read::End };
        loop {
            return match rustix::io::read(fd, &mut *buffer) {
                Ok(0) => Read::End,
                Ok(n) => Read::Bytes(n),
                Err(Errno::AGAIN) => Read::Later,
                Err(Errno::INTR) => continue,
                // A terminal whose other side nobody has open any more.
                Err(_) => Read::End,
            };
        }
    }

    /// Nothing more comes from there. A terminal stays open: its size can still be set.
    pub fn close(&mut self, kind: FrameKind) {
        match kind {
            FrameKind::Stdout => self.output = None,
            FrameKind::Stderr => self.error = None,
            _ => self.input = None,
        }
    }

    /// Gives the terminal another size.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(terminal) = &self.terminal {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // It may have ended just now.
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }
}
