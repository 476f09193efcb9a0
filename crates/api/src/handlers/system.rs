//! `_ping`, `version`, `info`.

use engine::Engine;
use engine::models::{IndexInfo, RegistryServiceConfig};
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
pub fn info(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut info = engine.info()?;
    info.registry_config = Some(registries(&call.server.registry));
    Ok(Reply::json(200, &info))
}

/// Which registries are spoken to in another way than usual.
fn registries(options: &engine::image::registry::Options) -> RegistryServiceConfig {
    let mirrors = |name: &str| {
        let own = options
            .mirrors
            .iter()
            .filter(|(registry, _)| registry == name || registry == "*");
        Some(own.map(|(_, mirror)| format!("https://{mirror}/")).collect::<Vec<_>>())
    };
    let index = |name: &str, official: bool| {
        let info = IndexInfo {
            name: Some(name.to_owned()),
            mirrors: mirrors(name),
            secure: Some(official),
            official: Some(official),
        };
        (name.to_owned(), info)
    };
    let insecure = options.insecure.iter().map(|name| index(name, false));
    RegistryServiceConfig {
        insecure_registry_cidrs: Some(["::1/128", "127.0.0.0/8"].map(String::from).into()),
        index_configs: Some(insecure.chain([index("docker.io", true)]).collect()),
        mirrors: mirrors("docker.io"),
    }
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
