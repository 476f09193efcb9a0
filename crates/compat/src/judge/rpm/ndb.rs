//! `Packages.db`: rpm's own format (rpm `lib/backend/ndb/rpmpkg.c`). Slots at its beginning tell where the headers are, in
//! blocks of 16 bytes; each header stands behind a word that says what it is.

use super::{Each, HEADER, number};

/// How it begins.
pub const MAGIC: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
/// Bytes of a block, a slot, and what stands before a header.
const BLOCK: usize = 16;
/// Bytes before the first slot, and of a page of slots.
const FIRST: usize = 32;
const PAGE: usize = 4096;

/// Each package's header.
pub fn blobs(bytes: &[u8], each: Each<'_>) {
    let pages = number(bytes, 12, true).unwrap_or(0) as usize;
    let slots = bytes
        .get(FIRST..bytes.len().min(pages.saturating_mul(PAGE)))
        .unwrap_or_default();
    for slot in slots.chunks_exact(BLOCK).filter(|slot| slot.starts_with(SLOT)) {
        if let Some(blob) = blob(bytes, slot)
            && !each(blob)
        {
            return;
        }
    }
}

fn blob<'a>(bytes: &'a [u8], slot: &[u8]) -> Option<&'a [u8]> {
    let at = (number(slot, 8, true)? as usize)
        .checked_mul(BLOCK)
        .filter(|at| *at > 0)?;
    let head = bytes.get(at..at.checked_add(BLOCK)?)?;
    let size = (number(head, 12, true)? as usize).min(HEADER);
    let start = at + BLOCK;
    bytes
        .get(start..start.checked_add(size)?)
        .filter(|_| head.starts_with(BLOB))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, listed, spoil};

    #[test]
    fn headers_are_found_behind_their_slots() {
        let blob = header("bash", "/bin/", "bash");
        let words = |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|w| w.to_le_bytes()).collect() };
        let mut bytes = [super::MAGIC, &words(&[0, 1, 1, 2, 0, 0, 0])].concat();
        bytes.extend([super::SLOT, &words(&[1, 256, 20])].concat());
        bytes.extend([&b"Slot"[..], &words(&[0, 0, 0])].concat());
        bytes.resize(4096, 0);
        bytes.extend([super::BLOB, &words(&[1, 1, blob.len() as u32]), &blob].concat());
        assert_eq!(
            listed(&bytes),
            [("bash 2.12-1.el6".to_owned(), vec!["/bin/bash".to_owned()])]
        );
        spoil(&bytes);
    }
}
