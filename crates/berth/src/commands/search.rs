//! `search`: what a registry has.

use errdefs::{Error, Result};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::settings;

/// So much of a description is shown.
const WIDTH: usize = 45;

/// Repositories by a word in their names.
pub fn search(given: &Given) -> Result<u8> {
    let term = &given.words[0];
    let host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, term) = match term.split_once('/') {
        Some((first, rest)) if host(first) => (first, rest),
        _ => ("docker.io", term.as_str()),
    };
    let limit = given.number("limit")?.unwrap_or(25);
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid(format!(
            "limit {limit} is outside the range of [1, 100]"
        )));
    }
    let (mut stars, mut official) = (0, None);
    for (name, value) in given.filters()? {
        let bad = || Error::invalid(format!("invalid filter '{name}={value}'"));
        match name.as_str() {
            "stars" => stars = value.parse().map_err(|_| bad())?,
            "is-official" => official = Some(value.parse::<bool>().map_err(|_| bad())?),
            "is-automated" => {}
            _ => return Err(Error::invalid(format!("invalid filter '{name}'"))),
        }
    }
    let hits = settings::registry()?.search(registry, term, limit as usize)?;
    let wanted = hits
        .iter()
        .filter(|h| h.star_count >= stars && official.is_none_or(|o| o == h.is_official));
    let mark = |yes: bool| if yes { "[OK]" } else { "" };
    let rows: Vec<Value> = wanted
        .map(|h| {
            json!({"Name": h.name, "Description": shown(&h.description, given.on("no-trunc")), "StarCount": h.star_count.to_string(),
                "IsOfficial": mark(h.is_official), "IsAutomated": mark(h.is_automated)})
        })
        .collect();
    let columns = [
        ("NAME", "Name"),
        ("DESCRIPTION", "Description"),
        ("STARS", "StarCount"),
        ("OFFICIAL", "IsOfficial"),
    ];
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

/// One line, nothing in it that a terminal takes for a command.
fn shown(text: &str, whole: bool) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match whole || line.chars().count() <= WIDTH {
        true => line,
        false => line.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}
