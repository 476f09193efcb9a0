//! The keys that detach from a container without ending it: `ctrl-p,ctrl-q` unless told otherwise.

use errdefs::{Error, Result};

/// A sequence, and how much of it was typed.
pub struct Keys {
    sequence: Vec<u8>,
    typed: usize,
}

/// What a piece of input is, the keys taken out.
pub struct Sifted {
    /// For the container.
    pub input: Vec<u8>,
    /// The sequence is complete.
    pub detach: bool,
}

impl Keys {
    /// `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.unwrap_or("ctrl-p,ctrl-q");
        let key = |key: &str| {
            let byte = match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
                Some([b'@']) => Some(0),
                Some([other @ b'['..=b'_']) => Some(other - b'[' + 27),
                Some(_) => None,
                None => key.as_bytes().first().copied().filter(|_| key.len() == 1),
            };
            byte.ok_or_else(|| Error::invalid(format!("invalid detach keys ({text}): unknown character: '{key}'")))
        };
        let sequence = text
            .split(',')
            .filter(|k| !k.is_empty())
            .map(key)
            .collect::<Result<_>>()?;
        Ok(Keys { sequence, typed: 0 })
    }

    /// Sifts what was typed. A beginning of the sequence is held back until it is clear what it is.
    pub fn sift(&mut self, typed: &[u8]) -> Sifted {
        let mut input = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.sequence.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.sequence.len() {
                    self.typed = 0;
                    return Sifted { input, detach: true };
                }
                continue;
            }
            input.extend_from_slice(&self.sequence[..self.typed]);
            self.typed = usize::from(self.sequence.first() == Some(byte));
            if self.typed == 0 {
                input.push(*byte);
            }
        }
        Sifted { input, detach: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_and_everything_else_passes() {
        let mut keys = Keys::parse(None).unwrap();
        let sifted = keys.sift(b"a\x10b");
        assert_eq!((sifted.input.as_slice(), sifted.detach), (&b"a\x10b"[..], false));
        assert!(keys.sift(b"\x10").input.is_empty());
        assert!(keys.sift(b"\x11").detach);
        let sifted = keys.sift(b"\x10\x10\x11");
        assert_eq!((sifted.input.as_slice(), sifted.detach), (&b"\x10"[..], true));
        assert!(Keys::parse(Some("ctrl-é")).is_err());
        assert!(!Keys::parse(Some("")).unwrap().sift(b"x").detach);
    }
}
