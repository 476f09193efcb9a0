//! rpm's database, in the three forms that it has had: Berkeley DB (until 2020), ndb (SUSE) and SQLite. All of them hold
//! the headers of the installed packages, and those the names of their files.
//!
//! The image made the file: every place is checked, every count has a limit, chains end.

mod bdb;
mod ndb;
mod sqlite;

use std::cell::Cell;

/// Where it is, in the order of likelihood.
pub const PLACES: &[&str] = &[
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages",
];
/// Packages of one image.
const PACKAGES: usize = 100_000;
/// The largest header; rpm's own limit is 256 MiB.
const HEADER: usize = 64 << 20;

/// How often all bytes of a database are looked at, and how many paths are put together.
const TIMES: usize = 4;
const MATCHES: usize = 200_000;
/// Longest name of a directory.
const PATH: usize = 4096;

/// Tags of a header (rpmtag.h) and their types.
const NAME: (u32, u32) = (1000, STRING);
const VERSION: (u32, u32) = (1001, STRING);
const RELEASE: (u32, u32) = (1002, STRING);
const OLD_FILE_NAMES: (u32, u32) = (1027, STRINGS);
const DIR_INDEXES: (u32, u32) = (1116, INT32);
const BASE_NAMES: (u32, u32) = (1117, STRINGS);
const DIR_NAMES: (u32, u32) = (1118, STRINGS);
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRINGS: u32 = 8;
/// Bytes of an entry of its index: tag, type, offset, count.
const ENTRY: usize = 16;

/// Calls with the header of each package; the bytes of the database tell its form.
pub fn headers(database: &[u8], found: &mut dyn FnMut(Header<'_>)) {
    // Headers may lie upon one another: so often is each byte looked at, and no more.
    let mut left = database.len().saturating_mul(TIMES);
    let (mut packages, matches) = (PACKAGES, Cell::new(MATCHES));
    let mut each = |blob: &[u8]| {
        if let Some(header) = Header::parse(blob, &matches) {
            found(header);
        }
        packages -= 1;
        left = left.saturating_sub(blob.len());
        packages > 0 && left > 0
    };
    if database.starts_with(sqlite::MAGIC) {
        sqlite::blobs(database, &mut each);
    } else if database.starts_with(ndb::MAGIC) {
        ndb::blobs(database, &mut each);
    } else {
        bdb::blobs(database, &mut each);
    }
}

/// Takes what was found; whether more is wanted.
type Each<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// What is installed of one package.
pub struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
    matches: &'a Cell<usize>,
}

impl<'a> Header<'a> {
    /// Number of entries, bytes of data, entries, data; numbers are big endian.
    fn parse(blob: &'a [u8], matches: &'a Cell<usize>) -> Option<Header<'a>> {
        let entries = usize::try_from(word(blob, 0)?).ok()?.checked_mul(ENTRY)?;
        let (index, data) = blob.get(8..)?.split_at_checked(entries)?;
        let data = data.get(..usize::try_from(word(blob, 4)?).ok()?)?;
        Some(Header { index, data, matches })
    }

    /// The bytes of a tag, to the end of the data, and how many items they are.
    fn tag(&self, (tag, kind): (u32, u32)) -> Option<(&'a [u8], usize)> {
        let entry = self.index.chunks_exact(ENTRY).find(|e| word(e, 0) == Some(tag))?;
        let (offset, count) = (word(entry, 8)? as usize, word(entry, 12)? as usize);
        (word(entry, 4)? == kind).then_some((self.data.get(offset..)?, count))
    }

    fn strings(&self, tag: (u32, u32)) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, count) = self.tag(tag).unwrap_or_default();
        bytes.split(|b| *b == 0).take(count)
    }

    /// `glibc 2.12-1.209.el6`
    pub fn label(&self) -> Option<String> {
        let text = |tag| self.strings(tag).next().map(String::from_utf8_lossy);
        let (name, version, release) = (text(NAME)?, text(VERSION)?, text(RELEASE)?);
        Some(format!("{name} {version}-{release}"))
    }

    /// The path of each file whose last name is wanted.
    pub fn files(&self, wanted: &dyn Fn(&[u8]) -> bool, found: &mut dyn FnMut(&str)) {
        let directories: Vec<&[u8]> = self.strings(DIR_NAMES).collect();
        let (indexes, count) = self.tag(DIR_INDEXES).unwrap_or_default();
        let indexes = indexes.chunks_exact(4).take(count);
        let mut tell = |parts: [&[u8]; 2]| {
            let left = self.matches.get();
            if left > 0 && parts.iter().all(|part| part.len() <= PATH) {
                self.matches.set(left - 1);
                found(&String::from_utf8_lossy(&parts.concat()));
            }
        };
        for (name, index) in self.strings(BASE_NAMES).zip(indexes).filter(|(name, _)| wanted(name)) {
            let directory = word(index, 0).and_then(|at| directories.get(at as usize));
            tell([directory.copied().unwrap_or_default(), name]);
        }
        // Before rpm 4.
        let last = |path: &[u8]| path.rsplit(|b| *b == b'/').next().is_some_and(wanted);
        for path in self.strings(OLD_FILE_NAMES).filter(|path| last(path)) {
            tell([path, b""]);
        }
    }
}

/// Four bytes, big endian.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

/// Four bytes, little endian or big.
fn number(bytes: &[u8], at: usize, little: bool) -> Option<u32> {
    word(bytes, at).map(|word| if little { word.swap_bytes() } else { word })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The header of a package with one file.
    pub fn header(name: &str, directory: &str, file: &str) -> Vec<u8> {
        let mut data = vec![0, 0, 0, 0];
        let mut index = Vec::new();
        let mut entry = |tag: (u32, u32), offset: usize| {
            for value in [tag.0, tag.1, offset as u32, 1] {
                index.extend(value.to_be_bytes());
            }
        };
        entry(DIR_INDEXES, 0);
        let texts = [
            (NAME, name),
            (VERSION, "2.12"),
            (RELEASE, "1.el6"),
            (DIR_NAMES, directory),
            (BASE_NAMES, file),
        ];
        for (tag, text) in texts {
            entry(tag, data.len());
            data.extend(text.bytes().chain([0]));
        }
        let mut blob = ((index.len() / ENTRY) as u32).to_be_bytes().to_vec();
        blob.extend((data.len() as u32).to_be_bytes());
        [blob, index, data].concat()
    }

    /// Packages and the files called `bash`.
    pub fn listed(database: &[u8]) -> Vec<(String, Vec<String>)> {
        let mut list = Vec::new();
        headers(database, &mut |header| {
            let mut files = Vec::new();
            header.files(&|name| name == b"bash", &mut |path| files.push(path.to_owned()));
            list.push((header.label().unwrap_or_default(), files));
        });
        list
    }

    /// Cut and changed at many places: no panic, no end that does not come.
    pub fn spoil(whole: &[u8]) {
        for at in (0..whole.len()).step_by(whole.len() / 2000 + 1) {
            listed(&whole[..at]);
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = byte;
                listed(&bytes);
                bytes[at..whole.len().min(at + 4)].fill(byte);
                listed(&bytes);
            }
        }
    }

    #[test]
    fn headers_name_package_and_files() {
        let blob = header("bash", "/bin/", "bash");
        let matches = Cell::new(1000);
        let header = Header::parse(&blob, &matches).unwrap();
        assert_eq!(header.label().unwrap(), "bash 2.12-1.el6");
        let mut files = Vec::new();
        header.files(&|_| true, &mut |path| files.push(path.to_owned()));
        assert_eq!(files, ["/bin/bash"]);
        for at in 0..blob.len() {
            let mut bytes = blob.clone();
            bytes[at] = 0xff;
            for part in [&bytes[..], &blob[..at]] {
                if let Some(header) = Header::parse(part, &matches) {
                    let _ = header.label();
                    header.files(&|_| true, &mut |_| {});
                }
            }
        }
    }
}
