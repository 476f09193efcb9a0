//! What a container changed: `diff`, `export`, and `commit`, which makes an image of it.

use std::io::{BufWriter, Write};

use errdefs::{Error, Result, Step};
use serde_json::{Map, Value, json};
use snapshot::{ChangeKind, Ids, Layer, Writable};

use super::{Digest, New, Platform, Reference, changes, parse_diff_id};
use crate::container::record::now;
use crate::container::{LiveStatus, Record};
use crate::{Engine, models};

/// The settings of a container that an image has, too.
const SETTINGS: &[&str] = &[
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Healthcheck",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Shell",
    "OnBuild",
];

/// What `commit` is told besides the container.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Name for the image.
    pub reference: Option<String>,
    /// A word on it.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile lines, applied to its settings.
    pub changes: Vec<String>,
    /// Settings that replace the container's (the body of the API's request).
    pub settings: Option<models::ContainerConfig>,
}

impl Default for Commit {
    fn default() -> Self {
        Commit {
            reference: None,
            comment: String::new(),
            author: String::new(),
            pause: true,
            changes: Vec::new(),
            settings: None,
        }
    }
}

impl Engine {
    /// The files that a container changed, as `docker diff` has them.
    pub fn changes(&self, container: &str) -> Result<Vec<models::FilesystemChange>> {
        let (record, own) = self.own(container)?;
        let list = self.layers.changes(&layers(&record)?, &own, ids(&record))?;
        let change = |change: snapshot::Change| models::FilesystemChange {
            path: format!("/{}", String::from_utf8_lossy(&change.path)),
            kind: match change.kind {
                ChangeKind::Modified => models::ChangeType::_0,
                ChangeKind::Added => models::ChangeType::_1,
                ChangeKind::Deleted => models::ChangeType::_2,
            },
        };
        Ok(list.into_iter().map(change).collect())
    }

    /// Writes a container's whole root file system as a tar; volumes are not part of it.
    pub fn export(&self, container: &str, out: &mut dyn Write) -> Result<()> {
        let (record, own) = self.own(container)?;
        self.layers.write_root(&layers(&record)?, &own, ids(&record), out)
    }

    /// Makes an image of a container; its id.
    pub fn commit(&self, container: &str, how: &Commit) -> Result<String> {
        let reference = how.reference.as_deref().map(Reference::parse).transpose()?;
        if reference.as_ref().is_some_and(|r| r.digest.is_some()) {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let (record, own) = self.own(container)?;
        let mut settings = settings(&record, how)?;
        changes::apply_all(&mut settings, &how.changes)?;
        let _lock = self.lock_images(false)?;
        let layer = self.frozen(&record.id, how.pause, || self.layer_of_changes(&record, &own))?;
        let mut layers = layers(&record)?;
        let config = self.committed(&record, how, settings, &mut layers, layer)?;
        let names = reference.iter().map(|r| (r.canonical(), None)).collect();
        let id = self.commit_image(New {
            config: config.to_string().as_bytes(),
            layers: &layers,
            references: names,
            whole: None,
        })?;
        // A container is made of it without it, too.
        let _ = self.foretell(&id);
        self.tell_of(
            &record,
            "commit",
            &[
                ("comment", &how.comment),
                ("imageID", &id),
                ("imageRef", how.reference.as_deref().unwrap_or_default()),
            ],
        );
        Ok(id)
    }

    fn own(&self, container: &str) -> Result<(Record, Writable)> {
        let record = self.record(container)?;
        let own = Writable::at(&self.roots.container(&record.id), true);
        Ok((record, own))
    }

    /// Does something while a running container stands still.
    fn frozen<T>(&self, id: &str, pause: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let running = self.alive(id)?.is_some_and(|live| live.status == LiveStatus::Running);
        if !pause || !running {
            return work();
        }
        // It may have ended since: then nothing changes any more.
        let paused = self.pause(id, true).is_ok();
        let done = work();
        if paused {
            let _ = self.pause(id, false);
        }
        done
    }

    /// A layer of what the container changed; `None` for nothing.
    fn layer_of_changes(&self, record: &Record, own: &Writable) -> Result<Option<Layer>> {
        let (below, ids, store) = (layers(record)?, ids(record), &self.layers);
        if store.changes(&below, own, ids)?.is_empty() {
            return Ok(None);
        }
        let (mut reader, writer) = std::io::pipe().step("make a pipe")?;
        std::thread::scope(|scope| {
            let pack = scope.spawn(|| {
                let mut out = BufWriter::with_capacity(256 * 1024, writer);
                store.write_changes(&below, own, ids, &mut out)?;
                out.flush().step("write the layer")
            });
            let applied = store.apply(&mut reader, None);
            drop(reader);
            let packed = pack.join().map_err(|_| Error::system("packing the layer failed"))?;
            match (packed, applied) {
                // What stopped the reader says more than that nobody reads.
                (Err(e), applied) if applied.is_ok() || e.errno() != Some(32) => Err(e),
                (_, applied) => applied.map(Some),
            }
        })
    }

    /// The new image's configuration: its base's, with the container's settings and one line of history more.
    fn committed(
        &self,
        record: &Record,
        how: &Commit,
        settings: Map<String, Value>,
        layers: &mut Vec<Digest>,
        layer: Option<Layer>,
    ) -> Result<Value> {
        let base: Option<Value> = record
            .image
            .parse::<Digest>()
            .ok()
            .and_then(|id| self.content.get(&id).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut config = base.unwrap_or_else(|| orphan(layers.len()));
        let mut line = json!({"created": now(), "created_by": record.args().join(" ")});
        for (key, value) in [("comment", &how.comment), ("author", &how.author)] {
            if !value.is_empty() {
                line[key] = json!(value);
                config[key] = json!(value);
            } else if let Some(config) = config.as_object_mut() {
                config.remove(key);
            }
        }
        match layer {
            Some(layer) => layers.push(layer.diff_id),
            None => line["empty_layer"] = json!(true),
        }
        match config["history"].as_array_mut() {
            Some(history) => history.push(line),
            None => config["history"] = json!([line]),
        }
        config["created"] = json!(now());
        config["rootfs"] =
            json!({"type": "layers", "diff_ids": layers.iter().map(|l| l.to_string()).collect::<Vec<_>>()});
        config["config"] = Value::Object(settings);
        // As Docker notes where an image comes from.
        config["parent"] = json!(record.image);
        config["container"] = json!(record.id);
        config["container_config"] = serde_json::to_value(&record.body).step("read the container's settings")?;
        if let Some(fields) = config["container_config"].as_object_mut() {
            fields.remove("HostConfig");
            fields.remove("NetworkingConfig");
        }
        Ok(config)
    }
}

/// A configuration for a container whose image was removed.
fn orphan(layers: usize) -> Value {
    let platform = Platform::host();
    let line = json!({"created": now(), "comment": "of an image that was removed"});
    json!({"architecture": platform.architecture, "os": platform.os, "history": vec![line; layers]})
}

/// The container's settings as an image has them.
fn settings(record: &Record, how: &Commit) -> Result<Map<String, Value>> {
    let body = serde_json::to_value(&record.body).step("read the container's settings")?;
    let replaced = serde_json::to_value(&how.settings).step("read the settings")?;
    let mut settings = Map::new();
    for source in [body, replaced] {
        for key in SETTINGS {
            if let Some(value) = source.get(*key).filter(|v| !v.is_null() && *v != "") {
                settings.insert((*key).into(), value.clone());
            }
        }
    }
    Ok(settings)
}

fn layers(record: &Record) -> Result<Vec<Digest>> {
    record.layers.iter().map(|l| parse_diff_id(l)).collect()
}

fn ids(record: &Record) -> Option<Ids> {
    record.ids.map(|range| Ids {
        first: range.first,
        count: range.count,
    })
}
