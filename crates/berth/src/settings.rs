//! What comes from the user's environment: where Berth's state is, and how registries are spoken to.

use std::path::PathBuf;

use engine::image::registry;
use engine::{Engine, Roots};
use errdefs::Result;

/// `BERTH_DATA` and `BERTH_RUN`, or the system's own.
pub fn roots() -> Roots {
    let system = Roots::system();
    let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    Roots {
        data: path("BERTH_DATA").unwrap_or(system.data),
        run: path("BERTH_RUN").unwrap_or(system.run),
    }
}

/// The engine on these.
pub fn engine() -> Result<Engine> {
    Engine::open(roots()).map_err(explain)
}

/// What is forbidden to others than root gets a hint.
pub fn explain(error: errdefs::Error) -> errdefs::Error {
    match error.kind() {
        errdefs::Kind::Forbidden if !rustix::process::geteuid().is_root() => error.hint("Berth needs root: try sudo"),
        _ => error,
    }
}

/// A client with the credentials of `docker login`, and the proxies of the environment.
pub fn registry() -> Result<registry::Client> {
    let config = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    registry::Client::new(registry::Options {
        docker_config: config.map(|dir| dir.join("config.json")),
        ..registry_of_the_server()
    })
}

/// How registries are spoken to, without anybody's credentials.
pub fn registry_of_the_server() -> registry::Options {
    let insecure = std::env::var("BERTH_INSECURE_REGISTRIES").unwrap_or_default();
    registry::Options {
        docker_config: None,
        credentials: None,
        insecure: insecure
            .split(',')
            .map(str::trim)
            .filter(|i| !i.is_empty())
            .map(String::from)
            .collect(),
        proxy_env: std::env::vars()
            .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"))
            .collect(),
    }
}
