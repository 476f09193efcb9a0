//! Images: everything that is one call and one answer.

use engine::Engine;
use errdefs::{Error, Result};

use crate::call::Call;
use crate::reply::Reply;

/// `docker images`.
pub fn list(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut filters = call.filters()?;
    // Before 1.25 a name alone was a filter.
    if !call.since(25)
        && let Some(name) = call.query.text("filter")
    {
        filters.push(("reference".into(), name.into()));
    }
    Ok(Reply::json(200, &engine.images(&filters, call.query.on("all"))?))
}

/// `docker image inspect`.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.inspect_image(call.name())?))
}

/// `docker history`.
pub fn history(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.history(call.name())?))
}

/// `docker image prune`.
pub fn prune(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.prune_images(&call.filters()?)?))
}

/// `docker tag`.
pub fn tag(engine: &Engine, call: &Call) -> Result<Reply> {
    let repository = call
        .query
        .text("repo")
        .ok_or_else(|| Error::invalid("invalid reference format"))?;
    engine.tag(call.name(), &name_and_tag(repository, call.query.text("tag")))?;
    Ok(Reply::status(201))
}

/// A name with its tag, or its digest.
pub fn name_and_tag(name: &str, tag: Option<&str>) -> String {
    match tag {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    }
}

/// `docker rmi`.
pub fn delete(engine: &Engine, call: &Call) -> Result<Reply> {
    let done = engine.remove_image(call.name(), call.query.on("force"))?;
    Ok(Reply::json(200, &done))
}
