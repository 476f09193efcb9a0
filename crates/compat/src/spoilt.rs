//! Files that were spoilt, by the thousand and always in the same way: whatever they say, nothing panics and all ends.

use crate::elf::Elf;
use crate::{scan, syscalls, vsyscall};

/// A repeatable stream of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Whatever is made of a file.
fn all(bytes: &[u8]) {
    let _ = scan::bytes("/usr/lib/libc.so.6", true, bytes);
    if let Ok(elf) = Elf::parse(bytes) {
        vsyscall::find(&elf);
        let _ = (elf.needed(), elf.soname(), elf.run_path(), elf.page_align());
    }
}

fn spoil(numbers: &mut Numbers, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let head = bytes.len().min(4096);
    for _ in 0..1 + numbers.below(8) {
        // Headers and tables mostly, anything else sometimes.
        let limit = if numbers.below(4) == 0 { bytes.len() } else { head };
        let at = numbers.below(limit);
        match numbers.below(3) {
            0 => bytes[at] = numbers.below(256) as u8,
            1 => bytes[at..limit.min(at + 8)].fill(0xff),
            _ => bytes[at..limit.min(at + 4)].fill(0),
        }
    }
    if numbers.below(3) == 0 {
        bytes.truncate(numbers.below(bytes.len()));
    }
    bytes
}

#[test]
fn spoilt_files_are_read_to_an_end() {
    let whole = std::fs::read("/bin/true").unwrap();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for round in 0..20_000 {
        let bytes = spoil(&mut numbers, &whole);
        all(&bytes);
        if round % 8 == 0 {
            let _ = syscalls::graph_of(&bytes);
        }
    }
}

/// Found by fuzzing: what is added to an address would begin anew at 0.
#[test]
fn segments_end_before_all_addresses_do() {
    let whole = std::fs::read("/bin/true").unwrap();
    let segments = usize::from(whole[56]);
    for (segment, at) in (0..segments).flat_map(|s| [16, 32, 40].map(|at| (s, at))) {
        for value in [u64::MAX, u64::MAX - 0x80, 1 << 63] {
            let mut bytes = whole.clone();
            let place = 64 + segment * 56 + at;
            bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
            all(&bytes);
            let _ = syscalls::graph_of(&bytes);
        }
    }
}

#[test]
fn every_beginning_of_a_file_is_read() {
    let whole = std::fs::read("/bin/true").unwrap();
    (0..2048).for_each(|end| all(&whole[..end]));
}

/// A program whose code is noise.
fn noise(numbers: &mut Numbers, wide: bool, machine: u16) -> Vec<u8> {
    let (header, size) = if wide { (64usize, 56usize) } else { (52, 32) };
    let code: Vec<u8> = (0..2048).map(|_| numbers.below(256) as u8).collect();
    let mut bytes = vec![0u8; header + size];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1]);
    let at = (header + size) as u64;
    let mut put =
        |at: usize, width: usize, value: u64| bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    for (place, value) in [(16, 2), (18, u64::from(machine))] {
        put(place, 2, value);
    }
    put(20, 4, 1);
    // Entry, then program headers right after the header: one, and the code after it.
    let word = if wide { 8 } else { 4 };
    put(24, word, 0x40_0000 + at);
    put(24 + word, word, header as u64);
    put(if wide { 54 } else { 42 }, 2, size as u64);
    put(if wide { 56 } else { 44 }, 2, 1);
    put(header, 4, 1);
    let fields: [(usize, u64); 5] = match wide {
        true => [(8, at), (16, 0x40_0000 + at), (32, 2048), (40, 2048), (48, 4096)],
        false => [(4, at), (8, 0x40_0000 + at), (16, 2048), (20, 2048), (28, 4096)],
    };
    for (place, value) in fields {
        put(header + place, word, value);
    }
    put(header + if wide { 4 } else { 24 }, 4, 5);
    bytes.extend(code);
    bytes
}

#[test]
fn noise_is_decoded_to_an_end() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (wide, machine) in [(true, 62), (false, 3), (true, 183)] {
        for _ in 0..4000 {
            let bytes = noise(&mut numbers, wide, machine);
            all(&bytes);
            let graph = syscalls::graph_of(&bytes).expect("a file that is whole");
            assert!(!graph.functions.is_empty());
        }
    }
}
