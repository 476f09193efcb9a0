//! Processes added to a container.

use engine::Engine;
use errdefs::Result;

use crate::call::{Call, not_yet};
use crate::reply::Reply;

/// Makes one.
pub fn create(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("exec over the API"))
}

/// Starts it.
pub async fn start(_: Call) -> Result<Reply> {
    Err(not_yet("exec over the API"))
}

/// Its terminal's size.
pub fn resize(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("exec over the API"))
}

/// Everything about it.
pub fn inspect(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("exec over the API"))
}
