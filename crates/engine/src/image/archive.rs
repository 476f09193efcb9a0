//! `load`, `save`, `import`.

use std::io::{Read, Write};
use std::path::Path;

use ::image::archive::{self, Found, Saved, SavedVariant};
use errdefs::{Error, Kind, Result, Step};
use serde_json::json;

use super::{Digest, ImageConfiguration, New, Platform, Reference, changes, diff_ids};
use crate::container::record::now;
use crate::{Engine, event};

impl Engine {
    /// From a stream: all images, or those for some platforms. The references (or ids) that were loaded.
    pub fn load(&self, input: &mut (dyn Read + Send), platforms: &[Platform]) -> Result<Vec<String>> {
        self.take_in(archive::open_stream(input, &self.roots.spool())?, platforms)
    }

    /// From a file or an OCI layout directory.
    pub fn load_path(&self, path: &Path, platforms: &[Platform]) -> Result<Vec<String>> {
        self.take_in(archive::open_path(path, &self.roots.spool())?, platforms)
    }

    fn take_in(&self, images: Vec<Found>, platforms: &[Platform]) -> Result<Vec<String>> {
        let _lock = self.lock_images(false)?;
        let mut loaded = Vec::new();
        for found in images {
            let config: ImageConfiguration = serde_json::from_slice(&found.config)
                .step("read the image's configuration")
                .map_err(|e| e.kind_is(Kind::Invalid))?;
            let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
            let fits = |p: &Platform| p.fits(&os, &architecture, config.variant().as_deref());
            if !platforms.is_empty() && !platforms.iter().any(fits) {
                continue;
            }
            let id = self.take_image(&found, &config)?;
            let names = found.references.iter().map(Reference::familiar);
            let names: Vec<String> = if found.references.is_empty() {
                vec![id]
            } else {
                names.collect()
            };
            loaded.extend(names.into_iter().filter(|n| !loaded.contains(n)).collect::<Vec<_>>());
        }
        match loaded.is_empty() {
            true => Err(Error::not_found(format!(
                "requested platform(s) ({}) not found: image might be filtered out",
                list(platforms)
            ))),
            false => Ok(loaded),
        }
    }

    /// One image of an archive; its id.
    fn take_image(&self, found: &Found, config: &ImageConfiguration) -> Result<String> {
        let layers = diff_ids(config)?;
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
                self.layers.apply(::image::decompress(source.open()?)?, Some(diff_id))?;
            }
        }
        let keep = |document: Option<&[u8]>| document.map(|d| self.content.put(d)).transpose();
        let (manifest, index) = (keep(found.manifest.as_deref())?, keep(found.index.as_deref())?);
        let top = index.as_ref().or(manifest.as_ref()).map(Digest::to_string);
        let names = found.references.iter().map(|r| (r.canonical(), top.clone()));
        let id = self.commit_image(New {
            config: &found.config,
            layers: &layers,
            references: names.collect(),
            whole: index.zip(manifest),
        })?;
        let _ = self.foretell(&id);
        self.tell_event(event::Type::IMAGE, "load", &id, &[("name", &id)]);
        Ok(id)
    }

    /// Writes images into one archive; of names that stand for several platforms all that are here, or those that are asked
    /// for.
    pub fn save(&self, names: &[String], platforms: &[Platform], out: &mut dyn Write) -> Result<()> {
        let mut images: Vec<(Vec<String>, Saved<'_>)> = Vec::new();
        for name in names {
            let ids = self.ids_to_save(name, platforms)?;
            let asked = Reference::parse(name)
                .ok()
                .filter(|r| r.digest.is_none() && self.id_by_reference(r).is_ok_and(|id| id.is_some()));
            if let Some((_, there)) = images.iter_mut().find(|(those, _)| *those == ids) {
                there.references.extend(asked);
                continue;
            }
            let several = ids.len() > 1;
            let variants: Result<_> = ids.iter().map(|id| self.to_save(id, several)).collect();
            let saved = Saved {
                references: asked.into_iter().collect(),
                variants: variants?,
            };
            images.push((ids, saved));
        }
        let (ids, images): (Vec<_>, Vec<_>) = images.into_iter().unzip();
        archive::save(&images, out, &self.roots.spool())?;
        for id in ids.into_iter().flatten() {
            self.tell_event(event::Type::IMAGE, "save", &id, &[("name", &id)]);
        }
        Ok(())
    }

    /// Ids of what a name stands for, the one that it means first.
    fn ids_to_save(&self, name: &str, platforms: &[Platform]) -> Result<Vec<String>> {
        if platforms.is_empty() {
            let meant = self.image_id(name)?;
            let others = self.variants_of_name(name)?.into_iter().map(|v| v.image);
            let others = others.filter(|id| *id != meant).collect::<Vec<_>>();
            return Ok([vec![meant], others].concat());
        }
        let mut ids = Vec::new();
        for platform in platforms {
            let id = self.image_for(name, platform)?.id;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn to_save(&self, id: &str, several: bool) -> Result<SavedVariant<'_>> {
        let image = self.image_of(id)?;
        let layer = |diff_id: &Digest| {
            let (layers, id) = (&self.layers, diff_id.clone());
            let write: archive::WriteLayer<'_> = Box::new(move |out| layers.write_tar(&id, out));
            (diff_id.clone(), write)
        };
        let digest: Digest = image.id.parse().step("read the image's id")?;
        Ok(SavedVariant {
            platform: several.then(|| image.platform()),
            config: self.content.get(&digest)?,
            config_digest: digest,
            layers: image.layers.iter().map(layer).collect(),
        })
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
        let layer = self.layers.apply(::image::decompress(tar)?, None)?;
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
            whole: None,
        })?;
        let _ = self.foretell(&id);
        self.tell_event(event::Type::IMAGE, "import", &id, &[("name", &id)]);
        Ok(id)
    }
}

/// `linux/amd64, linux/arm64`.
fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}
