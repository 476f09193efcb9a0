//! Names that stand for an index, and images of it for several platforms that are here: the name alone means the one for
//! this machine, or else the one that came last.

use errdefs::{Error, Result, Step};
use oci_spec::image::ImageIndex;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Digest, Image, ImageConfiguration, Platform, Reference};
use crate::Engine;
use crate::state::database;

/// One image of a name.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The image's id.
    pub image: String,
    /// `linux/arm64/v8`.
    pub platform: String,
    /// Digest of its own manifest.
    pub manifest: String,
    /// Digest of the index.
    pub whole: String,
}

impl Variant {
    /// Writes it down for another name.
    pub(super) fn under(&self, db: &Connection, name: &str) -> Result<()> {
        let row = params![name, self.image, self.platform, self.manifest, self.whole];
        db.execute(
            "INSERT OR REPLACE INTO variant (name, image, platform, manifest, whole) VALUES (?1, ?2, ?3, ?4, ?5)",
            row,
        )
        .map_err(database)
        .map(drop)
    }

    /// Whether it runs on that platform.
    pub fn is_for(&self, platform: &Platform) -> bool {
        let mut parts = self.platform.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (next(), next(), next());
        platform.fits(os, architecture, Some(variant).filter(|v| !v.is_empty()))
    }
}

/// The name means this image alone from now on.
pub(super) fn point(db: &Connection, name: &str, image: &str, manifest: Option<&str>) -> Result<usize> {
    // What takes the place of a row takes its variants along.
    db.execute(
        "INSERT OR REPLACE INTO reference (name, image, manifest) VALUES (?1, ?2, ?3)",
        params![name, image, manifest],
    )
    .map_err(database)
}

/// The name stands for an index of which this is one image; others of the same index stay.
pub(super) fn add(
    db: &Connection,
    name: &str,
    image: &str,
    config: &ImageConfiguration,
    whole: &Digest,
    manifest: &Digest,
) -> Result<()> {
    let new = Variant {
        image: image.into(),
        platform: platform_of(config),
        manifest: manifest.to_string(),
        whole: whole.to_string(),
    };
    let query = "SELECT platform FROM variant JOIN reference USING (name, image) WHERE name = ?1 AND whole = ?2";
    let first = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let meant = db.query_row(query, [name, &new.whole], first).optional();
    match meant.map_err(database)? {
        None => _ = point(db, name, image, Some(&new.whole))?,
        Some(platform) => {
            let meant = Variant {
                platform,
                ..new.clone()
            };
            if new.is_for(&Platform::host()) || !meant.is_for(&Platform::host()) {
                mean(db, name, image)?;
            }
        }
    }
    new.under(db, name)
}

/// Which of its images a name means if no platform is said.
fn mean(db: &Connection, name: &str, image: &str) -> Result<()> {
    db.execute("UPDATE reference SET image = ?2 WHERE name = ?1", [name, image])
        .map_err(database)
        .map(drop)
}

/// `linux/arm64/v8`.
fn platform_of(config: &ImageConfiguration) -> String {
    let variant = config.variant().as_ref().map_or(String::new(), |v| format!("/{v}"));
    format!("{}/{}{variant}", config.os(), config.architecture())
}

/// Takes one image from a name. The name goes with its last, and means another if it meant this one. Whether it went.
pub(super) fn leave(db: &Connection, name: &str, image: &str) -> Result<bool> {
    db.execute("DELETE FROM variant WHERE name = ?1 AND image = ?2", [name, image])
        .map_err(database)?;
    let others = db.query_row("SELECT image FROM variant WHERE name = ?1 LIMIT 1", [name], |row| {
        row.get::<_, String>(0)
    });
    let meant = db.query_row(
        "SELECT 1 FROM reference WHERE name = ?1 AND image = ?2",
        [name, image],
        |_| Ok(()),
    );
    match (
        others.optional().map_err(database)?,
        meant.optional().map_err(database)?,
    ) {
        (_, None) => Ok(false),
        (Some(other), Some(())) => mean(db, name, &other).map(|()| false),
        (None, Some(())) => db
            .execute("DELETE FROM reference WHERE name = ?1", [name])
            .map_err(database)
            .map(|gone| gone > 0),
    }
}

impl Engine {
    /// The images that a name stands for, if that is more than the one of a plain manifest.
    pub fn variants_of_name(&self, name: &str) -> Result<Vec<Variant>> {
        match Reference::parse(name) {
            Ok(Reference {
                digest: Some(whole), ..
            }) => {
                // Several names may stand for it.
                let mut found = self.variants("whole = ?1", whole.as_ref())?;
                found.dedup_by(|one, other| one.image == other.image);
                Ok(found)
            }
            Ok(reference) => self.variants("name = ?1", &reference.canonical()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Digests of the manifests that an image came with, or went by.
    pub(super) fn manifests_of(&self, id: &str) -> Result<Vec<String>> {
        let query = "SELECT manifest FROM variant WHERE image = ?1
            UNION SELECT manifest FROM reference WHERE image = ?1 AND manifest IS NOT NULL";
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let rows = statement.query_map([id], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(database)
    }

    fn variants(&self, which: &str, value: &str) -> Result<Vec<Variant>> {
        let query =
            format!("SELECT image, platform, manifest, whole FROM variant WHERE {which} ORDER BY platform, image");
        let mut statement = self.state.db.prepare_cached(&query).map_err(database)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Variant {
                image: row.get(0)?,
                platform: row.get(1)?,
                manifest: row.get(2)?,
                whole: row.get(3)?,
            })
        };
        let rows = statement.query_map([value], row);
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// What a name means; with a platform, its image for that.
    pub fn image_on(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        platform.map_or_else(|| self.image(name), |platform| self.image_for(name, platform))
    }

    /// The image of a name, or another of the same index, that is for a platform.
    pub fn image_for(&self, name: &str, platform: &Platform) -> Result<Image> {
        let image = self.image(name)?;
        let its = image.platform();
        if platform.fits(&its.os, &its.architecture, its.variant.as_deref()) {
            return Ok(image);
        }
        if let Some(other) = self.variants_of_name(name)?.iter().find(|v| v.is_for(platform)) {
            return self.image_of(&other.image);
        }
        Err(Error::not_found(format!(
            "image with reference {name} was found but its platform ({its}) does not match the specified platform \
             ({platform})"
        )))
    }

    /// The index of these variants, as it came, and whether all of its images are here.
    pub(super) fn whole(&self, variants: &[Variant]) -> Result<Option<(Vec<u8>, bool)>> {
        let Some(first) = variants.first() else { return Ok(None) };
        let bytes = self.content.get(&first.whole.parse().step("read a digest")?)?;
        let index: ImageIndex = serde_json::from_slice(&bytes).step("read the index")?;
        let here = |digest: &Digest| variants.iter().any(|v| v.manifest == digest.to_string());
        let all = Platform::images(&index).all(|d| here(d.digest()));
        Ok(Some((bytes, all)))
    }
}
