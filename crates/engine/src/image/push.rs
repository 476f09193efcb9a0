//! `push`: an image to a registry, several layers at a time. A layer that came from a registry or went to one is asked for
//! by the blob that it was there, and mounted from another repository, before anything is compressed again; what is
//! new is compressed while it is sent.

use std::io::{BufWriter, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::{Value, json};

use super::blobs::Blob;
use super::pull::Show;
use super::variant::{self, Variant};
use super::{Digest, Image, Platform, Progress, Pulled, Reference, registry, short};
use crate::state::database;
use crate::{Engine, event};

/// Layers that go out side by side.
const PARALLEL: usize = 3;
/// How often an upload that broke off is taken up again.
const ATTEMPTS: u32 = 3;

/// A layer to push.
struct Job {
    diff_id: Digest,
    size: u64,
    known: Vec<Blob>,
}

/// From where to where.
struct Push<'a> {
    layers: &'a snapshot::Store,
    registry: &'a registry::Client,
    reference: &'a Reference,
    progress: &'a Show<'a>,
}

/// A manifest that the registry has now.
struct Sent {
    digest: Digest,
    size: u64,
    kind: MediaType,
}

impl Engine {
    /// Pushes what a name stands for to where the name says: the image, or the whole index if all of its images are here.
    /// `platform`: the image for that alone.
    pub fn push(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        registry: &registry::Client,
        progress: &Show<'_>,
    ) -> Result<Pulled> {
        let reference = Reference::parse(reference)?;
        let missing = || {
            Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            ))
        };
        progress(Progress::Message(format!(
            "The push refers to repository [{}/{}]",
            reference.registry, reference.repository
        )));
        let name = reference.familiar();
        self.image_id(&name).map_err(|_| missing())?;
        let image = self.image_on(&name, platform)?;
        let push = Push {
            layers: &self.layers,
            registry,
            reference: &reference,
            progress,
        };
        let variants = self.variants_of_name(&name)?;
        let sent = match self.whole(&variants)? {
            Some((index, true)) if platform.is_none() => self.push_index(&push, &variants, &index)?,
            found => {
                if found.is_some_and(|(_, all)| !all) && platform.is_none() {
                    progress(Progress::Message(
                        "Not all multiplatform-content is present and only the available single-platform image was pushed"
                            .into(),
                    ));
                }
                let sent = self.push_image(&push, &image, true)?;
                if variants.is_empty() {
                    let row = [reference.canonical(), sent.digest.to_string()];
                    let known = self
                        .state
                        .db
                        .execute("UPDATE reference SET manifest = ?2 WHERE name = ?1", row);
                    known.map_err(database)?;
                }
                sent
            }
        };
        let tag = reference.tag.clone().unwrap_or_default();
        progress(Progress::Message(format!(
            "{tag}: digest: {} size: {}",
            sent.digest, sent.size
        )));
        let repository = reference.familiar_name();
        self.tell_event(event::Type::IMAGE, "push", &name, &[("name", &repository)]);
        Ok(Pulled {
            reference: name,
            id: image.id,
            digest: sent.digest.to_string(),
            up_to_date: false,
        })
    }

    /// Pushes all tags of a repository that are here.
    pub fn push_all(&self, repository: &str, registry: &registry::Client, progress: &Show<'_>) -> Result<Vec<Pulled>> {
        let repository = Reference::repository_of(repository)?;
        let tags: Vec<Reference> = self
            .all_names()?
            .iter()
            .filter_map(|row| Reference::parse(&row.name).ok())
            .filter(|r| {
                r.digest.is_none() && r.registry == repository.registry && r.repository == repository.repository
            })
            .collect();
        if tags.is_empty() {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                repository.familiar_name()
            )));
        }
        let push = |tag: &Reference| self.push(&tag.familiar(), None, registry, progress);
        tags.iter().map(push).collect()
    }

    /// Layers, configuration and manifest; under the tag, or by its digest alone.
    fn push_image(&self, push: &Push<'_>, image: &Image, tagged: bool) -> Result<Sent> {
        let job = |diff_id: &Digest| {
            Ok(Job {
                diff_id: diff_id.clone(),
                size: self.layers.layer(diff_id)?.size,
                known: self.blobs_of(diff_id)?,
            })
        };
        let jobs: Vec<Job> = image.layers.iter().map(job).collect::<Result<_>>()?;
        let digest: Digest = image.id.parse().step("read the image's id")?;
        let config = self.content.get(&digest)?;
        let descriptor = Descriptor::new(MediaType::ImageConfig, config.len() as u64, digest.clone());
        let (registry, place) = (push.registry, push.reference);
        let configured = || match registry.has_blob(place, &digest)? {
            true => Ok(()),
            false => registry.push_blob(place, &descriptor, &mut config.as_slice()),
        };
        let layers = std::thread::scope(|scope| {
            let configured = scope.spawn(configured);
            let layers = push.all(&jobs)?;
            let done = configured.join();
            done.unwrap_or_else(|_| Err(Error::system("pushing the configuration failed")))?;
            Ok::<_, Error>(layers)
        })?;
        let (kind, bytes) = self.manifest_for(&image.id, descriptor.clone(), &layers)?;
        let mut blobs: Vec<(Digest, Descriptor)> = image.layers.iter().cloned().zip(layers).collect();
        blobs.push((digest, descriptor));
        self.remember_blobs(push.reference, &blobs)?;
        self.send(push, kind, bytes, tagged)
    }

    /// The manifest that the image came with, where it is still true of these layers; else a new one.
    fn manifest_for(&self, id: &str, config: Descriptor, layers: &[Descriptor]) -> Result<(MediaType, Vec<u8>)> {
        for digest in self.manifests_of(id)? {
            let Ok(bytes) = digest.parse().step("read a digest").and_then(|d| self.content.get(&d)) else {
                continue;
            };
            let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&bytes) else {
                continue;
            };
            let its = manifest.layers().iter().map(Descriptor::digest);
            if manifest.config().digest() == config.digest() && its.eq(layers.iter().map(Descriptor::digest)) {
                let kind = manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
                return Ok((kind, bytes));
            }
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": layers
        });
        Ok((MediaType::ImageManifest, manifest.to_string().into_bytes()))
    }

    /// All images of an index, and the index.
    fn push_index(&self, push: &Push<'_>, variants: &[Variant], index: &[u8]) -> Result<Sent> {
        let mut sent = Vec::new();
        for variant in variants {
            sent.push(self.push_image(push, &self.image_of(&variant.image)?, false)?);
        }
        let mut document: Value = serde_json::from_slice(index).step("read the index")?;
        let there = document["manifests"].as_array().cloned().unwrap_or_default();
        let mut entries = Vec::new();
        for mut entry in there.iter().cloned() {
            // What is said about images is not here, and is left out.
            let Some(at) = variants.iter().position(|v| entry["digest"] == v.manifest.as_str()) else {
                continue;
            };
            if entry["digest"] != sent[at].digest.to_string() {
                entry["digest"] = sent[at].digest.to_string().into();
                entry["size"] = sent[at].size.into();
                entry["mediaType"] = sent[at].kind.to_string().into();
            }
            entries.push(entry);
        }
        let same = entries == there;
        document["manifests"] = entries.into();
        let bytes = if same {
            index.to_vec()
        } else {
            document.to_string().into_bytes()
        };
        let kind = document["mediaType"]
            .as_str()
            .map_or(MediaType::ImageIndex, MediaType::from);
        let whole = self.send(push, kind, bytes, true)?;
        let name = push.reference.canonical();
        self.state.transact(|db| {
            variant::point(db, &name, &self.image_id(&name)?, Some(whole.digest.as_ref()))?;
            for (variant, sent) in variants.iter().zip(&sent) {
                let (manifest, whole) = (sent.digest.to_string(), whole.digest.to_string());
                Variant {
                    manifest,
                    whole,
                    ..variant.clone()
                }
                .under(db, &name)?;
            }
            Ok(())
        })?;
        Ok(whole)
    }

    fn send(&self, push: &Push<'_>, kind: MediaType, bytes: Vec<u8>, tagged: bool) -> Result<Sent> {
        let place = match tagged {
            true => push.reference.clone(),
            false => Reference {
                tag: None,
                ..push.reference.clone()
            },
        };
        let digest = push.registry.push_manifest(&place, &kind, &bytes)?;
        self.content.put(&bytes)?;
        Ok(Sent {
            digest,
            size: bytes.len() as u64,
            kind,
        })
    }
}

impl Push<'_> {
    /// All layers; their descriptors, in order.
    fn all(&self, jobs: &[Job]) -> Result<Vec<Descriptor>> {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let done: Vec<Mutex<Option<Descriptor>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
        let lock = |m: &Mutex<Option<Error>>| m.lock().unwrap_or_else(|e| e.into_inner()).is_some();
        // First what no registry has: it takes longest.
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|number| !jobs[*number].known.is_empty());
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(jobs.len()) {
                scope.spawn(|| {
                    loop {
                        let number = order.get(next.fetch_add(1, Ordering::Relaxed));
                        let Some(&number) = number.filter(|_| !lock(&failure)) else {
                            return;
                        };
                        match self.one(&jobs[number]) {
                            Ok(descriptor) => {
                                *done[number].lock().unwrap_or_else(|e| e.into_inner()) = Some(descriptor)
                            }
                            Err(error) => {
                                failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        let done = done
            .into_iter()
            .map(|d| d.into_inner().unwrap_or_else(|e| e.into_inner()));
        done.map(|d| d.ok_or_else(|| Error::system("a layer was not pushed")))
            .collect()
    }

    fn show(&self, job: &Job, status: &'static str, current: u64, total: u64) {
        (self.progress)(Progress::Layer {
            id: short(job.diff_id.digest()),
            status,
            current,
            total,
        });
    }

    fn one(&self, job: &Job) -> Result<Descriptor> {
        self.show(job, "Preparing", 0, 0);
        for blob in &job.known {
            if self.registry.has_blob(self.reference, blob.descriptor.digest())? {
                self.show(job, "Layer already exists", 0, 0);
                return Ok(blob.descriptor.clone());
            }
        }
        let beside = |b: &&Blob| b.place.registry == self.reference.registry;
        for blob in job.known.iter().filter(beside) {
            let digest = blob.descriptor.digest();
            if self
                .registry
                .mount_blob(self.reference, digest, &blob.place.repository)?
            {
                self.show(job, "Mounted", 0, 0);
                return Ok(blob.descriptor.clone());
            }
        }
        let mut upload = None;
        for attempt in 1.. {
            match (self.compressed(job, &mut upload), &mut upload) {
                // What has arrived is not sent again.
                (Err(e), Some(upload)) if e.kind() == Kind::Unavailable && attempt < ATTEMPTS => {
                    self.registry.find_upload(self.reference, upload)?;
                }
                (other, _) => return other,
            }
        }
        unreachable!("the loop ends by its limit")
    }

    /// What comes after what the registry has.
    fn send(&self, upload: &mut Option<registry::Upload>, content: &mut (dyn Read + Send)) -> Result<()> {
        let upload = match upload {
            Some(upload) => upload,
            None => upload.insert(self.registry.begin_upload(self.reference)?),
        };
        std::io::copy(&mut (&mut *content).take(upload.done), &mut std::io::sink()).step("compress a layer")?;
        self.registry.send_on(self.reference, upload, content)
    }

    /// Compresses and sends at once, after what the registry has: the same content is always compressed to the same bytes.
    fn compressed(&self, job: &Job, upload: &mut Option<registry::Upload>) -> Result<Descriptor> {
        let (mut reader, writer) = std::io::pipe().step("make a pipe")?;
        let (digest, size) = std::thread::scope(|scope| {
            let pack = scope.spawn(|| {
                let hashed = ::image::Hashed::new(BufWriter::with_capacity(64 * 1024, writer));
                let mut counted = Counted {
                    inner: ::image::Gzip::new(hashed),
                    done: 0,
                    shown: 0,
                    show: &|done| self.show(job, "Pushing", done.min(job.size), job.size),
                };
                self.layers.write_tar(&job.diff_id, &mut counted)?;
                let mut hashed = counted.inner.finish().step("compress a layer")?;
                hashed.flush().step("compress a layer")?;
                Ok(hashed.finish())
            });
            // Packed it is already while the registry makes a place for it.
            let sent = self.send(upload, &mut reader);
            // Whoever packs must not wait for ever.
            drop(reader);
            let packed = pack.join();
            sent?;
            packed.unwrap_or_else(|_| Err(Error::system("packing the layer failed")))
        })?;
        if let Some(upload) = upload {
            let mut nothing = std::io::empty();
            self.registry
                .end_upload(self.reference, upload, &digest, 0, &mut nothing)?;
        }
        self.show(job, "Pushed", 0, 0);
        Ok(Descriptor::new(MediaType::ImageLayerGzip, size, digest))
    }
}

/// Shows how much has gone, a few times for each layer.
struct Counted<'a, W> {
    inner: W,
    done: u64,
    shown: u64,
    show: &'a (dyn Fn(u64) + Sync),
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.done += written as u64;
        if self.done - self.shown >= 1 << 20 {
            self.shown = self.done;
            (self.show)(self.done);
        }
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
