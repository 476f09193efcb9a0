//! `images`.

use std::collections::HashMap;

use errdefs::{Error, Result};

use super::find::NameRow;
use super::{Image, Reference};
use crate::{Engine, human, models};

const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since"];

impl Engine {
    /// Newest first. Filters: `before`, `dangling`, `label`, `reference`, `since`.
    pub fn images(&self, filters: &[(String, String)], _all: bool) -> Result<Vec<models::ImageSummary>> {
        if let Some((name, _)) = filters.iter().find(|(n, _)| !FILTERS.contains(&n.as_str())) {
            return Err(Error::invalid(format!("invalid filter '{name}'")));
        }
        let rows = self.image_rows()?;
        let mut used: HashMap<String, i64> = HashMap::new();
        for container in self.state.containers()? {
            *used.entry(container.image_id).or_default() += 1;
        }
        let mut list = Vec::new();
        for (id, created) in rows {
            let image = self.image_of(&id)?;
            let names = self.names_of(&id)?;
            if let Some(tags) = self.shown(&image, created, &names, filters)? {
                list.push(summary(image, created, tags, used.get(&id).copied().unwrap_or(0)));
            }
        }
        Ok(list)
    }

    /// The tags to show; `None` if the image does not match.
    fn shown(
        &self,
        image: &Image,
        created: i64,
        names: &[NameRow],
        filters: &[(String, String)],
    ) -> Result<Option<Vec<String>>> {
        let mut tags: Vec<String> = names.iter().filter_map(NameRow::tag).collect();
        let created_of = |name: &str| {
            Ok::<i64, Error>(
                self.image(name)?
                    .config
                    .created()
                    .as_deref()
                    .map_or(0, human::seconds_at),
            )
        };
        let patterns: Vec<&String> = filters
            .iter()
            .filter(|(n, _)| n == "reference")
            .map(|(_, v)| v)
            .collect();
        if !patterns.is_empty() {
            tags.retain(|tag| patterns.iter().any(|p| matches_reference(tag, p)));
            if tags.is_empty() {
                return Ok(None);
            }
        }
        for (name, value) in filters {
            let matches = match name.as_str() {
                "dangling" => tags.is_empty() == matches!(value.as_str(), "true" | "1"),
                "before" => created < created_of(value)?,
                "since" => created > created_of(value)?,
                "label" => {
                    let labels = image.config.config().as_ref().and_then(|c| c.labels().as_ref());
                    match value.split_once('=') {
                        Some((key, value)) => labels.and_then(|l| l.get(key)).is_some_and(|v| v == value),
                        None => labels.is_some_and(|l| l.contains_key(value)),
                    }
                }
                _ => true,
            };
            if !matches {
                return Ok(None);
            }
        }
        Ok(Some(tags))
    }
}

fn summary(image: Image, created: i64, tags: Vec<String>, containers: i64) -> models::ImageSummary {
    models::ImageSummary {
        id: image.id,
        parent_id: String::new(),
        repo_tags: tags,
        repo_digests: image.digests,
        created,
        size: image.size as i64,
        shared_size: -1,
        labels: image
            .config
            .config()
            .as_ref()
            .and_then(|c| c.labels().clone())
            .unwrap_or_default(),
        containers,
        ..Default::default()
    }
}

/// `debian`, `debian:1*`, `*/app`: with a tag in the pattern the tag counts, too.
fn matches_reference(tag: &str, pattern: &str) -> bool {
    let name = Reference::parse(tag).map(|r| r.familiar_name()).unwrap_or_default();
    glob(pattern, tag) || glob(pattern, &name)
}

/// `*` (not over slashes) and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            glob(rest, text)
                || text
                    .chars()
                    .next()
                    .is_some_and(|c| c != '/' && glob(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) if c != '/' => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_dockers() {
        for (pattern, matches) in [
            ("debian", true),
            ("debian:1*", true),
            ("deb?an:12", true),
            ("*:11", false),
            ("*/debian", false),
        ] {
            assert_eq!(matches_reference("debian:12", pattern), matches, "{pattern}");
        }
    }
}
