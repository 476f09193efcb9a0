//! Images: pull, push, list, tag, remove, archives. STUB: see contract.
#![allow(missing_docs)]
use std::io::{Read, Write};
use std::path::Path;

use crate::{Engine, Result, models};
pub use ::image::{Digest, ImageConfiguration, Platform, Reference, registry};

/// A local image, as a container needs it.
#[derive(Clone, Debug)]
pub struct Image { pub id: String /* sha256:HEX of the config */, pub config: ImageConfiguration, pub layers: Vec<Digest> /* bottom first */, pub references: Vec<String>, pub digests: Vec<String>, pub size: u64 }

/// What happens during a pull or a push; the front door shows it.
#[derive(Clone, Debug)]
pub enum Progress {
    /// `Pulling from library/debian` and the like: a line of its own.
    Message(String),
    /// A layer, by its short id: "Pulling fs layer", "Downloading", "Extracting", "Pull complete", "Already exists",
    /// "Pushing", "Pushed", "Layer already exists", "Mounted from x". `current`/`total` in bytes where it has a bar.
    Layer { id: String, status: &'static str, current: u64, total: u64 },
}

#[derive(Clone, Debug, Default)]
pub struct Pulled { pub reference: String, pub id: String, pub digest: String, /// nothing was new
    pub up_to_date: bool }

impl Engine {
    pub fn pull(&self, _reference: &str, _platform: Option<&Platform>, _registry: &registry::Client, _progress: &(dyn Fn(Progress) + Sync)) -> Result<Pulled> { todo!() }
    pub fn push(&self, _reference: &str, _registry: &registry::Client, _progress: &(dyn Fn(Progress) + Sync)) -> Result<Pulled> { todo!() }
    /// By reference, id, or unique id prefix. NotFound in docker's words: `No such image: x:latest`.
    pub fn image(&self, _name: &str) -> Result<Image> { todo!() }
    pub fn images(&self, _filters: &[(String, String)], _all: bool) -> Result<Vec<models::ImageSummary>> { todo!() }
    pub fn inspect_image(&self, _name: &str) -> Result<models::ImageInspect> { todo!() }
    pub fn remove_image(&self, _name: &str, _force: bool) -> Result<Vec<models::ImageDeleteResponseItem>> { todo!() }
    pub fn tag(&self, _source: &str, _target: &str) -> Result<()> { todo!() }
    /// The references (or ids) that were loaded.
    pub fn load(&self, _input: &mut dyn Read, _platform: Option<&Platform>) -> Result<Vec<String>> { todo!() }
    pub fn load_path(&self, _path: &Path, _platform: Option<&Platform>) -> Result<Vec<String>> { todo!() }
    pub fn save(&self, _names: &[String], _out: &mut dyn Write) -> Result<()> { todo!() }
    /// A root file system as a tar; `changes` are Dockerfile lines (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR).
    pub fn import(&self, _tar: Box<dyn Read + Send>, _reference: Option<&str>, _message: &str, _changes: &[String], _platform: Option<&Platform>) -> Result<String> { todo!() }
    /// Puts an image together from directories' tars: used for the image that Berth carries itself.
    pub fn add_image(&self, _config: &ImageConfiguration, _layers: Vec<Box<dyn Read + Send>>, _reference: &str) -> Result<String> { todo!() }
}
