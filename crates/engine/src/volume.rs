//! Named volumes: directories that outlive containers.

use std::collections::HashMap;

use bollard_stubs::models::{Volume, VolumeCreateRequest, VolumeScopeEnum};
use errdefs::{Error, Result, Step};
use rusqlite::OptionalExtension;

use crate::container::names::new_id;
use crate::container::record::now;
use crate::filters::{self, Kind};
use crate::state::database;
use crate::{Engine, event, paths};

/// The label of volumes that got no name from anybody, as Docker has it.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What volumes are listed by.
const FILTERS: &[(&str, Kind)] = &[
    ("dangling", Kind::Flag),
    ("driver", Kind::Text),
    ("label", Kind::Text),
    ("name", Kind::Text),
];

impl Engine {
    /// Makes it, or returns the one of that name. Without a name it gets one of 64 hexadecimal digits.
    pub fn create_volume(&self, request: &VolumeCreateRequest) -> Result<Volume> {
        let name = match request.name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => check_name(name)?.to_owned(),
            None => new_id()?,
        };
        if let Some(driver) = request.driver.as_deref().filter(|d| !d.is_empty() && *d != "local") {
            let message =
                format!("create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found");
            return Err(Error::not_found(message));
        }
        let options = request.driver_opts.clone().unwrap_or_default();
        let bound = bound_directory(&options)?;
        if let Some(device) = bound.filter(|d| !d.is_dir()) {
            return Err(Error::invalid(format!(
                "{} is no directory of this host",
                device.display()
            )));
        }
        let size = size_of(&options)?;
        size.map_or(Ok(()), |_| snapshot::quota::can_limit(&self.roots.data))?;
        let path = self.roots.volume(&name);
        let make = || {
            paths::make_private(&self.roots.volumes().join(&name))?;
            std::fs::create_dir_all(&path).step_with(|| format!("make the volume {name}"))?;
            match size {
                Some(size) if !snapshot::quota::is_limited(&path) => snapshot::quota::limit(&[&path], size),
                _ => Ok(()),
            }
        };
        if let Some(volume) = self.find_volume(&name)? {
            // A removal that was cut short may have taken its files, or its maker did not come so far.
            return make().map(|()| volume);
        }
        let mut labels = request.labels.clone().unwrap_or_default();
        if request.name.as_deref().is_none_or(str::is_empty) {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        let volume = Volume {
            name: name.clone(),
            driver: "local".into(),
            options: options.clone(),
            mountpoint: path.to_string_lossy().into_owned(),
            created_at: Some(now()),
            labels,
            scope: Some(VolumeScopeEnum::LOCAL),
            ..Default::default()
        };
        let body = serde_json::to_string(&volume).step("write down the volume")?;
        // Another front door may have been faster: its volume is the one. The row comes first: a directory without one
        // would be found by nobody.
        let made = self
            .state
            .db
            .execute(
                "INSERT OR IGNORE INTO volume (name, body) VALUES (?1, ?2)",
                [&name, &body],
            )
            .map_err(database)?;
        make().inspect_err(|_| {
            let _ = self.state.db.execute("DELETE FROM volume WHERE name = ?1", [&name]);
        })?;
        if made > 0 {
            self.tell_event(event::Type::VOLUME, "create", &name, &[("driver", "local")]);
        }
        self.volume(&name)
    }

    fn find_volume(&self, name: &str) -> Result<Option<Volume>> {
        let query = self
            .state
            .db
            .query_row("SELECT body FROM volume WHERE name = ?1", [name], |row| {
                row.get::<_, String>(0)
            });
        match query.optional().map_err(database)? {
            Some(body) => serde_json::from_str(&body).map(Some).step("read the volume"),
            None => Ok(None),
        }
    }

    /// By name.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.find_volume(name)?
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// All that match, by name. Filters: `name`, `label`, `driver`, `dangling`.
    pub fn volumes(&self, filters: &[(String, String)]) -> Result<Vec<Volume>> {
        filters::check(filters, FILTERS)?;
        let mut statement = self
            .state
            .db
            .prepare("SELECT body FROM volume ORDER BY name")
            .map_err(database)?;
        let bodies: Vec<String> = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(database)?;
        let mut list = Vec::new();
        for body in bodies {
            let volume: Volume = serde_json::from_str(&body).step("read the volume")?;
            if self.volume_matches(&volume, filters)? {
                list.push(volume);
            }
        }
        Ok(list)
    }

    fn volume_matches(&self, volume: &Volume, filters: &[(String, String)]) -> Result<bool> {
        for (name, value) in filters {
            let matches = match name.as_str() {
                "name" => volume.name.contains(value.as_str()),
                "driver" => volume.driver == *value,
                "label" => match value.split_once('=') {
                    Some((key, value)) => volume.labels.get(key).is_some_and(|v| v == value),
                    None => volume.labels.contains_key(value),
                },
                "dangling" => {
                    let unused = self.state.volume_users(&volume.name)?.is_empty();
                    unused == matches!(value.as_str(), "true" | "1")
                }
                _ => true,
            };
            if !matches {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes it and everything in it away. `force`: fine if it is not there.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        if self.find_volume(name)?.is_none() {
            return match force {
                true => Ok(()),
                false => Err(Error::not_found(format!("get {name}: no such volume"))),
            };
        }
        let dir = self.roots.volumes().join(name);
        // Out of sight with its row: the next volume of this name is empty, whatever becomes of the files.
        let doomed = self.state.transact(|db| {
            let users = self.state.volume_users(name)?;
            if !users.is_empty() {
                return Err(Error::conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            db.execute("DELETE FROM volume WHERE name = ?1", [name])
                .map_err(database)?;
            match dir.exists() {
                true => {
                    snapshot::quota::forget_limit(&self.roots.volume(name));
                    self.layers.doom(&dir).map(Some)
                }
                false => Ok(None),
            }
        })?;
        drop(doomed);
        self.tell_event(event::Type::VOLUME, "destroy", name, &[("driver", "local")]);
        Ok(())
    }
}

/// How many bytes may be in a volume: `size=10g`.
fn size_of(options: &HashMap<String, String>) -> Result<Option<u64>> {
    let Some(text) = options.get("size") else {
        return Ok(None);
    };
    if options.len() > 1 {
        return Err(Error::invalid("a size can be given to a volume of its own alone"));
    }
    match crate::human::parse_bytes(text)? {
        0 => Err(Error::invalid("a volume of size 0")),
        bytes => Ok(Some(bytes as u64)),
    }
}

/// Options of the local driver: of what could be mounted, a directory of the host (`type=none`, `o=bind`, `device=DIR`).
pub(crate) fn bound_directory(options: &HashMap<String, String>) -> Result<Option<std::path::PathBuf>> {
    if options.keys().all(|name| name == "size") {
        return Ok(None);
    }
    if let Some(name) = options
        .keys()
        .find(|name| !["type", "o", "device", "size"].contains(&name.as_str()))
    {
        return Err(Error::invalid(format!("invalid option: {name:?}")));
    }
    let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let words: Vec<&str> = option("o").split(',').collect();
    if !["", "none"].contains(&option("type")) || !(words.contains(&"bind") || words.contains(&"rbind")) {
        return Err(Error::not_yet(format_args!("volumes of type {:?}", option("type")))
            .hint("a directory of the host works: --opt type=none --opt o=bind --opt device=DIR"));
    }
    match option("device") {
        "" => Err(Error::invalid("missing required option: \"device\"")),
        device if device.starts_with('/') => Ok(Some(device.into())),
        device => Err(Error::invalid(format!(
            "the volume's device {device:?} is no absolute path"
        ))),
    }
}

/// Docker's rule for names of volumes, and its words for what is none.
pub(crate) fn check_name(name: &str) -> Result<&str> {
    if name.len() == 1 && name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() > 1
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match good {
        true => Ok(name),
        false => Err(Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Roots;

    #[test]
    fn volumes_are_made_once_and_not_removed_while_used() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(Roots {
            data: dir.path().join("data"),
            run: dir.path().join("run"),
        })
        .unwrap();
        let request = VolumeCreateRequest {
            name: Some("data".into()),
            ..Default::default()
        };
        let first = engine.create_volume(&request).unwrap();
        std::fs::write(std::path::Path::new(&first.mountpoint).join("x"), "kept").unwrap();
        assert_eq!(engine.create_volume(&request).unwrap().created_at, first.created_at);
        let row = crate::state::ContainerRow {
            id: "c1".into(),
            name: "n".into(),
            image_id: "i".into(),
            created: 0,
        };
        engine.state.add_container(&row, crate::state::Users::Hosts).unwrap();
        engine.state.use_volumes("c1", &["data".into()]).unwrap();
        let error = engine.remove_volume("data", true).unwrap_err();
        assert_eq!(error.to_string(), "remove data: volume is in use - [c1]");
        engine.state.remove_container("c1").unwrap();
        engine.remove_volume("data", false).unwrap();
        assert!(!std::path::Path::new(&first.mountpoint).exists());
        assert_eq!(
            engine.remove_volume("data", false).unwrap_err().to_string(),
            "get data: no such volume"
        );
        assert_eq!(
            engine
                .create_volume(&VolumeCreateRequest::default())
                .unwrap()
                .name
                .len(),
            64
        );
        let bad = VolumeCreateRequest {
            name: Some("../x".into()),
            ..Default::default()
        };
        assert!(engine.create_volume(&bad).is_err());
    }
}
