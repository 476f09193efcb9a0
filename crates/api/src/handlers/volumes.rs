//! Volumes.

use engine::Engine;
use engine::models::{VolumeCreateRequest, VolumeListResponse};
use errdefs::{Error, Result};

use crate::call::Call;
use crate::decode;
use crate::reply::Reply;

/// `docker volume ls`.
pub fn list(engine: &Engine, call: &Call) -> Result<Reply> {
    let bad = |e| Error::invalid(format!("error reading volume filters: {e}"));
    let filters = call.filters().map_err(bad)?;
    let body = VolumeListResponse {
        volumes: Some(engine.volumes(&filters)?),
        warnings: Some(Vec::new()),
    };
    Ok(Reply::json(200, &body))
}

/// `docker volume create`.
pub fn create(engine: &Engine, call: &Call) -> Result<Reply> {
    let request: VolumeCreateRequest = decode::lenient(&call.headers, &call.body, &[])?;
    Ok(Reply::json(201, &engine.create_volume(&request)?))
}

/// `docker volume inspect`.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.volume(call.name())?))
}

/// `docker volume rm`.
pub fn delete(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.remove_volume(call.name(), call.query.on("force"))?;
    Ok(Reply::nothing())
}

/// `docker volume prune`. Before 1.42 all unused ones were meant.
pub fn prune(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut filters = call.filters()?;
    if !call.since(42) {
        filters.push(("all".into(), "true".into()));
    }
    Ok(Reply::json(200, &engine.prune_volumes(&filters)?))
}
