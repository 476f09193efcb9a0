//! `pull`: a registry's image by its name; its layers come by [`super::fetch`].

use std::io::Read;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{ImageIndex, ImageManifest};
use rusqlite::OptionalExtension;

use super::fetch::{Fetch, Job};
use super::{Digest, ImageConfiguration, New, Platform, Progress, Pulled, Reference, diff_ids, registry};
use crate::state::database;
use crate::{Engine, event};

/// What shows what happens.
pub type Show<'a> = dyn Fn(Progress) + Sync + 'a;

impl Engine {
    /// Pulls an image. `platform`: this machine's unless given.
    pub fn pull(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        registry: &registry::Client,
        progress: &Show<'_>,
    ) -> Result<Pulled> {
        let reference = Reference::parse(reference)?;
        let label = reference
            .tag
            .clone()
            .or(reference.digest.as_ref().map(|d| d.to_string()))
            .unwrap_or_default();
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let top = registry.manifest(&reference)?;
        registry.check_trust(&reference, &top)?;
        progress(Progress::Message(format!(
            "{label}: Pulling from {}",
            shown_repository(&reference)
        )));
        let (id, up_to_date) = match self.known(&reference, top.descriptor.digest(), &platform)? {
            Some(id) => (id, true),
            None => self.pull_new(&reference, &top, &platform, registry, progress)?,
        };
        let pulled = Pulled {
            reference: reference.familiar(),
            up_to_date,
            id,
            digest: top.descriptor.digest().to_string(),
        };
        let name = reference.familiar_name();
        self.tell_event(event::Type::IMAGE, "pull", &pulled.reference, &[("name", &name)]);
        progress(Progress::Message(format!("Digest: {}", pulled.digest)));
        let status = if pulled.up_to_date {
            "Image is up to date for"
        } else {
            "Downloaded newer image for"
        };
        progress(Progress::Message(format!("Status: {status} {}", pulled.reference)));
        Ok(pulled)
    }

    /// All images of a repository, by their tags.
    pub fn pull_all(
        &self,
        repository: &str,
        platform: Option<&Platform>,
        registry: &registry::Client,
        progress: &Show<'_>,
    ) -> Result<Vec<Pulled>> {
        let reference = Reference::repository_of(repository)?;
        let tags = registry.tags(&reference)?;
        let one = |tag: String| {
            let reference = Reference {
                tag: Some(tag),
                ..reference.clone()
            };
            self.pull(&reference.familiar(), platform, registry, progress)
        };
        tags.into_iter().map(one).collect()
    }

    /// The image that a name stands for, if that is this manifest or index and nothing of it is missing.
    fn known(&self, reference: &Reference, top: &Digest, platform: &Platform) -> Result<Option<String>> {
        let query = "SELECT image FROM reference WHERE name = ?1 AND manifest = ?2";
        let name = name_to_keep(reference);
        let row = self.state.db.query_row(query, [&name, top.as_ref()], |row| row.get(0));
        let Some(meant) = row.optional().map_err(database)? else {
            return Ok(None);
        };
        let variants = self.variants_of_name(&name)?;
        let id: String = match variants.iter().find(|v| v.is_for(platform)) {
            Some(variant) => variant.image.clone(),
            None if variants.is_empty() => meant,
            None => return Ok(None),
        };
        let there = |layer: &String| layer.parse().is_ok_and(|layer| self.layers.has(&layer));
        let whole = id.parse().is_ok_and(|id| self.content.has(&id)) && self.layer_rows(&id)?.iter().all(there);
        Ok(whole.then_some(id))
    }

    /// Pulls what a name stands for. The image's id, and whether the name meant it before.
    fn pull_new(
        &self,
        reference: &Reference,
        top: &registry::Manifest,
        platform: &Platform,
        registry: &registry::Client,
        progress: &Show<'_>,
    ) -> Result<(String, bool)> {
        let chosen = choose(registry, reference, top, platform)?;
        let own = chosen.as_ref().unwrap_or(top);
        let manifest: ImageManifest = parse(&own.bytes, reference)?;
        check_layers(reference, &manifest)?;
        let (config_bytes, config) = fetch_config(registry, reference, &manifest)?;
        let layers = diff_ids(&config)?;
        if layers.len() != manifest.layers().len() {
            return Err(Error::invalid(format!(
                "the manifest of {} has {} layers, its configuration {}",
                reference.familiar(),
                manifest.layers().len(),
                layers.len()
            )));
        }
        let _lock = self.lock_images(false)?;
        self.layers.sweep()?;
        let jobs = manifest.layers().iter().zip(&layers);
        let jobs: Vec<Job> = jobs
            .map(|(d, l)| Job {
                descriptor: d.clone(),
                diff_id: l.clone(),
            })
            .collect();
        self.fetch(registry, reference, progress).all(&jobs)?;
        let top_digest = top.descriptor.digest();
        let whole = match &chosen {
            Some(own) => {
                self.content.put(&top.bytes)?;
                Some((top_digest.clone(), own.descriptor.digest().clone()))
            }
            None => None,
        };
        self.content.put(&own.bytes)?;
        let name = name_to_keep(reference);
        let before = self.image_id(&name).ok();
        let id = self.commit_image(New {
            config: &config_bytes,
            layers: &layers,
            references: vec![(name, Some(top_digest.to_string()))],
            whole,
        })?;
        let blobs = layers.iter().cloned().zip(manifest.layers().iter().cloned());
        let config = manifest.config().clone();
        let blobs: Vec<_> = blobs.chain([(config.digest().clone(), config)]).collect();
        self.remember_blobs(reference, &blobs)?;
        // A word on it at `run` is worth a look now, and no failure.
        let _ = self.foretell(&id);
        let same = before.as_ref() == Some(&id);
        Ok((id, same))
    }
}

impl Engine {
    /// For layers of an image of this name.
    pub(super) fn fetch<'a>(
        &'a self,
        registry: &'a registry::Client,
        reference: &'a Reference,
        progress: &'a Show<'a>,
    ) -> Fetch<'a> {
        Fetch {
            layers: &self.layers,
            registry,
            reference,
            parts: self.roots.parts(),
            progress,
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], reference: &Reference) -> Result<T> {
    let parsed = serde_json::from_slice(bytes).step_with(|| format!("read the manifest of {}", reference.familiar()));
    parsed.map_err(|e| e.kind_is(Kind::Invalid))
}

/// The manifest for the platform, if the name stands for an index.
fn choose(
    registry: &registry::Client,
    reference: &Reference,
    top: &registry::Manifest,
    platform: &Platform,
) -> Result<Option<registry::Manifest>> {
    if !top.is_index() {
        return Ok(None);
    }
    let index: ImageIndex = parse(&top.bytes, reference)?;
    let chosen = platform.select(&index, &reference.familiar())?.digest().clone();
    let found = registry.manifest(&Reference {
        digest: Some(chosen),
        ..reference.clone()
    })?;
    Ok(Some(found))
}

/// overlayfs stacks no more (`OVL_MAX_STACK`), the mount points' own layer among them.
const LAYERS: usize = 499;

/// What we cannot unpack is told before anything is fetched.
fn check_layers(reference: &Reference, manifest: &ImageManifest) -> Result<()> {
    let name = reference.familiar();
    if manifest.layers().len() > LAYERS {
        return Err(Error::invalid(format!(
            "{name} has {} layers: overlayfs takes {LAYERS}",
            manifest.layers().len()
        )));
    }
    for layer in manifest.layers() {
        let (kind, id) = (layer.media_type().to_string(), super::short(layer.digest().digest()));
        if kind.contains("foreign") || kind.contains("nondistributable") {
            let place = layer.urls().iter().flatten().next();
            let place = place.map_or_else(String::new, |url| format!(" ({url})"));
            return Err(Error::invalid(format!(
                "layer {id} of {name} is foreign: its maker alone may hand it out{place}: not supported"
            )));
        }
        if kind.contains("+encrypted") {
            return Err(
                Error::invalid(format!("layer {id} of {name} is encrypted: not supported"))
                    .hint("decrypt it with skopeo copy --decryption-key"),
            );
        }
        let known = [
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.oci.image.layer.v1.tar",
        ];
        if !known.iter().any(|k| kind.starts_with(k)) {
            return Err(Error::invalid(format!(
                "{name} is no image: its layer {id} is of the type {kind:?}"
            )));
        }
    }
    Ok(())
}

fn fetch_config(
    registry: &registry::Client,
    reference: &Reference,
    manifest: &ImageManifest,
) -> Result<(Vec<u8>, ImageConfiguration)> {
    let descriptor = manifest.config();
    let kind = descriptor.media_type().to_string();
    if !kind.ends_with("image.config.v1+json") && !kind.ends_with("container.image.v1+json") {
        return Err(Error::invalid(format!(
            "{} is no image: its configuration is of the type {kind:?}",
            reference.familiar()
        )));
    }
    if descriptor.size() > ::image::DOCUMENT_LIMIT {
        return Err(Error::invalid(format!(
            "the configuration of {} is larger than 4 MiB",
            reference.familiar()
        )));
    }
    let mut bytes = Vec::new();
    registry
        .blob(reference, descriptor)?
        .read_to_end(&mut bytes)
        .step("fetch the image's configuration")
        .map_err(foreign)?;
    let config = serde_json::from_slice(&bytes)
        .step("read the image's configuration")
        .map_err(|e| e.kind_is(Kind::Invalid))?;
    Ok((bytes, config))
}

/// What came from outside and was not what it should be is no fault of this host.
fn foreign(error: Error) -> Error {
    error.kind_is(Kind::Unavailable)
}

/// The tag, or the digest where there is no tag.
pub(super) fn name_to_keep(reference: &Reference) -> String {
    match reference.tag {
        Some(_) => Reference {
            digest: None,
            ..reference.clone()
        }
        .canonical(),
        None => reference.canonical(),
    }
}

/// `library/debian`: without Docker's own registry.
fn shown_repository(reference: &Reference) -> String {
    match reference.registry.as_str() {
        "docker.io" => reference.repository.clone(),
        registry => format!("{registry}/{}", reference.repository)
            .split_once('/')
            .map_or_else(String::new, |(_, r)| r.into()),
    }
}
