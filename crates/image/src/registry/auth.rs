//! Credentials: Docker's config file and its helpers, tokens (distribution "token authentication"), Basic.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errdefs::{Error, Kind, Result, Step};
use serde::Deserialize;
use ureq::Agent;

use crate::Reference;
use crate::verify::read_bounded;

/// Docker's own key for its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A user's name and password, or an identity token.
#[derive(Clone)]
struct Credentials {
    user: String,
    secret: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What is known of registries: the user's credentials, and tokens got for them.
pub struct Auth {
    path: Option<PathBuf>,
    given: Option<super::Credentials>,
    config: OnceLock<DockerConfig>,
    /// Authorization headers by registry, repository and actions.
    headers: Mutex<HashMap<(String, String, String), String>>,
    found: Mutex<HashMap<String, Option<Credentials>>>,
}

impl Auth {
    pub fn new(path: Option<PathBuf>, given: Option<super::Credentials>) -> Self {
        Auth {
            path,
            given,
            config: OnceLock::new(),
            headers: Mutex::default(),
            found: Mutex::default(),
        }
    }

    pub fn has_credentials(&self, registry: &str) -> bool {
        self.credentials(registry).ok().flatten().is_some()
    }

    /// The header to send, if one is known.
    pub fn cached(&self, registry: &str, repository: &str, actions: &str) -> Option<String> {
        let headers = self.headers.lock().unwrap_or_else(|e| e.into_inner());
        headers
            .get(&(registry.into(), repository.into(), actions.into()))
            .cloned()
    }

    /// Does what a registry's challenge asks; false if there is nothing that we could do.
    pub fn answer(
        &self,
        agent: &dyn Fn(&str) -> Agent,
        challenge: &str,
        reference: &Reference,
        actions: &str,
        plain: bool,
    ) -> Result<bool> {
        let credentials = self.credentials(&reference.registry)?;
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let header = match (scheme.to_ascii_lowercase().as_str(), &credentials) {
            ("basic", Some(credentials)) => basic(credentials),
            ("bearer", credentials) => {
                let parameters = parameters(rest);
                let token = token(agent, &parameters, credentials.as_ref(), reference, actions, plain)?;
                format!("Bearer {token}")
            }
            _ => return Ok(false),
        };
        let key = (
            reference.registry.clone(),
            reference.repository.clone(),
            actions.to_owned(),
        );
        self.headers
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(key, header);
        Ok(true)
    }

    /// Uses these credentials for a registry, whatever its file says.
    pub fn assume(&self, registry: &str, user: &str, secret: &str) {
        let credentials = Credentials {
            user: user.into(),
            secret: secret.into(),
        };
        let mut found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        found.insert(registry.into(), Some(credentials));
    }

    fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        if let Some(given) = self.given.as_ref().filter(|g| g.registry == registry) {
            return Ok(Some(Credentials {
                user: given.user.clone(),
                secret: given.secret.clone(),
            }));
        }
        let mut found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = found.get(registry) {
            return Ok(known.clone());
        }
        let key = key_of(registry);
        let config = self
            .config
            .get_or_init(|| self.path.as_deref().and_then(read_config).unwrap_or_default());
        let helper = config.cred_helpers.get(key).or(config.creds_store.as_ref());
        let from_helper = helper.map(|h| ask_helper(h, key)).transpose()?.flatten();
        let credentials = from_helper.or_else(|| {
            let entry = config
                .auths
                .iter()
                .find(|(name, _)| host_of(name) == host_of(key))
                .map(|(_, e)| e);
            entry.and_then(Entry::credentials)
        });
        found.insert(registry.into(), credentials.clone());
        Ok(credentials)
    }
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        if let Some(token) = self.identitytoken.as_ref().filter(|t| !t.is_empty()) {
            return Some(Credentials {
                user: "<token>".into(),
                secret: token.clone(),
            });
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Some(Credentials {
                user: user.clone(),
                secret: password.clone(),
            });
        }
        let text = String::from_utf8(STANDARD.decode(self.auth.as_ref()?.trim()).ok()?).ok()?;
        let (user, secret) = text.split_once(':')?;
        Some(Credentials {
            user: user.into(),
            secret: secret.trim_end_matches('\0').into(),
        })
    }
}

fn read_config(path: &Path) -> Option<DockerConfig> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// `https://host/v1/` and `host` are the same to Docker.
fn host_of(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

fn basic(credentials: &Credentials) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", credentials.user, credentials.secret))
    )
}

/// How Docker's config file calls a registry.
pub fn key_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

/// `docker-credential-NAME VERB`: what it says; `None` if it fails, which for `get` means that it has none.
pub fn run_helper(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Error::invalid(format!("{name:?} is no name of a credential helper")));
    }
    let program = format!("docker-credential-{name}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .step_with(|| format!("run the credential helper {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(64 * 1024)
            .read_to_end(&mut text)
            .step_with(|| format!("read from {program}"))?;
    }
    let status = child
        .wait()
        .step_with(|| format!("run the credential helper {program}"))?;
    Ok(status.success().then_some(text))
}

fn ask_helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Some(text) = run_helper(name, "get", server.as_bytes())? else {
        return Ok(None);
    };
    let answer: Answer =
        serde_json::from_slice(&text).step_with(|| format!("read the answer of docker-credential-{name}"))?;
    Ok(Some(Credentials {
        user: answer.username,
        secret: answer.secret,
    }))
}

/// `realm="https://...",service="...",scope="..."`.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut map = HashMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        map.insert(
            key.trim().trim_start_matches(',').trim().to_ascii_lowercase(),
            value.to_owned(),
        );
        rest = next.trim_start_matches([',', ' ']);
    }
    map
}

/// Asks the realm for a token.
fn token(
    agent: &dyn Fn(&str) -> Agent,
    parameters: &HashMap<String, String>,
    credentials: Option<&Credentials>,
    reference: &Reference,
    actions: &str,
    plain: bool,
) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let realm = parameters
        .get("realm")
        .ok_or_else(|| Error::system("the registry asks for a token but not where"))?;
    let safe = realm.starts_with("https://") || (plain && realm.starts_with("http://"));
    if !safe {
        return Err(Error::new(
            Kind::Forbidden,
            format!("the registry asks for credentials over plain HTTP ({realm})"),
        ));
    }
    let mut request = agent(super::http::host_of(realm)).get(realm);
    // Without a repository it is the registry itself that is asked.
    if !reference.repository.is_empty() {
        request = request.query("scope", format!("repository:{}:{actions}", reference.repository));
    } else if !actions.is_empty() {
        request = request.query("scope", actions);
    }
    if let Some(service) = parameters.get("service") {
        request = request.query("service", service);
    }
    if let Some(credentials) = credentials {
        request = request.header("Authorization", basic(credentials));
    }
    let unavailable = |e: Error| e.kind_is(Kind::Unavailable);
    let mut answer = request
        .call()
        .step_with(|| format!("get a token from {realm}"))
        .map_err(unavailable)?;
    if answer.status() != 200 {
        let message = format!(
            "unauthorized: incorrect username or password (the token server answered {})",
            answer.status().as_u16()
        );
        return Err(
            Error::new(Kind::Unauthorized, message).hint(format!("log in again: docker login {}", reference.registry))
        );
    }
    let bytes = read_bounded(
        answer.body_mut().with_config().limit(u64::MAX).reader(),
        1 << 20,
        "the token",
    )?;
    let answer: Answer = serde_json::from_slice(&bytes).step("read the token")?;
    let token = answer.token.or(answer.access_token).filter(|t| !t.is_empty());
    token.ok_or_else(|| Error::system("the token server gave no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let map = parameters(r#"realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#);
        assert_eq!(
            (map["realm"].as_str(), map["scope"].as_str()),
            ("https://auth.example/token", "repository:a/b:pull,push")
        );
        assert!(parameters("").is_empty() && parameters("x").is_empty());
    }

    #[test]
    fn dockers_config_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let text = format!(
            r#"{{"auths":{{"https://reg.example/v1/":{{"auth":"{}"}}}}}}"#,
            STANDARD.encode("me:pass:word")
        );
        std::fs::write(&path, text).unwrap();
        let auth = Auth::new(Some(path), None);
        let found = auth.credentials("reg.example").unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.secret.as_str()), ("me", "pass:word"));
        assert!(!auth.has_credentials("other.example"));
    }
}
