//! What state a container is in, told from its lock and its files alone.

use errdefs::Result;

use super::lock;
use super::record::{Ended, Live, read_json};
use crate::Roots;

/// What a container does.
#[derive(Clone, Debug)]
pub enum Status {
    /// It never ran.
    Created,
    /// Its monitor lives.
    Alive(Live),
    /// Its monitor lives but has not said anything yet, or has taken its files away already.
    Changing,
    /// Its monitor is gone without a word: somebody has to reap it.
    Orphaned(Live),
    /// It ran and ended.
    Exited(Ended),
}

/// Looks.
pub fn status(roots: &Roots, id: &str) -> Result<Status> {
    if lock::held(roots, id)? {
        return Ok(read_json(&roots.live_state(id))?.map_or(Status::Changing, Status::Alive));
    }
    if let Some(live) = read_json(&roots.live_state(id))? {
        // It may have ended between our two looks.
        return Ok(if roots.live(id).exists() {
            Status::Orphaned(live)
        } else {
            at_rest(roots, id)?
        });
    }
    at_rest(roots, id)
}

fn at_rest(roots: &Roots, id: &str) -> Result<Status> {
    Ok(read_json(&roots.ended(id))?.map_or(Status::Created, Status::Exited))
}

impl Status {
    /// Whether its first process exists.
    pub fn running(&self) -> Option<&Live> {
        match self {
            Status::Alive(live) if live.pid != 0 => Some(live),
            _ => None,
        }
    }
}
