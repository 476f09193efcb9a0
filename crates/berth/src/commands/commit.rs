//! `commit`, `diff`, `export`: what a container changed.

use engine::image::Commit;
use engine::models::ChangeType;
use errdefs::{Error, Kind, Result};

use super::archives::write_to;
use crate::cli::flag::Given;
use crate::output::say;
use crate::settings;

/// Makes an image of a container; prints its id.
pub fn commit(given: &Given) -> Result<u8> {
    if given.words.len() > 2 {
        return Err(Error::new(
            Kind::Usage,
            "'berth commit' requires at least 1 and at most 2 arguments",
        )
        .hint("see 'berth commit --help'"));
    }
    let text = |flag: &str| given.one(flag).unwrap_or_default().to_owned();
    let how = Commit {
        reference: given.words.get(1).cloned(),
        comment: text("message"),
        author: text("author"),
        pause: !given.on("no-pause") && (!given.has("pause") || given.on("pause")),
        changes: given.many("change"),
        settings: None,
    };
    let id = settings::engine()?.commit(&given.words[0], &how)?;
    say(&format!("{id}\n"));
    Ok(0)
}

/// Lists what a container changed.
pub fn diff(given: &Given) -> Result<u8> {
    for change in settings::engine()?.changes(&given.words[0])? {
        let letter = match change.kind {
            ChangeType::_0 => 'C',
            ChangeType::_1 => 'A',
            ChangeType::_2 => 'D',
        };
        say(&format!("{letter} {}\n", crate::output::plain(&change.path)));
    }
    Ok(0)
}

/// Writes a container's root file system.
pub fn export(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    write_to(given.one("output"), |out| engine.export(&given.words[0], out))?;
    Ok(0)
}
