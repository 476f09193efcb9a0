//! Reading the log of events, and following it.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard_stubs::models::EventMessage;
use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;

use super::filter::Filter;
use super::log;
use crate::Engine;

/// One read of the log.
const BUFFER: usize = 64 << 10;
/// No line is longer; what is, is passed over.
const LINE_LIMIT: usize = 1 << 20;

/// What to tell of.
#[derive(Clone, Debug, Default)]
pub struct EventOptions {
    /// From then on, nanoseconds since the epoch; only what happens from now on unless given.
    pub since: Option<i64>,
    /// Until then; for ever unless given.
    pub until: Option<i64>,
    /// `name=value`: any value of a name, all names.
    pub filters: Vec<(String, String)>,
}

/// Events as they happen.
pub struct EventStream {
    dir: PathBuf,
    /// For who waits here.
    watch: Option<OwnedFd>,
    current: Option<File>,
    /// What was read and not told yet.
    read: Vec<u8>,
    since: i64,
    until: Option<i64>,
    filter: Filter,
    ended: bool,
}

impl Engine {
    /// Events from now on, or from a time that has passed.
    /// For who hears in a way of their own of what happens in the directory of events.
    pub fn event_stream(&self, options: &EventOptions) -> Result<EventStream> {
        EventStream::open(&self.roots.events(), options)
    }

    /// Gives events to `sink` until it returns false, or the time is over.
    pub fn events(&self, options: &EventOptions, sink: &mut dyn FnMut(EventMessage) -> bool) -> Result<()> {
        let mut stream = self.event_stream(options)?;
        stream.watch()?;
        loop {
            while let Some(event) = stream.next()? {
                if !sink(event) {
                    return Ok(());
                }
            }
            if stream.ended() {
                return Ok(());
            }
            stream.wait()?;
        }
    }
}

impl EventStream {
    fn open(dir: &Path, options: &EventOptions) -> Result<Self> {
        let filter = Filter::new(&options.filters)?;
        if let (Some(since), Some(until)) = (options.since, options.until)
            && until < since
        {
            let seconds = |time: i64| time as f64 / 1e9;
            return Err(Error::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                seconds(since),
                seconds(until)
            )));
        }
        crate::paths::make_private(dir)?;
        let mut stream = EventStream {
            dir: dir.to_owned(),
            watch: None,
            current: None,
            read: Vec::new(),
            since: options.since.unwrap_or(0),
            until: options.until,
            filter,
            ended: false,
        };
        match options.since {
            Some(_) => stream.current = open(&log::previous(dir))?,
            // What has happened already is not to be told.
            None => {
                stream.current = open(&log::present(dir))?;
                if let Some(file) = &mut stream.current {
                    std::io::Seek::seek(file, std::io::SeekFrom::End(0)).step("find the end of the log of events")?;
                }
            }
        }
        Ok(stream)
    }

    /// From now on `wait` hears of what happens.
    fn watch(&mut self) -> Result<()> {
        let step = "watch the log of events";
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        self.watch = Some(crate::watch::directory(&self.dir, what, step)?);
        Ok(())
    }

    /// The next event, if there is one at present.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end")]
    pub fn next(&mut self) -> Result<Option<EventMessage>> {
        let over = self.until.is_some_and(|until| until <= now());
        while !self.ended {
            let Some(line) = self.line()? else {
                self.ended |= over;
                return Ok(None);
            };
            let Some(event) = log::parse(&line) else { continue };
            let time = event.time_nano.unwrap_or(0);
            if self.until.is_some_and(|until| time > until) {
                self.ended = true;
            } else if time >= self.since && self.filter.matches(&event) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Whether there will be no more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// How long there may be more; `None` is for ever.
    pub fn left(&self) -> Option<std::time::Duration> {
        let left = self.until.map(|until| until.saturating_sub(now()).max(0));
        left.map(|nanoseconds| std::time::Duration::from_nanos(nanoseconds as u64))
    }

    /// Blocks until there may be more, or the time is over.
    fn wait(&self) -> Result<()> {
        let limit = self.left().and_then(|left| Timespec::try_from(left).ok());
        let mut fds: Vec<_> = self.watch.iter().map(|w| PollFd::new(w, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e).errno_step("wait for events"),
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let rest = self.read.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.read, rest)));
            }
            if self.read.len() > LINE_LIMIT {
                self.read.clear();
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads on, in the next file if this one is done; false if there is nothing more at present.
    fn fill(&mut self) -> Result<bool> {
        // Before reading: what comes after that wakes us again.
        self.forget_wakings();
        loop {
            // Once it has its second name, nobody writes to it any more: what is read after that is all of it.
            let next = self.next_path();
            if let Some(file) = &mut self.current {
                let mut more = vec![0; BUFFER];
                let read = file.read(&mut more).step("read the log of events")?;
                if read > 0 {
                    self.read.extend_from_slice(&more[..read]);
                    return Ok(true);
                }
            }
            let Some(next) = next else { return Ok(false) };
            let opened = open(&next)?;
            if opened.is_none() {
                return Ok(false);
            }
            self.current = opened;
            self.read.clear();
        }
    }

    /// The file after the one that is read; `None` if that is the present one.
    fn next_path(&self) -> Option<PathBuf> {
        let (present, previous) = (log::present(&self.dir), log::previous(&self.dir));
        let Some(ours) = self.current.as_ref().and_then(|f| f.metadata().ok()) else {
            return Some(present);
        };
        let same = |path: &Path| std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
        match () {
            () if same(&present) => None,
            () if same(&previous) || !previous.exists() => Some(present),
            // We were so slow that it was moved away twice.
            () => Some(previous),
        }
    }

    fn forget_wakings(&self) {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut more = || {
            let watch = self.watch.as_ref()?;
            let (read, _) = rustix::io::read(watch, &mut space).ok()?;
            (!read.is_empty()).then_some(())
        };
        while more().is_some() {}
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).step("read the log of events"),
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Type, event};

    fn put(dir: &Path, id: &str) {
        log::append(dir, &[event(Type::VOLUME, "create", id, Default::default())]).unwrap();
    }

    fn ids(stream: &mut EventStream) -> Vec<String> {
        let mut list = Vec::new();
        while let Some(event) = stream.next().unwrap() {
            list.extend(event.actor.and_then(|a| a.id));
        }
        list
    }

    #[test]
    fn followers_see_what_happens_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "before");
        let all = EventOptions {
            since: Some(0),
            ..Default::default()
        };
        let mut new = EventStream::open(dir.path(), &EventOptions::default()).unwrap();
        let mut old = EventStream::open(dir.path(), &all).unwrap();
        assert_eq!((ids(&mut new).len(), ids(&mut old)), (0, vec!["before".to_owned()]));
        put(dir.path(), "a");
        std::fs::rename(log::present(dir.path()), log::previous(dir.path())).unwrap();
        put(dir.path(), "b");
        assert_eq!(
            (ids(&mut new), ids(&mut old)),
            (vec!["a".to_owned(), "b".into()], vec!["a".into(), "b".into()])
        );
        assert!(!new.ended());
        let past = EventOptions {
            until: Some(now()),
            ..all
        };
        put(dir.path(), "late");
        let mut past = EventStream::open(dir.path(), &past).unwrap();
        assert_eq!(ids(&mut past), ["before", "a", "b"]);
        assert!(past.ended());
    }
}
