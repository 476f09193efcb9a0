//! `load`, `save`, `import`.

use std::io::{Read, Write};
use std::path::Path;

use ::image::archive::{self, Found, Saved};
use errdefs::{Error, Kind, Result, Step};
use serde_json::json;

use super::{Digest, ImageConfiguration, New, Platform, Reference, changes, diff_ids};
use crate::container::record::now;
use crate::{Engine, event};

impl Engine {
    /// From a stream. The references (or ids) that were loaded.
    pub fn load(&self, input: &mut (dyn Read + Send), platform: Option<&Platform>) -> Result<Vec<String>> {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        self.take_in(archive::open_stream(input, &self.roots.spool(), &platform)?)
    }

    /// From a file or an OCI layout directory.
    pub fn load_path(&self, path: &Path, platform: Option<&Platform>) -> Result<Vec<String>> {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        self.take_in(archive::open_path(path, &self.roots.spool(), &platform)?)
    }

    fn take_in(&self, images: Vec<Found>) -> Result<Vec<String>> {
        let _lock = self.lock_images(false)?;
        let mut loaded = Vec::new();
        for found in images {
            let config: ImageConfiguration = serde_json::from_slice(&found.config)
                .step("read the image's configuration")
                .map_err(|e| e.kind_is(Kind::Invalid))?;
            let layers = diff_ids(&config)?;
            if layers.len() != found.layers.len() {
                let message = format!(
                    "the archive has {} layers, its configuration {}",
                    found.layers.len(),
                    layers.len()
                );
                return Err(Error::invalid(message));
            }
            for (source, diff_id) in found.layers.iter().zip(&layers) {
                if !self.layers.has(diff_id) {
                    let mut plain = ::image::decompress(source.open()?)?;
                    self.layers.apply(&mut plain, Some(diff_id))?;
                }
            }
            let manifest = found
                .manifest
                .as_ref()
                .map(|m| self.content.put(m))
                .transpose()?
                .map(|d| d.to_string());
            let names = found
                .references
                .iter()
                .map(|r| (r.canonical(), manifest.clone()))
                .collect();
            let id = self.commit_image(New {
                config: &found.config,
                layers: &layers,
                references: names,
            })?;
            let _ = self.foretell(&id);
            self.tell_event(event::Type::IMAGE, "load", &id, &[("name", &id)]);
            match found.references.is_empty() {
                true => loaded.push(id),
                false => loaded.extend(found.references.iter().map(Reference::familiar)),
            }
        }
        Ok(loaded)
    }

    /// Writes images into one archive. A name without a tag stands for all its tags.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()> {
        let mut images: Vec<Saved<'_>> = Vec::new();
        for name in names {
            let image = self.image(name)?;
            let digest: Digest = image.id.parse().step("read the image's id")?;
            let asked = Reference::parse(name)
                .ok()
                .filter(|r| r.digest.is_none() && image.references.contains(&r.familiar()));
            if let Some(there) = images.iter_mut().find(|s| s.config_digest == digest) {
                there.references.extend(asked);
                continue;
            }
            let layer = |diff_id: &Digest| {
                let (layers, id) = (&self.layers, diff_id.clone());
                let write: archive::WriteLayer<'_> = Box::new(move |out| layers.write_tar(&id, out));
                (diff_id.clone(), write)
            };
            images.push(Saved {
                references: asked.into_iter().collect(),
                config: self.content.get(&digest)?,
                config_digest: digest,
                layers: image.layers.iter().map(layer).collect(),
            });
        }
        archive::save(&images, out, &self.roots.spool())?;
        for id in images.iter().map(|image| image.config_digest.to_string()) {
            self.tell_event(event::Type::IMAGE, "save", &id, &[("name", &id)]);
        }
        Ok(())
    }

    /// A root file system as a tar; `changes` are Dockerfile lines (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL,
    /// USER, VOLUME, WORKDIR). The image's id.
    pub fn import(
        &self,
        tar: Box<dyn Read + Send>,
        reference: Option<&str>,
        message: &str,
        changes: &[String],
        platform: Option<&Platform>,
    ) -> Result<String> {
        let reference = reference.map(Reference::parse).transpose()?;
        let settings = changes::settings(changes)?;
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let _lock = self.lock_images(false)?;
        let mut plain = ::image::decompress(tar)?;
        let layer = self.layers.apply(&mut plain, None)?;
        let message = if message.is_empty() { "Imported from -" } else { message };
        let config = json!({
            "architecture": platform.architecture, "os": platform.os, "created": now(), "config": settings,
            "comment": message, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id.to_string()]},
            "history": [{"created": now(), "comment": message}],
        });
        let bytes = config.to_string().into_bytes();
        let names = reference.iter().map(|r| (r.canonical(), None)).collect();
        let id = self.commit_image(New {
            config: &bytes,
            layers: &[layer.diff_id],
            references: names,
        })?;
        let _ = self.foretell(&id);
        self.tell_event(event::Type::IMAGE, "import", &id, &[("name", &id)]);
        Ok(id)
    }
}
