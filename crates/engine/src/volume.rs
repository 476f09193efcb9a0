//! Named volumes. STUB: see contract.
#![allow(missing_docs)]
use crate::{Engine, Result, models};

impl Engine {
    /// Makes it, or returns the one of that name.
    pub fn create_volume(&self, _request: &models::VolumeCreateRequest) -> Result<models::Volume> { todo!() }
    pub fn volumes(&self, _filters: &[(String, String)]) -> Result<Vec<models::Volume>> { todo!() }
    pub fn volume(&self, _name: &str) -> Result<models::Volume> { todo!() }
    pub fn remove_volume(&self, _name: &str, _force: bool) -> Result<()> { todo!() }
}
