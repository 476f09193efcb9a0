//! A blob's stream that survives the death of its connection.

use std::io::{Error as IoError, Read};
use std::time::{Duration, Instant};

use errdefs::{Error, Kind, Result};
use oci_spec::image::Descriptor;

use super::http::Http;
use crate::{Digest, Reference};

/// How often a stream is taken up again without a byte coming in between.
const PATIENCE: u32 = 4;
/// Bytes a second, over the time that a registry may be silent.
const SLOWEST: u64 = 512;

/// Goes on where the last connection ended.
pub struct Resuming {
    http: Http,
    reference: Reference,
    digest: Digest,
    size: u64,
    done: u64,
    stream: Option<Box<dyn Read + Send>>,
    failures: u32,
    pace: Pace,
}

/// A registry that gives a byte now and then is as good as none.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        Pace {
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Counts; whether it is still worth waiting.
    fn fast_enough(&mut self, bytes: u64, patience: Duration) -> bool {
        self.bytes += bytes;
        if self.since.elapsed() < patience {
            return true;
        }
        let enough = self.bytes >= SLOWEST * patience.as_secs().max(1);
        *self = Pace::new();
        enough
    }
}

impl Resuming {
    /// Asks for it from its `done`th byte on; the answer to that is known before anything is read.
    pub fn open(http: Http, reference: Reference, descriptor: &Descriptor, done: u64) -> Result<Self> {
        let mut blob = Resuming {
            http,
            reference,
            digest: descriptor.digest().clone(),
            size: descriptor.size(),
            done,
            stream: None,
            failures: 0,
            pace: Pace::new(),
        };
        if done < blob.size {
            blob.connect()?;
        }
        Ok(blob)
    }

    fn connect(&mut self) -> Result<()> {
        let range = format!("bytes={}-", self.done);
        let headers: &[(&str, &str)] = if self.done > 0 { &[("Range", &range)] } else { &[] };
        let answer = self
            .http
            .get(&self.reference, &format!("blobs/{}", self.digest), headers, true)?;
        let skip = match (answer.status(), self.done) {
            (200, done) => done,
            (206, 1..) => 0,
            (status, _) => {
                let message = format!(
                    "blob {} of {}: the registry answered {status}",
                    self.digest,
                    self.reference.familiar()
                );
                return Err(Error::new(
                    if status == 404 {
                        Kind::NotFound
                    } else {
                        Kind::Unavailable
                    },
                    message,
                ));
            }
        };
        let mut stream = answer.into_body();
        // A registry without ranges starts over: what we have is passed over.
        std::io::copy(&mut stream.by_ref().take(skip), &mut std::io::sink())
            .map_err(|e| Error::caused("read a blob", e))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn stumble(&mut self, error: IoError) -> std::io::Result<()> {
        self.stream = None;
        self.failures += 1;
        if self.failures > PATIENCE {
            return Err(IoError::other(format!(
                "the registry {} broke off blob {} at byte {} of {}: {error}",
                self.reference.registry, self.digest, self.done, self.size
            )));
        }
        std::thread::sleep(Duration::from_millis(100) * self.failures);
        self.connect().map_err(|e| IoError::other(e.to_string()))
    }
}

impl Read for Resuming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(0) };
            match stream.read(buffer) {
                Ok(0) if self.done < self.size && !buffer.is_empty() => {
                    self.stumble(IoError::new(std::io::ErrorKind::UnexpectedEof, "the connection ended"))?;
                }
                Ok(n) => {
                    self.done += n as u64;
                    if n > 0 && !self.pace.fast_enough(n as u64, self.http.patience()) {
                        return Err(IoError::new(
                            std::io::ErrorKind::TimedOut,
                            format!("the registry {} is too slow", self.reference.registry),
                        ));
                    }
                    if n as u64 > SLOWEST {
                        self.failures = 0;
                    }
                    return Ok(n);
                }
                Err(e) => self.stumble(e)?,
            }
        }
    }
}
