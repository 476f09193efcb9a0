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

/// Beginning one, and joining one of others.
pub fn no_swarms(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("swarms"))
}

/// There is nothing to leave.
pub fn leave(_: &Engine, _: &Call) -> Result<Reply> {
    Err(Error::new(Kind::Unavailable, "This node is not part of a swarm"))
}

/// Only volumes of a swarm can be changed.
pub fn cluster_volume(_: &Engine, _: &Call) -> Result<Reply> {
    Err(Error::new(
        Kind::Unavailable,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

/// A dockerd has them in its experimental mode alone.
pub fn checkpoints(_: &Engine, _: &Call) -> Result<Reply> {
    Err(Error::new(
        Kind::NotImplemented,
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to \
         enable it.",
    ))
}

/// There are none.
pub fn plugins(_: &Engine, call: &Call) -> Result<Reply> {
    call.filters()?;
    Ok(Reply::json(200, &Vec::<()>::new()))
}

/// Nor one of that name.
pub fn plugin(_: &Engine, call: &Call) -> Result<Reply> {
    Err(Error::not_found(format!("plugin {:?} not found", call.name())))
}

/// Nor a way to have one.
pub fn no_plugins(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("plugins"))
}

/// Builds keep nothing, because there are none yet.
pub fn build_prune(_: &Engine, call: &Call) -> Result<Reply> {
    call.filters()?;
    for name in ["keep-storage", "reserved-space", "max-used-space", "min-free-space"] {
        if let Err(error) = call.query.number(name) {
            let text = call.query.text(name).unwrap_or_default();
            let words = format!("{name} is in bytes and expects an integer, got {text}: {error}");
            return Err(Error::invalid(words));
        }
    }
    Ok(Reply::json(
        200,
        &serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}),
    ))
}

/// Building images.
pub fn build(_: &Engine, _: &Call) -> Result<Reply> {
    Err(not_yet("building images"))
}
