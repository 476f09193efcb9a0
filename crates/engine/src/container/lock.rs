//! A container's lock: whoever holds it may change what is live of the container; its monitor holds it while it lives.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::fs::FlockOperation;

use crate::Roots;

/// How long a verb waits for another one (or for a monitor that is tearing down) to let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether somebody holds the lock of `id`.
pub fn held(roots: &Roots, id: &str) -> Result<bool> {
    match File::open(roots.lock(id)) {
        Ok(file) => match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(e) => Err(e).errno_step("test the container's lock"),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).step("test the container's lock"),
    }
}

/// Takes the lock if nobody has it; `None` if somebody does. Makes the live directory.
pub fn try_take(roots: &Roots, id: &str) -> Result<Option<File>> {
    loop {
        // It may come and go between our calls: others try the lock, too.
        match std::fs::DirBuilder::new().mode(0o700).create(roots.live(id)) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e).step("make the container's live directory");
            }
            _ => {}
        }
        let path = roots.lock(id);
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => file,
            // Its last holder removed the directory between our two calls.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).step("open the container's lock"),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e).errno_step("lock the container"),
        }
        // A lock on a file that its last holder has removed protects nothing.
        let ours = file.metadata().step("lock the container")?;
        if std::fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Some(file));
        }
    }
}

/// Takes the lock, waiting for short holders; `busy` says whether the present holder is one to give up on.
pub fn take(roots: &Roots, id: &str, mut busy: impl FnMut() -> Result<bool>) -> Result<Option<File>> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(file) = try_take(roots, id)? {
            return Ok(Some(file));
        }
        if busy()? {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                Kind::Conflict,
                format!("container {} is busy", crate::container::files::short(id)),
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Gives the lock back, with everything live: the last act of whoever brought a container to rest. The lock goes last:
/// from then on somebody else may have made it again, and what is there is theirs.
pub fn discard(roots: &Roots, id: &str) -> Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    let step = "remove the container's live directory";
    let dir = roots.live(id);
    let gone = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() != NotFound => Err(e).step(step),
        _ => Ok(()),
    };
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        if entry.path() != roots.lock(id) {
            gone(std::fs::remove_file(entry.path()))?;
        }
    }
    gone(std::fs::remove_file(roots.lock(id)))?;
    match std::fs::remove_dir(&dir) {
        Err(e) if e.kind() == DirectoryNotEmpty => Ok(()),
        other => gone(other),
    }
}
