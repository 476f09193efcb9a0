//! `pull`, `push`, `images`, `rmi`, `tag`.

use engine::Engine;
use engine::image::{Platform, Reference};
use engine::models::ImageSummary;
use errdefs::{Error, Kind, Result};
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
    if given.on("all-tags") {
        progress::pull_all(&engine, name, platform.as_ref(), given.on("quiet"))?;
        say(&format!("{}\n", Reference::repository_of(name)?.familiar_name()));
        return Ok(0);
    }
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
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let (engine, name, all) = (settings::engine()?, &given.words[0], given.on("all-tags"));
    if all && platform.is_some() {
        return Err(Error::invalid("--all-tags and --platform cannot be used together"));
    }
    for pushed in progress::push(&engine, name, platform.as_ref(), all, given.on("quiet"))? {
        if given.on("quiet") {
            say(&format!("{}\n", pushed.reference));
        }
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
    let engine = settings::engine()?;
    let list = engine.images(&filters, given.on("all"))?;
    if given.on("tree") {
        return tree(&engine, given, &list);
    }
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
    if whole { image.id.clone() } else { short(&image.id) }
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

/// Each name, and below it the platforms that it has images for.
fn tree(engine: &Engine, given: &Given, list: &[ImageSummary]) -> Result<u8> {
    if given.on("quiet") || given.on("no-trunc") || given.on("digests") || given.has("format") {
        return Err(Error::invalid(
            "--quiet, --no-trunc, --digests and --format cannot be used with --tree",
        ));
    }
    let mut rows = Vec::new();
    let row =
        |name: String, id: &str, size: i64| json!({"Name": name, "ID": short(id), "Size": format::human_size(size)});
    for image in list {
        for tag in &image.repo_tags {
            rows.push(row(tag.clone(), &image.id, image.size));
            let variants = engine.variants_of_name(tag)?;
            for (number, variant) in variants.iter().enumerate() {
                let branch = if number + 1 == variants.len() {
                    "└─"
                } else {
                    "├─"
                };
                let size = engine.image(&variant.image)?.size as i64;
                rows.push(row(format!("{branch} {}", variant.platform), &variant.image, size));
            }
        }
        if image.repo_tags.is_empty() {
            rows.push(row("<untagged>".into(), &image.id, image.size));
        }
    }
    listing::print(None, &[("IMAGE", "Name"), ("ID", "ID"), ("DISK USAGE", "Size")], &rows)?;
    Ok(0)
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
    let platforms = super::archives::platforms(given)?;
    Ok(each(&given.words, |name| {
        let removed = match engine.remove_image(name, force, &platforms) {
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
