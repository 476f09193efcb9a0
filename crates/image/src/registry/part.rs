//! What has come of a blob, kept on disk while it comes: whoever is killed goes on from there, also after a reboot.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// The beginning of a blob. Its content is checked with the rest, as if all of it came from the registry.
pub struct Part {
    file: File,
    path: PathBuf,
    kept: u64,
}

impl Part {
    /// Opens (makes) the part of a blob of `size` bytes; `None` if somebody else is at it, or there is no place for it:
    /// then the blob does without.
    pub fn open(path: &Path, size: u64) -> Option<Part> {
        std::fs::create_dir_all(path.parent()?).ok()?;
        let mut options = File::options();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let kept = file.metadata().ok()?.len();
        // Longer than the blob: that is another's.
        if kept > size {
            file.set_len(0).ok()?;
        }
        Some(Part {
            file,
            path: path.to_owned(),
            kept: if kept > size { 0 } else { kept },
        })
    }

    /// Bytes that are there.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Whoever reads what was kept, and then what comes, which is kept, too.
    pub(super) fn reader(&self, rest: impl Read + Send + 'static) -> std::io::Result<impl Read + Send + 'static> {
        Ok(Kept {
            file: self.file.try_clone()?,
            kept: self.kept,
            at: 0,
            rest,
        })
    }

    /// Takes it away: the blob is where it should be, or was not what it should be.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Kept<R> {
    file: File,
    kept: u64,
    at: u64,
    rest: R,
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = match self.kept - self.at.min(self.kept) {
            0 => {
                let read = self.rest.read(buffer)?;
                self.file.write_all_at(&buffer[..read], self.at)?;
                read
            }
            left => {
                let want = buffer.len().min(left as usize);
                match self.file.read_at(&mut buffer[..want], self.at)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                }
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_first_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts/x");
        let part = Part::open(&path, 10).unwrap();
        assert!(Part::open(&path, 10).is_none(), "one at a time");
        let text = |part: &Part, rest: &'static [u8]| std::io::read_to_string(part.reader(rest).unwrap()).unwrap();
        assert_eq!((part.kept(), text(&part, b"abc")), (0, "abc".into()));
        drop(part);
        let part = Part::open(&path, 10).unwrap();
        assert_eq!((part.kept(), text(&part, b"defghij")), (3, "abcdefghij".into()));
        drop(part);
        assert_eq!(Part::open(&path, 9).unwrap().kept(), 0, "another's");
        Part::open(&path, 10).unwrap().remove();
        assert!(!path.exists());
    }
}
