//! The kernel's list of mounts (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line of it.
#[derive(Debug, PartialEq)]
pub struct Mounted {
    /// Where.
    pub place: PathBuf,
    /// The file system's kind.
    pub kind: String,
    /// The file system's own options.
    pub options: String,
}

/// All lines that are whole.
pub fn parse(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let mut right = right.split(' ');
        Some(Mounted {
            place: unescape(left.nth(4)?).into(),
            kind: right.next()?.to_owned(),
            options: right.nth(1).unwrap_or_default().to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

impl Mounted {
    /// Of a version 1 hierarchy of cgroups: `cpu`, `cpuacct`; or `name=systemd`.
    pub fn controllers(&self) -> Vec<String> {
        let known = |o: &&str| {
            !["rw", "ro", "xattr", "clone_children", "noprefix"].contains(o) && !o.starts_with("release_agent")
        };
        self.options.split(',').filter(known).map(String::from).collect()
    }
}

/// `\040` is a space: the kernel writes what would end a word as three octal digits.
fn unescape(word: &str) -> OsString {
    let (bytes, mut out) = (word.as_bytes(), Vec::with_capacity(word.len()));
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).and_then(|d| std::str::from_utf8(d).ok());
        match digits
            .and_then(|d| u8::from_str_radix(d, 8).ok())
            .filter(|_| bytes[at] == b'\\')
        {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_are_read() {
        let text = "36 35 98:0 / /mnt\\040a\\134 rw shared:3 - proc source rw,x\n36 \n\\04 - x\n";
        let expected = Mounted {
            place: "/mnt a\\".into(),
            kind: "proc".into(),
            options: "rw,x".into(),
        };
        assert_eq!(parse(text), [expected]);
    }
}
