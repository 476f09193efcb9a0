//! `pull`, `push`, `images`, `rmi`, `tag`.

use engine::image::{Platform, Reference};
use engine::models::ImageSummary;
use errdefs::{Kind, Result};
use serde_json::{Value, json};

use super::{listing, progress};
use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::{format, output, settings};

/// Downloads an image.
pub fn pull(given: &Given) -> Result<u8> {
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let name = &given.words[0];
    let engine = settings::engine()?;
    progress::pull(&engine, name, platform.as_ref(), false, given.on("quiet"))?;
    engine
        .foretold(name)?
        .iter()
        .for_each(|line| output::note(&format!("WARNING: {line}")));
    say(&format!("{}\n", Reference::parse(name)?.canonical()));
    Ok(0)
}

/// Uploads an image.
pub fn push(given: &Given) -> Result<u8> {
    let pushed = progress::push(&settings::engine()?, &given.words[0], given.on("quiet"))?;
    if given.on("quiet") {
        say(&format!("{}\n", pushed.reference));
    }
    Ok(0)
}

const COLUMNS: &[listing::Column] = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// Lists images.
pub fn images(given: &Given) -> Result<u8> {
    let mut filters = given.filters()?;
    filters.extend(given.words.first().map(|name| ("reference".to_owned(), name.clone())));
    let list = settings::engine()?.images(&filters, given.on("all"))?;
    let whole = given.on("no-trunc");
    if given.on("quiet") {
        list.iter().for_each(|image| say(&format!("{}\n", id(image, whole))));
        return Ok(0);
    }
    let mut columns = COLUMNS.to_vec();
    if given.on("digests") {
        columns.insert(2, ("DIGEST", "Digest"));
    }
    let rows: Vec<Value> = list.iter().flat_map(|image| rows(image, whole)).collect();
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

fn id(image: &ImageSummary, whole: bool) -> String {
    if whole {
        image.id.clone()
    } else {
        image.id.trim_start_matches("sha256:").chars().take(12).collect()
    }
}

/// One row a name.
fn rows(image: &ImageSummary, whole: bool) -> Vec<Value> {
    let row = |repository: &str, tag: &str, digest: &str| {
        json!({
            "Repository": repository, "Tag": tag, "Digest": digest, "ID": id(image, whole),
            "CreatedSince": format::ago(image.created),
            "CreatedAt": format::utc(image.created),
            "Size": format::human_size(image.size), "Containers": image.containers.to_string(),
            "SharedSize": "N/A", "UniqueSize": "N/A", "VirtualSize": format::human_size(image.size),
        })
    };
    let digest_of = |repository: &str| {
        let found = image
            .repo_digests
            .iter()
            .find_map(|d| d.strip_prefix(repository)?.strip_prefix('@'));
        found.unwrap_or("<none>").to_owned()
    };
    let tags = image.repo_tags.iter().filter_map(|t| t.rsplit_once(':'));
    let mut rows: Vec<Value> = tags
        .map(|(repository, tag)| row(repository, tag, &digest_of(repository)))
        .collect();
    if rows.is_empty() {
        let (repository, digest) = image
            .repo_digests
            .first()
            .and_then(|d| d.split_once('@'))
            .unwrap_or(("<none>", "<none>"));
        rows.push(row(repository, "<none>", digest));
    }
    rows
}

/// Takes names, and images without any more, away. With `-f` one that is not there is no failure, but is told.
pub fn rmi(given: &Given) -> Result<u8> {
    let (engine, force) = (settings::engine()?, given.on("force"));
    Ok(each(&given.words, |name| {
        let removed = match engine.remove_image(name, force) {
            Err(e) if force && e.kind() == Kind::NotFound => {
                output::note(&format!("berth: {e}"));
                return Ok(());
            }
            other => other?,
        };
        for item in removed {
            item.untagged
                .iter()
                .for_each(|name| say(&format!("Untagged: {name}\n")));
            item.deleted.iter().for_each(|id| say(&format!("Deleted: {id}\n")));
        }
        Ok(())
    }))
}

/// Gives an image another name.
pub fn tag(given: &Given) -> Result<u8> {
    settings::engine()?.tag(&given.words[0], &given.words[1]).map(|()| 0)
}
