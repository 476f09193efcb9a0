//! `container prune` and `volume prune`: what is not used goes.

use std::collections::HashMap;

use bollard_stubs::models::{ContainerPruneResponse, VolumePruneResponse};
use errdefs::Result;

use super::record::{Record, read_json};
use crate::event::Type;
use crate::filters::{self, Kind};
use crate::{Engine, human};

const FILTERS: &[(&str, Kind)] = &[("label", Kind::Text), ("label!", Kind::Text), ("until", Kind::Time)];
const VOLUME_FILTERS: &[(&str, Kind)] = &[("all", Kind::Flag), ("label", Kind::Text), ("label!", Kind::Text)];

/// Docker's filters for what is pruned.
struct Wanted {
    until: Option<i64>,
    with: Vec<String>,
    without: Vec<String>,
    all: bool,
}

impl Wanted {
    fn new(filters: &[(String, String)], known: &[(&str, Kind)]) -> Result<Self> {
        filters::check(filters, known)?;
        let mut wanted = Wanted {
            until: None,
            with: Vec::new(),
            without: Vec::new(),
            all: false,
        };
        for (name, value) in filters {
            match name.as_str() {
                "until" => wanted.until = Some(human::parse_time(value)?),
                "label" => wanted.with.push(value.clone()),
                "label!" => wanted.without.push(value.clone()),
                _ => wanted.all = matches!(value.as_str(), "true" | "1"),
            }
        }
        Ok(wanted)
    }

    fn wants(&self, labels: &HashMap<String, String>) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(label),
        };
        self.with.iter().all(has) && !self.without.iter().any(has)
    }
}

impl Engine {
    /// Removes containers that do not run. Filters: `until`, `label`, `label!`.
    pub fn prune_containers(&self, filters: &[(String, String)]) -> Result<ContainerPruneResponse> {
        let wanted = Wanted::new(filters, FILTERS)?;
        let (mut deleted, mut space) = (Vec::new(), 0);
        for row in self.state.containers()? {
            let Some(record) = read_json::<Record>(&self.roots.record(&row.id))? else {
                continue;
            };
            let young = wanted.until.is_some_and(|until| row.created >= until);
            let labels = record.body.labels.unwrap_or_default();
            if young || !wanted.wants(&labels) || self.alive(&row.id)?.is_some() {
                continue;
            }
            let size = self.written(&row.id);
            match self.remove(&row.id, false, false) {
                Ok(()) => {
                    space += size;
                    deleted.push(row.id);
                }
                // Somebody has started it, or removed it.
                Err(e) if matches!(e.kind(), errdefs::Kind::Conflict | errdefs::Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        self.tell_event(Type::CONTAINER, "prune", "", &[("reclaimed", &space.to_string())]);
        Ok(ContainerPruneResponse {
            containers_deleted: Some(deleted),
            space_reclaimed: Some(space),
        })
    }

    /// Removes volumes that no container uses: those that were made for containers; named ones, too, with `all`.
    /// Filters: `all`, `label`, `label!`.
    pub fn prune_volumes(&self, filters: &[(String, String)]) -> Result<VolumePruneResponse> {
        let wanted = Wanted::new(filters, VOLUME_FILTERS)?;
        let (mut deleted, mut space) = (Vec::new(), 0);
        for volume in self.volumes(&[("dangling".into(), "true".into())])? {
            let anonymous = volume.labels.contains_key(crate::volume::ANONYMOUS);
            if !(wanted.all || anonymous) || !wanted.wants(&volume.labels) {
                continue;
            }
            let size = snapshot::disk_usage(&self.roots.volumes().join(&volume.name)).map_or(0, |used| used as i64);
            match self.remove_volume(&volume.name, false) {
                Ok(()) => {
                    space += size;
                    deleted.push(volume.name);
                }
                Err(e) if matches!(e.kind(), errdefs::Kind::Conflict | errdefs::Kind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        self.tell_event(Type::VOLUME, "prune", "", &[("reclaimed", &space.to_string())]);
        Ok(VolumePruneResponse {
            volumes_deleted: Some(deleted),
            space_reclaimed: Some(space),
        })
    }
}
