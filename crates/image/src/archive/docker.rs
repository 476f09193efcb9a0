//! `docker save`: `manifest.json` names configurations and layers by their paths (moby image specification 1.2).

use errdefs::{Error, Result, Step};
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::{Found, LayerSource};
use crate::Reference;

/// One image of `manifest.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Item {
    /// Path of the configuration.
    pub config: String,
    /// `debian:12`, or null.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers, bottom first.
    pub layers: Vec<String>,
}

/// All images.
pub fn images(files: &Files) -> Result<Vec<Found>> {
    let items: Vec<Item> = serde_json::from_slice(&files.document("manifest.json")?)
        .step("read the archive's manifest.json")
        .map_err(|e| e.kind_is(errdefs::Kind::Invalid))?;
    items.iter().map(|item| image(files, item)).collect()
}

fn image(files: &Files, item: &Item) -> Result<Found> {
    let layer = |path: &String| {
        Ok(LayerSource {
            descriptor: None,
            section: files.section(path)?,
        })
    };
    let layers: Result<Vec<LayerSource>> = item.layers.iter().map(layer).collect();
    let references = item
        .repo_tags
        .iter()
        .flatten()
        .map(|tag| Reference::parse(tag))
        .collect::<Result<_>>()?;
    let config = files.document(&item.config)?;
    let layers = layers?;
    if layers.len() > 1000 {
        return Err(Error::invalid("an image with more than 1000 layers"));
    }
    Ok(Found {
        references,
        config,
        manifest: None,
        index: None,
        layers,
    })
}
