//! Blobs to a registry: whole, or as they are made; what breaks off goes on where the registry has it (OCI distribution
//! specification, "Pushing a blob in chunks").

use std::io::Read;

use errdefs::{Error, Result, Step};
use oci_spec::image::Descriptor;

use super::{Answer, Client};
use crate::{Digest, Reference};

/// What is sent at once to an upload that broke off.
const CHUNK: usize = 8 << 20;

/// An upload that has begun.
pub struct Upload {
    place: String,
    /// Bytes that the registry has.
    pub done: u64,
}

impl Client {
    /// Uploads content of known digest and size.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        content: &mut (dyn Read + Send),
    ) -> Result<()> {
        let upload = self.begin_upload(reference)?;
        self.end_upload(reference, &upload, descriptor.digest(), descriptor.size(), content)
    }

    /// Begins an upload of content whose digest is known only when all of it was made.
    pub fn begin_upload(&self, reference: &Reference) -> Result<Upload> {
        let answer = self.http.post(reference, "blobs/uploads/")?;
        if answer.status() != 202 {
            return Err(self.refused(reference, answer));
        }
        Ok(Upload {
            place: place_of(&answer)?,
            done: 0,
        })
    }

    /// Sends what comes after the `done` bytes that the registry has.
    pub fn send_on(&self, reference: &Reference, upload: &mut Upload, content: &mut (dyn Read + Send)) -> Result<()> {
        if upload.done == 0 {
            let answer = self.http.patch(reference, &upload.place, content, None)?;
            return self.sent(reference, upload, answer);
        }
        loop {
            let mut chunk = Vec::new();
            let mut next = (&mut *content).take(CHUNK as u64);
            next.read_to_end(&mut chunk).step("read what is to be sent")?;
            if chunk.is_empty() {
                return Ok(());
            }
            let range = upload.done..upload.done + chunk.len() as u64;
            let end = range.end;
            let answer = self
                .http
                .patch(reference, &upload.place, &mut chunk.as_slice(), Some(range))?;
            self.sent(reference, upload, answer)?;
            upload.done = end;
        }
    }

    fn sent(&self, reference: &Reference, upload: &mut Upload, answer: Answer) -> Result<()> {
        if !matches!(answer.status(), 202 | 204) {
            return Err(self.refused(reference, answer));
        }
        upload.place = place_of(&answer)?;
        Ok(())
    }

    /// Asks how much of an upload that broke off has arrived. It begins anew if that is nothing.
    pub fn find_upload(&self, reference: &Reference, upload: &mut Upload) -> Result<()> {
        let answer = self.http.progress(reference, &upload.place);
        let known = answer
            .ok()
            .filter(|a| matches!(a.status(), 202 | 204))
            .and_then(|answer| {
                let last: u64 = answer.header("Range")?.rsplit_once('-')?.1.parse().ok()?;
                // The end of nothing and the end of one byte are told alike.
                (last > 0).then_some(())?;
                Some(Upload {
                    place: place_of(&answer).unwrap_or_else(|_| upload.place.clone()),
                    done: last + 1,
                })
            });
        *upload = known.map_or_else(|| self.begin_upload(reference), Ok)?;
        Ok(())
    }

    /// Says what it was: all of it has arrived, but for the last `size` bytes.
    pub fn end_upload(
        &self,
        reference: &Reference,
        upload: &Upload,
        digest: &Digest,
        size: u64,
        content: &mut (dyn Read + Send),
    ) -> Result<()> {
        let separator = if upload.place.contains('?') { '&' } else { '?' };
        let place = format!("{}{separator}digest={digest}", upload.place);
        let answer = self
            .http
            .put(reference, &place, "application/octet-stream", size, content)?;
        match answer.status() {
            201 | 204 => Ok(()),
            _ => Err(self.refused(reference, answer)),
        }
    }
}

/// Where an upload goes on.
fn place_of(answer: &Answer) -> Result<String> {
    let place = answer.header("Location");
    place.ok_or_else(|| Error::system("the registry names no place to upload to"))
}
