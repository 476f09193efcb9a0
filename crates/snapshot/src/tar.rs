//! Reading tar streams: ustar, GNU and pax (tar(5)), with limits on everything.
//!
//! The `tar` crate hides the raw headers, which the recipe is made of; this reader hands every byte that is not a
//! file's content to its source's observer.

use errdefs::{Error, Kind, Result, Step};

/// The size of a header, and what everything is padded to.
pub const BLOCK: usize = 512;
/// Longest path or link target; the kernel's PATH_MAX.
const PATH_LIMIT: usize = 4096;
/// Longest extended header.
const EXTENDED_LIMIT: u64 = 1 << 20;
/// What may follow the end of the archive.
const TRAILER_LIMIT: u64 = 64 << 20;

/// Where the bytes come from. What is no content goes through `raw`, so that it can be kept.
pub trait Source {
    /// Fills the buffer from the stream; how much there was.
    fn raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize>;
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry, its extended headers applied.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: EntryKind,
    /// As written, without a leading `/` or `./`, and without a slash at its end.
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of the content that follows, in bytes.
    pub size: u64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a file with holes: where its content goes, piece by piece, and how long it is with them.
    pub sparse: Option<Sparse>,
}

/// GNU tar's ways of leaving holes out (its manual, "Storing Sparse Files").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Offset and length, in order.
    pub pieces: Vec<(u64, u64)>,
    pub length: u64,
}

/// What extended headers say about the next entry.
#[derive(Clone, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Hints,
}

/// What pax records say of holes.
#[derive(Clone, Default)]
struct Hints {
    /// Version 1: the map stands before the content.
    ahead: bool,
    map: Vec<u64>,
    length: Option<u64>,
}

/// The state of a reader between entries.
#[derive(Default)]
pub struct Reader {
    global: Extended,
    /// Content and padding of the last entry that are still to be passed.
    padding: usize,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(format!("invalid tar: {}", message.into()))
}

impl Reader {
    /// The next entry; `None` at the end, with everything after it read. The caller has taken the content of the last.
    pub fn next(&mut self, source: &mut dyn Source) -> Result<Option<Entry>> {
        let mut extended = self.global.clone();
        let padding = std::mem::take(&mut self.padding);
        exact(source, &mut [0; BLOCK][..padding])?;
        loop {
            let mut block = [0; BLOCK];
            match fill(source, &mut block)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(truncated()),
            }
            if block.iter().all(|b| *b == 0) {
                drain(source)?;
                return Ok(None);
            }
            let header = Header(&block);
            header.check()?;
            match header.kind() {
                b'L' => extended.path = Some(until_zero(&self.small(source, &header)?).to_vec()),
                b'K' => extended.link = Some(until_zero(&self.small(source, &header)?).to_vec()),
                b'x' => extended.read(&self.small(source, &header)?)?,
                b'g' => {
                    let text = self.small(source, &header)?;
                    self.global.read(&text)?;
                    extended.read(&text)?;
                }
                kind => {
                    let hints = extended.sparse.clone();
                    let mut entry = header.entry(kind, extended)?;
                    self.padding = pad(entry.size);
                    entry.sparse = sparse(source, &header, &hints, &mut entry.size)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The content of a header that describes another.
    fn small(&self, source: &mut dyn Source, header: &Header<'_>) -> Result<Vec<u8>> {
        let size = header.number(124..136)?;
        if size > EXTENDED_LIMIT {
            return Err(invalid(format!("an extended header of {size} bytes")));
        }
        let mut text = vec![0; size as usize];
        exact(source, &mut text)?;
        exact(source, &mut [0; BLOCK][..pad(size)])?;
        Ok(text)
    }
}

/// Bytes from the end of content to the next block.
fn pad(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

fn truncated() -> Error {
    Error::new(Kind::Invalid, "invalid tar: unexpected end of the stream")
}

/// Reads until the buffer is full or the stream ends.
fn fill(source: &mut dyn Source, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.raw(&mut buffer[filled..]).step("read the layer")? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

fn exact(source: &mut dyn Source, buffer: &mut [u8]) -> Result<()> {
    match fill(source, buffer)? == buffer.len() {
        true => Ok(()),
        false => Err(truncated()),
    }
}

/// Tars are padded to the size of a tape's record; what follows the end belongs to the digest.
fn drain(source: &mut dyn Source) -> Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut total = 0;
    loop {
        match fill(source, &mut buffer)? {
            0 => return Ok(()),
            n => total += n as u64,
        }
        if total > TRAILER_LIMIT {
            return Err(invalid("more than 64 MiB after the end of the archive"));
        }
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A header block.
struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    fn text(&self, range: std::ops::Range<usize>) -> &[u8] {
        until_zero(&self.0[range])
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The sum of all bytes, the sum's own place taken as blanks; old programs summed signed bytes.
    fn check(&self) -> Result<()> {
        let wanted = self.number(148..156)? as i64;
        let byte = |i: usize| if (148..156).contains(&i) { b' ' } else { self.0[i] };
        let unsigned: i64 = (0..BLOCK).map(|i| i64::from(byte(i))).sum();
        let signed: i64 = (0..BLOCK).map(|i| i64::from(byte(i) as i8)).sum();
        match wanted == unsigned || wanted == signed {
            true => Ok(()),
            false => Err(invalid("a header's checksum is wrong")),
        }
    }

    /// Octal digits, or GNU's base 256.
    fn number(&self, range: std::ops::Range<usize>) -> Result<u64> {
        let field = &self.0[range];
        if field[0] & 0x80 != 0 {
            if field[0] & 0x40 != 0 {
                return Err(invalid("a negative number in a header"));
            }
            let mut number = u64::from(field[0] & 0x3f);
            for byte in &field[1..] {
                number = number
                    .checked_mul(256)
                    .ok_or_else(|| invalid("a number in a header is too large"))?
                    | u64::from(*byte);
            }
            return Ok(number);
        }
        let text = until_zero(field);
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(0);
        }
        let text = std::str::from_utf8(text).map_err(|_| invalid("a number in a header is none"))?;
        u64::from_str_radix(text, 8).map_err(|_| invalid(format!("a number in a header is none: {text:?}")))
    }

    /// Old GNU's map: four pieces in the header, the others in blocks after it.
    fn holes(&self, source: &mut dyn Source, hints: &mut Hints) -> Result<()> {
        let mut block = *self.0;
        let (mut at, mut pieces, mut more) = (386, 4, 482);
        hints.length = Some(self.number(483..495)?);
        loop {
            let part = Header(&block);
            for piece in 0..pieces {
                let start = at + piece * 24;
                let (offset, bytes) = (part.number(start..start + 12)?, part.number(start + 12..start + 24)?);
                if part.0[start] != 0 {
                    hints.add(offset)?;
                    hints.add(bytes)?;
                }
            }
            if block[more] == 0 {
                return Ok(());
            }
            exact(source, &mut block)?;
            (at, pieces, more) = (0, 21, 504);
        }
    }

    /// mtime may be before 1970 in GNU's form.
    fn mtime(&self) -> Result<(i64, u32)> {
        let field = &self.0[136..148];
        if field[0] == 0xff {
            let low: [u8; 8] = [
                field[4], field[5], field[6], field[7], field[8], field[9], field[10], field[11],
            ];
            return Ok((i64::from_be_bytes(low), 0));
        }
        Ok((i64::try_from(self.number(136..148)?).unwrap_or(0), 0))
    }

    fn entry(&self, kind: u8, extended: Extended) -> Result<Entry> {
        let path = extended.path.unwrap_or_else(|| self.path());
        let kind = match kind {
            b'0' | 0 | b'7' if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => EntryKind::File,
            other => return Err(invalid(format!("an entry of unknown type {:?}", char::from(other)))),
        };
        let size = match kind {
            EntryKind::File => extended.size.map_or_else(|| self.number(124..136), Ok)?,
            _ => 0,
        };
        if size > i64::MAX as u64 {
            return Err(invalid("a size is too large"));
        }
        let id = |extended: Option<u64>, range| -> Result<u32> {
            let number = extended.map_or_else(|| self.number(range), Ok)?;
            u32::try_from(number)
                .ok()
                .filter(|n| *n != u32::MAX)
                .ok_or_else(|| invalid("a user or group id is too large"))
        };
        let small = |range| Ok::<u32, Error>(u32::try_from(self.number(range)?).unwrap_or(u32::MAX));
        Ok(Entry {
            kind,
            path: clean(&path)?,
            link: bounded(extended.link.unwrap_or_else(|| self.text(157..257).to_vec()))?,
            mode: (self.number(100..108)? & 0o7777) as u32,
            uid: id(extended.uid, 108..116)?,
            gid: id(extended.gid, 116..124)?,
            size,
            mtime: extended.mtime.map_or_else(|| self.mtime(), Ok)?,
            device: match kind {
                EntryKind::CharDevice | EntryKind::BlockDevice => (small(329..337)?, small(337..345)?),
                _ => (0, 0),
            },
            xattrs: extended.xattrs,
            sparse: None,
        })
    }

    /// ustar has more of the name in another field.
    fn path(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(0..100), self.text(345..500));
        match &self.0[257..263] == b"ustar\0" && !prefix.is_empty() && self.kind() != b'S' {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }
}

/// Relative, without empty parts and dots; what climbs is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let path = bounded(path.to_vec())?;
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        if part == b".." {
            return Err(invalid(format!(
                "the path {:?} climbs out",
                String::from_utf8_lossy(&path)
            )));
        }
        if part.len() > 255 {
            return Err(invalid("a file name is longer than 255 bytes"));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

fn bounded(path: Vec<u8>) -> Result<Vec<u8>> {
    if path.len() > PATH_LIMIT || path.contains(&0) {
        return Err(invalid("a path is too long, or has a zero byte"));
    }
    Ok(path)
}

impl Extended {
    /// pax: `LENGTH KEY=VALUE\n`, as often as there is something to say.
    fn read(&mut self, mut text: &[u8]) -> Result<()> {
        while !text.is_empty() && text[0] != 0 {
            let blank = text
                .iter()
                .position(|b| *b == b' ')
                .ok_or_else(|| invalid("an extended header is malformed"))?;
            let length = std::str::from_utf8(&text[..blank])
                .ok()
                .and_then(|t| t.parse::<usize>().ok());
            let record = length.filter(|l| *l > blank + 1).and_then(|l| text.get(blank + 1..l));
            let record = record
                .and_then(|r| r.strip_suffix(b"\n"))
                .ok_or_else(|| invalid("an extended header is malformed"))?;
            let equals = record
                .iter()
                .position(|b| *b == b'=')
                .ok_or_else(|| invalid("an extended header is malformed"))?;
            self.set(&record[..equals], &record[equals + 1..])?;
            text = &text[length.unwrap_or(text.len())..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || std::str::from_utf8(value).ok().and_then(|t| t.parse::<u64>().ok());
        let number =
            || number().ok_or_else(|| invalid(format!("the value of {} is no number", String::from_utf8_lossy(key))));
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"GNU.sparse.major" => self.sparse.ahead = number()? > 0,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.length = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let number = number()?;
                self.sparse.add(number)?;
            }
            b"GNU.sparse.map" => {
                for part in value.split(|b| *b == b',') {
                    let number = std::str::from_utf8(part).ok().and_then(|t| t.parse().ok());
                    self.sparse
                        .add(number.ok_or_else(|| invalid("a map of holes is none"))?)?;
                }
            }
            _ if key.starts_with(b"GNU.sparse.") => {}
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(n, _)| n != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Pieces in a file with holes.
const PIECES: usize = 1 << 20;

impl Hints {
    fn add(&mut self, number: u64) -> Result<()> {
        self.map.push(number);
        match self.map.len() > 2 * PIECES {
            true => Err(invalid("a file with too many holes")),
            false => Ok(()),
        }
    }
}

/// The map of a file with holes. What of it stands among the content is read, and taken off `size`.
fn sparse(source: &mut dyn Source, header: &Header<'_>, hints: &Hints, size: &mut u64) -> Result<Option<Sparse>> {
    let mut hints = hints.clone();
    if header.kind() == b'S' {
        header.holes(source, &mut hints)?;
    } else if hints.ahead {
        map_ahead(source, &mut hints, size)?;
    } else if hints.map.is_empty() && hints.length.is_none() {
        return Ok(None);
    }
    let pieces: Vec<(u64, u64)> = hints.map.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    let length = hints.length.ok_or_else(|| invalid("a file with holes has no length"))?;
    let (mut end, mut total) = (0u64, 0u64);
    for (offset, bytes) in &pieces {
        let after = offset
            .checked_add(*bytes)
            .filter(|after| *offset >= end && *after <= length);
        end = after.ok_or_else(|| invalid("a map of holes contradicts itself"))?;
        total += bytes;
    }
    if total != *size || length > i64::MAX as u64 {
        return Err(invalid("a map of holes does not fit its content"));
    }
    Ok(Some(Sparse { pieces, length }))
}

/// Version 1 of pax: decimal numbers, a line each, in blocks of their own.
fn map_ahead(source: &mut dyn Source, hints: &mut Hints, size: &mut u64) -> Result<()> {
    let (mut number, mut wanted, mut any) = (0u64, None, false);
    loop {
        *size = size.checked_sub(BLOCK as u64).ok_or_else(truncated)?;
        let mut block = [0; BLOCK];
        exact(source, &mut block)?;
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    number = number
                        .checked_mul(10)
                        .and_then(|n| n.checked_add(digit))
                        .ok_or_else(|| invalid("a map of holes is none"))?;
                    any = true;
                }
                b'\n' if any && wanted.is_none() => wanted = Some(number),
                b'\n' if any => hints.add(number)?,
                _ => return Err(invalid("a map of holes is none")),
            }
            if byte == b'\n' {
                (number, any) = (0, false);
                if wanted.is_some_and(|w| hints.map.len() as u64 / 2 >= w && hints.map.len().is_multiple_of(2)) {
                    return Ok(());
                }
            }
        }
    }
}

/// `1700000000.123456789`, possibly negative.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let bad = || invalid("a time is none");
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| bad())?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Ok((seconds - 1, 1_000_000_000 - nanoseconds)),
        _ => Ok((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    struct Plain<R>(R);

    impl<R: Read> Source for Plain<R> {
        fn raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    #[test]
    fn times_and_numbers() {
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert!(time(b"x").is_err());
        assert_eq!(clean(b"./a//b/").unwrap(), b"a/b");
        assert!(clean(b"a/../b").is_err());
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        let mut seed = 0x9e37_79b9_u64;
        let mut good = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        good.append_data(&mut header, "a/file", &b"abc"[..]).unwrap();
        let good = good.into_inner().unwrap();
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 20) as u8;
            }
            bytes.truncate((seed >> 40) as usize % 2048);
            let mut source = Plain(&bytes[..]);
            let mut reader = Reader::default();
            while let Ok(Some(entry)) = reader.next(&mut source) {
                let mut sink = vec![0; entry.size.min(4096) as usize];
                let _ = fill(&mut source, &mut sink);
            }
        }
    }
}
