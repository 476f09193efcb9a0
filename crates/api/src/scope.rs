//! Scoped sockets: what may be asked through them, and about what.
//!
//! A scope is a file, `DATA/sockets/NAME.json`; its socket is `RUN/sockets/NAME/api.sock`, in a directory of its own, which
//! is what is to be mounted into a container: a server that begins anew makes the socket anew.

use std::path::PathBuf;

use engine::container::record::{Record, read_json, write_json};
use engine::models::{ContainerCreateBody, ContainerUpdateBody, MountType, VolumeCreateRequest};
use engine::{Engine, Roots};
use errdefs::{Error, Kind, Result, Step};
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::decode;
use crate::routes::{ROUTES, Route};

/// What may be asked whatever the scope.
const ALWAYS: &[&str] = &["system.ping", "system.version", "system.swagger"];
/// What a scope by labels knows how to keep apart.
const LABELLED: &[&str] = &["containers", "exec", "events", "volumes"];

/// What goes into a container, or gets its files.
const REACHING_IN: &[&str] = &[
    "containers.archive",
    "containers.archive.put",
    "containers.attach",
    "containers.changes",
    "containers.export",
    "exec.create",
    "exec.start",
    "exec.terminal",
    "images.commit",
];

/// What one socket allows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Scope {
    /// Letters, digits, `_`, `.`, `-`.
    pub name: String,
    /// Nothing that changes anything, and nothing that reaches into a process.
    pub read_only: bool,
    /// `key=value` or `key`: only what has all of them is there.
    pub labels: Vec<String>,
    /// Operations, or their groups; all unless given.
    pub allow: Vec<String>,
    /// Whose members may use it, besides root.
    pub group: Option<u32>,
}

fn dir(roots: &Roots) -> PathBuf {
    roots.data.join("sockets")
}

/// Where all of them are.
pub(crate) fn directory(roots: &Roots) -> PathBuf {
    roots.run.join("sockets")
}

impl Scope {
    /// The directory of its socket.
    pub fn place(&self, roots: &Roots) -> PathBuf {
        directory(roots).join(&self.name)
    }

    /// Writes it down; a server that runs opens its socket.
    pub fn create(&self, roots: &Roots) -> Result<()> {
        self.check()?;
        let path = dir(roots).join(format!("{}.json", self.name));
        if path.exists() {
            return Err(Error::conflict(format!("socket {} exists already", self.name)));
        }
        engine::paths::make_private(&dir(roots))?;
        write_json(&path, self)
    }

    fn check(&self) -> Result<()> {
        let letters = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.bytes().all(letters) {
            return Err(Error::invalid(format!("invalid name of a socket: {:?}", self.name)));
        }
        let known = |name: &String| ROUTES.iter().any(|route| named(route, name));
        match self.allow.iter().find(|name| !known(name)) {
            Some(name) => Err(Error::invalid(format!("unknown operation: {name}"))
                .hint("operations are such as containers.list, containers.inspect, containers.logs, images, events")),
            None => Ok(()),
        }
    }

    /// All that are written down.
    pub fn list(roots: &Roots) -> Result<Vec<Scope>> {
        let entries = match std::fs::read_dir(dir(roots)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step("read the list of sockets")?,
        };
        let mut list = Vec::new();
        for entry in entries.flatten() {
            list.extend(read_json::<Scope>(&entry.path())?);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Takes it away; a server that runs closes its socket.
    pub fn remove(roots: &Roots, name: &str) -> Result<()> {
        let scope = Scope::list(roots)?.into_iter().find(|s| s.name == name);
        let scope = scope.ok_or_else(|| Error::not_found(format!("no such socket: {name}")))?;
        std::fs::remove_file(dir(roots).join(format!("{name}.json"))).step("remove the socket")?;
        match std::fs::remove_dir_all(scope.place(roots)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).step("remove the socket"),
            _ => Ok(()),
        }
    }

    /// Where changes to the list are seen.
    pub(crate) fn watched(roots: &Roots) -> Result<PathBuf> {
        engine::paths::make_private(&dir(roots))?;
        Ok(dir(roots))
    }

    /// Refuses what the scope does not allow.
    pub(crate) fn admit(&self, engine: &Engine, route: &Route, call: &Call) -> Result<()> {
        if ALWAYS.contains(&route.name) {
            return Ok(());
        }
        let refuse = |why: String| Err(Error::new(Kind::Forbidden, format!("the socket {:?} {why}", self.name)));
        if !self.allow.is_empty() && !self.allow.iter().any(|name| named(route, name)) {
            return refuse(format!("does not allow {}", route.name));
        }
        if self.read_only && !route.reads() {
            return refuse(format!("is read-only: {} is not allowed", route.name));
        }
        harmless_request(route, call)?;
        if REACHING_IN.contains(&route.name) {
            self.admit_reach(engine, route, call)?;
        }
        if ["containers.archive.put", "build", "swarm"].contains(&route.name) && !self.labels.is_empty() {
            return refuse(format!("has labels: {} is not allowed", route.name));
        }
        if self.labels.is_empty() {
            return Ok(());
        }
        let group = route.name.split('.').next().unwrap_or_default();
        match LABELLED.contains(&group) {
            true => self.admit_object(engine, route, call),
            false => refuse(format!("has labels: {} is not allowed", route.name)),
        }
    }

    /// Who reaches into a container that is root is root. (One that is not there is told so by who looks for it.)
    fn admit_reach(&self, engine: &Engine, route: &Route, call: &Call) -> Result<()> {
        let name = match route.name {
            "images.commit" => call.query.text("container").unwrap_or_default(),
            _ => call.name(),
        };
        let record = match route.path.starts_with("/exec/") {
            true => engine.exec_container(name),
            false => engine.record(name),
        };
        match record.map(|record| has_more_rights(&record)) {
            Ok(true) => Err(Error::new(
                Kind::Forbidden,
                format!("through a scoped socket nobody reaches into {name}: it was made with more rights"),
            )),
            _ => Ok(()),
        }
    }

    /// What has not the labels is not there.
    fn admit_object(&self, engine: &Engine, route: &Route, call: &Call) -> Result<()> {
        let Some(name) = call.params.first() else {
            return match route.name.ends_with(".create") {
                true => Err(Error::new(
                    Kind::Forbidden,
                    format!("the socket {:?} has labels: {} is not allowed", self.name, route.name),
                )),
                // Filters do the rest: see `Call::filters`.
                false => Ok(()),
            };
        };
        let group = route.name.split('.').next().unwrap_or_default();
        let (labels, missing) = match group {
            "containers" => (engine.record(name)?.body.labels, format!("No such container: {name}")),
            // The process's container: `containers/{}/exec` names it, `exec/{}/...` names the process.
            "exec" if ["exec.create", "exec.terminal"].contains(&route.name) => {
                (engine.record(name)?.body.labels, format!("No such container: {name}"))
            }
            "exec" => (
                engine.exec_container(name)?.body.labels,
                format!("No such exec instance: {name}"),
            ),
            _ => (Some(engine.volume(name)?.labels), format!("get {name}: no such volume")),
        };
        let labels = labels.unwrap_or_default();
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        match self.labels.iter().all(has) {
            true => Ok(()),
            false => Err(Error::not_found(missing)),
        }
    }
}

/// `containers.list`, or `containers` for all of them.
fn named(route: &Route, name: &str) -> bool {
    route.name == name || route.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether who is in a container may do more than a container usually may.
fn has_more_rights(record: &Record) -> bool {
    let host = record.host();
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let is_host = |mode: &Option<String>| mode.as_deref().is_some_and(|m| m == "host" || m.starts_with("ns:"));
    let modes = [
        &host.network_mode,
        &host.pid_mode,
        &host.ipc_mode,
        &host.uts_mode,
        &host.userns_mode,
    ];
    let loosens = |option: &String| !option.starts_with("no-new-privileges");
    host.privileged == Some(true)
        || record.mounts.iter().any(|m| m.typ.as_deref() == Some("bind"))
        || host.devices.as_ref().is_some_and(|d| !d.is_empty())
        || host.device_requests.as_ref().is_some_and(|d| !d.is_empty())
        || some(&host.device_cgroup_rules)
        || some(&host.cap_add)
        || host.security_opt.iter().flatten().any(loosens)
        || host.masked_paths.as_ref().is_some_and(Vec::is_empty)
        || modes.into_iter().any(is_host)
        || host.cgroupns_mode.is_some_and(|m| m.to_string() == "host")
}

/// Whoever can have any body is root.
fn harmless_request(route: &Route, call: &Call) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::new(
            Kind::Forbidden,
            format!("through a scoped socket there are no {what}"),
        ))
    };
    match route.name {
        "containers.create" => harmless(decode::container(&call.headers, &call.body)?),
        "containers.update" => {
            let body: ContainerUpdateBody = decode::lenient(&call.headers, &call.body, &[])?;
            let some = |list: Option<usize>| list.is_some_and(|l| l > 0);
            let devices = some(body.devices.map(|d| d.len()))
                || some(body.device_cgroup_rules.map(|d| d.len()))
                || some(body.device_requests.map(|d| d.len()));
            match devices || body.cgroup_parent.is_some_and(|p| !p.is_empty()) {
                true => refuse("devices"),
                false => Ok(()),
            }
        }
        "exec.create" => {
            let mut body = decode::value(&call.headers, &call.body)?.unwrap_or_default();
            decode::capitals(&mut body);
            match body["Privileged"] == true {
                true => refuse("privileged processes"),
                false => Ok(()),
            }
        }
        // A volume can be a directory of the host's.
        "volumes.create" => {
            let body: VolumeCreateRequest = decode::lenient(&call.headers, &call.body, &[])?;
            match body.driver_opts.is_some_and(|options| !options.is_empty()) {
                true => refuse("options of volumes"),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whoever can make any container is root. Through a scoped socket only such are made that leave the host alone.
fn harmless(body: ContainerCreateBody) -> Result<()> {
    let host = body.host_config.unwrap_or_default();
    let shares = |mode: &Option<String>| {
        mode.as_deref()
            .is_some_and(|m| m == "host" || m.starts_with("container:") || m.starts_with("ns:"))
    };
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let mounts = host.mounts.iter().flatten();
    let asked = [
        ("privileged containers", host.privileged == Some(true)),
        ("mounts of the host", some(&host.binds)),
        (
            "mounts of the host",
            mounts.into_iter().any(|m| m.typ != Some(MountType::TMPFS)),
        ),
        ("volumes of other containers", some(&host.volumes_from)),
        ("devices", host.devices.as_ref().is_some_and(|d| !d.is_empty())),
        ("devices", some(&host.device_cgroup_rules)),
        ("devices", host.device_requests.as_ref().is_some_and(|d| !d.is_empty())),
        ("more capabilities", some(&host.cap_add)),
        ("security options", some(&host.security_opt)),
        (
            "a cgroup of its own choice",
            host.cgroup_parent.as_deref().is_some_and(|p| !p.is_empty()),
        ),
        ("kernel settings", host.sysctls.as_ref().is_some_and(|s| !s.is_empty())),
        (
            "unmasked paths",
            host.masked_paths.is_some() || host.readonly_paths.is_some(),
        ),
        (
            "namespaces of others",
            [
                &host.network_mode,
                &host.pid_mode,
                &host.ipc_mode,
                &host.uts_mode,
                &host.userns_mode,
            ]
            .into_iter()
            .any(shares)
                || host.cgroupns_mode.is_some_and(|m| m.to_string() == "host"),
        ),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(Error::new(
            Kind::Forbidden,
            format!("through a scoped socket there are no {what}"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_checked() {
        let scope = |name: &str, allow: &[&str]| Scope {
            name: name.into(),
            allow: allow.iter().map(|a| (*a).into()).collect(),
            ..Default::default()
        };
        assert!(scope("a", &["containers.list", "events", "images"]).check().is_ok());
        for bad in [
            scope("../a", &[]),
            scope("", &[]),
            scope(".", &[]),
            scope("a", &["contain"]),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_that_makes_root_passes() {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let read = |text: &str| decode::container(&headers, text.as_bytes()).unwrap();
        for bad in [
            r#"{"Image":"x","HostConfig":{"Privileged":true}}"#,
            r#"{"Image":"x","HostConfig":{"Binds":["/:/host"]}}"#,
            r#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]}}"#,
            r#"{"Image":"x","HostConfig":{"Mounts":[{"Source":"/","Target":"/host"}]}}"#,
            r#"{"Image":"x","HostConfig":{"PidMode":"host"}}"#,
            r#"{"Image":"x","HostConfig":{"UsernsMode":"host"}}"#,
            r#"{"Image":"x","HostConfig":{"NetworkMode":"container:x"}}"#,
            r#"{"Image":"x","HostConfig":{"CapAdd":["SYS_ADMIN"]}}"#,
            r#"{"Image":"x","HostConfig":{"Devices":[{"PathOnHost":"/dev/sda"}]}}"#,
            r#"{"Image":"x","HostConfig":{"SecurityOpt":["seccomp=unconfined"]}}"#,
            r#"{"Image":"x","HostConfig":{"CgroupnsMode":"host"}}"#,
            r#"{"Image":"x","HostConfig":{"MaskedPaths":[]}}"#,
            r#"{"image":"x","hostConfig":{"Privileged":true}}"#,
        ] {
            assert!(harmless(read(bad)).is_err(), "{bad}");
        }
        assert!(
            harmless(read(
                r#"{"Image":"x","HostConfig":{"Memory":1000000,"Tmpfs":{"/t":""}}}"#
            ))
            .is_ok()
        );
    }
}
