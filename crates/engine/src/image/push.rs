//! `push`: an image to a registry. A layer that was pulled is asked for by the digest it came with before anything is
//! compressed again.

use std::io::{Seek, SeekFrom, Write};

use errdefs::{Error, Result, Step};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::json;

use super::pull::Show;
use super::{Digest, Image, Progress, Pulled, Reference, registry, short};
use crate::{Engine, event};

impl Engine {
    /// Pushes the image of that name to where its name says.
    pub fn push(&self, reference: &str, registry: &registry::Client, progress: &Show<'_>) -> Result<Pulled> {
        let reference = Reference::parse(reference)?;
        let missing = || {
            Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            ))
        };
        let image = self.image(&reference.familiar()).map_err(|_| missing())?;
        progress(Progress::Message(format!(
            "The push refers to repository [{}/{}]",
            reference.registry, reference.repository
        )));
        let known = self.known_blobs(&image);
        let mut layers = Vec::new();
        for (index, diff_id) in image.layers.iter().enumerate() {
            let known = known.as_ref().and_then(|m| m.layers().get(index));
            layers.push(self.push_layer(registry, &reference, diff_id, known, progress)?);
        }
        let digest: Digest = image.id.parse().step("read the image's id")?;
        let config = self.content.get(&digest)?;
        let descriptor = Descriptor::new(MediaType::ImageConfig, config.len() as u64, digest.clone());
        if !registry.has_blob(&reference, &digest)? {
            registry.push_blob(&reference, &descriptor, &mut config.as_slice())?;
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": descriptor, "layers": layers
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = registry.push_manifest(&reference, &MediaType::ImageManifest, &bytes)?;
        let tag = reference.tag.clone().unwrap_or_default();
        progress(Progress::Message(format!(
            "{tag}: digest: {digest} size: {}",
            bytes.len()
        )));
        let name = reference.familiar_name();
        self.tell_event(event::Type::IMAGE, "push", &reference.familiar(), &[("name", &name)]);
        Ok(Pulled {
            reference: reference.familiar(),
            id: image.id,
            digest: digest.to_string(),
            up_to_date: false,
        })
    }

    /// The manifest that the image was pulled with, if it was and fits.
    fn known_blobs(&self, image: &Image) -> Option<ImageManifest> {
        let digests = self
            .names_of(&image.id)
            .ok()?
            .into_iter()
            .filter_map(|name| name.manifest);
        let mut manifests = digests.filter_map(|d| {
            let bytes = self.content.get(&d.parse().ok()?).ok()?;
            serde_json::from_slice::<ImageManifest>(&bytes).ok()
        });
        manifests.find(|m| m.config().digest().to_string() == image.id && m.layers().len() == image.layers.len())
    }

    fn push_layer(
        &self,
        registry: &registry::Client,
        reference: &Reference,
        diff_id: &Digest,
        known: Option<&Descriptor>,
        progress: &Show<'_>,
    ) -> Result<Descriptor> {
        let id = short(diff_id.digest());
        let show = |status, total| {
            progress(Progress::Layer {
                id: id.clone(),
                status,
                current: total,
                total,
            })
        };
        show("Preparing", 0);
        if let Some(known) = known
            && registry.has_blob(reference, known.digest())?
        {
            show("Layer already exists", 0);
            return Ok(known.clone());
        }
        let mut file = ::image::archive::nameless(&self.roots.spool())?;
        let mut hashed = ::image::Hashed::new(&mut file);
        let mut gzip = flate2::write::GzEncoder::new(&mut hashed, flate2::Compression::new(6));
        self.layers.write_tar(diff_id, &mut gzip)?;
        gzip.finish().and_then(Write::flush).step("compress a layer")?;
        let (digest, size) = hashed.finish();
        let descriptor = Descriptor::new(MediaType::ImageLayerGzip, size, digest);
        if registry.has_blob(reference, descriptor.digest())? {
            show("Layer already exists", 0);
            return Ok(descriptor);
        }
        show("Pushing", size);
        file.seek(SeekFrom::Start(0)).step("read a compressed layer")?;
        registry.push_blob(reference, &descriptor, &mut file)?;
        show("Pushed", 0);
        Ok(descriptor)
    }
}
