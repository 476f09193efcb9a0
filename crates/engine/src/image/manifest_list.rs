//! `manifest create`, `annotate`, `push`, `rm`: a list of manifests that a registry has, put together here, and pushed when it
//! is whole.

use std::io::Read;
use std::path::PathBuf;

use ::image::digest_of;
use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Digest, Reference, registry};
use crate::Engine;
use crate::container::record::{read_json, write_json};

/// A list in the making.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    name: String,
    entries: Vec<Entry>,
}

/// A manifest of it, and where it is.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    media_type: String,
    digest: String,
    size: u64,
    platform: Value,
}

/// What is said of a manifest's platform instead of what its image says.
#[derive(Clone, Debug, Default)]
pub struct Annotation {
    /// `arm64`.
    pub architecture: Option<String>,
    /// `linux`.
    pub os: Option<String>,
    /// `v8`.
    pub variant: Option<String>,
    /// `10.0.17763.1`.
    pub os_version: Option<String>,
    /// `win32k`.
    pub os_features: Vec<String>,
}

impl Engine {
    fn list_path(&self, name: &Reference) -> PathBuf {
        let file = digest_of(name.canonical().as_bytes()).digest().to_owned();
        self.roots.manifest_lists().join(file)
    }

    fn manifest_list(&self, name: &str) -> Result<(Reference, List)> {
        let reference = Reference::parse(name)?;
        let list = read_json(&self.list_path(&reference))?;
        list.map(|list| (reference, list))
            .ok_or_else(|| Error::not_found(format!("No such manifest: {name}")))
    }

    /// Makes a list of manifests, or with `amend` adds to it. Its name.
    pub fn create_manifest_list(
        &self,
        name: &str,
        manifests: &[String],
        amend: bool,
        registry: &registry::Client,
    ) -> Result<String> {
        let reference = Reference::parse(name)?;
        let path = self.list_path(&reference);
        let mut list = match read_json::<List>(&path)? {
            Some(_) if !amend => {
                return Err(Error::conflict(
                    "refusing to amend an existing manifest list with no --amend flag",
                ));
            }
            Some(list) => list,
            None => List {
                name: reference.canonical(),
                entries: Vec::new(),
            },
        };
        for manifest in manifests {
            let entry = describe(&Reference::parse(manifest)?, registry)?;
            list.entries.retain(|e| e.name != entry.name);
            list.entries.push(entry);
        }
        std::fs::create_dir_all(self.roots.manifest_lists()).step("keep the manifest list")?;
        write_json(&path, &list)?;
        Ok(reference.canonical())
    }

    /// Says which platform a manifest of a list is for.
    pub fn annotate_manifest_list(&self, name: &str, manifest: &str, said: &Annotation) -> Result<()> {
        let (reference, mut list) = self.manifest_list(name)?;
        let wanted = Reference::parse(manifest)?.canonical();
        let entry = list.entries.iter_mut().find(|e| e.name == wanted);
        let entry =
            entry.ok_or_else(|| Error::not_found(format!("manifest for image {manifest} does not exist in {name}")))?;
        for (key, value) in [
            ("architecture", &said.architecture),
            ("os", &said.os),
            ("variant", &said.variant),
            ("os.version", &said.os_version),
        ] {
            if let Some(value) = value {
                entry.platform[key] = value.as_str().into();
            }
        }
        if !said.os_features.is_empty() {
            entry.platform["os.features"] = said.os_features.clone().into();
        }
        write_json(&self.list_path(&reference), &list)
    }

    /// A list as it would be pushed.
    pub fn inspect_manifest_list(&self, name: &str) -> Result<Value> {
        Ok(self.manifest_list(name)?.1.document())
    }

    /// Pushes a list, and what of it the repository does not have yet; the list's digest. `purge`: it goes here.
    pub fn push_manifest_list(&self, name: &str, purge: bool, registry: &registry::Client) -> Result<Digest> {
        let (target, list) = self.manifest_list(name)?;
        for entry in &list.entries {
            let source = Reference::parse(&entry.name)?;
            if source.registry != target.registry {
                return Err(Error::invalid(format!(
                    "cannot use source images from a different registry than the target image: {} != {}",
                    source.registry, target.registry
                )));
            }
            if source.repository != target.repository {
                carry(entry, &source, &target, registry)?;
            }
        }
        let document = list.document();
        let kind = MediaType::from(document["mediaType"].as_str().unwrap_or_default());
        let digest = registry.push_manifest(&target, &kind, document.to_string().as_bytes())?;
        if purge {
            self.remove_manifest_list(name)?;
        }
        Ok(digest)
    }

    /// Forgets a list.
    pub fn remove_manifest_list(&self, name: &str) -> Result<()> {
        let (reference, _) = self.manifest_list(name)?;
        std::fs::remove_file(self.list_path(&reference)).step("remove the manifest list")
    }
}

impl List {
    /// OCI's form, unless all of its manifests are Docker's.
    fn document(&self) -> Value {
        let docker = self.entries.iter().all(|e| e.media_type.contains("vnd.docker"));
        let kind = match docker && !self.entries.is_empty() {
            true => "application/vnd.docker.distribution.manifest.list.v2+json",
            false => "application/vnd.oci.image.index.v1+json",
        };
        let entry =
            |e: &Entry| json!({"mediaType": e.media_type, "size": e.size, "digest": e.digest, "platform": e.platform});
        json!({"schemaVersion": 2, "mediaType": kind, "manifests": self.entries.iter().map(entry).collect::<Vec<_>>()})
    }
}

/// A manifest of a registry, and the platform that its configuration says.
fn describe(reference: &Reference, registry: &registry::Client) -> Result<Entry> {
    let found = registry.manifest(reference)?;
    if found.is_index() {
        return Err(Error::invalid(format!("{} is a manifest list", reference.familiar())));
    }
    let manifest = parsed(&found.bytes)?;
    let mut config = Vec::new();
    registry
        .blob(reference, manifest.config())?
        .take(::image::DOCUMENT_LIMIT)
        .read_to_end(&mut config)
        .step("fetch the image's configuration")?;
    let config: Value = serde_json::from_slice(&config).step("read the image's configuration")?;
    Ok(Entry {
        name: reference.canonical(),
        media_type: found.descriptor.media_type().to_string(),
        digest: found.descriptor.digest().to_string(),
        size: found.descriptor.size(),
        platform: super::distribution::platform(&config),
    })
}

fn parsed(bytes: &[u8]) -> Result<ImageManifest> {
    let manifest = serde_json::from_slice(bytes).step("read the manifest");
    manifest.map_err(|e| e.kind_is(Kind::Invalid))
}

/// Brings a manifest from one repository of a registry into another, by mounting its blobs there.
fn carry(entry: &Entry, source: &Reference, target: &Reference, registry: &registry::Client) -> Result<()> {
    let by_digest = |place: &Reference| {
        let digest = entry.digest.parse().step("read a digest")?;
        Ok::<_, Error>(Reference {
            tag: None,
            digest: Some(digest),
            ..place.clone()
        })
    };
    let found = registry.manifest(&by_digest(source)?)?;
    let manifest = parsed(&found.bytes)?;
    let blobs: Vec<&Descriptor> = manifest.layers().iter().chain([manifest.config()]).collect();
    for blob in blobs {
        let there = registry.has_blob(target, blob.digest())?
            || registry.mount_blob(target, blob.digest(), &source.repository)?;
        if !there {
            let mut content = registry.blob(source, blob)?;
            registry.push_blob(target, blob, &mut content)?;
        }
    }
    registry
        .push_manifest(&by_digest(target)?, found.descriptor.media_type(), &found.bytes)
        .map(drop)
}
