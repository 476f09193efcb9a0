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

#[test]
fn every_beginning_of_a_file_is_read() {
    let whole = std::fs::read("/bin/true").unwrap();
    (0..2048).for_each(|end| all(&whole[..end]));
}
