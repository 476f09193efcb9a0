//! `rpmdb.sqlite`: the table `Packages` of a SQLite file (sqlite.org, "Database File Format"), read without running any of
//! SQLite: the file may be hostile.

use std::borrow::Cow;

use super::{Each, HEADER};

/// How it begins.
pub const MAGIC: &[u8] = b"SQLite format 3\0";
/// Pages of tables' trees: leaves and what is above them.
const LEAF: u8 = 0x0d;
const INNER: u8 = 0x05;
/// Rows of a table that are looked at: cells of a page may all be at one place.
const ROWS: usize = 200_000;

/// Each package's header.
pub fn blobs(bytes: &[u8], each: Each<'_>) {
    let Some(database) = Database::new(bytes) else { return };
    let mut root = None;
    database.rows(1, &mut |row| {
        let mut columns = columns(row);
        let (kind, name) = (columns.next().flatten(), columns.next().flatten());
        let at = columns.nth(1).flatten();
        if (kind, name) == (Some(b"table"), Some(b"Packages")) {
            root = at.map(|bytes| bytes.iter().fold(0usize, |all, b| (all << 8) | usize::from(*b)));
        }
        root.is_none()
    });
    let Some(root) = root else { return };
    database.rows(root, &mut |row| match columns(row).nth(1).flatten() {
        Some(blob) => each(blob),
        None => true,
    });
}

struct Database<'a> {
    bytes: &'a [u8],
    page: usize,
    usable: usize,
}

impl<'a> Database<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let page = match bytes.get(16..18)? {
            [0, 1] => 65536,
            size => usize::from(u16::from_be_bytes([size[0], size[1]])),
        };
        let usable = page.checked_sub(usize::from(*bytes.get(20)?))?;
        (page.is_power_of_two() && usable >= 480).then_some(Database { bytes, page, usable })
    }

    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let at = number.checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(at..at.checked_add(self.usable)?)
    }

    /// The payload of each row of the table whose tree begins at that page.
    fn rows(&self, root: usize, each: Each<'_>) {
        // No page is in a tree twice.
        let mut budget = self.bytes.len() / self.page + 1;
        let (mut todo, mut left) = (vec![root], ROWS);
        while let Some(number) = todo.pop() {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let Some(page) = self.page(number) else { continue };
            let header = if number == 1 { 100 } else { 0 };
            let half = |at: usize| {
                page.get(at..at + 2)
                    .map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])))
            };
            let kind = page.get(header).copied();
            let pointers = header + if kind == Some(INNER) { 12 } else { 8 };
            let count = half(header + 3).min(self.usable / 2);
            let cells = (0..count).map(|cell| half(pointers + cell * 2));
            match kind {
                // More than there are pages are not waited for.
                Some(INNER) if todo.len() <= budget => {
                    todo.extend(super::word(page, header + 8).map(|n| n as usize));
                    let below: Vec<usize> = cells
                        .filter_map(|at| super::word(page, at))
                        .map(|n| n as usize)
                        .collect();
                    todo.extend(below.into_iter().rev());
                }
                Some(LEAF) => {
                    for at in cells {
                        left -= 1;
                        if left == 0 {
                            return;
                        }
                        if let Some(row) = self.row(page, at, &mut budget)
                            && !each(&row)
                        {
                            return;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A cell's payload: what is in the page, and what is in others.
    fn row(&self, page: &'a [u8], at: usize, budget: &mut usize) -> Option<Cow<'a, [u8]>> {
        let mut rest = page.get(at..)?;
        let size = usize::try_from(varint(&mut rest)?)
            .ok()
            .filter(|size| *size <= HEADER)?;
        varint(&mut rest)?;
        let most = self.usable - 35;
        if size <= most {
            return rest.get(..size).map(Cow::Borrowed);
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (size - least) % (self.usable - 4);
        let here = if wanted <= most { wanted } else { least };
        let mut payload = rest.get(..here)?.to_vec();
        let mut next = super::word(rest, here)?;
        while payload.len() < size {
            *budget = budget.checked_sub(1)?;
            let page = self.page(next as usize)?;
            next = super::word(page, 0)?;
            let part = page.get(4..)?;
            payload.extend(&part[..part.len().min(size - payload.len())]);
        }
        Some(payload.into())
    }
}

/// A number of one to nine bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if index == 8 {
            return Some((value << 8) | u64::from(*byte));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

/// The values of a row, as bytes; those of NULL are none.
fn columns(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut kinds = row;
    let size = varint(&mut kinds).unwrap_or(0);
    let header = usize::try_from(size).unwrap_or(usize::MAX).min(row.len());
    let mut kinds = &row[(row.len() - kinds.len()).min(header)..header];
    let mut values = &row[header..];
    std::iter::from_fn(move || {
        let kind = varint(&mut kinds)?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        let (value, rest) = values.split_at_checked(size)?;
        values = rest;
        Some((kind != 0).then_some(value))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, listed, spoil};

    /// What SQLite itself writes: rows in one page, in many, and beside them.
    #[test]
    fn headers_are_found_in_rows_of_all_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpmdb.sqlite");
        let database = rusqlite::Connection::open(&path).unwrap();
        let setup = "PRAGMA page_size = 512; CREATE TABLE Name (key TEXT, hnum INTEGER); \
            CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);";
        database.execute_batch(setup).unwrap();
        let mut expected = Vec::new();
        for number in 0..40 {
            let name = format!("bash{number}");
            let mut blob = header(&name, "/bin/", "bash");
            // What follows the data is not of the header.
            blob.resize(blob.len() + number * 97, 7);
            database
                .execute("INSERT INTO Packages (blob) VALUES (?1)", [&blob])
                .unwrap();
            expected.push((format!("{name} 2.12-1.el6"), vec!["/bin/bash".to_owned()]));
        }
        drop(database);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(listed(&bytes), expected);
        spoil(&bytes[..bytes.len().min(40_000)]);
    }
}
