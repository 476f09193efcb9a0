//! One file a command, or a few that belong together.

pub mod api;
pub mod archives;
pub mod attach;
pub mod commit;
pub mod completion;
pub mod cp;
pub mod events;
pub mod exec;
pub mod history;
pub mod images;
pub mod info;
pub mod inspect;
pub mod lifecycle;
pub mod listing;
pub mod logs;
pub mod progress;
pub mod prune;
pub mod ps;
pub mod run;
pub mod stats;
pub mod tour;
pub mod update;
pub mod usage;
pub mod volume;
pub mod why;
