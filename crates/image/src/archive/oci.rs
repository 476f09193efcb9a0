//! OCI image layouts (OCI image specification, "Image Layout").

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::files::Files;
use super::{Found, LayerSource};
use crate::{Digest, Platform, Reference, digest_of};

/// Where containerd and buildkit put the full name, and where the specification puts it.
const NAMES: &[&str] = &["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// The images of `index.json` that fit the platform.
pub fn images(files: &Files, platform: &Platform) -> Result<Vec<Found>> {
    let index: ImageIndex = parse(&files.document("index.json")?, "index.json")?;
    let mut list = Vec::new();
    for descriptor in index.manifests() {
        if let Some(found) = image(files, descriptor, platform)? {
            list.push(found);
        }
    }
    match list.is_empty() {
        true => Err(Error::not_found(format!("the archive has no image for {platform}"))),
        false => Ok(list),
    }
}

/// `None` when it is for another platform, or no image at all.
fn image(files: &Files, descriptor: &Descriptor, platform: &Platform) -> Result<Option<Found>> {
    let references = references(descriptor);
    let document = blob(files, descriptor)?;
    let json: serde_json::Value = parse(&document, "a manifest")?;
    if json.get("manifests").is_some() {
        let index: ImageIndex = parse(&document, "an index")?;
        let Ok(chosen) = platform.select(&index, "the archive") else {
            return Ok(None);
        };
        let mut found = image(files, chosen, platform)?;
        if let Some(found) = &mut found {
            found.references.extend(references);
        }
        return Ok(found);
    }
    let manifest: ImageManifest = parse(&document, "a manifest")?;
    let config = blob(files, manifest.config())?;
    let layer = |d: &Descriptor| {
        Ok(LayerSource {
            descriptor: Some(d.clone()),
            section: files.section(&path(d.digest()))?,
        })
    };
    let layers = manifest.layers().iter().map(layer).collect::<Result<_>>()?;
    Ok(Some(Found {
        references,
        config,
        manifest: Some(document),
        layers,
    }))
}

/// Only full names: a bare tag names no image.
fn references(descriptor: &Descriptor) -> Vec<Reference> {
    let annotations = descriptor.annotations().as_ref();
    let names = NAMES
        .iter()
        .filter_map(|n| annotations?.get(*n))
        .filter(|n| n.contains([':', '/']));
    names.filter_map(|n| Reference::parse(n).ok()).take(1).collect()
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// A small document, checked.
fn blob(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let bytes = files.document(&path(descriptor.digest()))?;
    match digest_of(&bytes) == *descriptor.digest() {
        true => Ok(bytes),
        false => Err(Error::invalid(format!(
            "the archive's blob {} is damaged",
            descriptor.digest()
        ))),
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .step_with(|| format!("read the archive's {what}"))
        .map_err(|e| e.kind_is(Kind::Invalid))
}
