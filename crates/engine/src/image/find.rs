//! Finding images by whatever the user calls them.

use errdefs::{Error, Result, Step};
use rusqlite::{OptionalExtension, params};

use super::{Digest, Image, ImageConfiguration, Reference, parse_diff_id};
use crate::Engine;
use crate::state::database;

/// A name of an image, as the database has it.
pub(super) struct NameRow {
    /// Full, with tag or digest.
    pub name: String,
    pub image: String,
    /// Digest of the manifest or index that it was pulled by.
    pub manifest: Option<String>,
}

impl NameRow {
    /// As Docker prints it; digests stand apart.
    pub fn tag(&self) -> Option<String> {
        let reference = Reference::parse(&self.name).ok()?;
        reference.digest.is_none().then(|| reference.familiar())
    }

    /// `debian@sha256:...`.
    pub fn digest(&self) -> Option<String> {
        let reference = Reference::parse(&self.name).ok()?;
        self.manifest
            .as_ref()
            .map(|m| format!("{}@{m}", reference.familiar_name()))
    }
}

/// Most images have none, and need not be read twice.
fn healthcheck(config: &[u8]) -> Option<crate::models::HealthConfig> {
    const KEY: &[u8] = b"\"Healthcheck\"";
    config.windows(KEY.len()).find(|w| *w == KEY)?;
    let document: serde_json::Value = serde_json::from_slice(config).ok()?;
    serde_json::from_value(document.get("config")?.get("Healthcheck")?.clone()).ok()
}

impl Engine {
    /// By reference, id, or unique id prefix.
    pub fn image(&self, name: &str) -> Result<Image> {
        self.image_of(&self.image_id(name)?)
    }

    /// The id of an image by whatever it is called.
    pub(crate) fn image_id(&self, name: &str) -> Result<String> {
        let reference = Reference::parse(name);
        if let Ok(reference) = &reference
            && let Some(id) = self.id_by_reference(reference)?
        {
            return Ok(id);
        }
        if let Some(id) = self.id_by_prefix(name)? {
            return Ok(id);
        }
        // A bad name is said to be bad; an id that is none is said to be missing.
        match reference {
            Ok(reference) => Err(Error::not_found(format!("No such image: {}", reference.familiar()))),
            Err(_)
                if name
                    .trim_start_matches("sha256:")
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit())
                    && !name.is_empty() =>
            {
                Err(Error::not_found(format!("No such image: {name}")))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn id_by_reference(&self, reference: &Reference) -> Result<Option<String>> {
        let db = &self.state.db;
        let one = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let Some(digest) = &reference.digest else {
            let query = db.query_row(
                "SELECT image FROM reference WHERE name = ?1",
                [reference.canonical()],
                one,
            );
            return query.optional().map_err(database);
        };
        let bare = Reference {
            tag: None,
            ..reference.clone()
        };
        let (exact, repository) = (
            bare.canonical(),
            format!("{}/{}:*", reference.registry, reference.repository),
        );
        let query = "SELECT image FROM reference WHERE name = ?1 OR (name GLOB ?2 AND manifest = ?3) LIMIT 1";
        db.query_row(query, params![exact, repository, digest.to_string()], one)
            .optional()
            .map_err(database)
    }

    fn id_by_prefix(&self, name: &str) -> Result<Option<String>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return Ok(None);
        }
        let mut statement = self
            .state
            .db
            .prepare("SELECT id FROM image WHERE id GLOB ?1 LIMIT 2")
            .map_err(database)?;
        let found = statement.query_map([format!("sha256:{hex}*")], |row| row.get::<_, String>(0));
        let mut found: Vec<String> = found.and_then(Iterator::collect).map_err(database)?;
        match found.len() {
            0 => Ok(None),
            1 => Ok(found.pop()),
            _ => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {hex}"
            ))),
        }
    }

    /// By its full id.
    pub(crate) fn image_of(&self, id: &str) -> Result<Image> {
        let missing = || Error::not_found(format!("No such image: {id}"));
        let size = self
            .state
            .db
            .query_row("SELECT size, foretold FROM image WHERE id = ?1", [id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?))
            });
        let (size, foretold) = size.optional().map_err(database)?.ok_or_else(missing)?;
        let digest: Digest = id.parse().step("read the image's id")?;
        let bytes = self.content.get(&digest)?;
        let config: ImageConfiguration = serde_json::from_slice(&bytes).step("read the image's configuration")?;
        let names = self.names_of(id)?;
        let mut digests: Vec<String> = names.iter().filter_map(NameRow::digest).collect();
        digests.dedup();
        let layers = config
            .rootfs()
            .diff_ids()
            .iter()
            .map(|d| parse_diff_id(d))
            .collect::<Result<_>>()?;
        Ok(Image {
            id: id.to_owned(),
            config,
            healthcheck: healthcheck(&bytes),
            layers,
            references: names.iter().filter_map(NameRow::tag).collect(),
            digests,
            size: size as u64,
            foretold,
        })
    }

    /// All names of one image.
    pub(super) fn names_of(&self, id: &str) -> Result<Vec<NameRow>> {
        self.names(
            "SELECT name, image, manifest FROM reference WHERE image = ?1 UNION
             SELECT name, variant.image, reference.manifest FROM variant JOIN reference USING (name)
             WHERE variant.image = ?1 ORDER BY name",
            &[id],
        )
    }

    /// The names of all images, each with the one that it means.
    pub(super) fn all_names(&self) -> Result<Vec<NameRow>> {
        self.names("SELECT name, image, manifest FROM reference ORDER BY name", &[])
    }

    fn names(&self, query: &str, parameters: &[&str]) -> Result<Vec<NameRow>> {
        let mut statement = self.state.db.prepare_cached(query).map_err(database)?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(NameRow {
                name: row.get(0)?,
                image: row.get(1)?,
                manifest: row.get(2)?,
            })
        };
        statement
            .query_map(rusqlite::params_from_iter(parameters), row)
            .and_then(Iterator::collect)
            .map_err(database)
    }
}
