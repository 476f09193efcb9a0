//! Images: everything that is one call and one answer.

use compat::report::{Report, Row};
use compat::{Depth, Host};
use engine::Engine;
use engine::image::Platform;
use errdefs::{Error, Result, Step};
use serde::Deserialize;
use serde_json::Value;

use crate::call::Call;
use crate::gowords;
use crate::reply::Reply;

/// `docker images`.
pub fn list(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut filters = call.filters()?;
    // Before 1.41 a name alone was a filter.
    if !call.since(41)
        && let Some(name) = call.query.text("filter")
    {
        filters.push(("reference".into(), name.into()));
    }
    Ok(Reply::json(200, &engine.images(&filters, call.query.on("all"))?))
}

/// `docker image inspect`.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    let platform = platforms(call, "platform")?.pop();
    let image = engine.inspect_image(call.name(), platform.as_ref())?;
    let mut body = serde_json::to_value(&image).step("write the answer")?;
    // What the generated types do not have any more.
    let origin = engine.image_origin(image.id.as_deref().unwrap_or_default())?;
    if let (Some(body), Value::Object(origin)) = (body.as_object_mut(), origin) {
        body.extend(origin);
    }
    Ok(Reply::json(200, &body))
}

/// Whether it runs on this kernel: the document of `berth compat --format json`.
pub fn verdict(engine: &Engine, call: &Call) -> Result<Reply> {
    let (host, case) = (Host::probe(), engine.image_case(call.name(), &[], Depth::default())?);
    let verdict = case.verdict(&host);
    let row = Row {
        name: verdict.name.clone(),
        verdicts: vec![verdict],
        calls: Vec::new(),
        error: None,
    };
    Ok(Reply::json(200, &Report::new(vec![host], vec![row])))
}

/// `docker history`.
pub fn history(engine: &Engine, call: &Call) -> Result<Reply> {
    let platform = platforms(call, "platform")?.pop();
    Ok(Reply::json(200, &engine.history(call.name(), platform.as_ref())?))
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
    let platforms = platforms(call, "platforms")?;
    let done = engine.remove_image(call.name(), call.query.on("force"), &platforms)?;
    Ok(Reply::json(200, &done))
}

/// Platforms as the API has them in a query: JSON, each in a parameter of its own.
pub fn platforms(call: &Call, parameter: &str) -> Result<Vec<Platform>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Asked {
        os: String,
        architecture: String,
        variant: String,
    }
    let parse = |text: String| {
        let bad = |e: serde_json::Error| gowords::syntax(text.as_bytes()).unwrap_or_else(|| e.to_string());
        let asked: Asked =
            serde_json::from_str(&text).map_err(|e| Error::invalid(format!("failed to parse platform: {}", bad(e))))?;
        if asked.os.is_empty() || asked.architecture.is_empty() {
            return Err(Error::invalid("both OS and Architecture must be provided"));
        }
        let parts = [asked.os, asked.architecture, asked.variant];
        let named: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        Platform::parse(&named.join("/"))
    };
    call.query.all(parameter).into_iter().map(parse).collect()
}
