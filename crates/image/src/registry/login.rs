//! `login`, `logout`, `search`: what is asked of a registry itself, and Docker's config file as the place for credentials.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errdefs::{Error, Kind, Result, Step};
use serde_json::{Map, Value, json};

use super::auth::{key_of, run_helper};
use super::{Client, read_bounded, said};
use crate::Reference;

/// What a search found.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Hit {
    /// The repository.
    pub name: String,
    /// One line on it.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Docker's own.
    pub is_official: bool,
    /// Built from a repository of source code.
    pub is_automated: bool,
}

/// A registry as if it were an image: what is asked below `/v2/`.
fn itself(registry: &str) -> Reference {
    Reference {
        registry: registry.into(),
        repository: String::new(),
        tag: None,
        digest: None,
    }
}

impl Client {
    /// Whether a registry takes these credentials. Nothing is kept.
    pub fn check_credentials(&self, registry: &str, user: &str, secret: &str) -> Result<()> {
        let (status, body) = self.http.try_credentials(&itself(registry), user, secret)?;
        match status {
            200 => Ok(()),
            401 | 403 => Err(Error::new(
                Kind::Unauthorized,
                format!(
                    "get {registry}: unauthorized: {}",
                    said(&body).unwrap_or_else(|| "incorrect username or password".into())
                ),
            )),
            404 => Err(Error::not_found(format!("{registry} is no registry: it has no /v2/"))),
            other => Err(Error::new(Kind::Unavailable, format!("{registry} answered {other}"))),
        }
    }

    /// Repositories whose names have a word in them: Docker's search where the registry has it, its catalog otherwise.
    pub fn search(&self, registry: &str, term: &str, limit: usize) -> Result<Vec<Hit>> {
        #[derive(serde::Deserialize)]
        struct Found {
            results: Vec<Hit>,
        }
        #[derive(serde::Deserialize)]
        struct Catalog {
            repositories: Vec<String>,
        }
        let words: String = term
            .bytes()
            .map(|b| match b.is_ascii_alphanumeric() || b"-_.".contains(&b) {
                true => char::from(b).to_string(),
                false => format!("%{b:02X}"),
            })
            .collect();
        let mut answer = self
            .http
            .ask(&itself(registry), &format!("/v1/search?q={words}&n={limit}"))?;
        if answer.status() == 200 {
            let text = read_bounded(answer.body(), crate::DOCUMENT_LIMIT, "what was found")?;
            let found: Found = serde_json::from_slice(&text).step("read what was found")?;
            return Ok(found.results.into_iter().take(limit).collect());
        }
        let mut answer = self.http.ask(&itself(registry), "/v2/_catalog?n=1000")?;
        if answer.status() != 200 {
            return Err(Error::new(
                Kind::Unavailable,
                format!("{registry} cannot be searched: it answered {}", answer.status()),
            )
            .hint("registries need not have a search or a catalog"));
        }
        let text = read_bounded(answer.body(), crate::DOCUMENT_LIMIT, "the catalog")?;
        let catalog: Catalog = serde_json::from_slice(&text).step("read the catalog")?;
        let hits = catalog.repositories.into_iter().filter(|name| name.contains(term));
        let hit = |name: String| Hit {
            name: format!("{registry}/{name}"),
            ..Hit::default()
        };
        Ok(hits.take(limit).map(hit).collect())
    }
}

/// Keeps credentials where Docker does: in the helper that its config file names, or in the file itself. The helper.
pub fn keep(config: &Path, registry: &str, user: &str, secret: &str) -> Result<Option<String>> {
    let mut document = read(config)?;
    let key = key_of(registry);
    let helper = helper(&document, key);
    let entry = match &helper {
        Some(helper) => {
            let credentials = json!({"ServerURL": key, "Username": user, "Secret": secret});
            run_helper(helper, "store", credentials.to_string().as_bytes())?
                .ok_or_else(|| Error::system(format!("the credential helper {helper} did not take the credentials")))?;
            json!({})
        }
        None => json!({"auth": STANDARD.encode(format!("{user}:{secret}"))}),
    };
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut();
    auths.ok_or_else(|| malformed(config))?.insert(key.into(), entry);
    write(config, &document)?;
    Ok(helper)
}

/// Forgets them; whether there were any.
pub fn forget(config: &Path, registry: &str) -> Result<bool> {
    let mut document = read(config)?;
    let key = key_of(registry);
    if let Some(helper) = helper(&document, key) {
        run_helper(&helper, "erase", key.as_bytes())?;
    }
    let auths = document.get_mut("auths").and_then(Value::as_object_mut);
    let removed = auths.is_some_and(|auths| auths.remove(key).is_some());
    if removed {
        write(config, &document)?;
    }
    Ok(removed)
}

fn helper(document: &Map<String, Value>, key: &str) -> Option<String> {
    let own = document.get("credHelpers").and_then(|h| h.get(key));
    let helper = own.or_else(|| document.get("credsStore"))?.as_str()?;
    (!helper.is_empty()).then(|| helper.to_owned())
}

fn malformed(path: &Path) -> Error {
    Error::invalid(format!(
        "{} is not what Docker's config file looks like",
        path.display()
    ))
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let step = || format!("read {}", path.display());
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        text => serde_json::from_slice(&text.step_with(step)?).map_err(|_| malformed(path)),
    }
}

/// For its owner alone; there in whole or not at all.
fn write(path: &Path, document: &Map<String, Value>) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let step = || format!("write {}", path.display());
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .step_with(step)?;
    }
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    let text = serde_json::to_vec_pretty(document).step_with(step)?;
    let written = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.step_with(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_config_keeps_what_we_do_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker/config.json");
        assert!(!forget(&path, "reg.example").unwrap());
        keep(&path, "reg.example:5000", "me", "pass:word").unwrap();
        std::fs::write(
            &path,
            std::fs::read_to_string(&path)
                .unwrap()
                .replacen('{', r#"{"psFormat":"x","#, 1),
        )
        .unwrap();
        keep(&path, "docker.io", "hub", "x").unwrap();
        let text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(text["psFormat"], "x");
        assert_eq!(
            text["auths"]["reg.example:5000"]["auth"],
            STANDARD.encode("me:pass:word")
        );
        assert!(text["auths"]["https://index.docker.io/v1/"]["auth"].is_string());
        assert!(forget(&path, "docker.io").unwrap() && !forget(&path, "docker.io").unwrap());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "[]").unwrap();
        assert!(keep(&path, "x", "y", "z").is_err());
    }
}
