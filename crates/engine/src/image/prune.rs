//! `image prune`: images that nothing needs.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use errdefs::Result;

use super::find::NameRow;
use super::remove::deleted;
use super::{Digest, Image};
use crate::filters::{self, Kind};
use crate::state::database;
use crate::{Engine, event, human, models};

/// Docker's filters.
const FILTERS: &[(&str, Kind)] = &[
    ("dangling", Kind::Flag),
    ("label", Kind::Text),
    ("label!", Kind::Text),
    ("until", Kind::Time),
];

struct Wanted {
    /// Only those without a tag.
    dangling: bool,
    /// Only those made before: nanoseconds since the epoch.
    until: Option<i64>,
    /// `key` or `key=value`, all of which it has.
    with: Vec<String>,
    /// None of which it has.
    without: Vec<String>,
}

impl Wanted {
    fn new(filters: &[(String, String)]) -> Result<Self> {
        let mut wanted = Wanted {
            dangling: true,
            until: None,
            with: Vec::new(),
            without: Vec::new(),
        };
        filters::check(filters, FILTERS)?;
        for (name, value) in filters {
            match (name.as_str(), value.as_str()) {
                ("dangling", "true" | "1") => wanted.dangling = true,
                ("dangling", "false" | "0") => wanted.dangling = false,
                ("until", _) => wanted.until = Some(human::parse_time(value)?),
                ("label", _) => wanted.with.push(value.clone()),
                ("label!", _) => wanted.without.push(value.clone()),
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn wants(&self, image: &Image) -> bool {
        let labels = image.config.config().as_ref().and_then(|c| c.labels().as_ref());
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.and_then(|l| l.get(key)).is_some_and(|v| v == value),
            None => labels.is_some_and(|l| l.contains_key(label)),
        };
        let created = image.config.created().as_deref().map_or(0, human::nanoseconds_at);
        (!self.dangling || image.references.is_empty())
            && self.until.is_none_or(|until| created < until)
            && self.with.iter().all(has)
            && !self.without.iter().any(has)
    }
}

/// How much images may take, and how long one is kept that nobody uses. What is left open has no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Bytes of content of all layers.
    pub size: Option<u64>,
    /// Since a container was last made of it, or it came.
    pub unused: Option<Duration>,
}

impl Engine {
    /// Removes images that no container uses until the bounds are kept: first those that were not used for long, then
    /// whichever was used longest ago. Their names do not save them.
    pub fn collect_images(&self, bounds: Bounds) -> Result<models::ImagePruneResponse> {
        let mut all = models::ImagePruneResponse {
            images_deleted: Some(Vec::new()),
            space_reclaimed: Some(0),
        };
        if bounds.size.is_none() && bounds.unused.is_none() {
            return Ok(all);
        }
        let _lock = self.lock_images(true)?;
        let used: HashSet<String> = self.state.image_users()?.into_iter().map(|(_, image)| image).collect();
        let mut idle: Vec<(SystemTime, String)> = self
            .image_rows()?
            .into_iter()
            .filter(|(id, _)| !used.contains(id) && self.image_mount(id).is_none())
            .filter_map(|(id, _)| Some((self.content.last_used(&id.parse().ok()?)?, id)))
            .collect();
        idle.sort();
        let mut size: u64 = self.layers.layers()?.iter().map(|l| l.size).sum();
        for (time, id) in idle {
            let age = SystemTime::now().duration_since(time).unwrap_or_default();
            let old = bounds.unused.is_some_and(|unused| age > unused);
            if !old && bounds.size.is_none_or(|bound| size <= bound) {
                break;
            }
            let mut done = self.delete_image(&id, &self.names_of(&id)?.iter().collect::<Vec<_>>())?;
            let gone = self.collect_layers()?;
            let space: u64 = gone.iter().map(|layer| layer.size).sum();
            done.extend(gone.into_iter().map(|layer| deleted(layer.diff_id.to_string())));
            size -= space.min(size);
            all.images_deleted.get_or_insert_default().extend(done);
            *all.space_reclaimed.get_or_insert_default() += space as i64;
        }
        Ok(all)
    }

    /// A container is made of it: it is kept longer than others.
    pub(crate) fn image_is_used(&self, id: &str) {
        if let Ok(digest) = id.parse::<Digest>() {
            self.content.use_now(&digest);
        }
    }

    /// Removes images that no container uses: those without a tag, or with `dangling=false` all. Filters: `dangling`,
    /// `label`, `label!`, `until`.
    pub fn prune_images(&self, filters: &[(String, String)]) -> Result<models::ImagePruneResponse> {
        let wanted = Wanted::new(filters)?;
        let rows = self.state.containers()?;
        self.reap_half_made(&rows)?;
        let _lock = self.lock_images(true)?;
        let used: HashSet<String> = self.state.image_users()?.into_iter().map(|(_, image)| image).collect();
        let mut done = Vec::new();
        for (id, _) in self.image_rows()?.into_iter().filter(|(id, _)| !used.contains(id)) {
            // Whose configuration was damaged is nobody's any more, but not ours to judge.
            let Ok(image) = self.image_of(&id) else { continue };
            if wanted.wants(&image) && self.image_mount(&id).is_none() {
                done.extend(self.delete_image(&id, &self.names_of(&id)?.iter().collect::<Vec<_>>())?);
            }
        }
        let gone = self.collect_layers()?;
        let space: u64 = gone.iter().map(|layer| layer.size).sum();
        done.extend(gone.into_iter().map(|layer| deleted(layer.diff_id.to_string())));
        Ok(models::ImagePruneResponse {
            images_deleted: Some(done),
            space_reclaimed: Some(space as i64),
        })
    }

    /// All images and when they were made, newest first.
    pub(super) fn image_rows(&self) -> Result<Vec<(String, i64)>> {
        let mut statement = self
            .state
            .db
            .prepare_cached("SELECT id, created FROM image ORDER BY created DESC, id")
            .map_err(database)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// Takes an image and these names of it away; its layers go with [`Engine::collect_layers`]. The caller holds the
    /// image lock alone.
    pub(super) fn delete_image(&self, id: &str, names: &[&NameRow]) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let mut done = self.untag(names)?;
        self.state
            .db
            .execute("DELETE FROM image WHERE id = ?1", [id])
            .map_err(database)?;
        done.push(deleted(id.to_owned()));
        self.tell_event(event::Type::IMAGE, "delete", id, &[("name", id)]);
        if let Ok(digest) = id.parse::<Digest>() {
            self.content.remove(&digest)?;
            self.forget_blobs(id)?;
        }
        Ok(done)
    }
}
