//! `manifest` and `image referrers`: the documents of a registry, and lists of them.

use base64::Engine as _;
use engine::image::{Annotation, Reference, registry};
use errdefs::{Error, Kind, Result, Step};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::{format, settings};

/// With `--insecure`, also without TLS.
fn registry_for(given: &Given, name: &str) -> Result<registry::Client> {
    let registry = Reference::parse(name)?.registry;
    settings::registry_with(given.on("insecure").then_some(registry))
}

/// A manifest or an index as the registry has it, or a list that is being put together here.
pub fn inspect(given: &Given) -> Result<u8> {
    let name = match &given.words[..] {
        [name] => match settings::engine()?.inspect_manifest_list(name) {
            Err(e) if e.kind() == Kind::NotFound => name,
            list => return print(&list?),
        },
        [_, name] => name,
        _ => {
            return Err(Error::new(
                Kind::Usage,
                "\"berth manifest inspect\" requires at most 2 arguments.",
            ));
        }
    };
    let reference = Reference::parse(name)?;
    let registry = registry_for(given, name)?;
    let manifest = registry.manifest(&reference)?;
    let document: Value = serde_json::from_slice(&manifest.bytes).step("read the manifest")?;
    if !given.on("verbose") {
        return print(&document);
    }
    let Some(entries) = document["manifests"].as_array() else {
        let descriptor = json!({"mediaType": manifest.descriptor.media_type().to_string(),
            "digest": manifest.descriptor.digest().to_string(), "size": manifest.descriptor.size()});
        return print(&verbose(&reference, descriptor, &manifest.bytes, document)?);
    };
    let mut all = Vec::new();
    for entry in entries {
        let digest = entry["digest"]
            .as_str()
            .unwrap_or_default()
            .parse()
            .step("read a digest")?;
        let one = Reference {
            tag: None,
            digest: Some(digest),
            ..reference.clone()
        };
        let found = registry.manifest(&one)?;
        let document = serde_json::from_slice(&found.bytes).step("read the manifest")?;
        all.push(verbose(&one, entry.clone(), &found.bytes, document)?);
    }
    print(&Value::Array(all))
}

/// Docker's form of it.
fn verbose(reference: &Reference, descriptor: Value, bytes: &[u8], document: Value) -> Result<Value> {
    let docker = descriptor["mediaType"]
        .as_str()
        .is_some_and(|t| t.contains("vnd.docker"));
    let key = if docker { "SchemaV2Manifest" } else { "OCIManifest" };
    let raw = base64::prelude::BASE64_STANDARD.encode(bytes);
    Ok(json!({"Ref": reference.canonical(), "Descriptor": descriptor, "Raw": raw, key: document}))
}

fn print(document: &Value) -> Result<u8> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(document, &mut serializer).step("write JSON")?;
    say(&(String::from_utf8_lossy(&bytes).into_owned() + "\n"));
    Ok(0)
}

/// Puts a list together.
pub fn create(given: &Given) -> Result<u8> {
    let (name, manifests) = (&given.words[0], &given.words[1..]);
    let registry = registry_for(given, &manifests[0])?;
    let name = settings::engine()?.create_manifest_list(name, manifests, given.on("amend"), &registry)?;
    say(&format!("Created manifest list {name}\n"));
    Ok(0)
}

/// Says what a manifest of a list is for.
pub fn annotate(given: &Given) -> Result<u8> {
    let text = |name: &str| given.one(name).map(String::from);
    let said = Annotation {
        architecture: text("arch"),
        os: text("os"),
        variant: text("variant"),
        os_version: text("os-version"),
        os_features: given.many("os-features"),
    };
    settings::engine()?
        .annotate_manifest_list(&given.words[0], &given.words[1], &said)
        .map(|()| 0)
}

/// Pushes a list; its digest.
pub fn push(given: &Given) -> Result<u8> {
    let name = &given.words[0];
    let digest = settings::engine()?.push_manifest_list(name, given.on("purge"), &registry_for(given, name)?)?;
    say(&format!("{digest}\n"));
    Ok(0)
}

/// Forgets lists.
pub fn remove(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| engine.remove_manifest_list(name)))
}

/// What refers to an image.
pub fn referrers(given: &Given) -> Result<u8> {
    let reference = Reference::parse(&given.words[0])?;
    let registry = settings::registry()?;
    let found = settings::engine()?.referrers(&reference, given.one("artifact-type"), &registry)?;
    let row = |d: &engine::image::Descriptor| {
        let kind = d.artifact_type().as_ref().map(|t| t.to_string()).unwrap_or_default();
        let annotations: Value = d
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
            .collect();
        json!({"Digest": d.digest().to_string(), "ArtifactType": clean(&kind), "Size": format::human_size(d.size() as i64),
            "Annotations": annotations})
    };
    let rows: Vec<Value> = found.iter().map(row).collect();
    let columns = [
        ("DIGEST", "Digest"),
        ("ARTIFACT TYPE", "ArtifactType"),
        ("SIZE", "Size"),
    ];
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

/// Nothing that a terminal takes for a command.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
