//! `logs`: reading what a monitor wrote (Docker's `json-file` format: one JSON object a line; `.1` is older than none).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use errdefs::{Error, Result, Step};
use serde::{Deserialize, Serialize};

use super::status::{Status, status};
use crate::{Engine, Roots};

/// How often a follower looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// No line that a monitor writes is longer: 16 KiB, each byte escaped, and the frame around.
const LINE_LIMIT: u64 = 16 * 1024 * 6 + 256;

/// Of the files, whoever makes them.
pub const MODE: u32 = 0o640;

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// For the caller, who prints them.
    pub timestamps: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Not before; nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Not after; nanoseconds since the epoch.
    pub until: Option<i64>,
}

/// One piece of output, as it was read from the container: up to a line.
pub struct LogEntry {
    /// 1 or 2.
    pub stream: u8,
    /// RFC 3339, nanoseconds.
    pub time: String,
    /// With the line's end, if it has one.
    pub bytes: Vec<u8>,
    /// What `--log-opt labels` and the like add to each line.
    pub attributes: BTreeMap<String, String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
pub struct LogLine<'a> {
    /// What was written; not UTF-8 is replaced, as Docker does.
    #[serde(borrow)]
    pub log: std::borrow::Cow<'a, str>,
    /// What `--log-opt labels` and the like add to each line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
    /// `stdout` or `stderr`.
    #[serde(borrow)]
    pub stream: std::borrow::Cow<'a, str>,
    /// RFC 3339, nanoseconds.
    #[serde(borrow)]
    pub time: std::borrow::Cow<'a, str>,
}

impl Engine {
    /// A log to read from, for callers that do not want to sit and wait.
    pub fn open_log(&self, name: &str, options: &LogOptions) -> Result<LogStream> {
        let record = self.record(name)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("you must choose at least one stream"));
        }
        let log_driver = record.host().log_config.as_ref().and_then(|l| l.typ.as_deref());
        if log_driver == Some("none") {
            return Err(Error::new(
                errdefs::Kind::NotImplemented,
                "configured logging driver does not support reading",
            ));
        }
        let expected = options.follow && alive(&self.roots, &record.id)?;
        Ok(LogStream {
            reader: LogReader::open(&self.roots.log(&record.id), options.tail, expected)?,
            roots: self.roots.clone(),
            id: record.id,
            options: options.clone(),
        })
    }

    /// Calls `sink` per entry, in order; with `follow` until the container ends, or until `sink` returns false.
    pub fn logs(&self, name: &str, options: &LogOptions, sink: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        let mut stream = self.open_log(name, options)?;
        while stream.read(sink)? {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// A log that is being read.
pub struct LogStream {
    reader: LogReader,
    roots: Roots,
    id: String,
    options: LogOptions,
}

impl LogStream {
    /// Hands on what is there; false when nothing more will come, or the sink wants no more.
    pub fn read(&mut self, sink: &mut dyn FnMut(LogEntry) -> bool) -> Result<bool> {
        let options = &self.options;
        // Looked at before reading: what is written after that is read, or there is another round.
        let more = options.follow && alive(&self.roots, &self.id)?;
        while let Some(entry) = self.reader.next()? {
            if options.until.is_some_and(|until| nanoseconds(&entry.time) > until) {
                return Ok(false);
            }
            if options.wants(&entry) && !sink(entry) {
                return Ok(false);
            }
        }
        Ok(more)
    }
}

/// Whether there may be more.
fn alive(roots: &Roots, id: &str) -> Result<bool> {
    Ok(matches!(status(roots, id)?, Status::Alive(_) | Status::Changing))
}

impl LogOptions {
    fn wants(&self, entry: &LogEntry) -> bool {
        let stream = if entry.stream == 2 { self.stderr } else { self.stdout };
        stream && self.since.is_none_or(|since| nanoseconds(&entry.time) >= since)
    }
}

fn nanoseconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_nanosecond() as i64)
}

/// Reads a log across its rotations. What there is at the beginning is opened then: it can be read when the container
/// has been removed meanwhile, as who waits for its end and removes it may be faster than who reads.
struct LogReader {
    path: PathBuf,
    /// Those after the current one, the newest first.
    files: Vec<File>,
    current: Option<BufReader<File>>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
}

impl LogReader {
    /// `expected`: what is not there yet will be.
    fn open(path: &Path, tail: Option<u64>, expected: bool) -> Result<Self> {
        if expected {
            let made = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
            match made {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).step("read the container's log")?,
                _ => {}
            }
        }
        let mut files = newest_first(path)?;
        if let Some(lines) = tail {
            seek(&mut files, lines).step("read the container's log")?;
        }
        Ok(LogReader {
            path: path.to_owned(),
            files,
            current: None,
            partial: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Option<LogEntry>> {
        loop {
            let read = match &mut self.current {
                Some(file) => file.take(LINE_LIMIT).read_until(b'\n', &mut self.partial),
                None => Ok(0),
            };
            if read.step("read the container's log")? == 0 {
                if let Some(file) = self.files.pop() {
                    self.current = Some(BufReader::with_capacity(64 << 10, file));
                    continue;
                }
                self.files = self.newer()?;
                if self.files.is_empty() {
                    return Ok(None);
                }
                // What was written before the turn is read first.
                continue;
            }
            if !self.partial.ends_with(b"\n") && (self.partial.len() as u64) < LINE_LIMIT {
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            // A line that a full disk or a crash cut is passed over, as Docker does.
            if let Ok(line) = serde_json::from_slice::<LogLine<'_>>(&line) {
                let stream = if line.stream == "stderr" { 2 } else { 1 };
                return Ok(Some(LogEntry {
                    stream,
                    time: line.time.into_owned(),
                    bytes: line.log.into_owned().into(),
                    attributes: line.attrs,
                }));
            }
        }
    }

    /// The files after the current one, the newest first.
    fn newer(&self) -> Result<Vec<File>> {
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let ours = self.current.as_ref().and_then(|f| f.get_ref().metadata().ok());
        let ours = ours.map(identity);
        // The log of a container that was removed is at its end.
        let present = std::fs::metadata(&self.path).ok().map(identity);
        if present.is_none() || present == ours {
            return Ok(Vec::new());
        }
        let mut files = newest_first(&self.path)?;
        let same = |f: &File| f.metadata().ok().map(identity) == ours;
        if let Some(position) = files.iter().position(same).filter(|_| ours.is_some()) {
            files.truncate(position);
        }
        Ok(files)
    }
}

/// What there is of a log. Files are renamed meanwhile, from newer to older names: none is missed, and one may come twice.
fn newest_first(path: &Path) -> Result<Vec<File>> {
    let (mut files, mut last) = (Vec::new(), None);
    for number in 0.. {
        let name = match number {
            0 => path.to_owned(),
            number => rotated(path, number),
        };
        let file = match File::open(&name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && number == 0 => continue,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
            file => file.step("read the container's log")?,
        };
        let meta = file.metadata().step("read the container's log")?;
        let identity = Some((meta.dev(), meta.ino()));
        if identity != last {
            files.push(file);
        }
        last = identity;
    }
    Ok(files)
}

/// Leaves those in which the last `lines` lines are, and the oldest of them where these begin.
fn seek(newest_first: &mut Vec<File>, lines: u64) -> std::io::Result<()> {
    let mut missing = lines;
    for index in 0..newest_first.len() {
        let file = &mut newest_first[index];
        let start = start_of_tail(file, &mut missing)?;
        file.seek(SeekFrom::Start(start))?;
        if missing == 0 {
            newest_first.truncate(index + 1);
            break;
        }
    }
    Ok(())
}

/// The name of a rotated log.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Where the last `missing` lines start; what one file lacks stays in `missing`.
fn start_of_tail(file: &mut File, missing: &mut u64) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if *missing == 0 {
        return Ok(end);
    }
    let total = end;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let length = end.min(block.len() as u64);
        file.seek(SeekFrom::Start(end - length))?;
        file.read_exact(&mut block[..length as usize])?;
        for (index, _) in block[..length as usize]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, b)| **b == b'\n')
        {
            let after = end - length + index as u64 + 1;
            if after == total {
                continue;
            }
            *missing -= 1;
            if *missing == 0 {
                return Ok(after);
            }
        }
        end -= length;
    }
    // The first line has no line's end before it.
    if total > 0 {
        *missing -= 1;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(word: &str) -> String {
        let line = LogLine {
            log: format!("{word}\n").into(),
            attrs: BTreeMap::new(),
            stream: "stdout".into(),
            time: "t".into(),
        };
        serde_json::to_string(&line).unwrap() + "\n"
    }

    fn lines(dir: &Path, tail: Option<u64>) -> Vec<String> {
        let mut reader = LogReader::open(&dir.join("x.log"), tail, false).unwrap();
        let mut list = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            list.push(String::from_utf8(entry.bytes).unwrap().trim_end().to_owned());
        }
        list
    }

    #[test]
    fn tails_reach_across_rotations() {
        let dir = std::env::temp_dir().join(format!("berth-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, words: &[&str]| {
            std::fs::write(dir.join(name), words.iter().map(|w| line(w)).collect::<String>()).unwrap();
        };
        put("x.log.2", &["a"]);
        put("x.log.1", &["b", "c"]);
        put("x.log", &["d", "e"]);
        assert_eq!(lines(&dir, None), ["a", "b", "c", "d", "e"]);
        for (tail, first) in [(0, ""), (1, "e"), (2, "d"), (3, "c"), (4, "b"), (5, "a"), (9, "a")] {
            let got = lines(&dir, Some(tail));
            assert_eq!(got.len() as u64, tail.min(5), "{tail}");
            assert_eq!(got.first().map_or("", |s| s), first, "{tail}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_was_opened_is_read_though_it_is_turned_over_and_removed() {
        let dir = std::env::temp_dir().join(format!("berth-logs-turned-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.log");
        let write = |word: &str| {
            let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(line(word).as_bytes()).unwrap();
        };
        let turn = || {
            let _ = std::fs::rename(rotated(&path, 1), rotated(&path, 2));
            std::fs::rename(&path, rotated(&path, 1)).unwrap();
        };
        let mut reader = LogReader::open(&path, None, true).unwrap();
        let mut words = || {
            let mut words = Vec::new();
            while let Some(entry) = reader.next().unwrap() {
                words.push(String::from_utf8(entry.bytes).unwrap().trim_end().to_owned());
            }
            words
        };
        write("a");
        assert_eq!(words(), ["a"]);
        // Twice between two looks, and something before each.
        write("b");
        turn();
        write("c");
        turn();
        write("d");
        assert_eq!(words(), ["b", "c", "d"]);
        write("e");
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(words(), ["e"]);
        assert!(words().is_empty());
    }
}
