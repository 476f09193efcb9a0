//! `logs`: reading what a monitor wrote (Docker's `json-file` format: one JSON object a line; `.1` is older than none).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
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
        Ok(LogStream {
            reader: LogReader::open(&self.roots.log(&record.id), options.tail)?,
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
        let alive = options.follow && matches!(status(&self.roots, &self.id)?, Status::Alive(_) | Status::Changing);
        while let Some(entry) = self.reader.next()? {
            if options.until.is_some_and(|until| nanoseconds(&entry.time) > until) {
                return Ok(false);
            }
            if options.wants(&entry) && !sink(entry) {
                return Ok(false);
            }
        }
        Ok(alive)
    }
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

/// Reads a log across its rotations.
struct LogReader {
    path: PathBuf,
    /// Older files first; the last one is the present.
    files: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
}

impl LogReader {
    fn open(path: &Path, tail: Option<u64>) -> Result<Self> {
        let mut files = vec![path.to_owned()];
        for number in 1.. {
            let older = rotated(path, number);
            if !older.exists() {
                break;
            }
            files.push(older);
        }
        let mut reader = LogReader {
            path: path.to_owned(),
            files: Vec::new(),
            current: None,
            partial: Vec::new(),
        };
        if let Some(lines) = tail {
            reader.seek(&files, lines)?;
        } else {
            reader.files = files;
        }
        Ok(reader)
    }

    /// Stands so that `lines` lines follow.
    fn seek(&mut self, newest_first: &[PathBuf], lines: u64) -> Result<()> {
        let mut missing = lines;
        for path in newest_first {
            let Ok(mut file) = File::open(path) else { continue };
            let start = start_of_tail(&mut file, &mut missing).step("read the container's log")?;
            if missing == 0 {
                file.seek(SeekFrom::Start(start)).step("read the container's log")?;
                self.current = Some(BufReader::new(file));
                return Ok(());
            }
            self.files.push(path.clone());
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<LogEntry>> {
        loop {
            if self.current.is_none() && !self.advance()? {
                return Ok(None);
            }
            let Some(file) = &mut self.current else { return Ok(None) };
            let mut limited = file.take(LINE_LIMIT);
            let read = limited
                .read_until(b'\n', &mut self.partial)
                .step("read the container's log")?;
            if read == 0 {
                if !self.rotated_away() {
                    return Ok(None);
                }
                self.current = None;
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

    /// Goes on to the next file; false when there is none.
    fn advance(&mut self) -> Result<bool> {
        let path = self.files.pop().unwrap_or_else(|| self.path.clone());
        match File::open(&path) {
            Ok(file) => {
                self.current = Some(BufReader::with_capacity(64 << 10, file));
                Ok(true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).step("read the container's log"),
        }
    }

    /// Whether the file that was read to its end is not the present one any more.
    fn rotated_away(&self) -> bool {
        let ours = self.current.as_ref().and_then(|f| f.get_ref().metadata().ok());
        let present = std::fs::metadata(&self.path).ok();
        match (ours, present) {
            (Some(ours), Some(present)) => (ours.dev(), ours.ino()) != (present.dev(), present.ino()),
            _ => false,
        }
    }
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

    fn lines(dir: &Path, tail: Option<u64>) -> Vec<String> {
        let mut reader = LogReader::open(&dir.join("x.log"), tail).unwrap();
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
            let line = |w: &&str| {
                let line = LogLine {
                    log: format!("{w}\n").into(),
                    attrs: BTreeMap::new(),
                    stream: "stdout".into(),
                    time: "t".into(),
                };
                serde_json::to_string(&line).unwrap() + "\n"
            };
            std::fs::write(dir.join(name), words.iter().map(line).collect::<String>()).unwrap();
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
}
