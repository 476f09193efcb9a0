//! The end of what a container wrote: what is kept is small, whatever it writes.

/// No message that explains an end is longer.
const LIMIT: usize = 2048;

/// The last bytes, some more than that.
#[derive(Default)]
pub struct LastWords(Vec<u8>);

impl LastWords {
    /// It wrote these.
    pub fn take(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(LIMIT)..];
        if self.0.len() + bytes.len() > 2 * LIMIT {
            let drop = (self.0.len() + bytes.len()).saturating_sub(LIMIT).min(self.0.len());
            self.0.drain(..drop);
        }
        self.0.extend_from_slice(bytes);
    }

    /// All that is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_no_more() {
        let mut words = LastWords::default();
        for n in 0..1000u32 {
            words.take(format!("line {n}\n").as_bytes());
            assert!(words.bytes().len() <= 2 * LIMIT);
        }
        assert!(words.bytes().ends_with(b"line 998\nline 999\n"));
        words.take(&[7; 100_000]);
        assert_eq!(words.bytes().len(), LIMIT);
    }
}
