//! `--filter` of `events` (moby `daemon/events/filter.go`): any value of a name, all names.

use std::collections::HashMap;

use bollard_stubs::models::EventMessage;
use errdefs::{Error, Result};

const NAMES: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// What is asked for.
pub struct Filter(HashMap<String, Vec<String>>);

impl Filter {
    /// Reads pairs.
    pub fn new(pairs: &[(String, String)]) -> Result<Self> {
        let mut by_name: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in pairs {
            if !NAMES.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{name}'")));
            }
            by_name.entry(name.clone()).or_default().push(value.clone());
        }
        Ok(Filter(by_name))
    }

    /// Whether an event is meant.
    pub fn matches(&self, event: &EventMessage) -> bool {
        let actor = event.actor.clone().unwrap_or_default();
        let (id, attributes) = (actor.id.unwrap_or_default(), actor.attributes.unwrap_or_default());
        let attribute = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        let kind = event.typ.map(|t| t.to_string()).unwrap_or_default();
        let action = event.action.clone().unwrap_or_default();
        self.0.iter().all(|(name, values)| match name.as_str() {
            "type" => values.contains(&kind),
            "scope" => values.iter().any(|v| v == "local"),
            "event" => {
                let word = action.split(':').next().unwrap_or_default();
                values.iter().any(|v| *v == action || *v == word)
            }
            "label" => values.iter().all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => attributes.get(key).is_some_and(|v| v == value),
                None => attributes.contains_key(wanted),
            }),
            "image" => {
                let name = if kind == "image" { "name" } else { "image" };
                let known = [id.clone(), attribute(name)];
                values
                    .iter()
                    .any(|v| known.iter().any(|k| k == v || without_tag(k) == v.as_str()))
            }
            of => {
                let about = kind == *of || attributes.contains_key(of);
                let known = [id.clone(), attribute("name"), attribute(of)];
                about
                    && values
                        .iter()
                        .any(|v| known.iter().any(|k| !k.is_empty() && k.starts_with(v.as_str())))
            }
        })
    }
}

/// `busybox` of `busybox:1.36`.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Type, event};

    #[test]
    fn names_are_joined_by_and_values_by_or() {
        let attributes = [("image", "r:5/box:1"), ("name", "web1"), ("k", "v")];
        let happened = event(
            Type::CONTAINER,
            "exec_create: sh",
            "abc123",
            attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        );
        let table = [
            ("", true),
            ("type=container", true),
            ("type=image", false),
            ("type=image type=container", true),
            ("event=exec_create", true),
            ("event=exec", false),
            ("container=web", true),
            ("container=abc", true),
            ("container=eb", false),
            ("image=r:5/box", true),
            ("image=r:5/box:1", true),
            ("image=box", false),
            ("label=k", true),
            ("label=k=v label=x", false),
            ("volume=web", false),
        ];
        for (text, expected) in table {
            let pairs: Vec<_> = text
                .split_whitespace()
                .filter_map(|p| p.split_once('='))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect();
            assert_eq!(Filter::new(&pairs).unwrap().matches(&happened), expected, "{text}");
        }
        assert!(Filter::new(&[("nosuch".into(), "1".into())]).is_err());
    }
}
