//! `history`: how an image came to be, layer by layer.

use errdefs::Result;

use super::Platform;
use crate::{Engine, human, models};

/// What Docker shows for layers whose images were never here.
const MISSING: &str = "<missing>";

impl Engine {
    /// Newest first.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<models::ImageHistoryResponseItem>> {
        let image = self.image_on(name, platform)?;
        let mut layers = image.layers.iter();
        let mut items = Vec::new();
        for line in image.config.history().iter().flatten() {
            let size = match line.empty_layer() {
                Some(true) => 0,
                _ => layers.next().map_or(Ok(0), |l| self.layers.layer(l).map(|l| l.size))?,
            };
            items.push(models::ImageHistoryResponseItem {
                id: MISSING.into(),
                created: line.created().as_deref().map_or(0, human::seconds_at),
                created_by: line.created_by().clone().unwrap_or_default(),
                tags: Vec::new(),
                size: size as i64,
                comment: line.comment().clone().unwrap_or_default(),
            });
        }
        // What its history does not tell of.
        for layer in layers {
            items.push(models::ImageHistoryResponseItem {
                id: MISSING.into(),
                created: 0,
                created_by: String::new(),
                tags: Vec::new(),
                size: self.layers.layer(layer)?.size as i64,
                comment: String::new(),
            });
        }
        if let Some(top) = items.last_mut() {
            top.id = image.id;
            top.tags = image.references;
        }
        items.reverse();
        Ok(items)
    }
}

/// What `image tree` shows.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The image's id.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Bytes of content.
    pub size: u64,
    /// Bottom first.
    pub layers: Vec<Branch>,
}

/// A layer of it.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its diff id.
    pub id: String,
    /// Bytes of content.
    pub size: u64,
    /// The names (or ids) of images whose layers end with this one, all below it being the same.
    pub top_of: Vec<String>,
}

impl Engine {
    /// The layers of an image, and which images end where.
    pub fn image_tree(&self, name: &str) -> Result<Tree> {
        let image = self.image(name)?;
        let others = self.image_rows()?.into_iter().map(|(id, _)| self.image_of(&id));
        let others = others.collect::<Result<Vec<_>>>()?;
        let branch = |number: usize| {
            let until = &image.layers[..=number];
            let ends = others.iter().filter(|o| o.layers == until);
            let names = |o: &super::Image| match o.references.is_empty() {
                true => vec![super::short(&o.id)],
                false => o.references.clone(),
            };
            Ok(Branch {
                id: image.layers[number].to_string(),
                size: self.layers.layer(&image.layers[number])?.size,
                top_of: ends.flat_map(names).collect(),
            })
        };
        Ok(Tree {
            layers: (0..image.layers.len()).map(branch).collect::<Result<_>>()?,
            id: image.id,
            tags: image.references,
            size: image.size,
        })
    }
}
