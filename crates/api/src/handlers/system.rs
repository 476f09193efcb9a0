//! `_ping`, `version`, `info`.

use engine::Engine;
use errdefs::{Error, Result};
use hyper::header::{CACHE_CONTROL, HeaderName, PRAGMA};

use serde_json::Value;

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

/// `docker system df`.
pub fn disk_usage(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut usage = serde_json::to_value(engine.disk_usage()?).unwrap_or_default();
    let wanted = call.query.all("type");
    let kinds = [
        ("container", "Containers"),
        ("image", "Images"),
        ("volume", "Volumes"),
        ("build-cache", "BuildCache"),
    ];
    if let Some(unknown) = wanted.iter().find(|w| !kinds.iter().any(|(kind, _)| kind == w)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    for (kind, field) in kinds
        .iter()
        .filter(|(kind, _)| !wanted.is_empty() && !wanted.iter().any(|w| w == kind))
    {
        usage[*field] = Value::Null;
        if *kind == "image" {
            usage["LayersSize"] = 0.into();
        }
    }
    Ok(Reply::json(200, &usage))
}
