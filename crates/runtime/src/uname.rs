//! What uname(2) answers, made here for containers that are to see another release: its layout, and what depends on who asks.

/// Bytes in a field of `struct new_utsname`, with the zero that ends it.
pub const FIELD: usize = 65;
/// System, node, release, version, machine, domain.
pub const FIELDS: usize = 6;
/// Bytes of all.
pub const SIZE: usize = FIELD * FIELDS;
/// `PER_LINUX32` (personality(2)): programs that want to see a 32-bit machine.
const LINUX32: u64 = 8;

/// What a process of this `/proc/PID/personality` is told of the machine.
pub fn machine<'a>(personality: &str, own: &'a [u8]) -> &'a [u8] {
    let personality = u64::from_str_radix(personality.trim(), 16).unwrap_or(0);
    match (personality & 0xff == LINUX32, cfg!(target_arch = "x86_64")) {
        (true, true) => b"i686",
        _ => own,
    }
}

/// `struct new_utsname`: what is too long is cut, and every field ends with a zero.
pub fn lay_out(fields: [&[u8]; FIELDS]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    for (place, field) in bytes.chunks_exact_mut(FIELD).zip(fields) {
        let length = field.len().min(FIELD - 1);
        place[..length].copy_from_slice(&field[..length]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `fuzz/fuzz_targets/notification.rs` for longer.
    #[test]
    fn no_name_is_too_long_and_no_personality_too_strange() {
        for length in 0..200 {
            let name = vec![b'x'; length];
            let structure = lay_out([&name; FIELDS]);
            for field in structure.chunks(FIELD) {
                assert_eq!(field.iter().filter(|b| **b == b'x').count(), length.min(FIELD - 1));
                assert_eq!(field[FIELD - 1], 0);
            }
        }
        for text in ["", "8", "00000008\n", "-8", "ffffffffffffffffff", "8\0", "\u{fffd}"] {
            let told = machine(text, b"own");
            assert_eq!(
                told == b"i686",
                text.trim().ends_with('8') && !text.starts_with('-'),
                "{text:?}"
            );
        }
    }
}
