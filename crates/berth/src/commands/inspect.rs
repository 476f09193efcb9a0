//! `inspect`: containers, images, volumes.

use engine::Engine;
use errdefs::{Error, Kind, Result, Step};
use serde_json::Value;

use super::listing;
use crate::cli::flag::Given;
use crate::{output, settings};

/// Prints everything about objects; what is not there is told, and the rest printed all the same.
pub fn inspect(given: &Given) -> Result<u8> {
    of_type(given, given.one("type").unwrap_or_default())
}

/// `container inspect`.
pub fn container(given: &Given) -> Result<u8> {
    of_type(given, "container")
}

/// `image inspect`.
pub fn image(given: &Given) -> Result<u8> {
    of_type(given, "image")
}

fn of_type(given: &Given, typ: &str) -> Result<u8> {
    let engine = settings::engine()?;
    if !["", "container", "image", "volume"].contains(&typ) {
        return Err(Error::invalid(format!("unknown type: {typ:?}")));
    }
    let (mut documents, mut code) = (Vec::new(), 0);
    for name in &given.words {
        match find(&engine, name, typ, given.on("size")) {
            Ok(document) => documents.push(document),
            Err(error) => {
                output::complain(&error);
                code = 1;
            }
        }
    }
    if given.one("format").is_none() || !documents.is_empty() {
        listing::print_documents(given.one("format"), &documents)?;
    }
    Ok(code)
}

fn find(engine: &Engine, name: &str, typ: &str, size: bool) -> Result<Value> {
    let json = |value: serde_json::Result<Value>| value.step("write JSON");
    let container = || {
        let mut found = engine.inspect(name)?;
        if size {
            let sizes = engine.list(&engine::container::ListOptions {
                all: true,
                size: true,
                filters: vec![("id".into(), found.id.clone().unwrap_or_default())],
                ..Default::default()
            })?;
            (found.size_rw, found.size_root_fs) = sizes.first().map_or((None, None), |c| (c.size_rw, c.size_root_fs));
        }
        json(serde_json::to_value(found))
    };
    let attempts: [(&str, &dyn Fn() -> Result<Value>); 3] = [
        ("container", &container),
        ("image", &|| json(serde_json::to_value(engine.inspect_image(name)?))),
        ("volume", &|| json(serde_json::to_value(engine.volume(name)?))),
    ];
    for (kind, attempt) in attempts.iter().filter(|(kind, _)| typ.is_empty() || typ == *kind) {
        match attempt() {
            Err(e) if typ.is_empty() && matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {}
            Err(e) if e.kind() == Kind::NotFound => return Err(Error::not_found(format!("No such {kind}: {name}"))),
            other => return other,
        }
    }
    Err(Error::not_found(format!("No such object: {name}")))
}
