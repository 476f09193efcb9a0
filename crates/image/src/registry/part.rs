//! What has come of a blob that takes long, kept on disk while it comes: whoever is killed goes on from there, also after a
//! reboot.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

/// So much is held in memory until it is known how fast the blob comes.
const HELD: usize = 8 << 20;
/// Or what has come while it was waited for so long.
const HELD_FOR: Duration = Duration::from_secs(2);
/// What comes again in less than that is not worth a second copy on the disk. What counts is the time that the registry is waited
/// for: where unpacking is what takes long, a copy would only take longer.
const WORTH: Duration = Duration::from_secs(3);

/// The beginning of a blob. Its content is checked with the rest, as if all of it came from the registry.
pub struct Part {
    path: PathBuf,
    size: u64,
    /// What was kept another time, if anything was.
    file: Option<File>,
    kept: u64,
    held: usize,
    worth: Duration,
}

impl Part {
    /// The part of a blob of `size` bytes; `None` if somebody else is at it: then the blob does without.
    pub fn open(path: &Path, size: u64) -> Option<Part> {
        let mut part = Part {
            path: path.to_owned(),
            size,
            file: None,
            kept: 0,
            held: HELD,
            worth: WORTH,
        };
        if path.exists() {
            let file = locked(path)?;
            part.kept = file.metadata().ok()?.len();
            // Longer than the blob: that is another's.
            if part.kept > size {
                file.set_len(0).ok()?;
                part.kept = 0;
            }
            part.file = Some(file);
        }
        Some(part)
    }

    /// Bytes that are there.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Whoever reads what was kept, and then what comes, which is kept, too, if it would take long to come again.
    pub(super) fn reader(&self, rest: impl Read + Send + 'static) -> std::io::Result<impl Read + Send + 'static> {
        Ok(Kept {
            keep: match &self.file {
                Some(file) => Keep::In(file.try_clone()?),
                None => Keep::Undecided(Vec::new()),
            },
            path: self.path.clone(),
            size: self.size,
            kept: self.kept,
            held: self.held,
            worth: self.worth,
            waited: Duration::ZERO,
            at: 0,
            rest,
        })
    }

    /// Takes it away: the blob is where it should be, or was not what it should be.
    pub fn remove(self) {
        // Somebody else's by now is not ours to take.
        if self.file.is_some() || (self.path.exists() && locked(&self.path).is_some()) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens (makes) it, if nobody else is at it.
fn locked(path: &Path) -> Option<File> {
    std::fs::create_dir_all(path.parent()?).ok()?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.open(path).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// What is done with what comes.
enum Keep {
    /// It is held in memory.
    Undecided(Vec<u8>),
    In(File),
    Not,
}

struct Kept<R> {
    keep: Keep,
    path: PathBuf,
    size: u64,
    kept: u64,
    held: usize,
    worth: Duration,
    /// For the registry.
    waited: Duration,
    at: u64,
    rest: R,
}

impl<R> Kept<R> {
    fn keep(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.keep {
            Keep::In(file) => return file.write_all_at(bytes, self.at),
            Keep::Not => return Ok(()),
            Keep::Undecided(held) => held.extend_from_slice(bytes),
        }
        let come = self.at + bytes.len() as u64;
        let Keep::Undecided(held) = &self.keep else {
            return Ok(());
        };
        if held.len() < self.held && self.waited < HELD_FOR {
            return Ok(());
        }
        let again = self.waited.as_secs_f64() / come.max(1) as f64 * self.size as f64;
        let file = (again >= self.worth.as_secs_f64())
            .then(|| locked(&self.path))
            .flatten();
        self.keep = match file {
            Some(file) => {
                file.write_all_at(held, 0)?;
                Keep::In(file)
            }
            None => Keep::Not,
        };
        Ok(())
    }
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = match (self.kept - self.at.min(self.kept), &self.keep) {
            (left @ 1.., Keep::In(file)) => {
                let want = buffer.len().min(left as usize);
                match file.read_at(&mut buffer[..want], self.at)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                }
            }
            _ => {
                let asked = Instant::now();
                let read = self.rest.read(buffer)?;
                self.waited += asked.elapsed();
                self.keep(&buffer[..read])?;
                read
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
        let text = |part: &Part, rest: &'static [u8]| std::io::read_to_string(part.reader(rest).unwrap()).unwrap();
        let part = Part::open(&path, 10).unwrap();
        assert_eq!((part.kept(), text(&part, b"abc")), (0, "abc".into()));
        assert!(!path.exists(), "what comes fast is not kept");
        let part = Part {
            held: 0,
            worth: Duration::ZERO,
            ..part
        };
        assert_eq!((part.kept(), text(&part, b"abc")), (0, "abc".into()));
        drop(part);
        let one = Part::open(&path, 10).unwrap();
        assert!(Part::open(&path, 10).is_none(), "one at a time");
        drop(one);
        let part = Part::open(&path, 10).unwrap();
        assert_eq!((part.kept(), text(&part, b"defghij")), (3, "abcdefghij".into()));
        drop(part);
        assert_eq!(Part::open(&path, 9).unwrap().kept(), 0, "another's");
        Part::open(&path, 10).unwrap().remove();
        assert!(!path.exists());
    }
}
