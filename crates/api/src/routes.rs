//! The table: one row an operation. Nothing else says which paths there are.

use errdefs::Result;

use crate::call::Call;
use crate::handlers::{
    absent, archive, attach, containers, events, exec, images, networks, registries, stats, system, transfer, volumes,
};
use crate::hijack::{Boxed, MULTIPLEXED, RAW};
use crate::openapi::{self, Param, Schema, any, bytes, flag, id, list_of, number, of, text};
use crate::reply::Reply;
use engine::models::*;

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
    /// For who reads the description.
    pub about: About,
}

/// What is said of an operation in the API's description.
#[derive(Clone, Copy)]
pub struct About {
    /// After the question mark.
    pub query: &'static [Param],
    /// Whether there has to be a body, its media type, and its schema.
    pub body: Option<(bool, &'static str, Schema)>,
    /// Status, media type, and schema of each answer that is no error; no schema, no body.
    pub answers: &'static [(u16, &'static str, Option<Schema>)],
}

/// Media types of bodies.
const JSON: &str = "application/json";
const TAR: &str = "application/x-tar";
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// Done, and nothing to say.
const NOTHING: &[(u16, &str, Option<Schema>)] = &[(204, "", None)];
const EMPTY: &[(u16, &str, Option<Schema>)] = &[(200, "", None)];
/// Done, or so already.
const DONE_OR_SO: &[(u16, &str, Option<Schema>)] = &[(204, "", None), (304, "", None)];
/// The connection is taken over.
const STREAMS: &[(u16, &str, Option<Schema>)] = &[(101, RAW, None), (200, RAW, Some(any))];
/// A list of names and values, as JSON.
const FILTERS: Param = text("filters");

impl Route {
    const fn query(mut self, query: &'static [Param]) -> Self {
        self.about.query = query;
        self
    }

    /// With a body of JSON.
    const fn takes(mut self, schema: Schema) -> Self {
        self.about.body = Some((true, JSON, schema));
        self
    }

    /// With a body, if there is one.
    const fn may_take(mut self, kind: &'static str, schema: Schema) -> Self {
        self.about.body = Some((false, kind, schema));
        self
    }

    const fn answers(mut self, answers: &'static [(u16, &'static str, Option<Schema>)]) -> Self {
        self.about.answers = answers;
        self
    }

    /// Whether it only reads: not the state of the host, nor a process.
    pub fn reads(&self) -> bool {
        let reaches_in = ["containers.attach", "exec.terminal"].contains(&self.name);
        ["GET", "HEAD"].contains(&self.method) && !reaches_in || self.name == "containers.wait"
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        let asks =
            ["GET", "HEAD"].contains(&self.method) || ["containers.wait", "containers.attach"].contains(&self.name);
        !asks || self.name == "exec.terminal"
    }
}

/// A row, and what stands in the path's places.
pub struct Found {
    pub route: &'static Route,
    pub params: Vec<String>,
}

/// The row for a request. Names may have slashes in them, where nothing else fits: they are what nothing is called.
pub fn find(method: &str, path: &str) -> Option<Found> {
    let fitting = |places: fn(&str, &str) -> Option<Vec<String>>| {
        let mut rows = ROUTES.iter().filter(|route| route.method == method);
        rows.find_map(|route| {
            let params = places(route.path, path)?;
            Some(Found { route, params })
        })
    };
    fitting(places).or_else(|| fitting(|pattern, path| places(&pattern.replacen("{}", "{*}", 1), path)))
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

const ABOUT: About = About {
    query: &[],
    body: None,
    answers: &[(200, JSON, Some(any))],
};

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
        about: ABOUT,
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
        about: ABOUT,
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

/// Of attaching, in both its ways.
const ATTACH: &[Param] = &[
    flag("stdin"),
    flag("stdout"),
    flag("stderr"),
    flag("logs"),
    flag("stream"),
    text("detachKeys"),
];

/// Every operation. A longer pattern stands before one that would match it, too.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    engine("HEAD", "/_ping", "system.ping", system::ping_head)
        .answers(&[(200, TEXT, None)]),
    engine("GET", "/_ping", "system.ping", system::ping)
        .answers(&[(200, TEXT, Some(any))]),
    engine("GET", "/version", "system.version", system::version)
        .answers(&[(200, JSON, Some(of::<SystemVersion>))]),
    engine("GET", "/swagger", "system.swagger", openapi::swagger),
    engine("GET", "/info", "system.info", system::info)
        .answers(&[(200, JSON, Some(of::<SystemInfo>))]),
    engine("POST", "/auth", "system.auth", registries::login)
        .takes(of::<AuthConfig>),
    engine("GET", "/system/df", "system.df", system::disk_usage)
        .query(&[text("type").many()]),
    waits("GET", "/events", "events", |c| Box::pin(events::events(c)))
        .query(&[text("since"), text("until"), FILTERS]).answers(&[(200, JSON, Some(of::<EventMessage>))]),

    engine("GET", "/containers/json", "containers.list", containers::list)
        .query(&[flag("all"), number("limit"), flag("size"), FILTERS, text("before"), text("since")])
        .answers(&[(200, JSON, Some(list_of::<ContainerSummary>))]),
    engine("POST", "/containers/create", "containers.create", containers::create)
        .query(&[text("name"), text("platform")])
        .takes(of::<ContainerCreateBody>).answers(&[(201, JSON, Some(of::<ContainerCreateResponse>))]),
    engine("POST", "/containers/prune", "containers.prune", containers::prune)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(of::<ContainerPruneResponse>))]),
    waits("GET", "/containers/{}/stats", "containers.stats", |c| Box::pin(stats::stats(c)))
        .query(&[flag("stream"), flag("one-shot")])
        .answers(&[(200, JSON, Some(of::<ContainerStatsResponse>))]),
    engine("GET", "/containers/{}/json", "containers.inspect", containers::inspect)
        .answers(&[(200, JSON, Some(of::<ContainerInspectResponse>))]),
    engine("GET", "/containers/{}/top", "containers.top", containers::top)
        .query(&[text("ps_args")]).answers(&[(200, JSON, Some(of::<ContainerTopResponse>))]),
    waits("GET", "/containers/{}/logs", "containers.logs", |c| Box::pin(attach::logs(c)))
        .query(&[flag("stdout"), flag("stderr"), flag("follow"), flag("timestamps"), text("tail"), text("since"), text("until")])
        .answers(&[(200, MULTIPLEXED, Some(any))]),
    engine("POST", "/containers/{}/start", "containers.start", containers::start)
        .query(&[text("detachKeys")]).answers(DONE_OR_SO),
    engine("POST", "/containers/{}/stop", "containers.stop", containers::stop)
        .query(&[text("signal"), number("t")]).answers(DONE_OR_SO),
    engine("POST", "/containers/{}/restart", "containers.restart", containers::restart)
        .query(&[text("signal"), number("t")]).answers(NOTHING),
    engine("POST", "/containers/{}/kill", "containers.kill", containers::kill)
        .query(&[text("signal")]).answers(NOTHING),
    engine("POST", "/containers/{}/pause", "containers.pause", containers::pause)
        .answers(NOTHING),
    engine("POST", "/containers/{}/unpause", "containers.unpause", containers::unpause)
        .answers(NOTHING),
    engine("POST", "/containers/{}/rename", "containers.rename", containers::rename)
        .query(&[text("name").required()]).answers(NOTHING),
    engine("POST", "/containers/{}/update", "containers.update", containers::update)
        .takes(of::<ContainerUpdateBody>).answers(&[(200, JSON, Some(of::<ContainerUpdateResponse>))]),
    engine("GET", "/containers/{}/changes", "containers.changes", containers::changes)
        .answers(&[(200, JSON, Some(list_of::<FilesystemChange>))]),
    waits("GET", "/containers/{}/export", "containers.export", |c| Box::pin(transfer::export(c)))
        .answers(&[(200, TAR, Some(any))]),
    engine("POST", "/commit", "images.commit", containers::commit)
        .query(&[text("container").required(), text("repo"), text("tag"), text("comment"), text("author"), flag("pause"),
        text("changes").many()]).may_take(JSON, of::<ContainerConfig>).answers(&[(201, JSON, Some(id))]),
    engine("POST", "/containers/{}/resize", "containers.resize", containers::resize)
        .query(&[number("h").required(), number("w").required()]).answers(EMPTY),
    waits("POST", "/containers/{}/wait", "containers.wait", |c| Box::pin(attach::wait(c)))
        .query(&[text("condition")]).answers(&[(200, JSON, Some(of::<ContainerWaitResponse>))]),
    waits("POST", "/containers/{}/attach", "containers.attach", |c| Box::pin(attach::attach(c)))
        .query(ATTACH).answers(STREAMS),
    waits("GET", "/containers/{}/attach/ws", "containers.attach", |c| Box::pin(attach::attach_ws(c)))
        .query(ATTACH).answers(STREAMS),
    engine("HEAD", "/containers/{}/archive", "containers.archive", archive::stat)
        .query(&[text("path").required()]).answers(EMPTY),
    waits("GET", "/containers/{}/archive", "containers.archive", |c| Box::pin(archive::get(c)))
        .query(&[text("path").required()]).answers(&[(200, TAR, Some(any))]),
    uploads("PUT", "/containers/{}/archive", "containers.archive.put", |c| Box::pin(archive::put(c)))
        .query(&[text("path").required(), flag("noOverwriteDirNonDir"), flag("copyUIDGID")])
        .may_take(BYTES, bytes).answers(EMPTY),
    engine("GET", "/containers/{}/checkpoints", "containers.checkpoints", absent::checkpoints),
    engine("POST", "/containers/{}/checkpoints", "containers.checkpoints", absent::checkpoints),
    engine("DELETE", "/containers/{}/checkpoints/{}", "containers.checkpoints", absent::checkpoints),
    engine("DELETE", "/containers/{*}", "containers.delete", containers::delete)
        .query(&[flag("v"), flag("force"), flag("link")]).answers(NOTHING),

    engine("POST", "/containers/{}/exec", "exec.create", exec::create)
        .takes(of::<ExecConfig>).answers(&[(201, JSON, Some(id))]),
    waits("POST", "/exec/{}/start", "exec.start", |c| Box::pin(exec::start(c)))
        .may_take(JSON, of::<ExecStartConfig>).answers(STREAMS),
    waits("GET", "/berth/terminal/{}", "exec.terminal", |c| Box::pin(exec::terminal(c)))
        .query(&[number("h"), number("w")]).answers(STREAMS),
    engine("POST", "/exec/{}/resize", "exec.resize", exec::resize)
        .query(&[number("h").required(), number("w").required()]).answers(EMPTY),
    engine("GET", "/exec/{}/json", "exec.inspect", exec::inspect)
        .answers(&[(200, JSON, Some(of::<ExecInspectResponse>))]),

    engine("GET", "/images/json", "images.list", images::list)
        .query(&[flag("all"), FILTERS, text("filter")]).answers(&[(200, JSON, Some(list_of::<ImageSummary>))]),
    engine("GET", "/images/search", "images.search", registries::search)
        .query(&[text("term").required(), number("limit")])
        .answers(&[(200, JSON, Some(list_of::<ImageSearchResponseItem>))]),
    engine("GET", "/distribution/{*}/json", "images.distribution", registries::distribution)
        .answers(&[(200, JSON, Some(of::<DistributionInspect>))]),
    uploads("POST", "/images/create", "images.create", |c| Box::pin(transfer::create(c)))
        .query(&[text("fromImage"), text("fromSrc"), text("tag"), text("platform"), text("repo"), text("message"),
        text("changes").many()]).may_take(BYTES, bytes),
    uploads("POST", "/images/load", "images.load", |c| Box::pin(transfer::load(c)))
        .query(&[text("platform").many()]).may_take(BYTES, bytes),
    waits("GET", "/images/get", "images.get", |c| Box::pin(transfer::save(c)))
        .query(&[text("names").many(), text("platform").many()]).answers(&[(200, TAR, Some(any))]),
    waits("GET", "/images/{*}/get", "images.get", |c| Box::pin(transfer::save(c)))
        .query(&[text("names").many(), text("platform").many()]).answers(&[(200, TAR, Some(any))]),
    engine("GET", "/images/{*}/json", "images.inspect", images::inspect)
        .query(&[text("platform")]).answers(&[(200, JSON, Some(of::<ImageInspect>))]),
    engine("GET", "/berth/verdict/{*}", "images.verdict", images::verdict),
    engine("GET", "/images/{*}/history", "images.history", images::history)
        .query(&[text("platform")]).answers(&[(200, JSON, Some(list_of::<ImageHistoryResponseItem>))]),
    engine("POST", "/images/prune", "images.prune", images::prune)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(of::<ImagePruneResponse>))]),
    engine("POST", "/images/{*}/tag", "images.tag", images::tag)
        .query(&[text("repo").required(), text("tag")]).answers(&[(201, "", None)]),
    waits("POST", "/images/{*}/push", "images.push", |c| Box::pin(transfer::push(c)))
        .query(&[text("tag")]),
    engine("DELETE", "/images/{*}", "images.delete", images::delete)
        .query(&[flag("force"), text("platforms").many()])
        .answers(&[(200, JSON, Some(list_of::<ImageDeleteResponseItem>))]),


    engine("GET", "/networks", "networks.list", networks::list)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(list_of::<NetworkInspect>))]),
    engine("POST", "/networks/create", "networks.create", networks::create)
        .takes(of::<NetworkCreateRequest>).answers(&[(201, JSON, Some(of::<NetworkCreateResponse>))]),
    engine("POST", "/networks/prune", "networks.prune", networks::prune)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(of::<NetworkPruneResponse>))]),
    engine("POST", "/networks/{}/connect", "networks.connect", networks::connect)
        .takes(of::<NetworkConnectRequest>).answers(EMPTY),
    engine("POST", "/networks/{}/disconnect", "networks.disconnect", networks::disconnect)
        .takes(of::<NetworkDisconnectRequest>).answers(EMPTY),
    engine("GET", "/networks/{}", "networks.inspect", networks::inspect)
        .query(&[text("scope")]).answers(&[(200, JSON, Some(of::<NetworkInspect>))]),
    engine("DELETE", "/networks/{}", "networks.delete", networks::delete)
        .answers(NOTHING),

    engine("GET", "/volumes", "volumes.list", volumes::list)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(of::<VolumeListResponse>))]),
    engine("POST", "/volumes/create", "volumes.create", volumes::create)
        .takes(of::<VolumeCreateRequest>).answers(&[(201, JSON, Some(of::<Volume>))]),
    engine("POST", "/volumes/prune", "volumes.prune", volumes::prune)
        .query(&[FILTERS]).answers(&[(200, JSON, Some(of::<VolumePruneResponse>))]),
    engine("GET", "/volumes/{}", "volumes.inspect", volumes::inspect)
        .answers(&[(200, JSON, Some(of::<Volume>))]),
    engine("PUT", "/volumes/{}", "volumes.update", absent::cluster_volume),
    engine("DELETE", "/volumes/{}", "volumes.delete", volumes::delete)
        .query(&[flag("force")]).answers(NOTHING),

    uploads("POST", "/build", "build", |c| Box::pin(crate::call::simple(c, absent::build))),
    engine("POST", "/build/prune", "build.prune", absent::build_prune),
    uploads("POST", "/session", "build", |c| Box::pin(crate::call::simple(c, absent::build))),
    uploads("POST", "/grpc", "build", |c| Box::pin(crate::call::simple(c, absent::build))),

    engine("GET", "/swarm", "swarm", absent::swarm),
    engine("GET", "/swarm/unlockkey", "swarm", absent::swarm),
    engine("POST", "/swarm/init", "swarm", absent::no_swarms),
    engine("POST", "/swarm/join", "swarm", absent::no_swarms),
    engine("POST", "/swarm/leave", "swarm", absent::leave),
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
    engine("GET", "/plugins/privileges", "plugins", absent::no_plugins),
    engine("POST", "/plugins/pull", "plugins", absent::no_plugins),
    engine("POST", "/plugins/create", "plugins", absent::no_plugins),
    engine("GET", "/plugins/{*}/json", "plugins", absent::plugin),
    engine("POST", "/plugins/{*}/enable", "plugins", absent::plugin),
    engine("POST", "/plugins/{*}/disable", "plugins", absent::plugin),
    engine("POST", "/plugins/{*}/push", "plugins", absent::plugin),
    engine("POST", "/plugins/{*}/set", "plugins", absent::plugin),
    engine("POST", "/plugins/{*}/upgrade", "plugins", absent::plugin),
    engine("DELETE", "/plugins/{*}", "plugins", absent::plugin),
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
            ("GET", "/containers/a/b/json", "containers.inspect", vec!["a/b"]),
            (
                "DELETE",
                "/containers/a/checkpoints/b",
                "containers.checkpoints",
                vec!["a", "b"],
            ),
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
            ("GET", "/containers/a/b"),
            ("GET", "/"),
        ] {
            assert!(find(method, path).is_none(), "{method} {path}");
        }
    }
}
