//! Compressing by gzip on all processors: what comes in is cut into pieces, each of which becomes a member of its own (RFC 1952,
//! section 2.2: members simply follow each other). The same content gives the same bytes, however many are at it.
//!
//! By libdeflate, which wants all of a piece at once and is twice as fast as zlib's ways of streaming at the same size.

use std::collections::VecDeque;
use std::io::{Error as IoError, Result as IoResult, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use libdeflater::{CompressionLvl, Compressor};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// As small as zlib's 6, Docker's.
const LEVEL: i32 = 4;

/// A piece to compress, and where it goes then.
type Job = (Vec<u8>, SyncSender<IoResult<Vec<u8>>>);

/// Writes what it gets, compressed. What is not finished is nothing.
pub struct Gzip<W> {
    inner: W,
    piece: Vec<u8>,
    jobs: Sender<Job>,
    pending: VecDeque<Receiver<IoResult<Vec<u8>>>>,
    /// How many pieces may be on their way.
    most: usize,
}

impl<W: Write> Gzip<W> {
    /// To `inner`.
    pub fn new(inner: W) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let (jobs, queue) = channel();
        let queue: Arc<Mutex<Receiver<Job>>> = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            // They end with the sender.
            std::thread::spawn(move || compress_all(&queue));
        }
        Gzip {
            inner,
            piece: Vec::with_capacity(PIECE),
            jobs,
            pending: VecDeque::new(),
            most: threads * 2,
        }
    }

    fn send(&mut self) -> IoResult<()> {
        let (sender, compressed) = sync_channel(1);
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.jobs.send((piece, sender)).map_err(IoError::other)?;
        self.pending.push_back(compressed);
        if self.pending.len() >= self.most {
            self.take_one()
        } else {
            Ok(())
        }
    }

    fn take_one(&mut self) -> IoResult<()> {
        match self.pending.pop_front() {
            Some(first) => self.inner.write_all(&first.recv().map_err(IoError::other)??),
            None => Ok(()),
        }
    }

    /// The rest of it.
    pub fn finish(mut self) -> IoResult<W> {
        // Nothing at all is a member, too.
        self.send()?;
        while !self.pending.is_empty() {
            self.take_one()?;
        }
        Ok(self.inner)
    }
}

fn compress_all(queue: &Mutex<Receiver<Job>>) {
    let mut compressor = Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default());
    loop {
        let next = queue.lock().unwrap_or_else(|e| e.into_inner()).recv();
        let Ok((piece, to)) = next else { return };
        let mut compressed = vec![0; compressor.gzip_compress_bound(piece.len())];
        let done = compressor.gzip_compress(&piece, &mut compressed);
        let done = done.map_err(|e| IoError::other(format!("{e:?}")));
        // Nobody wants it any more: somebody else has failed.
        let _ = to.send(done.map(|size| {
            compressed.truncate(size);
            compressed
        }));
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_stream_and_always_the_same() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE * 7 + 5] {
            let text: Vec<u8> = (0..size).map(|n| (n / 7 % 251) as u8).collect();
            let compressed = || {
                let mut gzip = Gzip::new(Vec::new());
                gzip.write_all(&text).unwrap();
                gzip.finish().unwrap()
            };
            let bytes = compressed();
            assert!(bytes == compressed());
            let mut plain = Vec::new();
            let mut from = crate::decompress(Box::new(std::io::Cursor::new(bytes))).unwrap();
            std::io::Read::read_to_end(&mut from, &mut plain).unwrap();
            assert!(plain == text, "{size}");
        }
    }
}
