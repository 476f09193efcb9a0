//! `history`: how an image came to be, layer by layer.

use errdefs::Result;

use crate::{Engine, human, models};

/// What Docker shows for layers whose images were never here.
const MISSING: &str = "<missing>";

impl Engine {
    /// Newest first.
    pub fn history(&self, name: &str) -> Result<Vec<models::ImageHistoryResponseItem>> {
        let image = self.image(name)?;
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
