//! Containers: create, start, attach, exec, stop, remove, list, logs.
//!
//! One verb a file. What lasts of a container is its [`Record`] (written once, by `create`) and its [`Ended`] (written
//! by its monitor); what is live is [`Live`] and the monitor's lock. Nothing else tells what state it is in: see
//! [`status`].

pub mod amend;
pub mod archive;
pub mod create;
pub mod early;
pub mod exec;
pub mod exec_object;
pub mod files;
mod inside;
pub mod inspect;
pub mod life;
pub mod list;
pub mod lock;
pub mod logs;
pub mod merge;
pub mod mounts;
pub mod names;
pub(crate) mod parts;
pub mod prune;
pub mod reap;
pub mod record;
pub mod refuse;
pub mod remove;
pub mod spawn;
pub mod stats;
pub mod status;
pub mod top;

pub use archive::{PathStat, PutOptions};
pub use exec::{ExecOptions, Execed};
pub use life::WaitCondition;
pub use list::ListOptions;
pub use logs::{LogEntry, LogOptions, LogStream};
pub use record::{Ended, Live, LiveStatus, Record};
pub use stats::StatsReader;
