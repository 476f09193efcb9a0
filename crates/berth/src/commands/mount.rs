//! `image mount`, `image unmount`, `image tree`.

use errdefs::Result;

use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::{format, settings};

/// Mounts an image, or lists what is mounted.
pub fn mount(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    if let Some(name) = given.words.first() {
        say(&format!("{}\n", engine.mount_image(name)?.display()));
        return Ok(0);
    }
    for (id, place) in engine.image_mounts()? {
        say(&format!("{} {}\n", short(&id), place.display()));
    }
    Ok(0)
}

/// Takes images from there.
pub fn unmount(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        engine.unmount_image(name)?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// The layers of an image, bottom first.
pub fn tree(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let tree = engine.image_tree(&given.words[0])?;
    say(&format!("Image ID: {}\n", short(&tree.id)));
    say(&format!("Tags:     [{}]\n", tree.tags.join(" ")));
    say(&format!("Size:     {}\n", format::human_size(tree.size as i64)));
    say("Image Layers\n");
    for (number, layer) in tree.layers.iter().enumerate() {
        let branch = if number + 1 == tree.layers.len() {
            "└──"
        } else {
            "├──"
        };
        let top = match layer.top_of.is_empty() {
            true => String::new(),
            false => format!(" Top Layer of: [{}]", layer.top_of.join(" ")),
        };
        let size = format::human_size(layer.size as i64);
        say(&format!("{branch} ID: {} Size: {size}{top}\n", short(&layer.id)));
    }
    Ok(0)
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}
