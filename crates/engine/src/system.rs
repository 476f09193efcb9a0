//! `info` and `version`. STUB: see contract.
use crate::{Engine, Result, models};

impl Engine {
    /// What `docker info` shows.
    pub fn info(&self) -> Result<models::SystemInfo> { todo!() }
    /// What `docker version` shows.
    pub fn version(&self) -> models::SystemVersion { todo!() }
}
