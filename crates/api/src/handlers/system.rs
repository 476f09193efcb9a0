//! `_ping`, `version`, `info`.

use engine::Engine;
use errdefs::Result;
use hyper::header::{CACHE_CONTROL, HeaderName, PRAGMA};

use crate::call::Call;
use crate::reply::Reply;

/// What clients ask first.
pub fn ping(_: &Engine, _: &Call) -> Result<Reply> {
    Ok(pinged("OK"))
}

/// The same, without a body.
pub fn ping_head(_: &Engine, _: &Call) -> Result<Reply> {
    Ok(pinged(""))
}

fn pinged(body: &'static str) -> Reply {
    Reply::text(body)
        .header(CACHE_CONTROL, "no-cache, no-store, must-revalidate")
        .header(PRAGMA, "no-cache")
        .header(HeaderName::from_static("builder-version"), "1")
        .header(HeaderName::from_static("swarm"), "inactive")
}

/// `docker version`.
pub fn version(engine: &Engine, _: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.version()))
}

/// `docker info`.
pub fn info(engine: &Engine, _: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.info()?))
}
