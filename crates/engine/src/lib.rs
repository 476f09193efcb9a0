//! Docker's objects and verbs over the crates of level 1: the one library behind every front door.
//!
//! It never prints and never reads the user's environment. Requests and answers are Docker's own bodies
//! ([`models`], generated from Docker's API description).

pub mod container;
pub mod emulate;
pub mod event;
mod filters;
pub mod human;
pub mod image;
pub mod link;
pub mod mend;
pub mod names;
pub mod network;
pub mod paths;
pub mod predict;
pub mod signal;
pub mod spec;
pub mod state;
pub mod system;
pub mod users;
pub mod volume;
pub mod watch;
pub mod why;

pub use bollard_stubs::models;
pub use errdefs::{Error, Kind, Result};
pub use paths::Roots;

/// The engine: its state on disk, opened. Cheap to open; every front door has its own.
pub struct Engine {
    /// Where everything is.
    pub roots: Roots,
    /// What must be unique or counted.
    pub(crate) state: state::State,
    /// Layers as directories.
    pub(crate) layers: snapshot::Store,
    /// Manifests and configurations by digest.
    pub(crate) content: ::image::content::Store,
}

impl Engine {
    /// Opens (makes, the first time) the state below `roots`.
    pub fn open(roots: Roots) -> Result<Engine> {
        roots.make()?;
        Ok(Engine {
            state: state::State::open(&roots.database())?,
            layers: snapshot::Store::open(&roots.layers())?,
            content: ::image::content::Store::open(&roots.content())?,
            roots,
        })
    }

    /// Unpacks no layer that has more bytes of content: where decompression bombs end.
    pub fn limit_layers(&mut self, bytes: u64) {
        self.layers.limit_layers(bytes);
    }
}
