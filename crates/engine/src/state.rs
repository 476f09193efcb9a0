//! What must be unique or counted, in one SQLite database. STUB: see contract.
#![allow(missing_docs)]
use std::path::Path;

use errdefs::Result;

pub struct State;

/// A range of host ids that belongs to one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange { pub first: u32, pub count: u32 }

/// A container as the database knows it.
#[derive(Clone, Debug)]
pub struct ContainerRow { pub id: String, pub name: String, pub image_id: String, pub created: i64 /* ns since the epoch */ }

impl State {
    pub fn open(_path: &Path) -> Result<Self> { todo!() }

    // containers -------------------------------------------------------------------------------
    /// One transaction: name unique (Conflict in docker's words: `Conflict. The container name "/x" is already in use by container "ID". You have to remove (or rename) that container to be able to reuse that name.`),
    /// and a free id range when `userns` (Exhausted when none).
    pub fn add_container(&self, _row: &ContainerRow, _userns: bool) -> Result<Option<IdRange>> { todo!() }
    /// Also frees its ids and volume references; fine if it is gone.
    pub fn remove_container(&self, _id: &str) -> Result<()> { todo!() }
    pub fn rename_container(&self, _id: &str, _new: &str) -> Result<()> { todo!() }
    /// All, newest first.
    pub fn containers(&self) -> Result<Vec<ContainerRow>> { todo!() }
    /// By full id, name, or unique id prefix; NotFound `No such container: x`; ambiguous prefix -> Invalid.
    pub fn find_container(&self, _name: &str) -> Result<ContainerRow> { todo!() }
    /// Which volumes a container uses (so that `volume rm` can refuse).
    pub fn use_volumes(&self, _container: &str, _volumes: &[String]) -> Result<()> { todo!() }
    pub fn volume_users(&self, _volume: &str) -> Result<Vec<String>> { todo!() }
    // images and volumes: the engine::image and engine::volume modules add what they need
}
