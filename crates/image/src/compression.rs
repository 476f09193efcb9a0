//! Undoing compression, told by the first bytes: media types lie.

use std::io::{BufRead, BufReader, Cursor, Read};

use errdefs::{Error, Result, Step};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z'];

/// Undoes gzip and zstd. Plain bytes pass.
pub fn decompress<'a>(from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut head = Vec::new();
    from.by_ref().take(6).read_to_end(&mut head).step("read the layer")?;
    let whole = BufReader::with_capacity(64 * 1024, Cursor::new(head.clone()).chain(from));
    let other = |name: &str| {
        Err(Error::invalid(format!(
            "the layer is compressed with {name}, which is not supported"
        )))
    };
    match () {
        () if head.starts_with(GZIP) => Ok(Box::new(ToTheEnd {
            inner: Some(flate2::bufread::MultiGzDecoder::new(whole)),
            into: |g| g.into_inner(),
        })),
        () if head.starts_with(ZSTD) => {
            let decoder = zstd::Decoder::with_buffer(whole).step("read the layer (zstd)")?;
            Ok(Box::new(ToTheEnd {
                inner: Some(decoder),
                into: |z| z.finish(),
            }))
        }
        () if head.starts_with(BZIP2) => other("bzip2"),
        () if head.starts_with(XZ) => other("xz"),
        () => Ok(Box::new(whole)),
    }
}

/// A decoder that reads what it decodes to the very end, so that the digest below is checked.
struct ToTheEnd<D, R> {
    inner: Option<D>,
    into: fn(D) -> R,
}

impl<D: Read, R: BufRead> Read for ToTheEnd<D, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(decoder) = &mut self.inner else { return Ok(0) };
        let read = decoder.read(buffer)?;
        if read == 0
            && !buffer.is_empty()
            && let Some(decoder) = self.inner.take()
        {
            std::io::copy(&mut (self.into)(decoder), &mut std::io::sink())?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"one").unwrap();
        let one = gzip.finish().unwrap();
        let mut twice = one.clone();
        twice.extend(&one);
        let zstd = zstd::encode_all(&b"one"[..], 1).unwrap();
        for (bytes, text) in [
            (one, "one"),
            (twice, "oneone"),
            (zstd, "one"),
            (b"plain".to_vec(), "plain"),
            (vec![], ""),
        ] {
            let out = std::io::read_to_string(decompress(Box::new(Cursor::new(bytes))).unwrap()).unwrap();
            assert_eq!(out, text);
        }
        assert!(decompress(Box::new(Cursor::new(b"BZh91AY".to_vec()))).is_err());
    }
}
