//! The one error type of the project: a kind, what failed, an optional hint, and the cause below it.
//!
//! The kinds are moby's (`errdefs/defs.go`); HTTP status and exit code follow from the kind alone
//! ([`Kind::http_status`], [`Kind::exit_code`]), nowhere else. An error crosses processes as [`Wire`].

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The project's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is: decides the HTTP status and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The request is malformed or contradicts itself.
    Invalid,
    /// The command line has too few or too many words, or lacks its terminal.
    Usage,
    /// A flag of the command line is unknown, or its value makes no sense: told before the command begins.
    Flag,
    /// The request clashes with the object's present state or with another object.
    Conflict,
    /// The caller has not shown who it is.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// The object is in that state already.
    NotModified,
    /// A service that is needed (a registry, a monitor) does not answer.
    Unavailable,
    /// Berth does not do this (yet).
    NotImplemented,
    /// No space, no ids, no addresses left.
    Exhausted,
    /// The caller gave up.
    Cancelled,
    /// The container's command was not found (exit code 127).
    CommandNotFound,
    /// The container's command cannot be executed (exit code 126).
    CommandNotExecutable,
    /// A process that was to be added cannot be, for another reason than its command (exit code 128).
    ProcessNotAdded,
    /// Anything else: the kernel or the host refused.
    System,
}

impl Kind {
    /// The status that Docker's API answers with.
    pub fn http_status(self) -> u16 {
        match self {
            Kind::NotModified => 304,
            Kind::Invalid
            | Kind::Usage
            | Kind::Flag
            | Kind::CommandNotFound
            | Kind::CommandNotExecutable
            | Kind::ProcessNotAdded => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::NotImplemented => 501,
            Kind::Unavailable => 503,
            Kind::Exhausted | Kind::Cancelled | Kind::System => 500,
        }
    }

    /// The exit code of `run`, `create`, `start` and `exec` when the engine, not the command, failed.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            Kind::ProcessNotAdded => 128,
            Kind::Usage => 1,
            _ => 125,
        }
    }

    /// The kind that a bare errno most often means.
    pub fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::NotFound,
            E::PermissionDenied => Kind::Forbidden,
            E::AlreadyExists => Kind::Conflict,
            E::StorageFull | E::QuotaExceeded => Kind::Exhausted,
            _ => Kind::System,
        }
    }
}

/// A failure: its kind, one line that names the thing and the step, a hint, and the cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    errno: Option<i32>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure without a cause below it.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            errno: None,
            source: None,
        }))
    }

    /// `Kind::NotFound`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// `Kind::Invalid`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// `Kind::Flag`.
    pub fn flag(message: impl Into<String>) -> Self {
        Self::new(Kind::Flag, message)
    }

    /// `Kind::Conflict`.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// `Kind::NotImplemented`: "WHAT: not supported yet".
    pub fn not_yet(what: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotImplemented, format!("{what}: not supported yet"))
    }

    /// `Kind::System`.
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Kind::System, message)
    }

    /// A failure at `step` caused by `source`; an I/O error decides the kind.
    pub fn caused(step: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        let (mut kind, mut errno) = (Kind::System, None);
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            (kind, errno) = (Kind::of_io(io), io.raw_os_error());
        } else if let Some(error) = source.downcast_ref::<Error>() {
            (kind, errno) = (error.kind(), error.errno());
        }
        Error(Box::new(Inner {
            kind,
            message: step.into(),
            hint: None,
            errno,
            source: Some(source),
        }))
    }

    /// The same failure, under another kind.
    pub fn kind_is(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds what the user can do about it; a hint that is there already stays.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.given_hint().is_none() {
            self.0.hint = Some(hint.into());
        }
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The errno at the bottom, if the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// The hint of this error or of a cause below it; what a call that the kernel does not know means, if there is none.
    pub fn find_hint(&self) -> Option<&str> {
        let unknown = || (self.errno() == Some(ENOSYS)).then_some(TOO_OLD);
        self.given_hint().or_else(unknown)
    }

    fn given_hint(&self) -> Option<&str> {
        let below = || self.0.source.as_ref()?.downcast_ref::<Error>()?.given_hint();
        self.0.hint.as_deref().or_else(below)
    }

    /// The form in which an error crosses to another process.
    pub fn to_wire(&self) -> Wire {
        Wire {
            kind: self.kind(),
            message: self.to_string(),
            hint: self.find_hint().map(Into::into),
            errno: self.errno(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut cause: Option<&(dyn StdError + 'static)> = self.0.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref::<Error>() {
                return write!(f, ": {ours}");
            }
            write!(f, ": {}", Plain(error))?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Prints an I/O error as the kernel's words without Rust's `(os error N)`.
struct Plain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let cut = text.rfind(" (os error ").unwrap_or(text.len());
        let mut words = text[..cut].chars();
        match self.0.downcast_ref::<std::io::Error>().and(words.next()) {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), words.as_str()),
            None => f.write_str(&text),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {}

/// An [`Error`] as it crosses processes: the causes are already in the message, the errno stays a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wire {
    /// What sort of failure it is.
    pub kind: Kind,
    /// The whole chain in one line.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The errno at the bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

impl From<Wire> for Error {
    fn from(w: Wire) -> Self {
        Error(Box::new(Inner {
            kind: w.kind,
            message: w.message,
            hint: w.hint,
            errno: w.errno,
            source: None,
        }))
    }
}

const ENOSYS: i32 = 38;
const TOO_OLD: &str = "this kernel is too old for it, or was built without it: Berth runs on Linux 5.10 and newer";

/// Names the step at which a call failed.
pub trait Step<T> {
    /// `Err(e)` becomes "step: e".
    fn step(self, step: impl Into<String>) -> Result<T>;
    /// The same, building the words only when they are needed.
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::caused(step, e))
    }
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::caused(step(), e))
    }
}

/// The same for rustix's errno, which is not boxed as an I/O error by itself.
pub trait ErrnoStep<T> {
    /// `Err(errno)` becomes "step: errno's words".
    fn errno_step(self, step: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> ErrnoStep<T> for std::result::Result<T, E> {
    fn errno_step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::caused(step, e.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_line_and_the_errno_survives_the_wire() {
        let low: Result<()> = Err(std::io::Error::from_raw_os_error(2)).step("open /etc/x");
        let high = low.step("read the file").unwrap_err().hint("make it");
        assert_eq!(
            high.to_string(),
            "read the file: open /etc/x: no such file or directory"
        );
        let back = Error::from(high.to_wire());
        assert_eq!(
            (back.kind(), back.errno(), back.find_hint()),
            (Kind::NotFound, Some(2), Some("make it"))
        );
    }
}
