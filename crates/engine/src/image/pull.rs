//! `pull`: a registry's image into layers, several at a time, each unpacked while it comes in.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::{Digest, ImageConfiguration, New, Platform, Progress, Pulled, Reference, diff_ids, registry, short};
use crate::{Engine, event};

/// Layers that come in side by side, as many as Docker takes.
const PARALLEL: usize = 3;
/// A bar need not move more often.
const TICK: Duration = Duration::from_millis(50);

/// What shows what happens.
pub type Show<'a> = dyn Fn(Progress) + Sync + 'a;

/// A layer to fetch.
struct Job {
    descriptor: Descriptor,
    diff_id: Digest,
}

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
        progress(Progress::Message(format!(
            "{label}: Pulling from {}",
            shown_repository(&reference)
        )));
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
        let jobs = jobs
            .map(|(d, l)| Job {
                descriptor: d.clone(),
                diff_id: l.clone(),
            })
            .collect();
        self.fetch_layers(registry, &reference, jobs, progress)?;
        self.content.put(&bytes)?;
        let before = self.image_id(&reference.familiar()).ok();
        let names = vec![(name_to_keep(&reference), Some(top.to_string()))];
        let id = self.commit_image(New {
            config: &config_bytes,
            layers: &layers,
            references: names,
        })?;
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

    fn fetch_layers(
        &self,
        registry: &registry::Client,
        reference: &Reference,
        jobs: Vec<Job>,
        progress: &Show<'_>,
    ) -> Result<()> {
        let layers = &self.layers;
        let show = |job: &Job, status| {
            let id = short(job.descriptor.digest().digest());
            progress(Progress::Layer {
                id,
                status,
                current: 0,
                total: 0,
            });
        };
        let mut todo: HashMap<&Digest, &Job> = HashMap::new();
        for job in &jobs {
            match layers.has(&job.diff_id) || todo.contains_key(&job.diff_id) {
                true => show(job, "Already exists"),
                false => {
                    show(job, "Pulling fs layer");
                    todo.insert(&job.diff_id, job);
                }
            }
        }
        // Largest first: it is the one to wait for.
        let mut todo: Vec<&Job> = todo.into_values().collect();
        todo.sort_by_key(|job| std::cmp::Reverse(job.descriptor.size()));
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let failed = |error| _ = failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(todo.len()) {
                scope.spawn(|| {
                    while let Some(job) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failure.lock().unwrap_or_else(|e| e.into_inner()).is_some() {
                            return;
                        }
                        match fetch_layer(layers, registry, reference, job, progress) {
                            Ok(()) => show(job, "Pull complete"),
                            Err(error) => return failed(error),
                        }
                    }
                });
            }
        });
        failure
            .into_inner()
            .unwrap_or_else(|e| e.into_inner())
            .map_or(Ok(()), Err)
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

fn fetch_layer(
    layers: &snapshot::Store,
    registry: &registry::Client,
    reference: &Reference,
    job: &Job,
    progress: &Show<'_>,
) -> Result<()> {
    let blob = registry.blob(reference, &job.descriptor)?;
    let id = short(job.descriptor.digest().digest());
    let step = || format!("pull layer {id} of {}", reference.familiar());
    // The thread that reads owns the stream; the bar is moved from inside it, over a channel without a lifetime.
    let (moved, moves) = std::sync::mpsc::channel();
    let counted = Counted {
        inner: blob,
        done: 0,
        last: Instant::now(),
        moved,
    };
    let mut plain = ::image::decompress(Box::new(counted)).step_with(step)?;
    let mut shown = Shown {
        plain: &mut plain,
        moves,
        id: &id,
        total: job.descriptor.size(),
        progress,
    };
    layers.apply(&mut shown, Some(&job.diff_id)).step_with(step).map(drop)
}

/// What came from outside and was not what it should be is no fault of this host.
fn foreign(error: Error) -> Error {
    error.kind_is(Kind::Unavailable)
}

/// Counts what comes in.
struct Counted {
    inner: Box<dyn Read + Send>,
    done: u64,
    last: Instant,
    moved: std::sync::mpsc::Sender<u64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        if self.last.elapsed() > TICK || read == 0 {
            self.last = Instant::now();
            let _ = self.moved.send(self.done);
        }
        Ok(read)
    }
}

/// Hands what is unpacked on, and shows what has come in for it.
struct Shown<'a> {
    plain: &'a mut (dyn Read + Send),
    moves: std::sync::mpsc::Receiver<u64>,
    id: &'a str,
    total: u64,
    progress: &'a Show<'a>,
}

impl Read for Shown<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.plain.read(buffer)?;
        if let Some(current) = self.moves.try_iter().last() {
            let (id, total) = (self.id.to_owned(), self.total);
            (self.progress)(Progress::Layer {
                id,
                status: "Downloading",
                current,
                total,
            });
        }
        Ok(read)
    }
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
