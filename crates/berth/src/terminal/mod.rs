//! The user's terminal: its size, raw mode, the keys that detach, and the pump between it and a container.

mod keys;
mod pump;

use rustix::termios::{OptionalActions, Termios};

pub use keys::Keys;
pub use pump::{Ended, attached, attached_to, execed, signals};

/// Rows and columns of the terminal that we write to; zeros without one.
pub fn size() -> (u16, u16) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Whether standard input is a terminal.
pub fn stdin_is() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
}

/// Whether standard output is a terminal.
pub fn stdout_is() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout())
}

/// Raw mode as long as this lives.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// `None` if standard input is no terminal.
    pub fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
