//! What comes from the user's environment: where Berth's state is, and how registries are spoken to.

use std::path::PathBuf;
use std::sync::OnceLock;

use engine::image::registry;
use engine::{Engine, Roots};
use errdefs::{Error, Result, Step};

use crate::users;

/// Where a user's engine is, once this process is in its namespaces (see [`users`]).
static USERS: OnceLock<Roots> = OnceLock::new();

/// `BERTH_DATA` and `BERTH_RUN`, or the system's own; for somebody who is not root his own, and from then on this process is in
/// his namespaces.
pub fn roots() -> Result<Roots> {
    if let Some(roots) = USERS.get() {
        return Ok(roots.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(places(Roots::system()));
    }
    let roots = places(own_places()?);
    users::enter(&roots).map_err(explain)?;
    Ok(USERS.get_or_init(|| roots).clone())
}

/// These, unless told otherwise.
pub fn places(usual: Roots) -> Roots {
    Roots {
        data: variable("BERTH_DATA").unwrap_or(usual.data),
        run: variable("BERTH_RUN").unwrap_or(usual.run),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// A user's (XDG Base Directory Specification).
fn own_places() -> Result<Roots> {
    let home = || variable("HOME").map(|home| home.join(".local/share"));
    let data = variable("XDG_DATA_HOME").or_else(home);
    let data =
        data.ok_or_else(|| Error::invalid("neither HOME nor XDG_DATA_HOME says where containers are to be kept"))?;
    let uid = rustix::process::geteuid().as_raw();
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let run = variable("XDG_RUNTIME_DIR").or_else(|| usual.is_dir().then_some(usual));
    Ok(Roots {
        data: data.join("berth"),
        run: run.map_or_else(|| format!("/tmp/berth-{uid}").into(), |dir| dir.join("berth")),
    })
}

/// Where the API listens, unless told otherwise.
pub fn api_socket() -> Result<PathBuf> {
    Ok(match rustix::process::geteuid().is_root() && USERS.get().is_none() {
        true => "/run/berth.sock".into(),
        false => roots()?.run.with_extension("sock"),
    })
}

/// The engine on these.
pub fn engine() -> Result<Engine> {
    let mut engine = Engine::open(roots()?).map_err(explain)?;
    if let Ok(limit) = std::env::var("BERTH_LAYER_LIMIT") {
        engine.limit_layers(crate::format::parse_bytes(&limit)? as u64);
    }
    Ok(engine)
}

/// What is forbidden to others than root gets a hint.
pub fn explain(error: errdefs::Error) -> errdefs::Error {
    match error.kind() {
        errdefs::Kind::Forbidden if !rustix::process::geteuid().is_root() => {
            error.hint("Berth needs root, or directories that are yours: see HOME, XDG_DATA_HOME and XDG_RUNTIME_DIR")
        }
        _ => error,
    }
}

/// What an administrator says about registries, for everybody.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Registries {
    /// Spoken to over plain HTTP, or by whoever says that it is the one.
    insecure: Vec<String>,
    /// Where else a registry's images may be had; `*` is any registry.
    mirrors: std::collections::BTreeMap<String, Vec<String>>,
    /// Whose images are taken: by registry or repository, and `default`.
    policy: std::collections::BTreeMap<String, registry::Rule>,
}

impl Registries {
    /// `/etc/berth/registries.json`, or `BERTH_REGISTRIES`; the environment adds to it.
    fn read() -> Result<Self> {
        let given = std::env::var_os("BERTH_REGISTRIES").map(PathBuf::from);
        let path = given.clone().unwrap_or_else(|| "/etc/berth/registries.json".into());
        let step = || format!("read {}", path.display());
        let mut registries = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && given.is_none() => Registries::default(),
            text => serde_json::from_slice(&text.step_with(step)?).step_with(step)?,
        };
        registries.insecure.extend(list("BERTH_INSECURE_REGISTRIES"));
        for entry in list("BERTH_REGISTRY_MIRRORS") {
            let (registry, mirror) = entry.split_once('=').unwrap_or(("docker.io", &entry));
            registries
                .mirrors
                .entry(registry.into())
                .or_default()
                .push(mirror.into());
        }
        Ok(registries)
    }
}

/// `720h`, `10m`.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let nanoseconds = engine::human::parse_duration(text).filter(|n| *n >= 0);
    let bad = || errdefs::Error::invalid(format!("invalid duration {text:?}"));
    nanoseconds
        .map(|n| std::time::Duration::from_nanos(n as u64))
        .ok_or_else(bad)
}

/// How much images may take and how long they are kept: `BERTH_IMAGES_MAX_SIZE` (`20g`), `BERTH_IMAGES_MAX_UNUSED` (`720h`).
pub fn bounds() -> Result<engine::image::Bounds> {
    let given = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let size = given("BERTH_IMAGES_MAX_SIZE")
        .map(|s| crate::format::parse_bytes(&s))
        .transpose()?;
    Ok(engine::image::Bounds {
        size: size.map(|s| s as u64),
        unused: given("BERTH_IMAGES_MAX_UNUSED").map(|t| duration(&t)).transpose()?,
    })
}

/// What a variable has between commas.
fn list(name: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|i| !i.is_empty())
        .map(String::from)
        .collect()
}

/// Docker's config.json.
pub fn docker_config() -> Option<PathBuf> {
    let config = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    config.map(|dir| dir.join("config.json"))
}

/// A client with the credentials of `docker login`, the administrator's settings, and the proxies of the environment.
pub fn registry() -> Result<registry::Client> {
    registry_with(None)
}

/// The same, one more registry being insecure.
pub fn registry_with(also: Option<String>) -> Result<registry::Client> {
    let mut options = registry_of_the_server()?;
    options.docker_config = docker_config();
    options.insecure.extend(also);
    registry::Client::new(options)
}

/// How registries are spoken to, without anybody's credentials.
pub fn registry_of_the_server() -> Result<registry::Options> {
    let registries = Registries::read()?;
    let mut mirrors = Vec::new();
    let mut insecure = registries.insecure;
    for (registry, places) in registries.mirrors {
        for place in places {
            let bare = place.trim_start_matches("https://").trim_start_matches("http://");
            if place.starts_with("http://") {
                insecure.push(bare.split('/').next().unwrap_or_default().to_owned());
            }
            mirrors.push((registry.clone(), bare.trim_end_matches('/').to_owned()));
        }
    }
    let seconds = std::env::var("BERTH_REGISTRY_TIMEOUT").ok();
    let patience = seconds
        .map(|s| {
            s.parse()
                .step("read BERTH_REGISTRY_TIMEOUT")
                .map(std::time::Duration::from_secs)
        })
        .transpose()?;
    let certificates = std::env::var_os("BERTH_CERTS").unwrap_or_else(|| "/etc/docker/certs.d".into());
    Ok(registry::Options {
        docker_config: None,
        credentials: None,
        insecure,
        proxy_env: std::env::vars()
            .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"))
            .collect(),
        mirrors,
        certificates: Some(certificates.into()),
        policy: registries.policy.into_iter().collect(),
        patience,
    })
}
