//! Layers from a registry, several at a time. Each comes in and is decompressed in one thread, and is hashed and unpacked
//! in another, so that a single large layer has two processors, too. The disk begins meanwhile, and is waited for once for
//! all that are ready.

use std::collections::HashMap;
use std::io::{BufRead, Read, Result as IoResult};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use ::image::registry::Part;
use errdefs::{Result, Step};
use oci_spec::image::Descriptor;
use snapshot::{Prepared, Store};

use super::pull::Show;
use super::{Digest, Progress, Reference, registry, short};

/// Layers that come in side by side, as many as Docker takes.
const PARALLEL: usize = 3;
/// A bar need not move more often.
const TICK: Duration = Duration::from_millis(50);
/// What goes from one thread to the other, and how much may wait there.
const CHUNK: usize = 256 * 1024;
const CHUNKS: usize = 6;
/// Of smaller layers no part is kept.
const PART: u64 = 8 << 20;
/// The disk is told to begin after so many bytes of a layer, and waited for when so many are ready.
const BATCH: u64 = 64 << 20;
/// Parts that nobody came back for.
const PART_AGE: Duration = Duration::from_secs(7 * 86400);

/// A layer to fetch.
pub struct Job {
    pub descriptor: Descriptor,
    pub diff_id: Digest,
}

impl Job {
    fn id(&self) -> String {
        short(self.descriptor.digest().digest())
    }
}

/// From where to where.
pub struct Fetch<'a> {
    pub layers: &'a Store,
    pub registry: &'a registry::Client,
    pub reference: &'a Reference,
    /// Where parts of layers are kept.
    pub parts: PathBuf,
    pub progress: &'a Show<'a>,
}

/// Layers that are unpacked, and wait for the disk.
#[derive(Default)]
struct Ready {
    waiting: Vec<(Prepared, String)>,
    /// Of all that wait.
    bytes: u64,
    /// Somebody takes them to the disk.
    busy: bool,
}

impl Fetch<'_> {
    /// All of them; those that are there are not fetched.
    pub fn all(&self, jobs: &[Job]) -> Result<()> {
        self.sweep_parts();
        let mut todo: HashMap<&Digest, &Job> = HashMap::new();
        for job in jobs {
            match self.layers.has(&job.diff_id) || todo.contains_key(&job.diff_id) {
                true => self.show(job.id(), "Already exists"),
                false => {
                    self.show(job.id(), "Pulling fs layer");
                    todo.insert(&job.diff_id, job);
                }
            }
        }
        // Largest first: it is the one to wait for.
        let mut todo: Vec<&Job> = todo.into_values().collect();
        todo.sort_by_key(|job| std::cmp::Reverse(job.descriptor.size()));
        let (next, failure, ready) = (AtomicUsize::new(0), Mutex::new(None), Mutex::new(Ready::default()));
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(todo.len()) {
                scope.spawn(|| {
                    while let Some(job) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if lock(&failure).is_some() {
                            return;
                        }
                        let done = self.one(job).and_then(|prepared| {
                            crate::predict::look_at(&prepared);
                            let mut state = lock(&ready);
                            state.bytes += prepared.size();
                            state.waiting.push((prepared, job.id()));
                            let enough = state.bytes >= BATCH;
                            drop(state);
                            if enough { self.publish(&ready) } else { Ok(()) }
                        });
                        if let Err(error) = done {
                            lock(&failure).get_or_insert(error);
                            return;
                        }
                    }
                });
            }
        });
        lock(&failure).take().map_or_else(|| self.publish(&ready), Err)
    }

    fn show(&self, id: String, status: &'static str) {
        (self.progress)(Progress::Layer {
            id,
            status,
            current: 0,
            total: 0,
        });
    }

    /// Takes all layers that are ready to the disk; or leaves that to whoever is at it.
    fn publish(&self, ready: &Mutex<Ready>) -> Result<()> {
        let mut state = lock(ready);
        if state.busy {
            return Ok(());
        }
        state.busy = true;
        loop {
            state.bytes = 0;
            let (layers, ids): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting).into_iter().unzip();
            if layers.is_empty() {
                state.busy = false;
                return Ok(());
            }
            drop(state);
            let published = self.layers.publish(layers);
            state = lock(ready);
            if published.is_err() {
                state.busy = false;
                return published;
            }
            ids.into_iter().for_each(|id| self.show(id, "Pull complete"));
        }
    }

    /// One layer, unpacked. If what was kept of it from another time is not its beginning, once more from the start.
    pub(super) fn one(&self, job: &Job) -> Result<Prepared> {
        let step = || format!("pull layer {} of {}", job.id(), self.reference.familiar());
        let size = job.descriptor.size();
        let path = self.parts.join(job.descriptor.digest().digest());
        loop {
            let part = (size >= PART).then(|| Part::open(&path, size)).flatten();
            let resumed = part.as_ref().is_some_and(|p| p.kept() > 0);
            let broke = Mutex::new(false);
            let done = self.unpack(job, part.as_ref(), &broke).step_with(step);
            // Only what broke off may go on another time.
            let broke = *lock(&broke);
            match (part, &done) {
                (Some(_), Err(_)) if broke => {}
                (Some(part), _) => part.remove(),
                (None, _) => {}
            }
            if done.is_ok() || !resumed || broke {
                return done;
            }
        }
    }

    fn unpack(&self, job: &Job, part: Option<&Part>, broke: &Mutex<bool>) -> Result<Prepared> {
        let blob = match part {
            Some(part) => self.registry.blob_with_part(self.reference, &job.descriptor, part),
            None => self.registry.blob(self.reference, &job.descriptor),
        };
        let blob = blob.inspect_err(|_| *lock(broke) = true)?;
        let counted = Counted {
            inner: blob,
            done: 0,
            last: Instant::now(),
            show: &|done| {
                (self.progress)(Progress::Layer {
                    id: job.id(),
                    status: "Downloading",
                    current: done,
                    total: job.descriptor.size(),
                });
            },
            broke,
        };
        let (full, chunks) = sync_channel(CHUNKS);
        let (empty, buffers) = channel();
        for _ in 0..CHUNKS {
            let _ = empty.send(vec![0; CHUNK]);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| come_in(Box::new(counted), full, buffers));
            let mut chunks = Chunks {
                layers: self.layers,
                begun: 0,
                chunks,
                empty,
                now: Vec::new(),
                at: 0,
                end: 0,
            };
            self.layers.prepare(&mut chunks, Some(&job.diff_id))
        })
    }

    /// Parts that are old go.
    fn sweep_parts(&self) {
        for entry in std::fs::read_dir(&self.parts).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).ok();
            let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age > PART_AGE) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// A buffer, and how much of it is filled.
type Chunk = IoResult<(Vec<u8>, usize)>;

/// Reads and decompresses until the end, an error, or nobody wants it any more.
fn come_in(blob: Box<dyn Read + Send + '_>, full: SyncSender<Chunk>, buffers: Receiver<Vec<u8>>) {
    let mut plain = match ::image::decompress(blob) {
        Ok(plain) => plain,
        Err(error) => return drop(full.send(Err(std::io::Error::other(error)))),
    };
    while let Ok(mut buffer) = buffers.recv() {
        let mut filled = 0;
        while filled < buffer.len() {
            match plain.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return drop(full.send(Err(e))),
            }
        }
        let last = filled == 0;
        if full.send(Ok((buffer, filled))).is_err() || last {
            return;
        }
    }
}

/// The other end.
struct Chunks<'a> {
    layers: &'a Store,
    /// Bytes since the disk was told to begin.
    begun: u64,
    chunks: Receiver<Chunk>,
    empty: Sender<Vec<u8>>,
    now: Vec<u8>,
    at: usize,
    end: usize,
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> IoResult<&[u8]> {
        if self.at == self.end {
            let used = std::mem::take(&mut self.now);
            if !used.is_empty() {
                let _ = self.empty.send(used);
            }
            let died = || std::io::Error::other("the thread that reads the layer died");
            (self.now, self.end) = self.chunks.recv().map_err(|_| died())??;
            self.at = 0;
            if self.end == 0 {
                // Asked again, it says so again: nothing comes any more.
                self.now = Vec::new();
                let (sender, chunks) = sync_channel(1);
                let _ = sender.send(Ok((Vec::new(), 0)));
                self.chunks = chunks;
            }
            self.begun += self.end as u64;
            if self.begun >= BATCH {
                self.begun = 0;
                self.layers.write_back();
            }
        }
        Ok(&self.now[self.at..self.end])
    }
    fn consume(&mut self, taken: usize) {
        self.at += taken;
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Counts what comes in, and says when that breaks off.
struct Counted<'a> {
    inner: Box<dyn Read + Send>,
    done: u64,
    last: Instant,
    show: &'a (dyn Fn(u64) + Sync),
    broke: &'a Mutex<bool>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let read = self.inner.read(buffer);
        let wrong = |e: &std::io::Error| e.kind() == std::io::ErrorKind::InvalidData;
        if read.as_ref().is_err_and(|e| !wrong(e)) {
            *lock(self.broke) = true;
        }
        let read = read?;
        self.done += read as u64;
        if self.last.elapsed() > TICK {
            self.last = Instant::now();
            (self.show)(self.done);
        }
        Ok(read)
    }
}
