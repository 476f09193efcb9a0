//! Digests: of documents, and of streams while they are read.

use std::io::{Read, Write};

use errdefs::{Error, Result, Step};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// The sha256 of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    of_hash(Sha256::digest(bytes).as_slice())
}

fn of_hash(hash: &[u8]) -> Digest {
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    // 64 lower-case hexadecimal digits are a digest.
    format!("sha256:{hex}")
        .parse()
        .unwrap_or_else(|_| unreachable!("a sha256 is a digest"))
}

/// Reads a document of at most `limit` bytes.
pub fn read_bounded(from: impl Read, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit + 1)
        .read_to_end(&mut bytes)
        .step_with(|| format!("read {what}"))?;
    match bytes.len() as u64 > limit {
        true => Err(Error::invalid(format!("{what} is larger than {} MiB", limit >> 20))),
        false => Ok(bytes),
    }
}

/// A stream that ends with an error unless it had the size and the digest that it should have.
pub struct Verified<R> {
    inner: R,
    hash: Sha256,
    left: u64,
    expected: Digest,
    done: bool,
}

impl<R: Read> Verified<R> {
    /// Of these bytes.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        Verified {
            inner,
            hash: Sha256::new(),
            left: size,
            expected,
            done: false,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bad = |words: String| std::io::Error::new(std::io::ErrorKind::InvalidData, words);
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(buffer)?;
        if read as u64 > self.left {
            return Err(bad(format!("blob {} is longer than it should be", self.expected)));
        }
        if read == 0 {
            if self.left > 0 {
                return Err(bad(format!(
                    "blob {} is {} bytes shorter than it should be",
                    self.expected, self.left
                )));
            }
            let found = of_hash(self.hash.finalize_reset().as_slice());
            if found != self.expected {
                return Err(bad(format!("blob {} has the digest {found}", self.expected)));
            }
            self.done = true;
            return Ok(0);
        }
        self.left -= read as u64;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// Counts and hashes what is written.
pub struct Hashed<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Hashed {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// The digest and the size of everything that was written.
    pub fn finish(self) -> (Digest, u64) {
        (of_hash(self.hash.finalize().as_slice()), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_what_they_should_be_or_fail() {
        let digest = digest_of(b"hello");
        let read = |bytes: &'static [u8], size| std::io::read_to_string(Verified::new(bytes, digest.clone(), size));
        assert_eq!(read(b"hello", 5).unwrap(), "hello");
        assert!(read(b"hell", 5).unwrap_err().to_string().contains("1 bytes shorter"));
        assert!(read(b"hellooo", 5).unwrap_err().to_string().contains("longer"));
        assert!(read(b"hallo", 5).unwrap_err().to_string().contains("has the digest"));
    }
}
