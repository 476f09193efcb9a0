//! `container prune`, `image prune`, `volume prune`, `system prune`.

use engine::Engine;
use engine::image::Bounds;
use engine::models::ImagePruneResponse;
use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::output::say;
use crate::{format, output, settings, terminal};

/// Removes images that nothing needs.
pub fn images(given: &Given) -> Result<u8> {
    if given.has("max-used-space") || given.has("unused-for") {
        return collect(given);
    }
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
    let space = prune_images(&settings::engine()?, &filters)?;
    total(space);
    Ok(0)
}

fn prune_images(engine: &Engine, filters: &[(String, String)]) -> Result<i64> {
    engine.prune_images(filters).map(tell)
}

/// Keeps bounds.
fn collect(given: &Given) -> Result<u8> {
    if given.has("filter") || given.has("all") {
        return Err(Error::invalid(
            "bounds stand for themselves: neither --filter nor --all goes with them",
        ));
    }
    let size = given.one("max-used-space").map(format::parse_bytes).transpose()?;
    let unused = given.one("unused-for").map(settings::duration).transpose()?;
    if !given.on("force") && !sure("images, named ones too, that no container uses, until the bounds are kept")? {
        return Ok(0);
    }
    total(tell(settings::engine()?.collect_images(Bounds {
        size: size.map(|s| s as u64),
        unused,
    })?));
    Ok(0)
}

/// Lists what went; bytes that came back.
fn tell(pruned: ImagePruneResponse) -> i64 {
    let deleted = pruned.images_deleted.unwrap_or_default();
    let any = !deleted.is_empty();
    if any {
        say("Deleted Images:\n");
    }
    for item in deleted {
        item.untagged
            .iter()
            .for_each(|name| say(&format!("untagged: {name}\n")));
        item.deleted.iter().for_each(|id| say(&format!("deleted: {id}\n")));
    }
    if any {
        say("\n");
    }
    pruned.space_reclaimed.unwrap_or(0)
}

/// Removes containers that do not run.
pub fn containers(given: &Given) -> Result<u8> {
    if !given.on("force") && !sure("all stopped containers")? {
        return Ok(0);
    }
    total(prune_containers(&settings::engine()?, &given.filters()?)?);
    Ok(0)
}

fn prune_containers(engine: &Engine, filters: &[(String, String)]) -> Result<i64> {
    let pruned = engine.prune_containers(filters)?;
    list("Deleted Containers", pruned.containers_deleted);
    Ok(pruned.space_reclaimed.unwrap_or(0))
}

/// Removes volumes that nobody uses.
pub fn volumes(given: &Given) -> Result<u8> {
    let what = match given.on("all") {
        true => "all local volumes not used by at least one container",
        false => "anonymous local volumes not used by at least one container",
    };
    if !given.on("force") && !sure(what)? {
        return Ok(0);
    }
    let mut filters = given.filters()?;
    if given.on("all") {
        filters.push(("all".into(), "true".into()));
    }
    total(prune_volumes(&settings::engine()?, &filters)?);
    Ok(0)
}

fn prune_volumes(engine: &Engine, filters: &[(String, String)]) -> Result<i64> {
    let pruned = engine.prune_volumes(filters)?;
    list("Deleted Volumes", pruned.volumes_deleted);
    Ok(pruned.space_reclaimed.unwrap_or(0))
}

/// Removes everything that is not used.
pub fn system(given: &Given) -> Result<u8> {
    let (all, with_volumes) = (given.on("all"), given.on("volumes"));
    let filters = given.filters()?;
    if with_volumes && filters.iter().any(|(name, _)| name == "until") {
        return Err(Error::invalid(
            "The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let mut what = vec!["all stopped containers"];
    if with_volumes {
        what.push("all anonymous volumes not used by at least one container");
    }
    what.push(match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    let what: String = what.iter().map(|w| format!("\n  - {w}")).collect();
    if !given.on("force") && !ask(&format!("WARNING! This will remove:{what}\n\n"))? {
        return Ok(0);
    }
    let engine = settings::engine()?;
    let mut space = prune_containers(&engine, &filters)?;
    if with_volumes {
        space += prune_volumes(&engine, &filters)?;
    }
    let mut filters = filters;
    filters.push(("dangling".into(), (!all).to_string()));
    space += prune_images(&engine, &filters)?;
    total(space);
    Ok(0)
}

fn list(title: &str, names: Option<Vec<String>>) {
    let names = names.unwrap_or_default();
    if !names.is_empty() {
        say(&format!("{title}:\n{}\n\n", names.join("\n")));
    }
}

fn total(space: i64) {
    say(&format!("Total reclaimed space: {}\n", format::human_size(space)));
}

/// Asks, as Docker does; an answer that cannot be had is no.
pub fn sure(what: &str) -> Result<bool> {
    ask(&format!("WARNING! This will remove {what}.\n"))
}

fn ask(warning: &str) -> Result<bool> {
    say(&format!("{warning}Are you sure you want to continue? [y/N] "));
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
