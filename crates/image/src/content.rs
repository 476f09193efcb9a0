//! Small JSON documents (manifests, indexes, configurations) by digest: `DIR/sha256/HEX`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use errdefs::{Error, Result, Step};

use crate::{Digest, digest_of};

/// The store of one host.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens it; it is made with the first document.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Store {
            dir: dir.join("sha256"),
        })
    }

    /// Keeps a document; its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let digest = digest_of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let step = || format!("keep the document {digest}");
        std::fs::create_dir_all(&self.dir).step_with(step)?;
        let temporary = self.dir.join(format!(
            ".{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let mut file = std::fs::File::create(&temporary).step_with(step)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let kept = written
            .and_then(|()| std::fs::rename(&temporary, self.dir.join(digest.digest())))
            // Whoever refers to it afterwards refers to what is there, whatever happens.
            .and_then(|()| std::fs::File::open(&self.dir)?.sync_all());
        if kept.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        kept.step_with(step)?;
        Ok(digest)
    }

    /// A document, checked against its digest.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = match std::fs::read(self.dir.join(digest.digest())) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("document {digest} is not there")));
            }
            Err(e) => return Err(e).step_with(|| format!("read the document {digest}")),
        };
        match digest_of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(Error::system(format!("document {digest} was damaged on disk")).hint("pull the image again")),
        }
    }

    /// Whether it is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.dir.join(digest.digest()).is_file()
    }

    /// Remembers that it is of use now.
    pub fn use_now(&self, digest: &Digest) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW as _,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        // A note on the side: nothing fails for want of it.
        let _ = rustix::fs::utimensat(CWD, self.dir.join(digest.digest()), &times, AtFlags::empty());
    }

    /// When it came, or was last of use.
    pub fn last_used(&self, digest: &Digest) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.dir.join(digest.digest())).ok()?.modified().ok()
    }

    /// Takes it away; fine if it is gone.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        match std::fs::remove_file(self.dir.join(digest.digest())) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).step_with(|| format!("remove the document {digest}"))
            }
            _ => Ok(()),
        }
    }

    /// All that are there.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        Ok(names.filter_map(|n| format!("sha256:{n}").parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_checked_when_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = store.put(b"{}").unwrap();
        assert_eq!(
            (store.get(&digest).unwrap(), store.list().unwrap()),
            (b"{}".to_vec(), vec![digest.clone()])
        );
        std::fs::write(dir.path().join("sha256").join(digest.digest()), "x").unwrap();
        assert!(store.get(&digest).unwrap_err().to_string().contains("damaged"));
        store.remove(&digest).unwrap();
        assert_eq!(store.get(&digest).unwrap_err().kind(), errdefs::Kind::NotFound);
    }
}
