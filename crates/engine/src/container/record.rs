//! What is written down about one container, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard_stubs::models::{ContainerCreateBody, Health, HealthStatusEnum, HostConfig, MountPoint};
use errdefs::{Result, Step};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::link::Exit;
use crate::state::{ContainerRow, IdRange};
use crate::{Engine, Roots};

/// `container.json`: Docker's body, merged with the image's settings, and what was decided when it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash; the database says which container a name belongs to.
    #[serde(default)]
    pub name: String,
    /// RFC 3339, nanoseconds.
    pub created: String,
    /// `sha256:HEX` of the image's configuration.
    pub image: String,
    /// Diff ids of the image's layers, bottom first.
    pub layers: Vec<String>,
    /// The host ids of its user namespace; `None` when it uses the host's.
    pub ids: Option<IdRange>,
    /// Bind mounts and volumes, with the volumes' names and directories.
    pub mounts: Vec<MountPoint>,
    /// What of them is mounted, by their destinations, where it is not all of a directory or a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Part>,
    /// Volumes that were made for it and go with it.
    pub anonymous_volumes: Vec<String>,
    /// The merged request.
    pub body: ContainerCreateBody,
}

/// What Docker's description of a mount has no place for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// A path within the source, which may be resolved below the source alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// Of an image: the diff ids of its layers, bottom first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

impl Record {
    /// What of a mount's source is mounted.
    pub fn part(&self, point: &MountPoint) -> &Part {
        static ALL: Part = Part {
            subpath: None,
            layers: Vec::new(),
        };
        let part = point.destination.as_ref().and_then(|place| self.parts.get(place));
        part.unwrap_or(&ALL)
    }

    /// What is known of a container whose record cannot be read.
    pub(crate) fn lost(row: &ContainerRow) -> Self {
        let created = jiff::Timestamp::from_nanosecond(row.created.into()).unwrap_or_default();
        Record {
            id: row.id.clone(),
            name: row.name.clone(),
            created: format!("{created:.9}"),
            image: row.image_id.clone(),
            layers: Vec::new(),
            ids: None,
            mounts: Vec::new(),
            parts: BTreeMap::new(),
            anonymous_volumes: Vec::new(),
            body: ContainerCreateBody {
                image: Some(row.image_id.clone()),
                ..Default::default()
            },
        }
    }

    /// The host's part of the request.
    pub fn host(&self) -> &HostConfig {
        static EMPTY: std::sync::LazyLock<HostConfig> = std::sync::LazyLock::new(HostConfig::default);
        self.body.host_config.as_ref().unwrap_or(&EMPTY)
    }

    /// Whether it has a terminal.
    pub fn tty(&self) -> bool {
        self.body.tty.unwrap_or(false)
    }

    /// Whether it goes when it ends.
    pub fn auto_remove(&self) -> bool {
        self.host().auto_remove.unwrap_or(false)
    }

    /// Whether its ids are others on the disk than inside. A user's own containers have the ids that there are.
    pub fn is_idmapped(&self) -> bool {
        self.ids.is_some_and(|range| range.first != 0)
    }

    /// Docker's name of its first network.
    pub fn network(&self) -> &str {
        crate::network::endpoint::mode(&self.body)
    }

    /// The cgroup, below each hierarchy's mount point.
    pub fn cgroup(&self) -> String {
        Self::cgroup_of(self.host().cgroup_parent.as_deref(), &self.id)
    }

    /// That of a container with this `--cgroup-parent`.
    pub(crate) fn cgroup_of(parent: Option<&str>, id: &str) -> String {
        let parent = parent.filter(|p| !p.is_empty()).unwrap_or("/berth");
        format!("/{}/{id}", parent.trim_matches('/'))
    }

    /// Entrypoint and command.
    pub fn args(&self) -> Vec<String> {
        [&self.body.entrypoint, &self.body.cmd]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect()
    }

    /// The signal that asks it to stop.
    pub fn stop_signal(&self) -> &str {
        self.body
            .stop_signal
            .as_deref()
            .filter(|s| !s.is_empty())
            .unwrap_or("SIGTERM")
    }

    /// How long it may take to stop, in seconds; negative is for ever.
    pub fn stop_timeout(&self) -> i64 {
        self.body.stop_timeout.unwrap_or(10)
    }
}

/// `state.json` of the live directory; its monitor is the only writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// What it does now.
    pub status: LiveStatus,
    /// Its first process, in the host's pid namespace; 0 between two runs.
    pub pid: i32,
    /// RFC 3339, nanoseconds.
    pub started_at: String,
    /// How often the restart policy has started it again.
    pub restart_count: u32,
    /// How its last run ended, while it waits to be restarted.
    #[serde(default)]
    pub last: Option<Exit>,
    /// What its health check says, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatusEnum>,
    /// The networks that it is on.
    #[serde(default)]
    pub networks: Vec<network::Attachment>,
}

/// What a container with a live monitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveStatus {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended and will be started again.
    Restarting,
}

/// `exit.json`: how the last run ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// Code, time, reason.
    pub exit: Exit,
    /// RFC 3339, nanoseconds; empty if it never ran.
    #[serde(default)]
    pub started_at: String,
    /// How often the restart policy had started it again.
    #[serde(default)]
    pub restart_count: u32,
    /// What its health check had said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// The files of one container: one method each, so that nobody else joins strings.
impl Roots {
    /// The [`Record`].
    pub fn record(&self, id: &str) -> PathBuf {
        self.container(id).join("container.json")
    }
    /// The [`Ended`].
    pub fn ended(&self, id: &str) -> PathBuf {
        self.container(id).join("exit.json")
    }
    /// What it wrote, as Docker's `json-file` lines.
    pub fn log(&self, id: &str) -> PathBuf {
        self.container(id).join(format!("{id}-json.log"))
    }
    /// What links tell its processes, as variables.
    pub fn link_variables(&self, id: &str) -> PathBuf {
        self.container(id).join("links.json")
    }
    /// The [`Live`].
    pub fn live_state(&self, id: &str) -> PathBuf {
        self.live(id).join("state.json")
    }
    /// What the results of its health check were.
    pub fn health(&self, id: &str) -> PathBuf {
        self.live(id).join("health.json")
    }
    /// Held by its monitor as long as that lives.
    pub fn lock(&self, id: &str) -> PathBuf {
        self.live(id).join("lock")
    }
    /// Where its monitor listens.
    pub fn socket(&self, id: &str) -> PathBuf {
        self.live(id).join("monitor.sock")
    }
    /// System calls of its processes that were refused, as `--compat=trace` writes them down.
    pub fn refused(&self, id: &str) -> PathBuf {
        self.live(id).join("refused")
    }

    /// The OCI runtime document of the present run.
    pub fn document(&self, id: &str) -> PathBuf {
        self.live(id).join("config.json")
    }
}

/// Reads one JSON file; `None` if it is not there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .step_with(|| format!("read {}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).step_with(|| format!("read {}", path.display())),
    }
}

/// Writes one JSON file so that a reader sees the old one or the new one, whole.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).step_with(|| format!("write {}", path.display()))?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .step_with(|| format!("write {}", path.display()))
}

/// Now, as Docker writes times: RFC 3339 with nanoseconds, in UTC.
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

impl Engine {
    /// The record of a container by name, id or id prefix.
    pub fn record(&self, name: &str) -> Result<Record> {
        let row = self.find(name)?;
        self.read_record(&row.id)
    }

    /// The record of exactly this id.
    pub fn read_record(&self, id: &str) -> Result<Record> {
        read_json(&self.roots.record(id))?.ok_or_else(|| errdefs::Error::not_found(format!("No such container: {id}")))
    }
}
