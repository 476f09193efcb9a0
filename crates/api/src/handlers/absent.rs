//! Swarm and plugins, as a dockerd answers that is in no swarm and has no plugins.

use engine::Engine;
use errdefs::{Error, Kind, Result};

use crate::call::{Call, not_yet};
use crate::reply::Reply;

/// Everything that only a manager of a swarm does.
pub fn swarm(_: &Engine, _: &Call) -> Result<Reply> {
    Err(Error::new(
        Kind::Unavailable,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    ))
}

/// There are none.
pub fn plugins(_: &Engine, _: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &Vec::<()>::new()))
}

/// Builds keep nothing, because there are none yet.
pub fn build_prune(_: &Engine, _: &Call) -> Result<Reply> {
    Ok(Reply::json(
        200,
        &serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}),
    ))
}

/// Building images.
pub fn build(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("building images"))
}
