//! Beginnings of functions from the table for unwinding (`.eh_frame_hdr`): there also in stripped files.

use object::elf as raw;

use crate::elf::Elf;

/// Entries that are read.
const ENTRIES: usize = 1 << 20;
/// Encodings of the table that every linker writes: a count of four bytes, and pairs relative to the table itself.
const COUNT: u8 = 0x03;
const PAIRS: u8 = 0x3b;

/// All of them; none if there is no such table.
pub fn starts(elf: &Elf<'_>) -> Vec<u64> {
    let Some((address, table)) = header(elf) else {
        return Vec::new();
    };
    let Some([1, frame, COUNT, PAIRS]) = table.get(..4) else {
        return Vec::new();
    };
    // The pointer to the frames: four bytes in all files that are not huge.
    let pointer = match frame & 15 {
        0x0b | 0x03 => 4,
        0x0c | 0x04 | 0x00 => 8,
        _ => return Vec::new(),
    };
    let Some(rest) = table.get(4 + pointer..) else {
        return Vec::new();
    };
    let Some(count) = rest.get(..4).map(|b| elf.u32_of(b) as usize) else {
        return Vec::new();
    };
    let pairs = rest[4..].chunks_exact(8).take(count.min(ENTRIES));
    pairs
        .map(|pair| address.wrapping_add_signed(i64::from(elf.u32_of(pair) as i32)))
        .collect()
}

/// `PT_GNU_EH_FRAME`: its address and bytes.
fn header<'a>(elf: &Elf<'a>) -> Option<(u64, &'a [u8])> {
    let (table_at, entry_at, count_at) = if elf.wide { (32, 54, 56) } else { (28, 42, 44) };
    let half = |at: u64| {
        elf.bytes(at, 2).map(|b| {
            if elf.little {
                u16::from_le_bytes([b[0], b[1]])
            } else {
                u16::from_be_bytes([b[0], b[1]])
            }
        })
    };
    let table = elf.word_of(elf.bytes(table_at, 8)?);
    let (size, count) = (u64::from(half(entry_at)?), u64::from(half(count_at)?));
    for index in 0..count.min(1170) {
        let entry = elf.bytes(table.checked_add(index * size)?, size)?;
        if entry.len() >= 32 && elf.u32_of(entry) == raw::PT_GNU_EH_FRAME {
            let address = elf.word_of(&entry[if elf.wide { 16 } else { 8 }..]);
            return Some((address, elf.at(address)?));
        }
    }
    None
}
