//! Writing archives in the shape of Docker 25 and later: an OCI layout with `manifest.json` beside it, which old and new
//! Docker, skopeo and podman all read.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use errdefs::{Result, Step};
use serde_json::{Value, json};

use super::docker::Item;
use super::files::nameless;
use crate::{Digest, Platform, Reference, digest_of};

/// Writes one layer's plain tar.
pub type WriteLayer<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>;

/// What a name stands for.
pub struct Saved<'a> {
    /// The names; without any it is saved by its digest alone.
    pub references: Vec<Reference>,
    /// Its image, or those for several platforms: the first is the one that older programs see.
    pub variants: Vec<SavedVariant<'a>>,
}

/// One image to save.
pub struct SavedVariant<'a> {
    /// Told where there are several.
    pub platform: Option<Platform>,
    /// The configuration, byte by byte.
    pub config: Vec<u8>,
    /// Its digest: the image's id.
    pub config_digest: Digest,
    /// diff id and content; bottom first.
    pub layers: Vec<(Digest, WriteLayer<'a>)>,
}

/// Writes an archive. `spool` takes one layer at a time: a tar wants sizes first.
pub fn save(images: &[Saved<'_>], out: &mut dyn Write, spool: &Path) -> Result<()> {
    let mut archive = Archive {
        tar: tar::Builder::new(out),
        sizes: BTreeMap::new(),
    };
    let (mut items, mut descriptors) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in images {
        let whole = archive.image(image, spool)?;
        let descriptor = |annotations: Value| {
            let mut descriptor = whole.clone();
            descriptor["annotations"] = annotations;
            descriptor
        };
        if image.references.is_empty() {
            descriptors.push(descriptor(json!({})));
        }
        let Some(first) = image.variants.first() else { continue };
        for reference in &image.references {
            let tag = reference.tag.as_deref().unwrap_or("latest");
            descriptors.push(descriptor(json!({
                "io.containerd.image.name": reference.canonical(), "org.opencontainers.image.ref.name": tag
            })));
            let top = first
                .layers
                .last()
                .map(|(d, _)| d.digest().to_owned())
                .unwrap_or_default();
            repositories
                .entry(reference.familiar_name())
                .or_default()
                .insert(tag.into(), top);
        }
        items.push(Item {
            config: path(&first.config_digest),
            repo_tags: Some(image.references.iter().map(Reference::familiar).collect()),
            layers: first.layers.iter().map(|(d, _)| path(d)).collect(),
        });
    }
    archive.file("index.json", index_of(&descriptors).to_string().as_bytes())?;
    archive.file("manifest.json", &serde_json::to_vec(&items).step("write the archive")?)?;
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if !repositories.is_empty() {
        archive.file(
            "repositories",
            &serde_json::to_vec(&repositories).step("write the archive")?,
        )?;
    }
    archive.tar.finish().step("write the archive")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn index_of(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.digest())
}

fn manifest(image: &SavedVariant<'_>, sizes: &BTreeMap<String, u64>) -> Value {
    let layer = |(digest, _): &(Digest, WriteLayer<'_>)| {
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(),
            "size": sizes.get(digest.digest()).copied().unwrap_or_default()})
    };
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": image.config_digest.to_string(),
            "size": image.config.len()},
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

struct Archive<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    /// Blobs that are written, by their digests, with their sizes.
    sizes: BTreeMap<String, u64>,
}

impl Archive<'_> {
    /// All blobs of what a name stands for; the descriptor of its manifest or index.
    fn image(&mut self, image: &Saved<'_>, spool: &Path) -> Result<Value> {
        let mut manifests = Vec::new();
        for variant in &image.variants {
            for (digest, write) in &variant.layers {
                self.layer(digest, write, spool)?;
            }
            self.blob(&variant.config)?;
            let mut descriptor = self.document(MANIFEST, &manifest(variant, &self.sizes))?;
            if let Some(platform) = &variant.platform {
                descriptor["platform"] = json!({"os": platform.os, "architecture": platform.architecture});
                if let Some(name) = &platform.variant {
                    descriptor["platform"]["variant"] = name.as_str().into();
                }
            }
            manifests.push(descriptor);
        }
        match manifests.len() {
            1 => Ok(manifests.remove(0)),
            _ => self.document(INDEX, &index_of(&manifests)),
        }
    }

    fn document(&mut self, kind: &str, document: &Value) -> Result<Value> {
        let text = document.to_string();
        let digest = self.blob(text.as_bytes())?;
        Ok(json!({"mediaType": kind, "digest": digest.to_string(), "size": text.len()}))
    }

    fn layer(&mut self, digest: &Digest, write: &WriteLayer<'_>, spool: &Path) -> Result<()> {
        if self.sizes.contains_key(digest.digest()) {
            return Ok(());
        }
        let mut file = nameless(spool)?;
        write(&mut file)?;
        let size = file.stream_position().step("keep a layer meanwhile")?;
        file.seek(SeekFrom::Start(0)).step("keep a layer meanwhile")?;
        self.sizes.insert(digest.digest().into(), size);
        self.tar
            .append_data(&mut header(size), path(digest), file)
            .step("write the archive")
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<Digest> {
        let digest = digest_of(bytes);
        if self.sizes.insert(digest.digest().into(), bytes.len() as u64).is_none() {
            self.file(&path(&digest), bytes)?;
        }
        Ok(digest)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.tar
            .append_data(&mut header(bytes.len() as u64), name, bytes)
            .step("write the archive")
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header
}
