//! What is kept of a container between two calls: `ROOT/ID/state.json`, and the door of an init that waits.

use std::path::{Path, PathBuf};

use engine::container::record::{now, read_json, write_json};
use errdefs::{Error, Kind, Result, Step};
use runtime::cgroup::Cgroup;
use runtime::{kernel_files, oci};
use serde::{Deserialize, Serialize};

use super::Host;

/// The version of the runtime specification.
pub const SPECIFICATION: &str = "1.2.0";
/// runc's limit.
const ID_LENGTH: usize = 1024;

/// A container.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    /// As its maker calls it.
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Of its first process.
    pub pid: i32,
    /// When that was born, in ticks since boot: a number is used again.
    born: u64,
    /// RFC 3339.
    pub created: String,
    /// Where its processes are counted and limited.
    pub cgroup: Cgroup,
    /// Its document, as it was.
    pub spec: oci::Spec,
}

/// What state it is in (runtime specification, "State"; paused is runc's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl Host {
    /// A container's directory. The id is no path.
    pub fn dir(&self, id: &str) -> Result<PathBuf> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > ID_LENGTH || id == "." || id == ".." || !id.chars().all(good) {
            return Err(Error::invalid(format!("invalid container ID format: {id:?}")));
        }
        Ok(self.root.join(id))
    }

    /// Where the init of a made container waits.
    pub fn door(&self, id: &str) -> Result<PathBuf> {
        Ok(self.dir(id)?.join("door"))
    }

    /// A directory for a new container.
    pub fn claim(&self, id: &str) -> Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = self.dir(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o711);
        builder
            .recursive(true)
            .create(&self.root)
            .step_with(|| format!("make {}", self.root.display()))?;
        match builder.recursive(false).create(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::conflict(format!("container with given ID already exists: {id}")))
            }
            made => made.step_with(|| format!("make {}", dir.display())).map(|()| dir),
        }
    }

    /// What was kept of a container.
    pub fn load(&self, id: &str) -> Result<Saved> {
        let dir = self.dir(id)?;
        read_json(&dir.join("state.json"))?.ok_or_else(|| Error::not_found("container does not exist"))
    }

    /// Keeps it.
    pub fn save(&self, saved: &Saved) -> Result<()> {
        write_json(&self.dir(&saved.id)?.join("state.json"), saved)
    }

    /// All containers that are whole, by id.
    pub fn all(&self) -> Result<Vec<Saved>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step_with(|| format!("read {}", self.root.display()))?,
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names.iter().filter_map(|name| self.load(name).ok()).collect())
    }

    /// What state it is in.
    pub fn status(&self, saved: &Saved) -> Result<Status> {
        Ok(if !saved.alive() {
            Status::Stopped
        } else if self.door(&saved.id)?.exists() {
            Status::Created
        } else if saved.cgroup.frozen() {
            Status::Paused
        } else {
            Status::Running
        })
    }
}

impl Saved {
    /// Of a process that was just made.
    pub fn new(id: &str, bundle: &Path, pid: i32, cgroup: Cgroup, spec: oci::Spec) -> Self {
        Saved {
            id: id.into(),
            bundle: bundle.into(),
            pid,
            born: born(pid).unwrap_or(0),
            created: now(),
            cgroup,
            spec,
        }
    }

    /// Whether its first process is there, and no zombie.
    pub fn alive(&self) -> bool {
        born(self.pid) == Some(self.born)
    }

    /// Whether its processes are among those of others.
    pub fn shares_processes(&self) -> bool {
        let all = self.spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
        let own = |n: &&oci::LinuxNamespace| n.path().as_ref().is_none_or(|path| path.as_os_str().is_empty());
        !all.filter(own).any(|n| n.typ() == oci::LinuxNamespaceType::Pid)
    }

    /// For engines and hooks; without a process when there is none.
    pub fn state(&self, status: Status) -> Result<oci::State> {
        let mut state = base_state(&self.id, &self.bundle, &self.spec)?;
        state.set_status(match status {
            Status::Created => oci::ContainerState::Created,
            // The specification has no word for paused; hooks never see it.
            Status::Running | Status::Paused => oci::ContainerState::Running,
            Status::Stopped => oci::ContainerState::Stopped,
        });
        state.set_pid((status != Status::Stopped).then_some(self.pid));
        Ok(state)
    }
}

/// What is known of a container before it has a process.
pub fn base_state(id: &str, bundle: &Path, spec: &oci::Spec) -> Result<oci::State> {
    oci::StateBuilder::default()
        .version(SPECIFICATION)
        .id(id)
        .status(oci::ContainerState::Creating)
        .bundle(bundle)
        .annotations(spec.annotations().clone().unwrap_or_default())
        .build()
        .step("describe the container's state")
}

/// When a process was born (proc_pid_stat(5), field 22); `None` if there is none, or a zombie.
fn born(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let dead = ["Z", "X"].contains(&kernel_files::stat(&stat, 3)?);
    kernel_files::stat(&stat, 22)?.parse().ok().filter(|_| !dead)
}

/// Not what the container's state allows.
pub fn wrong_state(message: impl Into<String>) -> Error {
    Error::new(Kind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_no_paths() {
        let host = Host {
            root: "/r".into(),
            log: None,
            json: false,
            debug: false,
            systemd: false,
        };
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\0", "ü", &"x".repeat(1025)] {
            assert!(host.dir(bad).is_err(), "{bad:?}");
        }
        assert_eq!(host.dir("a-b_c.d+1").unwrap(), PathBuf::from("/r/a-b_c.d+1"));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let own = std::process::id() as i32;
        let saved = Saved::new("x", Path::new("/b"), own, Cgroup::at("/x"), oci::Spec::default());
        assert!(saved.alive());
        let other = Saved {
            born: saved.born + 1,
            ..saved
        };
        assert!(!other.alive());
    }
}
