//! `image prune`.

use errdefs::Result;

use crate::cli::flag::Given;
use crate::output::say;
use crate::{format, output, settings, terminal};

/// Removes images that nothing needs.
pub fn images(given: &Given) -> Result<u8> {
    let mut filters = given.filters()?;
    let all = given.on("all");
    filters.push(("dangling".into(), (!all).to_string()));
    let what = match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !given.on("force") && !sure(what)? {
        return Ok(0);
    }
    let pruned = settings::engine()?.prune_images(&filters)?;
    let deleted = pruned.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        say("Deleted Images:\n");
    }
    for item in deleted {
        item.untagged
            .iter()
            .for_each(|name| say(&format!("untagged: {name}\n")));
        item.deleted.iter().for_each(|id| say(&format!("deleted: {id}\n")));
    }
    let space = format::human_size(pruned.space_reclaimed.unwrap_or(0));
    say(&format!("\nTotal reclaimed space: {space}\n"));
    Ok(0)
}

/// Asks, as Docker does; an answer that cannot be had is no.
fn sure(what: &str) -> Result<bool> {
    say(&format!(
        "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "
    ));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_err() || !terminal::stdin_is() {
        say("\n");
    }
    let yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        output::note("berth: nothing was removed");
    }
    Ok(yes)
}
