//! `history`.

use engine::image::Platform;
use errdefs::Result;
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::output::say;
use crate::{format, settings};

/// So much of a command is shown.
const WIDTH: usize = 45;

/// How an image came to be, newest first.
pub fn history(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let name = &given.words[0];
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let items = engine.history(name, platform.as_ref())?;
    let (whole, human) = (given.on("no-trunc"), !given.has("human") || given.on("human"));
    let id = |id: &str| match whole {
        true => id.to_owned(),
        false => id.trim_start_matches("sha256:").chars().take(12).collect(),
    };
    if given.on("quiet") {
        items.iter().for_each(|item| say(&format!("{}\n", id(&item.id))));
        return Ok(0);
    }
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let at = format::utc(item.created);
            json!({
                "ID": id(&item.id), "CreatedAt": at,
                "CreatedSince": if human { format::ago(item.created) } else { at.clone() },
                "CreatedBy": shown(&item.created_by, whole),
                "Size": if human { format::human_size(item.size) } else { item.size.to_string() },
                "Comment": item.comment,
            })
        })
        .collect();
    let columns = [
        ("IMAGE", "ID"),
        if human {
            ("CREATED", "CreatedSince")
        } else {
            ("CREATED AT", "CreatedAt")
        },
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

/// One line, cut where it is long.
fn shown(command: &str, whole: bool) -> String {
    let line: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match whole || line.chars().count() <= WIDTH {
        true => line,
        false => line.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}
