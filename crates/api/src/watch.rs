//! Directories in which something may happen, for everybody who follows what is written there: one inotify of the kernel's for
//! all of them, since a user has a hundred and twenty-eight, and thousands may follow.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use errdefs::{ErrnoStep, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Before the name in an event (inotify(7)): watch, mask, cookie, and the name's length.
const HEADER: usize = 16;
/// How often one looks where nobody tells.
const NOW_AND_THEN: Duration = Duration::from_millis(100);
/// Room for some hundred events.
const BUFFER: usize = 16 << 10;

/// Who is told of what; made when the first one asks.
#[derive(Default)]
pub struct Watcher(Mutex<Option<Arc<Watching>>>);

struct Watching {
    inotify: OwnedFd,
    places: Mutex<HashMap<PathBuf, Place>>,
}

struct Place {
    watch: i32,
    wakes: watch::Sender<()>,
}

/// Says when something may have happened in a directory, as long as it is kept.
pub struct Wakings(Option<Told>);

struct Told {
    receiver: watch::Receiver<()>,
    path: PathBuf,
    watching: Arc<Watching>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Watcher {
    /// From now on told of a directory, which has to be there. Where others have taken all that the kernel gives, one looks now
    /// and then.
    pub fn follow(&self, path: &Path) -> Result<Wakings> {
        let mut place = lock(&self.0);
        let watching = match &*place {
            Some(watching) => watching.clone(),
            None => match Watching::begin() {
                Ok(watching) => place.insert(watching).clone(),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSYS) => return Ok(Wakings(None)),
                Err(e) => return Err(e).errno_step("watch directories"),
            },
        };
        drop(place);
        match watching.follow(path) {
            Ok(told) => Ok(Wakings(Some(told))),
            Err(Errno::NOSPC | Errno::NOMEM) => Ok(Wakings(None)),
            Err(e) => Err(e).errno_step("watch a directory"),
        }
    }
}

impl Watching {
    fn begin() -> rustix::io::Result<Arc<Self>> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let other = rustix::io::fcntl_dupfd_cloexec(&inotify, 0)?;
        let wakings = pipe::Receiver::from_owned_fd_unchecked(other).map_err(|_| Errno::NOMEM)?;
        let watching = Arc::new(Watching {
            inotify,
            places: Mutex::default(),
        });
        tokio::spawn(listen(wakings, Arc::downgrade(&watching)));
        Ok(watching)
    }

    fn follow(self: Arc<Self>, path: &Path) -> rustix::io::Result<Told> {
        let mut places = lock(&self.places);
        if !places.contains_key(path) {
            let what = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF;
            let watch = inotify::add_watch(&self.inotify, path, what)?;
            let wakes = watch::Sender::new(());
            places.insert(path.to_owned(), Place { watch, wakes });
        }
        let receiver = places[path].wakes.subscribe();
        drop(places);
        Ok(Told {
            receiver,
            path: path.to_owned(),
            watching: self,
        })
    }

    /// Wakes who follows the places of these events; everybody, when the kernel has lost count.
    fn wake(&self, mut events: &[u8]) {
        let places = lock(&self.places);
        while let Some((header, rest)) = events.split_at_checked(HEADER) {
            let number = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
            let watch = i32::from_ne_bytes(number(0));
            let told = |place: &&Place| place.watch == watch || watch < 0;
            places
                .values()
                .filter(told)
                .for_each(|place| place.wakes.send_replace(()));
            events = rest.get(u32::from_ne_bytes(number(12)) as usize..).unwrap_or_default();
        }
    }
}

/// Until nobody can ask any more.
async fn listen(wakings: pipe::Receiver, watching: std::sync::Weak<Watching>) {
    let mut buffer = vec![0; BUFFER];
    while wakings.readable().await.is_ok() {
        let Some(watching) = watching.upgrade() else { return };
        while let Ok(read @ 1..) = wakings.try_read(&mut buffer) {
            watching.wake(&buffer[..read]);
        }
    }
}

impl Wakings {
    /// What has happened up to now is about to be looked at.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|told| told.receiver.mark_unchanged());
    }

    /// Returns when something may have happened since.
    pub async fn next(&mut self) {
        let Some(told) = &mut self.0 else {
            return tokio::time::sleep(NOW_AND_THEN).await;
        };
        if told.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut places = lock(&self.watching.places);
        let last = |place: &Place| place.wakes.receiver_count() <= 1;
        if places.get(&self.path).is_some_and(last)
            && let Some(place) = places.remove(&self.path)
        {
            // One whose directory is gone is gone already.
            let _ = inotify::remove_watch(&self.watching.inotify, place.watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wakes(wakings: &mut Wakings) -> bool {
        tokio::time::timeout(Duration::from_secs(60), wakings.next())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn everybody_is_woken_and_nobody_for_others() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watcher = Watcher::default();
        let mut followers: Vec<_> = (0..300).map(|_| watcher.follow(one.path()).unwrap()).collect();
        let mut other = watcher.follow(two.path()).unwrap();
        std::fs::write(one.path().join("file"), "a").unwrap();
        for follower in &mut followers {
            assert!(wakes(follower).await);
        }
        let quiet = |wakings: &Wakings| {
            wakings
                .0
                .as_ref()
                .is_none_or(|told| !told.receiver.has_changed().unwrap())
        };
        assert!(quiet(&other));
        drop(followers);
        std::fs::remove_dir(two.path()).unwrap();
        assert!(wakes(&mut other).await);
        assert!(watcher.follow(&two.path().join("gone")).is_err());
        let again = watcher.follow(one.path()).unwrap();
        let places = |wakings: &Wakings| wakings.0.as_ref().map_or(2, |told| lock(&told.watching.places).len());
        assert_eq!(places(&again), 2);
    }
}
