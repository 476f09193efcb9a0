//! Writing the container's log: Docker's `json-file` format, bounded by rotation.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use engine::container::Record;
use engine::container::logs::{LogLine, MODE, rotated};
use engine::container::record::now;
use engine::link::FrameKind;

/// Longer lines are cut into pieces of this size, as Docker does.
const LINE: usize = 16 * 1024;
/// Without `--log-opt`: no container fills the disk.
const MAX_SIZE: u64 = 20 << 20;
const MAX_FILES: u32 = 5;

/// The log of one container.
pub struct Log {
    /// With the log driver `none` there is none.
    wanted: bool,
    /// Opened when there is something to write.
    file: Option<File>,
    path: PathBuf,
    size: u64,
    max_size: u64,
    max_files: u32,
    /// Of each line.
    attrs: BTreeMap<String, String>,
    /// The beginnings of lines whose ends have not come yet: standard output, standard error.
    partial: [Vec<u8>; 2],
}

impl Log {
    /// It is made when there is something to write.
    pub fn new(path: &Path, record: &Record) -> Self {
        let config = record.host().log_config.as_ref();
        let option = |name: &str| config?.config.as_ref()?.get(name).cloned();
        let none = config.and_then(|c| c.typ.as_deref()) == Some("none");
        Log {
            wanted: !none,
            file: None,
            path: path.to_owned(),
            size: 0,
            max_size: option("max-size").and_then(|s| bytes(&s)).unwrap_or(MAX_SIZE),
            max_files: option("max-file")
                .and_then(|s| s.parse().ok())
                .unwrap_or(MAX_FILES)
                .max(1),
            attrs: attributes(record, &option),
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// Takes output; whole lines are written.
    pub fn take(&mut self, kind: FrameKind, mut bytes: &[u8]) {
        if !self.wanted {
            return;
        }
        let index = usize::from(kind == FrameKind::Stderr);
        let time = now();
        while !bytes.is_empty() {
            let room = LINE - self.partial[index].len();
            let end = bytes.iter().take(room).position(|b| *b == b'\n').map(|i| i + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            bytes = rest;
            if end.is_none() && piece.len() < room {
                self.partial[index].extend_from_slice(piece);
                return;
            }
            let mut line = std::mem::take(&mut self.partial[index]);
            line.extend_from_slice(piece);
            self.write(index, &line, &time);
        }
    }

    /// Writes what has no line's end: nothing more comes.
    pub fn finish(&mut self) {
        for index in 0..2 {
            let line = std::mem::take(&mut self.partial[index]);
            if !line.is_empty() {
                self.write(index, &line, &now());
            }
        }
    }

    fn write(&mut self, index: usize, line: &[u8], time: &str) {
        let stream = ["stdout", "stderr"][index];
        let line = LogLine {
            log: String::from_utf8_lossy(line),
            attrs: self.attrs.clone(),
            stream: stream.into(),
            time: time.into(),
        };
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        text.push(b'\n');
        if self.file.is_none() {
            self.open();
        }
        if self.size > 0 && self.size + text.len() as u64 > self.max_size {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        // A full disk loses lines; it must not end the container.
        if file.write_all(&text).is_ok() {
            self.size += text.len() as u64;
        }
    }

    /// The present file becomes `.1`, that one `.2`, the oldest goes.
    fn rotate(&mut self) {
        for number in (1..self.max_files).rev() {
            let from = if number == 1 {
                self.path.clone()
            } else {
                rotated(&self.path, number - 1)
            };
            let _ = std::fs::rename(from, rotated(&self.path, number));
        }
        if self.max_files == 1 {
            let _ = std::fs::remove_file(&self.path);
        }
        self.open();
    }

    /// Goes on with the file that is there.
    fn open(&mut self) {
        let opened = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path);
        self.file = opened.ok();
        self.size = self
            .file
            .as_ref()
            .and_then(|f| f.metadata().ok())
            .map_or(0, |m| m.len());
    }
}

/// `--log-opt labels=A,B`, `env=X`, `tag=...`: what a container's lines carry.
fn attributes(record: &Record, option: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let mut attrs = BTreeMap::new();
    let names = |list: Option<String>| -> Vec<String> {
        list.unwrap_or_default()
            .split(',')
            .filter(|n| !n.is_empty())
            .map(String::from)
            .collect()
    };
    for name in names(option("labels")) {
        if let Some(value) = record.body.labels.as_ref().and_then(|l| l.get(&name)) {
            attrs.insert(name, value.clone());
        }
    }
    for name in names(option("env")) {
        let entries = record.body.env.iter().flatten();
        let value = entries.filter_map(|e| e.split_once('=')).find(|(n, _)| *n == name);
        if let Some((_, value)) = value {
            attrs.insert(name, value.to_owned());
        }
    }
    if let Some(tag) = option("tag").filter(|t| !t.is_empty()) {
        let short = record.id.get(..12).unwrap_or(&record.id);
        let image = record.body.image.as_deref().unwrap_or_default();
        let tag = tag
            .replace("{{.ID}}", short)
            .replace("{{.FullID}}", &record.id)
            .replace("{{.Name}}", &record.name)
            .replace("{{.ImageName}}", image)
            .replace("{{.ImageID}}", record.image.get(7..19).unwrap_or_default())
            .replace("{{.DaemonName}}", "docker");
        attrs.insert("tag".into(), tag);
    }
    attrs
}

/// `10m`, `1g`, `4096`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, max_size: u64, max_files: u32) -> Log {
        let path = dir.join("x.log");
        Log {
            wanted: true,
            file: None,
            path,
            size: 0,
            max_size,
            max_files,
            attrs: BTreeMap::new(),
            partial: Default::default(),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("berth-monitor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_are_kept_whole_and_long_ones_are_cut() {
        let dir = scratch("log");
        let mut log = log(&dir, 1 << 30, 1);
        log.take(FrameKind::Stdout, b"he");
        log.take(FrameKind::Stderr, b"bad\n");
        log.take(FrameKind::Stdout, b"llo\nrest");
        log.take(FrameKind::Stdout, &[b'x'; LINE]);
        log.finish();
        let text = std::fs::read_to_string(dir.join("x.log")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let logs: Vec<_> = lines.iter().map(|l| l["log"].as_str().unwrap().len()).collect();
        assert_eq!(
            (lines[0]["log"].as_str(), lines[0]["stream"].as_str()),
            (Some("bad\n"), Some("stderr"))
        );
        assert_eq!(lines[1]["log"].as_str(), Some("hello\n"));
        assert_eq!(logs[2..], [LINE, 4]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_more_is_kept_than_asked_for() {
        let dir = scratch("rotate");
        let mut log = log(&dir, 200, 3);
        for n in 0..100 {
            log.take(FrameKind::Stdout, format!("line {n}\n").as_bytes());
        }
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["x.log", "x.log.1", "x.log.2"]);
        assert!(std::fs::read_to_string(dir.join("x.log")).unwrap().contains("line 99"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            (bytes("10m"), bytes("1KB"), bytes("7"), bytes("x"), bytes("")),
            (Some(10 << 20), Some(1024), Some(7), None, None)
        );
    }
}
