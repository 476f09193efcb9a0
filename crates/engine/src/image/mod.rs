//! Images: pull, push, list, tag, remove, archives.
//!
//! An image is its configuration (kept byte by byte: its digest is the image's id) and its layers (kept as directories:
//! see `snapshot`). Compressed blobs are not kept. Whoever adds layers holds the image lock shared, whoever removes
//! layers holds it alone, so that no layer goes between being found and being referred to.

mod archive;
mod blobs;
mod changes;
mod check;
mod commit;
mod distribution;
mod fetch;
mod find;
mod history;
mod list;
mod manifest_list;
mod mount;
mod prune;
mod pull;
mod push;
mod remove;
mod usage;
mod variant;

use std::fs::File;

use errdefs::{ErrnoStep, Result, Step};
use rusqlite::params;
use rustix::fs::FlockOperation;

use crate::state::database;
use crate::{Engine, event, human, models};
pub use ::image::{Digest, ImageConfiguration, Platform, Reference, registry};
pub use ::oci_spec::image::Descriptor;
pub use check::{Finding, Outcome};
pub use commit::Commit;
pub use manifest_list::Annotation;
pub use prune::Bounds;
pub use usage::DiskUsage;
pub use variant::Variant;

/// A local image, as a container needs it.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:HEX` of the configuration.
    pub id: String,
    /// Its settings.
    pub config: ImageConfiguration,
    /// Docker's addition to the settings of the OCI's.
    pub healthcheck: Option<models::HealthConfig>,
    /// Diff ids, bottom first.
    pub layers: Vec<Digest>,
    /// Familiar names with tags.
    pub references: Vec<String>,
    /// Familiar names with manifests' digests.
    pub digests: Vec<String>,
    /// Bytes of content.
    pub size: u64,
    /// What was said of it on this kernel, or another ([`crate::predict`]).
    pub foretold: Option<String>,
}

impl Image {
    /// What it is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.config.os().to_string(),
            architecture: self.config.architecture().to_string(),
            variant: self.config.variant().clone(),
        }
    }
}

/// What happens during a pull or a push; the front door shows it.
#[derive(Clone, Debug)]
pub enum Progress {
    /// `latest: Pulling from library/debian` and the like: a line of its own.
    Message(String),
    /// A layer; `current` of `total` bytes where it has a bar.
    Layer {
        /// Twelve digits.
        id: String,
        /// Docker's words: "Pulling fs layer", "Downloading", "Pull complete", "Already exists", "Pushing", "Pushed",
        /// "Layer already exists".
        status: &'static str,
        /// Bytes done.
        current: u64,
        /// Bytes in all; 0 where that is not known.
        total: u64,
    },
}

/// What was pulled or pushed.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// In the familiar form.
    pub reference: String,
    /// The image's id.
    pub id: String,
    /// Of the manifest or index.
    pub digest: String,
    /// Nothing was new.
    pub up_to_date: bool,
}

/// An image that is about to be written down.
struct New<'a> {
    config: &'a [u8],
    layers: &'a [Digest],
    /// Full names with tags (or digests), and the manifests they stand for.
    references: Vec<(String, Option<String>)>,
    /// If these names stand for an index: which, and the image's own manifest in it.
    whole: Option<(Digest, Digest)>,
}

impl Engine {
    /// Held while layers are added (`alone`: removed).
    fn lock_images(&self, alone: bool) -> Result<File> {
        let path = self.roots.data.join("images.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .step("open the image lock")?;
        let operation = if alone {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::LockShared
        };
        rustix::fs::flock(&file, operation).errno_step("take the image lock")?;
        Ok(file)
    }

    /// Writes an image down; all its layers are there. Its id.
    fn commit_image(&self, new: New<'_>) -> Result<String> {
        let id = self.content.put(new.config)?.to_string();
        let config: ImageConfiguration = serde_json::from_slice(new.config).step("read the image's configuration")?;
        let sizes: Result<Vec<u64>> = new
            .layers
            .iter()
            .map(|l| self.layers.layer(l).map(|l| l.size))
            .collect();
        let size: u64 = sizes?.iter().sum();
        let created = config.created().as_deref().map_or(0, human::seconds_at);
        let labels = config.config().as_ref().and_then(|c| c.labels().clone());
        let labels = serde_json::to_string(&labels.unwrap_or_default()).step("write down the labels")?;
        self.state.transact_durably(|db| {
            db.execute(
                "INSERT OR IGNORE INTO image (id, created, size, labels) VALUES (?1, ?2, ?3, ?4)",
                params![id, created, size as i64, labels],
            )
            .map_err(database)?;
            for (position, layer) in new.layers.iter().enumerate() {
                let row = params![id, position as i64, layer.to_string()];
                db.execute(
                    "INSERT OR IGNORE INTO image_layer (image, position, layer) VALUES (?1, ?2, ?3)",
                    row,
                )
                .map_err(database)?;
            }
            for (name, manifest) in &new.references {
                match &new.whole {
                    Some((whole, manifest)) => variant::add(db, name, &id, &config, whole, manifest)?,
                    None => _ = variant::point(db, name, &id, manifest.as_deref())?,
                }
            }
            Ok(())
        })?;
        Ok(id)
    }

    /// Gives an image another name.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let image = self.image(source)?;
        let target = Reference::parse(target)?;
        if target.digest.is_some() {
            return Err(errdefs::Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        if target.familiar_name() == "sha256" {
            return Err(errdefs::Error::invalid(
                "refusing to create an ambiguous tag using digest algorithm as name",
            ));
        }
        self.state.transact(|db| {
            let variants = self.variants_of_name(source)?;
            variant::point(db, &target.canonical(), &image.id, None)?;
            variants.iter().try_for_each(|v| v.under(db, &target.canonical()))
        })?;
        let name = target.familiar();
        self.tell_event(event::Type::IMAGE, "tag", &image.id, &[("name", &name)]);
        Ok(())
    }

    /// Puts an image together from tars: used for the image that Berth carries itself. Its id.
    pub fn add_image(
        &self,
        config: &ImageConfiguration,
        layers: Vec<Box<dyn std::io::Read + Send>>,
        reference: &str,
    ) -> Result<String> {
        let reference = Reference::parse(reference)?;
        let _lock = self.lock_images(false)?;
        let applied: Result<Vec<Digest>> = layers
            .into_iter()
            .map(|tar| self.layers.apply(tar, None).map(|layer| layer.diff_id))
            .collect();
        let layers = applied?;
        let mut config = config.clone();
        let mut rootfs = config.rootfs().clone();
        rootfs.set_diff_ids(layers.iter().map(|l| l.to_string()).collect());
        config.set_rootfs(rootfs);
        let bytes = serde_json::to_vec(&config).step("write the image's configuration")?;
        self.commit_image(New {
            config: &bytes,
            layers: &layers,
            references: vec![(reference.canonical(), None)],
            whole: None,
        })
    }

    /// Everything about an image, in Docker's form; of a name for several platforms, about the one for that platform.
    pub fn inspect_image(&self, name: &str, platform: Option<&Platform>) -> Result<models::ImageInspect> {
        let image = self.image_on(name, platform)?;
        let digest: Digest = image.id.parse().step("read the image's id")?;
        let raw: serde_json::Value =
            serde_json::from_slice(&self.content.get(&digest)?).step("read the image's configuration")?;
        let text = |key: &str| raw.get(key).and_then(|v| v.as_str()).map(String::from);
        let config = raw.get("config").cloned().unwrap_or_default();
        Ok(models::ImageInspect {
            id: Some(image.id),
            repo_tags: Some(image.references),
            repo_digests: Some(image.digests),
            comment: text("comment").or(Some(String::new())),
            created: text("created"),
            author: text("author").or(Some(String::new())),
            config: serde_json::from_value(config).ok(),
            architecture: text("architecture"),
            variant: text("variant"),
            os: text("os"),
            size: Some(image.size as i64),
            root_fs: Some(models::ImageInspectRootFs {
                typ: "layers".into(),
                layers: Some(image.layers.iter().map(|l| l.to_string()).collect()),
            }),
            ..Default::default()
        })
    }
}

impl Engine {
    /// Which container an image was made of, with which settings, on which image: as far as its configuration says so.
    pub fn image_origin(&self, name: &str) -> Result<serde_json::Value> {
        let digest: Digest = self.image_id(name)?.parse().step("read the image's id")?;
        let raw: serde_json::Value =
            serde_json::from_slice(&self.content.get(&digest)?).step("read the image's configuration")?;
        let text = |key: &str| raw[key].as_str().unwrap_or_default();
        Ok(serde_json::json!({
            "Parent": text("parent"), "Container": text("container"), "ContainerConfig": raw["container_config"]
        }))
    }
}

/// Diff ids of a configuration.
fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    config.rootfs().diff_ids().iter().map(|id| parse_diff_id(id)).collect()
}

fn parse_diff_id(text: &str) -> Result<Digest> {
    let digest = text
        .parse::<Digest>()
        .ok()
        .filter(|_| text.starts_with("sha256:") && text.len() == 71);
    digest.ok_or_else(|| errdefs::Error::invalid(format!("the image's configuration has a bad layer digest: {text:?}")))
}

/// Twelve digits of a digest.
fn short(digest: &str) -> String {
    digest
        .trim_start_matches("sha256:")
        .get(..12)
        .unwrap_or(digest)
        .to_owned()
}
