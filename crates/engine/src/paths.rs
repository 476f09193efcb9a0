//! Where things are: one method per path, so that no other file joins strings.

use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Result};

/// The two trees of an engine: what lasts and what is live.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Survives a reboot; `/var/lib/berth`.
    pub data: PathBuf,
    /// Does not: `/run/berth`.
    pub run: PathBuf,
}

impl Roots {
    /// The system's own.
    pub fn system() -> Self {
        Roots {
            data: "/var/lib/berth".into(),
            run: "/run/berth".into(),
        }
    }

    /// Whether these are the system's own.
    pub fn is_system(&self) -> bool {
        self.run == Roots::system().run
    }

    /// Makes both trees, closed to everybody but root (layers hold setuid programs).
    pub fn make(&self) -> Result<()> {
        if self.database().exists() && self.run.is_dir() {
            return Ok(());
        }
        for dir in [&self.data, &self.run, &self.containers(), &self.volumes()] {
            make_private(dir)?;
        }
        Ok(())
    }

    /// Names, image references, id ranges.
    pub fn database(&self) -> PathBuf {
        self.data.join("berth.db")
    }
    /// Layers as directories.
    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }
    /// Manifests and configurations.
    pub fn content(&self) -> PathBuf {
        self.data.join("content")
    }
    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }
    /// What lasts of one container.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }
    /// What is live of one container: lock, socket, config.json.
    pub fn live(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }
    /// Files by the ids of the containers that are linked to a container.
    pub fn linked_by(&self, id: &str) -> PathBuf {
        self.container(id).join("linked-by")
    }
    /// All named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
    /// The content of one volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name).join("_data")
    }
    /// What happened, as lines.
    pub fn events(&self) -> PathBuf {
        self.data.join("events")
    }
    /// Lists of manifests that are being put together.
    pub fn manifest_lists(&self) -> PathBuf {
        self.data.join("manifest-lists")
    }
    /// What has come of layers whose download broke off.
    pub fn parts(&self) -> PathBuf {
        self.spool().join("parts")
    }
    /// Held by whoever changes what is on this host of all networks.
    pub fn networks_lock(&self) -> PathBuf {
        self.data.join("networks.lock")
    }
    /// The processes in a user's namespaces: whoever comes next joins one of them. Not there for root.
    pub fn members(&self) -> PathBuf {
        self.run.join("members")
    }
    /// Whether the engine is that of a user who is not root.
    pub fn is_users(&self) -> bool {
        self.members().exists()
    }
    /// Where the name service listens.
    pub fn names_socket(&self) -> PathBuf {
        self.run.join("names.sock")
    }
    /// Held by whoever starts or ends it.
    pub fn names_lock(&self) -> PathBuf {
        self.data.join("names.lock")
    }
    /// Held by the keeper of the firewall as long as it lives.
    pub fn keeper_lock(&self) -> PathBuf {
        self.data.join("keeper.lock")
    }
    /// What was switched on for containers that the host had off.
    pub fn forwarding(&self) -> PathBuf {
        self.data.join("forwarding.json")
    }
    /// Where archives are unpacked and downloads are kept meanwhile.
    pub fn spool(&self) -> PathBuf {
        self.data.join("spool")
    }
}

/// `mkdir -p`, the last folder with mode 0700.
pub fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .errno_step(format!("make {}", dir.display()))
}
