//! `create`: a request and an image to a container at rest.
//!
//! Everything is checked before anything is changed; what fails afterwards is undone. The container's lock is held while
//! it is half made, so that a creator that was killed can be told from one that works.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bollard_stubs::models::{
    ContainerCreateBody, ContainerCreateResponse, MountPoint, RestartPolicyNameEnum, VolumeCreateRequest,
};
use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use image::{Digest, Platform};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::mounts::{Source, Wanted, wanted};
use super::record::{Part, Record, now, write_json};
use super::spawn::Monitor;
use super::{files, lock, merge, names, refuse};
use crate::image::Image;
use crate::network::endpoint::Endpoint;
use crate::paths::make_private;
use crate::state::{ContainerRow, Users};
use crate::{Engine, spec, users};

/// How many generated names are tried.
const NAME_ATTEMPTS: usize = 64;
/// How many live containers a `create` looks at for a dead monitor: enough to keep a host clean, never a burden.
const REAP_AT_MOST: usize = 64;

impl Engine {
    /// Makes a container. Kinds: `NotFound` when the image is not there (pull it), `Conflict` when the name is taken.
    pub fn create(
        &self,
        name: Option<&str>,
        body: &ContainerCreateBody,
        platform: Option<&Platform>,
    ) -> Result<ContainerCreateResponse> {
        self.check_and_make(None, name, body, platform)
    }

    /// As [`Engine::create`], for a monitor that was started ahead; it is still to be told to begin.
    pub fn create_for(
        &self,
        monitor: &Monitor,
        name: Option<&str>,
        body: &ContainerCreateBody,
        platform: Option<&Platform>,
    ) -> Result<ContainerCreateResponse> {
        self.check_and_make(Some(monitor), name, body, platform)
    }

    fn check_and_make(
        &self,
        monitor: Option<&Monitor>,
        name: Option<&str>,
        body: &ContainerCreateBody,
        platform: Option<&Platform>,
    ) -> Result<ContainerCreateResponse> {
        let name = name.map(names::check).transpose()?;
        refuse::refuse_unsupported(body)?;
        crate::network::shared::check(body)?;
        let reference = body.image.as_deref().filter(|i| !i.is_empty());
        let reference = reference.ok_or_else(|| Error::invalid("no image specified"))?;
        let size = own_size(body)?;
        size.map_or(Ok(()), |_| snapshot::quota::can_limit(&self.roots.data))?;
        let image = self.image_on(reference, platform)?;
        self.image_is_used(&image.id);
        let own_command = [&body.entrypoint, &body.cmd].into_iter().flatten().all(Vec::is_empty);
        let mut body = body.clone();
        merge::merge(&mut body, &image.config);
        merge::merge_health(&mut body, image.healthcheck.as_ref());
        check(&mut body)?;
        let mut wanted = wanted(&body)?;
        self.add_wanted_from(&body, &mut wanted)?;
        let mut warnings = body.host_config.as_mut().map(spec::discard_limits).unwrap_or_default();
        warnings.extend(self.ask_for_needs(&image, &mut body)?);
        warnings.extend(self.mend(&image, &body)?);
        let emulated = !crate::mend::asked(&body.host_config.clone().unwrap_or_default())?
            .emulate
            .is_empty();
        warnings.extend(self.foretold_for(&image, own_command, emulated));
        self.settle_for_user(&mut body)?;
        let endpoints = self.wanted_endpoints(&body)?;
        let made = Made {
            body,
            image: &image,
            wanted: &wanted,
            endpoints: &endpoints,
        };
        self.reap_some(REAP_AT_MOST)?;
        let done = |made: ContainerCreateResponse| ContainerCreateResponse { warnings, ..made };
        if let Some(monitor) = monitor {
            return self.make(monitor.id(), name, made).map(done);
        }
        let id = names::new_id()?;
        // As long as we hold its lock, nobody takes what is half made for abandoned.
        let _lock = lock::take(&self.roots, &id, || Ok(false))?;
        let made = self.make(&id, name, made)?;
        lock::discard(&self.roots, &id)?;
        Ok(done(made))
    }

    /// What this kernel makes necessary is done when the container is made: a start is not to wait for it.
    fn mend(&self, image: &Image, body: &ContainerCreateBody) -> Result<Vec<String>> {
        let asked = crate::mend::asked(&body.host_config.clone().unwrap_or_default())?;
        let plan = asked.plan();
        match plan.is_empty() {
            true => Ok(Vec::new()),
            false => crate::mend::mend(&mut snapshot::Store::open(&self.roots.layers())?, &image.layers, &plan),
        }
    }

    /// `--volumes-from NAME[:ro|rw]`: what another container has mounted, unless something else is mounted there.
    fn add_wanted_from(&self, body: &ContainerCreateBody, list: &mut Vec<Wanted>) -> Result<()> {
        let host = body.host_config.as_ref();
        for text in host.and_then(|h| h.volumes_from.as_ref()).into_iter().flatten() {
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !["rw", "ro", "z", "Z", ""].contains(&mode) {
                return Err(Error::invalid(format!("invalid mode: {mode}")));
            }
            // Docker finds the whole request wrong, and not that something is missing.
            let theirs = self.record(name).map_err(|e| e.kind_is(Kind::Invalid))?;
            for point in &theirs.mounts {
                // The image's own volumes give way.
                let own = |w: &Wanted| {
                    matches!(
                        &w.source,
                        Source::Volume {
                            name: None,
                            fill: true,
                            ..
                        }
                    )
                };
                let same = |w: &Wanted| point.destination.as_deref() == Some(w.destination.as_str());
                list.retain(|w| !(same(w) && own(w)));
                if !list.iter().any(same) {
                    list.extend(super::mounts::from_point(&theirs, point, mode != "ro"));
                }
            }
        }
        list.sort_by_key(|w| Path::new(&w.destination).components().count());
        Ok(())
    }

    /// The caller holds the lock.
    fn make(&self, id: &str, name: Option<&str>, made: Made<'_>) -> Result<ContainerCreateResponse> {
        let Made {
            mut body,
            image,
            wanted,
            endpoints,
        } = made;
        let host_users = body.host_config.as_ref().is_some_and(spec::host_users);
        let users = match self.share(&mut body, !host_users)? {
            Users::Own => users::of_a_user()?.map_or(Users::Own, Users::All),
            shared => shared,
        };
        if body.hostname.as_deref().is_none_or(str::is_empty) {
            body.hostname = Some(default_hostname(&body, id));
        }
        let mut undo = Undo {
            engine: self,
            id,
            volumes: Vec::new(),
            armed: true,
        };
        make_private(&self.roots.container(id))?;
        let (name, ids) = self.register(id, name, &image.id, users)?;
        let mut record = Record {
            id: id.into(),
            name,
            created: now(),
            image: image.id.clone(),
            layers: image.layers.iter().map(|l| l.to_string()).collect(),
            ids,
            mounts: Vec::new(),
            parts: Default::default(),
            anonymous_volumes: Vec::new(),
            body,
        };
        let first = record.ids.map_or(0, |range| range.first);
        let dir = self.roots.container(id);
        snapshot::Writable::create(&dir, first, first)?;
        if let Some(size) = own_size(&record.body)? {
            snapshot::quota::limit(&[&dir.join("upper"), &dir.join("work")], size)?;
        }
        for wanted in wanted {
            let point = self.provide(wanted, &image.layers, &mut undo.volumes)?;
            let part = Part {
                subpath: wanted.subpath.clone(),
                layers: self.layers_mounted(id, wanted)?,
            };
            if part != Part::default() {
                record.parts.insert(wanted.destination.clone(), part);
            }
            record.mounts.push(point);
        }
        record.anonymous_volumes.clone_from(&undo.volumes);
        let used: Vec<String> = record.mounts.iter().filter_map(|m| m.name.clone()).collect();
        if !used.is_empty() {
            self.state.use_volumes(id, &used)?;
        }
        self.add_endpoints(id, endpoints)?;
        files::write(&self.roots, &record)?;
        write_json(&self.roots.record(id), &record)?;
        undo.armed = false;
        self.tell_of(&record, "create", &[]);
        Ok(ContainerCreateResponse {
            id: id.into(),
            warnings: Vec::new(),
        })
    }

    /// The row in the database: the name, and the host ids.
    fn register(
        &self,
        id: &str,
        name: Option<&str>,
        image: &str,
        users: crate::state::Users,
    ) -> Result<(String, Option<crate::state::IdRange>)> {
        let created = jiff::Timestamp::now().as_nanosecond() as i64;
        let row = |name: String| ContainerRow {
            id: id.into(),
            name,
            image_id: image.into(),
            created,
        };
        if let Some(name) = name {
            let add = || self.state.add_container(&row(name.into()), users);
            let ids = add().or_else(|error| match error.kind() {
                // Perhaps it was that of a container that is gone but for its row.
                Kind::Conflict => {
                    self.reap_half_made(&self.state.containers()?)?;
                    add()
                }
                _ => Err(error),
            });
            return Ok((name.into(), ids?));
        }
        for attempt in 0.. {
            let name = names::generated(id, attempt);
            match self.state.add_container(&row(name.clone()), users) {
                Err(e) if e.kind() == Kind::Conflict && attempt < NAME_ATTEMPTS => {}
                other => return Ok((name, other?)),
            }
        }
        unreachable!("the loop ends by its limit")
    }

    /// Makes sure that what is to be mounted exists.
    fn provide(&self, wanted: &Wanted, layers: &[Digest], made: &mut Vec<String>) -> Result<MountPoint> {
        match &wanted.source {
            Source::Tmpfs { options } => {
                let mut point = wanted.point(Path::new(""), None);
                point.mode = Some(options.clone());
                Ok(point)
            }
            Source::Image { name } => Ok(wanted.point(Path::new(name), None)),
            Source::Bind { path, make } => {
                if *make && !path.exists() {
                    std::fs::create_dir_all(path)
                        .step_with(|| format!("error while creating mount source path '{}'", path.display()))?;
                }
                Ok(wanted.point(path, None))
            }
            Source::Volume { name, fill, labels } => {
                let request = VolumeCreateRequest {
                    name: name.clone(),
                    labels: labels.clone(),
                    ..Default::default()
                };
                let volume = self.create_volume(&request)?;
                if name.is_none() {
                    made.push(volume.name.clone());
                }
                let dir = crate::volume::bound_directory(&volume.options)?;
                let dir = dir.unwrap_or_else(|| PathBuf::from(&volume.mountpoint));
                let empty = std::fs::read_dir(&dir)
                    .step_with(|| format!("read {}", dir.display()))?
                    .next()
                    .is_none();
                if *fill && empty {
                    self.fill_volume(layers, &wanted.destination, &dir)?;
                }
                Ok(wanted.point(&dir, Some(&volume.name)))
            }
        }
    }

    /// The layers of an image that is mounted, which is in use from now on.
    fn layers_mounted(&self, id: &str, wanted: &Wanted) -> Result<Vec<String>> {
        let Source::Image { name } = &wanted.source else {
            return Ok(Vec::new());
        };
        let image = self.image(name)?;
        self.state.use_image(id, &image.id)?;
        Ok(image.layers.iter().map(|l| l.to_string()).collect())
    }

    /// An empty volume starts as a copy of what the image has at its place, owner and mode of the directory included.
    fn fill_volume(&self, layers: &[Digest], destination: &str, volume: &Path) -> Result<()> {
        let mounted = self.layers.mount(layers, None, None)?;
        let root = &mounted.root;
        let inside = destination.trim_start_matches('/');
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let Ok(dir) = rustix::fs::openat2(root.as_fd(), inside, flags, Mode::empty(), resolve) else {
            return Ok(());
        };
        snapshot::copy_tree(root.as_fd(), Path::new(inside), volume)?;
        let stat = rustix::fs::fstat(&dir).errno_step("fill the volume")?;
        let step = || format!("fill the volume {}", volume.display());
        std::os::unix::fs::chown(volume, Some(stat.st_uid), Some(stat.st_gid)).step_with(step)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.st_mode & 0o7777);
        std::fs::set_permissions(volume, mode).step_with(step)
    }
}

/// A request that was checked, and what it needs.
struct Made<'a> {
    body: ContainerCreateBody,
    image: &'a Image,
    wanted: &'a [Wanted],
    endpoints: &'a [Endpoint],
}

/// Takes back what a failed `create` made.
struct Undo<'a> {
    engine: &'a Engine,
    id: &'a str,
    volumes: Vec<String>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Best effort: `reap` finds what stays.
        let _ = self.engine.erase(self.id, false);
        for volume in &self.volumes {
            let _ = self.engine.remove_volume(volume, true);
        }
    }
}

/// The host's own name on its own UTS namespace, else the short id.
fn default_hostname(body: &ContainerCreateBody, id: &str) -> String {
    let host = body.host_config.as_ref();
    let shares =
        host.is_some_and(|h| h.uts_mode.as_deref() == Some("host") || h.network_mode.as_deref() == Some("host"));
    match shares {
        true => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        false => files::short(id).to_owned(),
    }
}

/// How many bytes the container may write to its root file system: `--storage-opt size=`.
fn own_size(body: &ContainerCreateBody) -> Result<Option<u64>> {
    let options = body.host_config.as_ref().and_then(|h| h.storage_opt.as_ref());
    let mut size = None;
    for (name, value) in options.into_iter().flatten() {
        if !name.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("unknown storage option: {name}")));
        }
        let bytes = crate::human::parse_bytes(value)?;
        if bytes == 0 {
            return Err(Error::invalid("a storage size of 0"));
        }
        size = Some(bytes as u64);
    }
    Ok(size)
}

/// What makes no sense is refused in Docker's words. May normalise.
fn check(body: &mut ContainerCreateBody) -> Result<()> {
    let host = body.host_config.clone().unwrap_or_default();
    if [&body.entrypoint, &body.cmd]
        .into_iter()
        .flatten()
        .flatten()
        .next()
        .is_none()
    {
        return Err(Error::invalid("no command specified").hint("the image names no command: give one after the image"));
    }
    if let Some(dir) = body
        .working_dir
        .as_deref()
        .filter(|d| !d.is_empty() && !d.starts_with('/'))
    {
        return Err(Error::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    for entry in body.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    if let Some(signal) = body.stop_signal.as_deref().filter(|s| !s.is_empty()) {
        crate::signal::parse(signal)?;
    }
    if let Some(name) = body
        .hostname
        .as_deref()
        .filter(|h| h.len() > 63 || h.contains(['\0', '\n']))
    {
        return Err(Error::invalid(format!("invalid hostname format: {name}")));
    }
    check_restart(&host)?;
    crate::network::show::bound_ports(&host)?;
    host.extra_hosts
        .iter()
        .flatten()
        .try_for_each(|extra| check_extra_host(extra))?;
    check_health(body)?;
    spec::check_limits(&host)?;
    spec::check_devices(&host)?;
    for rule in host.device_cgroup_rules.iter().flatten() {
        spec::check_device_rule(rule)?;
    }
    check_log(&host)?;
    spec::check_capabilities(&host)?;
    for ulimit in host.ulimits.iter().flatten() {
        spec::check_ulimit(ulimit)?;
    }
    for option in host.security_opt.iter().flatten() {
        check_security_option(option)?;
    }
    if host.shm_size.is_some_and(|s| s < 0) {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if let Some(score) = host.oom_score_adj.filter(|s| !(-1000..=1000).contains(s)) {
        return Err(Error::invalid(format!(
            "Invalid value {score}, range for oom score adj is [-1000, 1000]"
        )));
    }
    if host
        .cgroup_parent
        .as_deref()
        .is_some_and(|p| p.split('/').any(|part| part == "..") || p.ends_with(".slice"))
    {
        return Err(Error::invalid(
            "invalid cgroup-parent: a path without '..' is needed; systemd slices are not supported yet",
        ));
    }
    Ok(())
}

fn check_restart(host: &bollard_stubs::models::HostConfig) -> Result<()> {
    let Some(policy) = &host.restart_policy else {
        return Ok(());
    };
    let name = policy.name.unwrap_or(RestartPolicyNameEnum::EMPTY);
    let retries = policy.maximum_retry_count.unwrap_or(0);
    let none = matches!(name, RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO);
    if retries != 0 && name != RestartPolicyNameEnum::ON_FAILURE {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    if retries < 0 {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        ));
    }
    if host.auto_remove == Some(true) && !none {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

/// `name:address`, `name=address`, `name:host-gateway`, as Docker's own checks have it.
fn check_extra_host(text: &str) -> Result<()> {
    let bad = || Error::invalid(format!("bad format for add-host: {text:?}"));
    let (name, address) = text.split_once(['=', ':']).ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    let good = address == "host-gateway" || address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    match good {
        true => Ok(()),
        false => Err(Error::invalid(format!("invalid IP address in add-host: {address:?}"))),
    }
}

/// Options that a log driver of ours has; others are refused by name.
fn check_log(host: &bollard_stubs::models::HostConfig) -> Result<()> {
    const KNOWN: &[&str] = &[
        "max-size",
        "max-file",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
        "compress",
    ];
    let Some(log) = &host.log_config else { return Ok(()) };
    let driver = log.typ.as_deref().filter(|t| !t.is_empty()).unwrap_or("json-file");
    for name in log.config.iter().flatten().map(|(name, _)| name.as_str()) {
        let known = match driver {
            "local" => ["max-size", "max-file", "compress"].contains(&name),
            "none" => false,
            _ => KNOWN.contains(&name),
        };
        if ["labels-regex", "env-regex"].contains(&name) {
            return Err(Error::not_yet(format_args!("--log-opt {name}")));
        }
        if !known {
            return Err(Error::invalid(format!(
                "unknown log opt '{name}' for {driver} log driver"
            )));
        }
    }
    Ok(())
}

fn check_health(body: &ContainerCreateBody) -> Result<()> {
    const LEAST: i64 = 1_000_000;
    let Some(health) = &body.healthcheck else { return Ok(()) };
    for (name, duration) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if duration.is_some_and(|d| d != 0 && d < LEAST) {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries.is_some_and(|r| r < 0) {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match health.test.iter().flatten().next().map(String::as_str) {
        None | Some("" | "NONE" | "CMD" | "CMD-SHELL") => Ok(()),
        Some(other) => Err(Error::invalid(format!(
            "Unknown healthcheck type '{other}' (expected 'CMD')"
        ))),
    }
}

fn check_security_option(option: &str) -> Result<()> {
    const KNOWN: &[&str] = &[
        "no-new-privileges",
        "no-new-privileges:true",
        "no-new-privileges=true",
        "no-new-privileges:false",
        "no-new-privileges=false",
        "systempaths=unconfined",
        "apparmor=unconfined",
        "apparmor:unconfined",
        "label=disable",
        "label:disable",
    ];
    if KNOWN.contains(&option) || option.starts_with("seccomp=") || option.starts_with("seccomp:") {
        return Ok(());
    }
    let (name, _) = option.split_once([':', '=']).unwrap_or((option, ""));
    Err(match ["apparmor", "label", "writable-cgroups"].contains(&name) {
        true => Error::not_yet(format_args!("--security-opt {option}")),
        false => Error::invalid(format!("invalid --security-opt: {option:?}")),
    })
}
