//! Image references in Docker's grammar (distribution/reference): `debian`, `localhost:5000/team/app:1.2@sha256:...`.

use errdefs::{Error, Result};

use crate::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library/";
/// Longest name, the registry included.
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// A normalised image reference: `debian` is `docker.io/library/debian:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and port.
    pub registry: String,
    /// The path in it.
    pub repository: String,
    /// Missing only where a digest says it all.
    pub tag: Option<String>,
    /// Of a manifest or an index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Docker's grammar; no tag and no digest means `latest`.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("invalid reference format");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest).ok_or_else(invalid)?)),
            None => (text, None),
        };
        if rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return Err(Error::invalid(format!(
                "invalid repository name ({rest}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !good_tag(t)) {
            return Err(invalid());
        }
        let (registry, repository) = split_registry(name);
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({repository}) must be lowercase"
            )));
        }
        if !good_registry(&registry) || !repository.split('/').all(good_component) {
            return Err(invalid());
        }
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return Err(Error::invalid(format!(
                "repository name must not be more than {NAME_LIMIT} characters"
            )));
        }
        let tag = tag
            .map(String::from)
            .or_else(|| digest.is_none().then(|| "latest".into()));
        Ok(Reference {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// A repository, for all of its tags.
    pub fn repository_of(text: &str) -> Result<Self> {
        let tagged = text.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
        match tagged || text.contains('@') {
            true => Err(Error::invalid("tag can't be used with --all-tags/-a")),
            false => Reference::parse(text),
        }
    }

    /// The short repository: `debian`, `127.0.0.1:5000/app`.
    pub fn familiar_name(&self) -> String {
        match self.registry.as_str() {
            DEFAULT_REGISTRY => self
                .repository
                .strip_prefix(OFFICIAL)
                .unwrap_or(&self.repository)
                .to_owned(),
            registry => format!("{registry}/{}", self.repository),
        }
    }

    /// The short form that docker prints: `debian:bookworm`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// The full form: `docker.io/library/debian:bookworm`.
    pub fn canonical(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|d| format!("@{d}")).unwrap_or_default();
        tag + &digest
    }
}

/// The first part is a registry if it looks like a host; everything else is Docker's own.
fn split_registry(name: &str) -> (String, String) {
    let host =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase());
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    match registry == DEFAULT_REGISTRY && !repository.contains('/') {
        true => (registry.into(), format!("{OFFICIAL}{repository}")),
        false => (registry.into(), repository.into()),
    }
}

fn good_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, port)) => {
            let good = address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return good && (port.is_empty() || good_port(port.strip_prefix(':').unwrap_or("x")));
        }
        None => registry.split_once(':').map_or((registry, None), |(h, p)| (h, Some(p))),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(good_port)
}

fn good_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn good_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if bytes.is_empty() || !word(bytes[0]) || !word(bytes[bytes.len() - 1]) {
        return false;
    }
    let mut separators = part
        .split(|c: char| word(c as u8) && c.is_ascii())
        .filter(|s| !s.is_empty());
    separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn good_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= TAG_LIMIT && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

/// Only sha256: what we cannot check we do not take.
fn parse_digest(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:")?;
    (hex.len() == 64).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_full_ones_and_back() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            (
                "index.docker.io/library/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "127.0.0.1:5000/a/b:v1.2",
                "127.0.0.1:5000/a/b:v1.2",
                "127.0.0.1:5000/a/b:v1.2",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            (
                "a__b/c-d---e.f_g",
                "docker.io/a__b/c-d---e.f_g:latest",
                "a__b/c-d---e.f_g:latest",
            ),
        ];
        for (text, canonical, familiar) in table {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(
                (reference.canonical().as_str(), reference.familiar().as_str()),
                (canonical, familiar)
            );
            assert_eq!(Reference::parse(canonical).unwrap(), reference);
        }
        let pinned = Reference::parse(&format!("debian@{digest}")).unwrap();
        assert_eq!(
            (pinned.tag.clone(), pinned.familiar()),
            (None, format!("debian@{digest}"))
        );
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        for text in [
            "",
            ":",
            "a:",
            "A",
            "a b",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:12",
            "a@md5:abc",
            "a:-x",
            "a.b:x/y",
            "ä",
            "x:y:z",
            "http://a/b",
            &long,
            &hex,
            "a/../b",
            "a:tag\n",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
