//! `images`.

use std::collections::{HashMap, HashSet};

use errdefs::{Error, Result};

use super::Reference;
use super::find::NameRow;
use crate::filters::{self, Kind};
use crate::state::database;
use crate::{Engine, human, models};

const FILTERS: &[(&str, Kind)] = &[
    ("before", Kind::Text),
    ("dangling", Kind::Flag),
    ("label", Kind::Text),
    ("reference", Kind::Text),
    ("since", Kind::Text),
    ("until", Kind::Time),
];

impl Engine {
    /// Newest first. Filters: `before`, `dangling`, `label`, `reference`, `since`, `until`.
    pub fn images(&self, filters: &[(String, String)], _all: bool) -> Result<Vec<models::ImageSummary>> {
        filters::check(filters, FILTERS)?;
        // Who is asked about has to be there, also where nobody is compared with it.
        for (_, other) in filters
            .iter()
            .filter(|(n, _)| ["before", "since"].contains(&n.as_str()))
        {
            self.image(other)?;
        }
        let mut used: HashMap<String, i64> = HashMap::new();
        for (_, image) in self.state.image_users()? {
            *used.entry(image).or_default() += 1;
        }
        let mut names: HashMap<String, Vec<NameRow>> = HashMap::new();
        for name in self.all_names()? {
            names.entry(name.image.clone()).or_default().push(name);
        }
        let mut list = Vec::new();
        let others = self.other_platforms()?;
        for mut image in self.summaries()? {
            let names = names.remove(&image.id).unwrap_or_default();
            if names.is_empty() && others.contains(&image.id) {
                continue;
            }
            if let Some(tags) = self.shown(&image, &names, filters)? {
                image.repo_tags = tags;
                image.repo_digests = names.iter().filter_map(NameRow::digest).collect();
                image.repo_digests.dedup();
                image.containers = used.get(&image.id).copied().unwrap_or(0);
                list.push(image);
            }
        }
        Ok(list)
    }

    /// All images without their names, newest first: what is asked for often is in the database, not in documents.
    fn summaries(&self) -> Result<Vec<models::ImageSummary>> {
        let query = "SELECT id, created, size, labels FROM image ORDER BY created DESC, id";
        let mut statement = self.state.db.prepare(query).map_err(database)?;
        let rows = statement.query_map([], |row| {
            let labels: String = row.get(3)?;
            Ok(models::ImageSummary {
                id: row.get(0)?,
                created: row.get(1)?,
                size: row.get(2)?,
                shared_size: -1,
                labels: serde_json::from_str(&labels).unwrap_or_default(),
                ..Default::default()
            })
        });
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// Images that a name stands for, too, but does not mean: it is listed once.
    fn other_platforms(&self) -> Result<HashSet<String>> {
        let mut statement = self
            .state
            .db
            .prepare("SELECT DISTINCT image FROM variant")
            .map_err(database)?;
        let rows = statement.query_map([], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(database)
    }

    /// The tags to show; `None` if the image does not match.
    fn shown(
        &self,
        image: &models::ImageSummary,
        names: &[NameRow],
        filters: &[(String, String)],
    ) -> Result<Option<Vec<String>>> {
        let created = image.created;
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
                "until" => created < human::parse_time(value)? / 1_000_000_000,
                "label" => match value.split_once('=') {
                    Some((key, value)) => image.labels.get(key).is_some_and(|v| v == value),
                    None => image.labels.contains_key(value),
                },
                _ => true,
            };
            if !matches {
                return Ok(None);
            }
        }
        Ok(Some(tags))
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
