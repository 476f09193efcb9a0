//! `pull`: a registry's image by its name; its layers come by [`super::fetch`].

use std::io::Read;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{ImageIndex, ImageManifest};

use super::fetch::{Fetch, Job};
use super::{Digest, ImageConfiguration, New, Platform, Progress, Pulled, Reference, diff_ids, registry};
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
        let (top, bytes, manifest) = resolve(registry, &reference, &platform)?;
        registry.check_trust(&reference, &top)?;
        progress(Progress::Message(format!(
            "{label}: Pulling from {}",
            shown_repository(&reference)
        )));
        check_layers(&reference, &manifest)?;
        let (config_bytes, config) = fetch_config(registry, &reference, &manifest)?;
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
        self.fetch(registry, &reference, progress).all(&jobs)?;
        self.content.put(&bytes)?;
        let before = self.image_id(&reference.familiar()).ok();
        let names = vec![(name_to_keep(&reference), Some(top.to_string()))];
        let id = self.commit_image(New {
            config: &config_bytes,
            layers: &layers,
            references: names,
        })?;
        let blobs = layers.iter().cloned().zip(manifest.layers().iter().cloned());
        let config = manifest.config().clone();
        let blobs: Vec<_> = blobs.chain([(config.digest().clone(), config)]).collect();
        self.remember_blobs(&reference, &blobs)?;
        // A word on it at `run` is worth a look now, and no failure.
        let _ = self.foretell(&id);
        let pulled = Pulled {
            reference: reference.familiar(),
            up_to_date: before.as_ref() == Some(&id),
            id,
            digest: top.to_string(),
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

/// The digest that the name stands for, and the manifest for the platform.
fn resolve(
    registry: &registry::Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Digest, Vec<u8>, ImageManifest)> {
    let parse = |bytes: &[u8]| -> Result<ImageManifest> {
        let parsed =
            serde_json::from_slice(bytes).step_with(|| format!("read the manifest of {}", reference.familiar()));
        parsed.map_err(|e| e.kind_is(Kind::Invalid))
    };
    let top = registry.manifest(reference)?;
    let digest = top.descriptor.digest().clone();
    let kind = top.descriptor.media_type().to_string();
    if !kind.contains("index") && !kind.contains("list") {
        let manifest = parse(&top.bytes)?;
        return Ok((digest, top.bytes, manifest));
    }
    let index: ImageIndex = serde_json::from_slice(&top.bytes)
        .step_with(|| format!("read the index of {}", reference.familiar()))
        .map_err(|e| e.kind_is(Kind::Invalid))?;
    let chosen = platform.select(&index, &reference.familiar())?.digest().clone();
    let found = registry.manifest(&Reference {
        digest: Some(chosen),
        ..reference.clone()
    })?;
    let manifest = parse(&found.bytes)?;
    Ok((digest, found.bytes, manifest))
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
fn name_to_keep(reference: &Reference) -> String {
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
