//! What comes from a monitor, as a stream that is polled: messages and frames (see `engine::link`).

use engine::link::{Answer, FRAME_LIMIT, FrameKind, MESSAGE_LIMIT};
use errdefs::{Error, Result, Step};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The next message; `None` at the end of the stream.
pub async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Answer>> {
    let mut length = [0; 4];
    if !fill(stream, &mut length).await? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_LIMIT {
        return Err(Error::system("the monitor sent a message over the limit"));
    }
    let mut body = vec![0; length];
    if !fill(stream, &mut body).await? {
        return Ok(None);
    }
    serde_json::from_slice(&body).map(Some).step("decode a message")
}

/// The next frame into `buffer`, its header of eight bytes first; `None` at the end of the stream.
pub async fn frame(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Option<FrameKind>> {
    buffer.resize(8, 0);
    if !fill(stream, buffer).await? {
        return Ok(None);
    }
    let length = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
    let kind = FrameKind::from_byte(buffer[0]).filter(|_| length <= FRAME_LIMIT);
    let kind = kind.ok_or_else(|| Error::system("the monitor sent a frame that is none"))?;
    buffer.resize(8 + length, 0);
    Ok(fill(stream, &mut buffer[8..]).await?.then_some(kind))
}

/// False when the stream ends first.
async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<bool> {
    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
    match stream.read_exact(buffer).await {
        Ok(_) => Ok(true),
        Err(e) if [UnexpectedEof, ConnectionReset].contains(&e.kind()) => Ok(false),
        Err(e) => Err(e).step("read from the monitor"),
    }
}

/// Docker's eight bytes before a piece of output.
pub fn header(stream: u8, length: usize) -> [u8; 8] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

/// The end of input when a client types these keys: Docker's detach sequence.
pub struct Keys {
    keys: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// `ctrl-p,ctrl-q` unless given.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let bad = || Error::invalid(format!("Invalid detach keys ({}) provided", text.unwrap_or_default()));
        let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(letter), _) if letter.len() == 1 => match letter.as_bytes()[0] {
                letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
                b'@' => Some(0),
                letter @ b'['..=b'_' => Some(letter - b'[' + 27),
                _ => None,
            },
            (None, [letter]) => Some(*letter),
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.unwrap_or("ctrl-p,ctrl-q").split(',').map(key).collect();
        Ok(Keys {
            keys: keys.ok_or_else(bad)?,
            matched: 0,
        })
    }

    /// What of a piece of input goes on, and whether the keys are complete. Keys that turn out to be none go on later.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len());
        for byte in input {
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(*byte == self.keys[0]);
            if self.matched == 0 {
                out.push(*byte);
            }
            if self.matched == self.keys.len() {
                return (out, true);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_pieces_and_nothing_else_is_lost() {
        let mut keys = Keys::parse(None).unwrap();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10\x11z"), (b"\x10".to_vec(), true));
        let mut keys = Keys::parse(Some("x")).unwrap();
        assert_eq!(keys.filter(b"abx"), (b"ab".to_vec(), true));
        for bad in ["ctrl-", "ctrl-1", "xx", ",", "ctrl-ab"] {
            assert!(Keys::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    /// Whatever a monitor's socket brings: frames, or an error, never a panic and never a buffer over the limit.
    #[tokio::test]
    async fn mutated_frames_do_no_harm() {
        let mut seed = Vec::new();
        for (kind, text) in [(1u8, "out"), (2, "error"), (3, "{}")] {
            seed.extend_from_slice(&header(kind, text.len()));
            seed.extend_from_slice(text.as_bytes());
        }
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..5_000 {
            let mut bytes = seed.clone();
            for _ in 0..1 + random() % 3 {
                let at = random() % bytes.len();
                match random() % 3 {
                    0 => bytes[at] = random() as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random() as u8),
                }
            }
            let (mut stream, mut buffer) = (bytes.as_slice(), Vec::new());
            while let Ok(Some(_)) = frame(&mut stream, &mut buffer).await {
                assert!(buffer.len() <= FRAME_LIMIT + 8);
            }
            let _ = message(&mut bytes.as_slice()).await;
        }
    }
}
