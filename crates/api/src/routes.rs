//! The table: one row an operation. Nothing else says which paths there are.

use errdefs::Result;

use crate::call::Call;
use crate::handlers::{
    absent, archive, attach, containers, events, exec, images, networks, registries, stats, system, transfer, volumes,
};
use crate::hijack::Boxed;
use crate::reply::Reply;

/// How a handler gets its request's body.
#[derive(Clone, Copy, PartialEq)]
pub enum BodyKind {
    /// All of it, within a limit.
    Whole,
    /// As it comes.
    Stream,
}

/// What does it.
#[derive(Clone, Copy)]
pub enum Run {
    /// One call of the engine.
    Engine(fn(&engine::Engine, &Call) -> Result<Reply>),
    /// Something that waits or streams.
    Async(fn(Call) -> Boxed<Result<Reply>>),
}

/// One operation.
pub struct Route {
    /// HTTP's.
    pub method: &'static str,
    /// `{}` stands for one part of a path, `{*}` for several.
    pub path: &'static str,
    /// What scopes call it.
    pub name: &'static str,
    /// How the body is read.
    pub body: BodyKind,
    /// What does it.
    pub run: Run,
}

impl Route {
    /// Whether it only reads: not the state of the host, nor a process.
    pub fn reads(&self) -> bool {
        ["GET", "HEAD"].contains(&self.method) && self.name != "containers.attach" || self.name == "containers.wait"
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        !["GET", "HEAD"].contains(&self.method) && !["containers.wait", "containers.attach"].contains(&self.name)
    }
}

/// A row, and what stands in the path's places.
pub struct Found {
    pub route: &'static Route,
    pub params: Vec<String>,
}

/// The row for a request.
pub fn find(method: &str, path: &str) -> Option<Found> {
    ROUTES.iter().filter(|route| route.method == method).find_map(|route| {
        let params = places(route.path, path)?;
        Some(Found { route, params })
    })
}

/// What stands in a pattern's places, if the path is of its form.
fn places(pattern: &str, path: &str) -> Option<Vec<String>> {
    if let Some((before, after)) = pattern.split_once("{*}") {
        let rest = path.strip_prefix(before)?.strip_suffix(after)?;
        return (!rest.is_empty()).then(|| vec![rest.to_owned()]);
    }
    let (mut places, mut parts) = (Vec::new(), path.split('/'));
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        match wanted {
            "{}" if !part.is_empty() => places.push(part.to_owned()),
            wanted if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(places)
}

const fn engine(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    handler: fn(&engine::Engine, &Call) -> Result<Reply>,
) -> Route {
    Route {
        method,
        path,
        name,
        body: BodyKind::Whole,
        run: Run::Engine(handler),
    }
}

const fn waits(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    handler: fn(Call) -> Boxed<Result<Reply>>,
) -> Route {
    Route {
        method,
        path,
        name,
        body: BodyKind::Whole,
        run: Run::Async(handler),
    }
}

/// With a body that is read as it comes.
const fn uploads(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    handler: fn(Call) -> Boxed<Result<Reply>>,
) -> Route {
    Route {
        body: BodyKind::Stream,
        ..waits(method, path, name, handler)
    }
}

/// Every operation. A longer pattern stands before one that would match it, too.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    engine("HEAD", "/_ping", "system.ping", system::ping_head),
    engine("GET", "/_ping", "system.ping", system::ping),
    engine("GET", "/version", "system.version", system::version),
    engine("GET", "/info", "system.info", system::info),
    engine("POST", "/auth", "system.auth", registries::login),
    engine("GET", "/system/df", "system.df", system::disk_usage),
    waits("GET", "/events", "events", |c| Box::pin(events::events(c))),

    engine("GET", "/containers/json", "containers.list", containers::list),
    engine("POST", "/containers/create", "containers.create", containers::create),
    engine("POST", "/containers/prune", "containers.prune", containers::prune),
    waits("GET", "/containers/{}/stats", "containers.stats", |c| Box::pin(stats::stats(c))),
    engine("GET", "/containers/{}/json", "containers.inspect", containers::inspect),
    engine("GET", "/containers/{}/top", "containers.top", containers::top),
    waits("GET", "/containers/{}/logs", "containers.logs", |c| Box::pin(attach::logs(c))),
    engine("POST", "/containers/{}/start", "containers.start", containers::start),
    engine("POST", "/containers/{}/stop", "containers.stop", containers::stop),
    engine("POST", "/containers/{}/restart", "containers.restart", containers::restart),
    engine("POST", "/containers/{}/kill", "containers.kill", containers::kill),
    engine("POST", "/containers/{}/pause", "containers.pause", containers::pause),
    engine("POST", "/containers/{}/unpause", "containers.unpause", containers::unpause),
    engine("POST", "/containers/{}/rename", "containers.rename", containers::rename),
    engine("POST", "/containers/{}/update", "containers.update", containers::update),
    engine("GET", "/containers/{}/changes", "containers.changes", containers::changes),
    waits("GET", "/containers/{}/export", "containers.export", |c| Box::pin(transfer::export(c))),
    engine("POST", "/commit", "images.commit", containers::commit),
    engine("POST", "/containers/{}/resize", "containers.resize", containers::resize),
    waits("POST", "/containers/{}/wait", "containers.wait", |c| Box::pin(attach::wait(c))),
    waits("POST", "/containers/{}/attach", "containers.attach", |c| Box::pin(attach::attach(c))),
    waits("GET", "/containers/{}/attach/ws", "containers.attach", |c| Box::pin(attach::attach_ws(c))),
    engine("HEAD", "/containers/{}/archive", "containers.archive", archive::stat),
    waits("GET", "/containers/{}/archive", "containers.archive", |c| Box::pin(archive::get(c))),
    uploads("PUT", "/containers/{}/archive", "containers.archive.put", |c| Box::pin(archive::put(c))),
    engine("DELETE", "/containers/{*}", "containers.delete", containers::delete),

    engine("POST", "/containers/{}/exec", "exec.create", exec::create),
    waits("POST", "/exec/{}/start", "exec.start", |c| Box::pin(exec::start(c))),
    engine("POST", "/exec/{}/resize", "exec.resize", exec::resize),
    engine("GET", "/exec/{}/json", "exec.inspect", exec::inspect),

    engine("GET", "/images/json", "images.list", images::list),
    engine("GET", "/images/search", "images.search", registries::search),
    engine("GET", "/distribution/{*}/json", "images.distribution", registries::distribution),
    uploads("POST", "/images/create", "images.create", |c| Box::pin(transfer::create(c))),
    uploads("POST", "/images/load", "images.load", |c| Box::pin(transfer::load(c))),
    waits("GET", "/images/get", "images.get", |c| Box::pin(transfer::save(c))),
    waits("GET", "/images/{*}/get", "images.get", |c| Box::pin(transfer::save(c))),
    engine("GET", "/images/{*}/json", "images.inspect", images::inspect),
    engine("GET", "/images/{*}/history", "images.history", images::history),
    engine("POST", "/images/prune", "images.prune", images::prune),
    engine("POST", "/images/{*}/tag", "images.tag", images::tag),
    waits("POST", "/images/{*}/push", "images.push", |c| Box::pin(transfer::push(c))),
    engine("DELETE", "/images/{*}", "images.delete", images::delete),


    engine("GET", "/networks", "networks.list", networks::list),
    engine("POST", "/networks/create", "networks.create", networks::create),
    engine("POST", "/networks/prune", "networks.prune", networks::prune),
    engine("POST", "/networks/{}/connect", "networks.connect", networks::connect),
    engine("POST", "/networks/{}/disconnect", "networks.disconnect", networks::disconnect),
    engine("GET", "/networks/{}", "networks.inspect", networks::inspect),
    engine("DELETE", "/networks/{}", "networks.delete", networks::delete),

    engine("GET", "/volumes", "volumes.list", volumes::list),
    engine("POST", "/volumes/create", "volumes.create", volumes::create),
    engine("POST", "/volumes/prune", "volumes.prune", volumes::prune),
    engine("GET", "/volumes/{}", "volumes.inspect", volumes::inspect),
    engine("DELETE", "/volumes/{}", "volumes.delete", volumes::delete),

    uploads("POST", "/build", "build", |c| Box::pin(crate::call::simple(c, absent::build))),
    engine("POST", "/build/prune", "build.prune", absent::build_prune),
    uploads("POST", "/session", "build", |c| Box::pin(crate::call::simple(c, absent::build))),
    uploads("POST", "/grpc", "build", |c| Box::pin(crate::call::simple(c, absent::build))),

    engine("GET", "/swarm", "swarm", absent::swarm),
    engine("GET", "/swarm/unlockkey", "swarm", absent::swarm),
    engine("POST", "/swarm/{}", "swarm", absent::swarm),
    engine("GET", "/services", "swarm", absent::swarm),
    engine("POST", "/services/create", "swarm", absent::swarm),
    engine("GET", "/services/{}", "swarm", absent::swarm),
    engine("DELETE", "/services/{}", "swarm", absent::swarm),
    engine("POST", "/services/{}/update", "swarm", absent::swarm),
    engine("GET", "/services/{}/logs", "swarm", absent::swarm),
    engine("GET", "/nodes", "swarm", absent::swarm),
    engine("GET", "/nodes/{}", "swarm", absent::swarm),
    engine("DELETE", "/nodes/{}", "swarm", absent::swarm),
    engine("POST", "/nodes/{}/update", "swarm", absent::swarm),
    engine("GET", "/tasks", "swarm", absent::swarm),
    engine("GET", "/tasks/{}", "swarm", absent::swarm),
    engine("GET", "/tasks/{}/logs", "swarm", absent::swarm),
    engine("GET", "/secrets", "swarm", absent::swarm),
    engine("POST", "/secrets/create", "swarm", absent::swarm),
    engine("GET", "/secrets/{}", "swarm", absent::swarm),
    engine("DELETE", "/secrets/{}", "swarm", absent::swarm),
    engine("POST", "/secrets/{}/update", "swarm", absent::swarm),
    engine("GET", "/configs", "swarm", absent::swarm),
    engine("POST", "/configs/create", "swarm", absent::swarm),
    engine("GET", "/configs/{}", "swarm", absent::swarm),
    engine("DELETE", "/configs/{}", "swarm", absent::swarm),
    engine("POST", "/configs/{}/update", "swarm", absent::swarm),
    engine("GET", "/plugins", "plugins.list", absent::plugins),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_rows() {
        for (method, path, name, params) in [
            ("GET", "/containers/json", "containers.list", vec![]),
            ("GET", "/containers/web/json", "containers.inspect", vec!["web"]),
            (
                "POST",
                "/images/127.0.0.1:5055/bar/big/push",
                "images.push",
                vec!["127.0.0.1:5055/bar/big"],
            ),
            ("DELETE", "/images/a/b:1", "images.delete", vec!["a/b:1"]),
            ("GET", "/images/get", "images.get", vec![]),
        ] {
            let found = find(method, path).unwrap();
            assert_eq!(
                (found.route.name, found.params),
                (name, params.into_iter().map(String::from).collect())
            );
        }
        for (method, path) in [
            ("PUT", "/_ping"),
            ("GET", "/containers//json"),
            ("GET", "/containers/a/b/json"),
            ("GET", "/"),
        ] {
            assert!(find(method, path).is_none(), "{method} {path}");
        }
    }
}
