//! `system check`: whether everything on disk is what it was when it came, and getting again what is not - that alone.

use std::collections::HashMap;

use errdefs::{Error, Result, Step};

use super::fetch::Job;
use super::pull::Show;
use super::{Digest, Reference, registry};
use crate::Engine;

/// What became of something that was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody tried.
    Found,
    /// It was fetched again.
    Repaired,
    /// That could not be; why.
    Failed(String),
}

/// Something that is not what it was.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `layer sha256:...` or `configuration sha256:...`.
    pub what: String,
    /// Names (or ids) of the images that need it.
    pub images: Vec<String>,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it is right again.
    pub outcome: Outcome,
}

/// What images need.
struct Needed {
    digest: Digest,
    layer: bool,
    images: Vec<String>,
}

impl Engine {
    /// Looks at every layer and document that an image needs. With a registry client what is damaged is fetched again from
    /// where it came.
    pub fn check(&self, repair: Option<&registry::Client>, progress: &Show<'_>) -> Result<Vec<Finding>> {
        let _lock = self.lock_images(repair.is_some())?;
        self.layers.sweep()?;
        let mut findings = Vec::new();
        // Configurations first: they say which layers there are.
        for part in [false, true] {
            for needed in self.needed()?.into_iter().filter(|n| n.layer == part) {
                let problem = match needed.layer {
                    true => self.layers.check(&needed.digest)?,
                    false => self.content.get(&needed.digest).err().map(|e| e.to_string()),
                };
                let Some(problem) = problem else { continue };
                let outcome = match repair.map(|registry| self.fetch_again(&needed, registry, progress)) {
                    None => Outcome::Found,
                    Some(Ok(())) => Outcome::Repaired,
                    Some(Err(error)) => Outcome::Failed(error.to_string()),
                };
                findings.push(Finding {
                    what: format!(
                        "{} {}",
                        if needed.layer { "layer" } else { "configuration" },
                        needed.digest
                    ),
                    images: needed.images,
                    problem,
                    outcome,
                });
            }
        }
        Ok(findings)
    }

    fn needed(&self) -> Result<Vec<Needed>> {
        let mut list: Vec<Needed> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (id, _) in self.image_rows()? {
            let names: Vec<String> = self.names_of(&id)?.iter().filter_map(|n| n.tag()).collect();
            let names = if names.is_empty() { vec![id.clone()] } else { names };
            let layers = self.layer_rows(&id)?.into_iter().map(|l| (l, true));
            for (content, layer) in [(id.clone(), false)].into_iter().chain(layers) {
                let place = *places.entry(content.clone()).or_insert(list.len());
                if place == list.len() {
                    list.push(Needed {
                        digest: content.parse().step("read a digest")?,
                        layer,
                        images: Vec::new(),
                    });
                }
                let known = &mut list[place].images;
                known.extend(names.iter().filter(|n| !known.contains(n)).cloned().collect::<Vec<_>>());
            }
        }
        Ok(list)
    }

    /// Diff ids of an image, as the database has them.
    pub(super) fn layer_rows(&self, id: &str) -> Result<Vec<String>> {
        let mut statement = self
            .state
            .db
            .prepare_cached("SELECT layer FROM image_layer WHERE image = ?1 ORDER BY position")
            .map_err(crate::state::database)?;
        let rows = statement.query_map([id], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(crate::state::database)
    }

    fn fetch_again(&self, needed: &Needed, registry: &registry::Client, progress: &Show<'_>) -> Result<()> {
        let blobs = self.blobs_of(&needed.digest)?;
        let mut last = Error::not_found("it did not come from a registry: load, import or build it again");
        for blob in blobs {
            let got = match needed.layer {
                true => self.layer_again(registry, &blob.place, &blob.descriptor, &needed.digest, progress),
                false => self.document_again(registry, &blob.place, &blob.descriptor),
            };
            match got {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn layer_again(
        &self,
        registry: &registry::Client,
        place: &Reference,
        blob: &oci_spec::image::Descriptor,
        diff_id: &Digest,
        progress: &Show<'_>,
    ) -> Result<()> {
        let job = Job {
            descriptor: blob.clone(),
            diff_id: diff_id.clone(),
        };
        let prepared = self.fetch(registry, place, progress).one(&job)?;
        self.layers.replace(prepared)
    }

    fn document_again(
        &self,
        registry: &registry::Client,
        place: &Reference,
        blob: &oci_spec::image::Descriptor,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        let mut from = registry.blob(place, blob)?;
        std::io::Read::read_to_end(&mut from, &mut bytes).step("fetch the document")?;
        self.content.remove(blob.digest())?;
        self.content.put(&bytes).map(drop)
    }
}
