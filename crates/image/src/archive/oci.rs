//! OCI image layouts (OCI image specification, "Image Layout").

use std::sync::Arc;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::files::Files;
use super::{Found, LayerSource};
use crate::{Digest, Platform, Reference, digest_of};

/// Where containerd and buildkit put the full name, and where the specification puts it.
const NAMES: &[&str] = &["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Bytes of all manifests and configurations of an archive.
const DOCUMENTS: usize = 256 << 20;

/// Whether an image of `index.json` is one for several platforms.
pub fn has_several_platforms(files: &Files) -> Result<bool> {
    let index: ImageIndex = parse(&files.document("index.json")?, "index.json")?;
    let several = |d: &Descriptor| {
        let kind = d.media_type().to_string();
        kind.contains("index") || kind.contains("manifest.list")
    };
    Ok(index.manifests().iter().any(several))
}

/// All images that are in the archive: what an index names need not be there.
pub fn images(files: &Files) -> Result<Vec<Found>> {
    let index: ImageIndex = parse(&files.document("index.json")?, "index.json")?;
    let (mut list, mut bytes) = (Vec::new(), 0);
    let mut add = |found: Found| {
        bytes += found.config.len() + found.manifest.as_ref().map_or(0, Vec::len);
        if bytes > DOCUMENTS {
            return Err(Error::invalid("the archive has too many manifests"));
        }
        list.push(found);
        Ok(())
    };
    for descriptor in index.manifests() {
        let references = references(descriptor);
        let document = blob(files, descriptor)?;
        let json: serde_json::Value = parse(&document, "a manifest")?;
        if json.get("manifests").is_none() {
            add(image(files, document, references, None)?)?;
            continue;
        }
        let (index, whole) = (parse(&document, "an index")?, Arc::<[u8]>::from(document));
        for descriptor in Platform::images(&index).filter(|d| files.has(&path(d.digest()))) {
            let document = blob(files, descriptor)?;
            add(image(files, document, references.clone(), Some(whole.clone()))?)?;
        }
    }
    match list.is_empty() {
        true => Err(Error::not_found("the archive has no image")),
        false => Ok(list),
    }
}

fn image(files: &Files, document: Vec<u8>, references: Vec<Reference>, index: Option<Arc<[u8]>>) -> Result<Found> {
    let manifest: ImageManifest = parse(&document, "a manifest")?;
    let layer = |d: &Descriptor| {
        Ok(LayerSource {
            descriptor: Some(d.clone()),
            section: files.section(&path(d.digest()))?,
        })
    };
    Ok(Found {
        references,
        config: blob(files, manifest.config())?,
        layers: manifest.layers().iter().map(layer).collect::<Result<_>>()?,
        manifest: Some(document),
        index,
    })
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
