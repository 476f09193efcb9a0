//! The log of events: lines of JSON that any process appends to, in two files of bounded size.
//!
//! Who appends holds the file's lock shared, who moves it away holds it alone: once a file has got its second name
//! nobody writes to it any more. A write that a kill cut in the middle spoils its own line and nothing else.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bollard_stubs::models::EventMessage;
use errdefs::{ErrnoStep, Result, Step};
use rustix::fs::FlockOperation;

/// The present file is moved away when it is longer.
const LIMIT: u64 = 4 << 20;
/// How each line begins: in a value its quotes would be escaped.
const START: &[u8] = b"{\"Type\"";

/// The present file of a log directory.
pub fn present(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// The one before.
pub fn previous(dir: &Path) -> PathBuf {
    dir.join("log.1")
}

/// Appends lines.
pub fn append(dir: &Path, events: &[EventMessage]) -> Result<()> {
    let mut text = Vec::with_capacity(events.len() * 512);
    for event in events {
        serde_json::to_writer(&mut text, event).step("write an event")?;
        text.push(b'\n');
    }
    loop {
        let file = open(dir)?;
        rustix::fs::flock(&file, FlockOperation::LockShared).errno_step("lock the log of events")?;
        let Some(size) = size_if_present(dir, &file)? else {
            continue;
        };
        if size > LIMIT {
            move_away(dir, &file)?;
            continue;
        }
        return (&file).write_all(&text).step("write an event");
    }
}

fn open(dir: &Path) -> Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).open(present(dir))
    };
    match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.and_then(|()| open()).step("make the log of events")
        }
        other => other.step("open the log of events"),
    }
}

/// The file's size; `None` if it was moved away meanwhile.
fn size_if_present(dir: &Path, file: &File) -> Result<Option<u64>> {
    let ours = file.metadata().step("read the log of events")?;
    let there = std::fs::metadata(present(dir)).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
    Ok(there.then_some(ours.len()))
}

/// Gives it its second name, once nobody writes to it. (Turning the lock round gives it up first: two do not wait for
/// each other.)
fn move_away(dir: &Path, file: &File) -> Result<()> {
    rustix::fs::flock(file, FlockOperation::LockExclusive).errno_step("lock the log of events")?;
    match size_if_present(dir, file)? {
        Some(_) => std::fs::rename(present(dir), previous(dir)).step("move the log of events"),
        None => Ok(()),
    }
}

/// A line's event. What a kill cut off stands before the next one's beginning.
pub fn parse(line: &[u8]) -> Option<EventMessage> {
    let start = line.windows(START.len()).rposition(|w| w == START)?;
    serde_json::from_slice(&line[start..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Type, event};

    fn put(dir: &Path, id: &str) {
        append(
            dir,
            &[event(
                Type::VOLUME,
                "create",
                id,
                [("x".into(), "{\"Type\"".into())].into(),
            )],
        )
        .unwrap();
    }

    #[test]
    fn two_files_hold_the_latest_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(100 << 10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..40).for_each(|_| put(dir.path(), &long)));
            }
        });
        let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
        let (now, before) = (size(present(dir.path())), size(previous(dir.path())));
        assert!(before > LIMIT && before < LIMIT + (1 << 20) && now < LIMIT + (1 << 20));
        let text = [previous(dir.path()), present(dir.path())].map(|p| std::fs::read(p).unwrap());
        let lines = text
            .iter()
            .flat_map(|t| t.split(|b| *b == b'\n'))
            .filter(|l| !l.is_empty());
        assert!(lines.map(parse).all(|e| e.is_some()));
    }

    #[test]
    fn a_line_cut_in_the_middle_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a");
        let mut file = OpenOptions::new().append(true).open(present(dir.path())).unwrap();
        file.write_all(b"{\"Type\":\"vol").unwrap();
        put(dir.path(), "b");
        let text = std::fs::read(present(dir.path())).unwrap();
        let ids: Vec<_> = text
            .split(|b| *b == b'\n')
            .filter_map(parse)
            .filter_map(|e| e.actor?.id)
            .collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
