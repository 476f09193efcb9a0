//! `inspect`: containers, images, volumes.

use engine::Engine;
use engine::image::Platform;
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
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let template = given.one("format").is_some_and(|format| format != "json");
    if !["", "container", "image", "volume"].contains(&typ) {
        return Err(Error::invalid(format!("unknown type: {typ:?}")));
    }
    let (mut documents, mut code) = (Vec::new(), 0);
    for name in &given.words {
        match find(&engine, name, typ, given.on("size"), platform.as_ref()) {
            Ok(mut document) => {
                // No key of the JSON, but a field to templates: `{{if .State.Health}}`.
                if template && let Some(Value::Object(state)) = document.get_mut("State") {
                    state.entry("Health").or_insert(Value::Null);
                }
                documents.push(document);
            }
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

/// Docker's documents have a key for what was not set, too: scripts ask for `.HostConfig.PidMode` without looking first.
fn fill_unset(document: &mut Value) -> Result<()> {
    let unset: Value = serde_json::from_str(include_str!("unset.json")).step("read the settings that can be unset")?;
    for (part, fields) in unset.as_object().into_iter().flatten() {
        let (Some(Value::Object(there)), Value::Object(fields)) = (document.get_mut(part), fields) else {
            continue;
        };
        for (key, value) in fields {
            there.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(())
}

fn find(engine: &Engine, name: &str, typ: &str, size: bool, platform: Option<&Platform>) -> Result<Value> {
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
        let mut document = json(serde_json::to_value(found))?;
        fill_unset(&mut document)?;
        Ok(document)
    };
    let attempts: [(&str, &dyn Fn() -> Result<Value>); 3] = [
        ("container", &container),
        ("image", &|| {
            json(serde_json::to_value(engine.inspect_image(name, platform)?))
        }),
        ("volume", &|| json(serde_json::to_value(engine.volume(name)?))),
    ];
    for (kind, attempt) in attempts.iter().filter(|(kind, _)| typ.is_empty() || typ == *kind) {
        match attempt() {
            Err(e) if platform.is_some() => return Err(e),
            Err(e) if typ.is_empty() && matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {}
            Err(e) if e.kind() == Kind::NotFound => return Err(Error::not_found(format!("No such {kind}: {name}"))),
            other => return other,
        }
    }
    Err(Error::not_found(format!("No such object: {name}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_was_not_set_has_a_key_and_what_was_set_stays() {
        let mut document = json!({"HostConfig": {"PidMode": "host", "Memory": 5}, "Config": {"User": "www"}});
        super::fill_unset(&mut document).unwrap();
        let host = &document["HostConfig"];
        assert_eq!((&host["PidMode"], &host["Memory"]), (&json!("host"), &json!(5)));
        assert_eq!((&host["IpcMode"], host.get("Binds")), (&json!(""), Some(&json!(null))));
        assert_eq!(document["Config"]["User"], "www");
        assert!(document["Config"].get("Entrypoint").is_some());
    }
}
