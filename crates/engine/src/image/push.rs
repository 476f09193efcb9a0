//! `push`: an image to a registry, several layers at a time. A layer that came from a registry or went to one is asked for
//! by the blob that it was there, and mounted from another repository, before anything is compressed again; what is
//! new is compressed while it is sent.

use std::io::{BufWriter, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::json;

use super::blobs::Blob;
use super::pull::Show;
use super::{Digest, Progress, Pulled, Reference, registry, short};
use crate::{Engine, event};

/// Layers that go out side by side.
const PARALLEL: usize = 3;
/// How often an upload that broke off is begun anew.
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
        let job = |diff_id: &Digest| {
            Ok(Job {
                diff_id: diff_id.clone(),
                size: self.layers.layer(diff_id)?.size,
                known: self.blobs_of(diff_id)?,
            })
        };
        let jobs: Vec<Job> = image.layers.iter().map(job).collect::<Result<_>>()?;
        let push = Push {
            layers: &self.layers,
            registry,
            reference: &reference,
            progress,
        };
        let layers = push.all(&jobs)?;
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
        let pushed = registry.push_manifest(&reference, &MediaType::ImageManifest, &bytes)?;
        let mut blobs: Vec<(Digest, Descriptor)> = image.layers.into_iter().zip(layers).collect();
        blobs.push((digest, descriptor));
        self.remember_blobs(&reference, &blobs)?;
        let tag = reference.tag.clone().unwrap_or_default();
        progress(Progress::Message(format!(
            "{tag}: digest: {pushed} size: {}",
            bytes.len()
        )));
        let name = reference.familiar_name();
        self.tell_event(event::Type::IMAGE, "push", &reference.familiar(), &[("name", &name)]);
        Ok(Pulled {
            reference: reference.familiar(),
            id: image.id,
            digest: pushed.to_string(),
            up_to_date: false,
        })
    }
}

impl Push<'_> {
    /// All layers; their descriptors, in order.
    fn all(&self, jobs: &[Job]) -> Result<Vec<Descriptor>> {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let done: Vec<Mutex<Option<Descriptor>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
        let lock = |m: &Mutex<Option<Error>>| m.lock().unwrap_or_else(|e| e.into_inner()).is_some();
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(jobs.len()) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(number).filter(|_| !lock(&failure)) else {
                            return;
                        };
                        match self.one(job) {
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
        for attempt in 1.. {
            match self.compressed(job) {
                Err(e) if e.kind() == Kind::Unavailable && attempt < ATTEMPTS => {}
                other => return other,
            }
        }
        unreachable!("the loop ends by its limit")
    }

    /// Compresses and sends at once.
    fn compressed(&self, job: &Job) -> Result<Descriptor> {
        let (reader, writer) = std::io::pipe().step("make a pipe")?;
        std::thread::scope(|scope| {
            let pack = scope.spawn(|| {
                let hashed = ::image::Hashed::new(BufWriter::with_capacity(64 * 1024, writer));
                let gzip = flate2::write::GzEncoder::new(hashed, flate2::Compression::new(6));
                let mut counted = Counted {
                    inner: gzip,
                    done: 0,
                    shown: 0,
                    show: &|done| self.show(job, "Pushing", done.min(job.size), job.size),
                };
                self.layers.write_tar(&job.diff_id, &mut counted)?;
                let mut hashed = counted.inner.finish().step("compress a layer")?;
                hashed.flush().step("compress a layer")?;
                Ok(hashed.finish())
            });
            // The digest is known when everything was read: the writer is done by then.
            let (digest, size) = self.registry.push_stream(self.reference, reader, |reader| {
                drop(reader);
                pack.join()
                    .unwrap_or_else(|_| Err(Error::system("packing the layer failed")))
            })?;
            self.show(job, "Pushed", 0, 0);
            Ok(Descriptor::new(MediaType::ImageLayerGzip, size, digest))
        })
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
