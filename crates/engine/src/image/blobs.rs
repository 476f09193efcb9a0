//! Which blob of which repository a layer (or a configuration) came from or went to: so that a push asks before it
//! compresses, and what was damaged can be fetched again.

use errdefs::Result;
use oci_spec::image::{Descriptor, MediaType};
use rusqlite::params;

use super::{Digest, Reference};
use crate::Engine;
use crate::state::database;

/// A blob of a registry.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub descriptor: Descriptor,
    /// Where it is; without tag and digest.
    pub place: Reference,
}

impl Engine {
    /// Writes down that a repository has these.
    pub(super) fn remember_blobs(&self, place: &Reference, blobs: &[(Digest, Descriptor)]) -> Result<()> {
        let place = bare(place).canonical();
        self.state.transact(|db| {
            for (content, blob) in blobs {
                let row = params![
                    content.to_string(),
                    blob.digest().to_string(),
                    blob.size() as i64,
                    blob.media_type().to_string(),
                    place
                ];
                db.execute(
                    "INSERT OR REPLACE INTO blob (content, digest, size, media, place) VALUES (?1, ?2, ?3, ?4, ?5)",
                    row,
                )
                .map_err(database)?;
            }
            Ok(())
        })
    }

    /// The blobs that have this content, once unpacked.
    pub(super) fn blobs_of(&self, content: &Digest) -> Result<Vec<Blob>> {
        let query = "SELECT digest, size, media, place FROM blob WHERE content = ?1 ORDER BY place";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let rows = statement.query_map([content.to_string()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
            ))
        });
        let rows: Vec<_> = rows.and_then(Iterator::collect).map_err(database)?;
        let blob = |(digest, size, media, place): (String, i64, String, String)| {
            let place = bare(&Reference::parse(&place).ok()?);
            let media = MediaType::from(media.as_str());
            let descriptor = Descriptor::new(media, size as u64, digest.parse::<Digest>().ok()?);
            Some(Blob { descriptor, place })
        };
        Ok(rows.into_iter().filter_map(blob).collect())
    }

    /// Nobody has this content any more.
    pub(super) fn forget_blobs(&self, content: &str) -> Result<()> {
        self.state
            .db
            .execute("DELETE FROM blob WHERE content = ?1", [content])
            .map_err(database)
            .map(drop)
    }
}

fn bare(reference: &Reference) -> Reference {
    Reference {
        tag: None,
        digest: None,
        ..reference.clone()
    }
}
