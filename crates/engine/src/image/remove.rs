//! `rmi`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use errdefs::{Error, Result};
use rusqlite::params;

use super::find::NameRow;
use super::{Reference, short};
use crate::container::record::read_json;
use crate::container::{Record, files};
use crate::state::database;
use crate::{Engine, event, models};

/// Layers that are removed side by side.
const REMOVERS: usize = 3;

impl Engine {
    /// Takes a name away, and the image with its last name; what happened, in Docker's form.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<models::ImageDeleteResponseItem>> {
        self.reap_half_made(&self.state.containers()?)?;
        let id = self.image_id(name)?;
        let names = self.names_of(&id)?;
        let asked = Reference::parse(name).ok();
        let by_name = names
            .iter()
            .find(|n| asked.as_ref().is_some_and(|a| a.canonical() == n.name));
        let _lock = self.lock_images(true)?;
        if let Some(place) = self.image_mount(&id).filter(|_| by_name.is_none() || names.len() < 2) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {} (cannot be forced) - image is mounted at {}",
                short(&id),
                place.display()
            ))
            .hint("berth image unmount takes it from there"));
        }
        let going: Vec<&NameRow> = match by_name {
            Some(one) if names.len() > 1 => return self.untag(&[one]),
            Some(one) => {
                if let Some((container, _)) = self.user_of(&id)? {
                    if !force {
                        return Err(Error::conflict(format!(
                            "conflict: unable to remove repository reference {name:?} (must force) - container {} is using \
                             its referenced image {}",
                            files::short(&container),
                            short(&id)
                        )));
                    }
                    return self.untag(&[one]);
                }
                vec![one]
            }
            None => {
                self.may_delete(&id, &names, force)?;
                names.iter().collect()
            }
        };
        let mut done = self.delete_image(&id, &going)?;
        done.extend(
            self.collect_layers()?
                .into_iter()
                .map(|l| deleted(l.diff_id.to_string())),
        );
        Ok(done)
    }

    /// Deleting by id takes all names along: only if nobody minds.
    fn may_delete(&self, id: &str, names: &[NameRow], force: bool) -> Result<()> {
        let conflict = |how: &str, why: String| {
            Err(Error::conflict(format!(
                "conflict: unable to delete {} ({how}) - {why}",
                short(id)
            )))
        };
        if let Some((container, running)) = self.user_of(id)? {
            let container = files::short(&container);
            if running {
                return conflict(
                    "cannot be forced",
                    format!("image is being used by running container {container}"),
                );
            }
            if !force {
                return conflict(
                    "must be forced",
                    format!("image is being used by stopped container {container}"),
                );
            }
        }
        let repositories: HashSet<String> = names
            .iter()
            .filter_map(|n| Reference::parse(&n.name).ok())
            .map(|r| r.familiar_name())
            .collect();
        if repositories.len() > 1 && !force {
            return conflict("must be forced", "image is referenced in multiple repositories".into());
        }
        Ok(())
    }

    /// A container of the image, a running one first.
    fn user_of(&self, id: &str) -> Result<Option<(String, bool)>> {
        let mut found = None;
        for row in self.state.containers()?.into_iter().filter(|r| r.image_id == id) {
            if self.alive(&row.id)?.is_some() {
                return Ok(Some((row.id, true)));
            }
            found.get_or_insert((row.id, false));
        }
        Ok(found)
    }

    /// Takes names away.
    pub(super) fn untag(&self, names: &[&NameRow]) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let mut done = Vec::new();
        for name in names {
            self.state
                .db
                .execute(
                    "DELETE FROM reference WHERE name = ?1 AND image = ?2",
                    params![name.name, name.image],
                )
                .map_err(database)?;
            let untagged = |text| models::ImageDeleteResponseItem {
                untagged: Some(text),
                deleted: None,
            };
            self.tell_event(event::Type::IMAGE, "untag", &name.image, &[("name", &name.image)]);
            done.extend(name.tag().map(untagged));
            done.extend(name.digest().map(untagged));
        }
        Ok(done)
    }

    /// Removes layers that no image and no container uses. The caller holds the image lock alone.
    pub(super) fn collect_layers(&self) -> Result<Vec<snapshot::Layer>> {
        let mut statement = self
            .state
            .db
            .prepare("SELECT DISTINCT layer FROM image_layer")
            .map_err(database)?;
        let used = statement.query_map([], |row| row.get::<_, String>(0));
        let mut used: HashSet<String> = used.and_then(Iterator::collect).map_err(database)?;
        for row in self.state.containers()? {
            let record: Option<Record> = read_json(&self.roots.record(&row.id))?;
            used.extend(record.into_iter().flat_map(|r| r.layers));
        }
        self.layers.sweep()?;
        let mut gone = self.layers.layers()?;
        gone.retain(|l| !used.contains(l.diff_id.as_ref()));
        // The disk has more than one hand.
        let (next, layers, failure) = (AtomicUsize::new(0), &self.layers, Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..REMOVERS.min(gone.len()) {
                scope.spawn(|| {
                    while let Some(layer) = gone.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = layers.remove(&layer.diff_id) {
                            failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        for layer in &gone {
            self.forget_blobs(layer.diff_id.as_ref())?;
        }
        Ok(gone)
    }
}

/// An image or a layer that is gone.
pub(super) fn deleted(what: String) -> models::ImageDeleteResponseItem {
    models::ImageDeleteResponseItem {
        untagged: None,
        deleted: Some(what),
    }
}
