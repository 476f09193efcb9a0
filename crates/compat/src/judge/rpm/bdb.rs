//! `Packages`: a hash of Berkeley DB (its `dbinc/db_page.h`). Which bucket a package is in does not matter here: all pages
//! of pairs are gone through, and of each pair the second is a header.

use super::{Each, HEADER, number};

/// In the first page, in the byte order of who made it.
const MAGIC: u32 = 0x0006_1561;
/// Kinds of pages: pairs, unsorted and sorted; what did not fit.
const PAIRS: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
/// Bytes before what is in a page.
const HEAD: usize = 26;
/// Kinds of items: bytes, and where bytes are.
const HERE: u8 = 1;
const ELSEWHERE: u8 = 3;

/// Each package's header.
pub fn blobs(bytes: &[u8], each: Each<'_>) {
    let Some(little) = [true, false]
        .into_iter()
        .find(|little| number(bytes, 12, *little) == Some(MAGIC))
    else {
        return;
    };
    let size = number(bytes, 20, little).unwrap_or(0) as usize;
    if !(512..=65536).contains(&size) || !size.is_power_of_two() {
        return;
    }
    let file = File { bytes, size, little };
    // No page is in two chains.
    let mut budget = bytes.len() / size;
    for page in bytes
        .chunks_exact(size)
        .skip(1)
        .filter(|page| PAIRS.contains(&page[HEAD - 1]))
    {
        for item in file.values(page) {
            let found = match item.first() {
                Some(&HERE) => each(&item[1..]),
                Some(&ELSEWHERE) => file.chain(item, &mut budget).is_none_or(|blob| each(&blob)),
                _ => true,
            };
            if !found {
                return;
            }
        }
    }
}

struct File<'a> {
    bytes: &'a [u8],
    size: usize,
    little: bool,
}

impl<'a> File<'a> {
    fn half(&self, page: &[u8], at: usize) -> usize {
        let two = page.get(at..at + 2).map_or([0, 0], |b| [b[0], b[1]]);
        usize::from(if self.little {
            u16::from_le_bytes(two)
        } else {
            u16::from_be_bytes(two)
        })
    }

    /// The second of each pair. Items are written from the end of the page on; where each begins stands in its head.
    fn values(&self, page: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let begins = move |index: usize| self.half(page, HEAD + index * 2);
        let count = self.half(page, 20).min((self.size - HEAD) / 2);
        (1..count)
            .step_by(2)
            .filter_map(move |index| page.get(begins(index)..begins(index - 1)))
    }

    /// Kind, three bytes, first page, size.
    fn chain(&self, item: &[u8], budget: &mut usize) -> Option<Vec<u8>> {
        let mut next = number(item, 4, self.little)? as usize;
        let size = (number(item, 8, self.little)? as usize).min(HEADER);
        let mut blob = Vec::new();
        while blob.len() < size {
            *budget = budget.checked_sub(1)?;
            let at = next.checked_mul(self.size)?;
            let page = self
                .bytes
                .get(at..at.checked_add(self.size)?)
                .filter(|p| p[HEAD - 1] == OVERFLOW)?;
            let part = page.get(HEAD..HEAD + self.half(page, 22))?;
            blob.extend(&part[..part.len().min(size - blob.len())]);
            next = number(page, 16, self.little)? as usize;
        }
        Some(blob)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, listed, spoil};

    #[test]
    fn headers_are_found_in_pages_and_beside_them() {
        let (near, far) = (header("bash", "/bin/", "bash"), header("zsh", "/bin/", "bash"));
        let mut bytes = vec![0; 512 * 4];
        bytes[12..16].copy_from_slice(&super::MAGIC.to_le_bytes());
        bytes[20..24].copy_from_slice(&512u32.to_le_bytes());
        let (pairs, chain) = (512, 1024);
        let mut end = 512;
        let offpage = [
            &[3, 0, 0, 0][..],
            &2u32.to_le_bytes(),
            &(far.len() as u32).to_le_bytes(),
        ]
        .concat();
        for (index, item) in [
            vec![1, 9, 0, 0, 0],
            [&[1][..], &near].concat(),
            vec![1, 8, 0, 0, 0],
            offpage,
        ]
        .iter()
        .enumerate()
        {
            end -= item.len();
            bytes[pairs + end..pairs + end + item.len()].copy_from_slice(item);
            bytes[pairs + 26 + index * 2..pairs + 28 + index * 2].copy_from_slice(&(end as u16).to_le_bytes());
        }
        bytes[pairs + 20] = 4;
        bytes[pairs + 25] = 13;
        for (page, part, next) in [(chain, &far[..100], 3u32), (chain + 512, &far[100..], 0)] {
            bytes[page + 16..page + 20].copy_from_slice(&next.to_le_bytes());
            bytes[page + 22..page + 24].copy_from_slice(&(part.len() as u16).to_le_bytes());
            bytes[page + 25] = 7;
            bytes[page + 26..page + 26 + part.len()].copy_from_slice(part);
        }
        let expected = ["bash", "zsh"].map(|name| (format!("{name} 2.12-1.el6"), vec!["/bin/bash".to_owned()]));
        assert_eq!(listed(&bytes), expected);
        spoil(&bytes);
    }
}
