//! `rmi`.

use std::collections::HashSet;

use errdefs::{Error, Result};

use super::find::NameRow;
use super::{Platform, Reference, short};
use crate::container::record::read_json;
use crate::container::{Record, files};
use crate::state::database;
use crate::{Engine, event, models};

impl Engine {
    /// Takes a name away, and the image with its last name; what happened, in Docker's form.
    /// `platforms`: its images for these alone.
    pub fn remove_image(
        &self,
        name: &str,
        force: bool,
        platforms: &[Platform],
    ) -> Result<Vec<models::ImageDeleteResponseItem>> {
        if !platforms.is_empty() {
            return self.remove_platforms(name, force, platforms);
        }
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
            Some(one) if names.len() > 1 => return self.untag_whole(one),
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
                    return self.untag_whole(one);
                }
                let done = self.untag_whole(one)?;
                return self.collected([done, self.delete_image(&id, &[])?].concat());
            }
            None => {
                self.may_delete(&id, &names, force)?;
                names.iter().collect()
            }
        };
        let done = self.delete_image(&id, &going)?;
        self.collected(done)
    }

    /// And the layers that nobody needs any more.
    fn collected(
        &self,
        mut done: Vec<models::ImageDeleteResponseItem>,
    ) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let gone = self.collect_layers()?;
        done.extend(gone.into_iter().map(|l| deleted(l.diff_id.to_string())));
        Ok(done)
    }

    /// Some of the images that a name stands for.
    fn remove_platforms(
        &self,
        name: &str,
        force: bool,
        platforms: &[Platform],
    ) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let ids: Result<Vec<String>> = platforms.iter().map(|p| Ok(self.image_for(name, p)?.id)).collect();
        let ids = ids?;
        let _lock = self.lock_images(true)?;
        let mut done = Vec::new();
        for id in ids {
            let names = self.names_of(&id)?;
            self.may_delete(&id, &names, force)?;
            done.extend(self.delete_image(&id, &names.iter().collect::<Vec<_>>())?);
        }
        self.collected(done)
    }

    /// Takes a name away with all that it stands for: images for other platforms go unless something else needs them.
    fn untag_whole(&self, name: &NameRow) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let others = self.variants_of_name(&name.name)?;
        let others: Vec<String> = others
            .into_iter()
            .map(|v| v.image)
            .filter(|id| *id != name.image)
            .collect();
        self.state
            .db
            .execute("DELETE FROM variant WHERE name = ?1", [&name.name])
            .map_err(database)?;
        let mut done = self.untag(&[name])?;
        for id in others {
            if self.names_of(&id)?.is_empty() && self.user_of(&id)?.is_none() && self.image_mount(&id).is_none() {
                done.extend(self.delete_image(&id, &[])?);
            }
        }
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
        let users = self.state.image_users()?;
        for (container, _) in users.into_iter().filter(|(_, image)| image == id) {
            if self.alive(&container)?.is_some() {
                return Ok(Some((container, true)));
            }
            found.get_or_insert((container, false));
        }
        Ok(found)
    }

    /// Takes names away.
    pub(super) fn untag(&self, names: &[&NameRow]) -> Result<Vec<models::ImageDeleteResponseItem>> {
        let mut done = Vec::new();
        for name in names {
            let gone = self
                .state
                .transact(|db| super::variant::leave(db, &name.name, &name.image))?;
            if !gone {
                // It stands for others.
                continue;
            }
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
        let ids: Vec<_> = gone.iter().map(|l| l.diff_id.clone()).collect();
        self.layers.remove(&ids)?;
        for layer in &gone {
            self.forget_blobs(layer.diff_id.as_ref())?;
        }
        self.collect_documents()?;
        Ok(gone)
    }
}

impl Engine {
    /// Removes manifests and indexes that no name and no image stands for.
    fn collect_documents(&self) -> Result<()> {
        let mut statement = self
            .state
            .db
            .prepare(
                "SELECT id FROM image UNION SELECT manifest FROM reference WHERE manifest IS NOT NULL
                 UNION SELECT manifest FROM variant UNION SELECT whole FROM variant",
            )
            .map_err(database)?;
        let used = statement.query_map([], |row| row.get::<_, String>(0));
        let used: HashSet<String> = used.and_then(Iterator::collect).map_err(database)?;
        let all = self.content.list()?;
        let mut loose = all.iter().filter(|digest| !used.contains(digest.as_ref()));
        loose.try_for_each(|digest| self.content.remove(digest))
    }
}

/// An image or a layer that is gone.
pub(super) fn deleted(what: String) -> models::ImageDeleteResponseItem {
    models::ImageDeleteResponseItem {
        untagged: None,
        deleted: Some(what),
    }
}
