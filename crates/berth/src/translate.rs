//! The flags of `run` and `create` to Docker's body: what the user said, and what it means.

use std::collections::HashMap;

use engine::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use errdefs::{Error, Kind, Result, Step};

use crate::cli::flag::Given;
use crate::format::parse_bytes;
use crate::terminal;

/// What was asked for, and what to tell about it.
pub struct Asked {
    /// For the engine.
    pub body: ContainerCreateBody,
    /// Lines for standard error.
    pub notes: Vec<String>,
}

/// The whole body; `detached` decides what is attached.
pub fn body(given: &Given, detached: bool) -> Result<Asked> {
    let mut notes = Vec::new();
    let interactive = given.on("interactive");
    let text = |flag: &str| given.one(flag).map(String::from);
    let command = given.words[1..].to_vec();
    let host = host(given, &mut notes)?;
    if given.one("stop-timeout").is_some() {
        given.number("stop-timeout")?;
    }
    let body = ContainerCreateBody {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin: Some(interactive && !detached),
        attach_stdout: Some(!detached),
        attach_stderr: Some(!detached),
        exposed_ports: some(expose(&given.many("expose"))),
        tty: Some(given.on("tty")),
        open_stdin: Some(interactive),
        stdin_once: Some(interactive && !detached),
        env: some(variables(&given.many("env-file"), &given.many("env"))?),
        cmd: some(command),
        image: Some(given.words[0].clone()),
        working_dir: text("workdir"),
        entrypoint: given.one("entrypoint").map(|e| vec![e.to_owned()]),
        labels: labels(given)?,
        stop_signal: text("stop-signal"),
        stop_timeout: given.number("stop-timeout")?,
        healthcheck: given.on("no-healthcheck").then(|| HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..Default::default()
        }),
        host_config: Some(host),
        ..Default::default()
    };
    Ok(Asked { body, notes })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn host(given: &Given, notes: &mut Vec<String>) -> Result<HostConfig> {
    let text = |flag: &str| given.one(flag).map(String::from);
    let list = |flag: &str| some(given.many(flag));
    let bytes = |flag: &str| given.one(flag).map(parse_bytes).transpose();
    let (binds, mounts) = (volumes(&given.many("volume"))?, given.many("mount"));
    Ok(HostConfig {
        cpu_shares: given.number("cpu-shares")?,
        memory: bytes("memory")?,
        memory_reservation: bytes("memory-reservation")?,
        memory_swap: match given.one("memory-swap") {
            Some("-1") => Some(-1),
            other => other.map(parse_bytes).transpose()?,
        },
        nano_cpus: given.one("cpus").map(cpus).transpose()?,
        cpu_period: given.number("cpu-period")?,
        cpu_quota: given.number("cpu-quota")?,
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        blkio_weight: given
            .number("blkio-weight")?
            .map(|w| w.clamp(0, u16::MAX.into()) as u16),
        pids_limit: given.number("pids-limit")?,
        ulimits: some(given.many("ulimit").iter().map(|u| ulimit(u)).collect::<Result<_>>()?),
        cgroup_parent: text("cgroup-parent"),
        cgroupns_mode: match given.one("cgroupns") {
            None => None,
            Some("private") => Some(HostConfigCgroupnsModeEnum::PRIVATE),
            Some("host") => Some(HostConfigCgroupnsModeEnum::HOST),
            Some(other) => return Err(Error::invalid(format!("invalid CGROUP mode: {other}"))),
        },
        init: given.has("init").then(|| given.on("init")),
        binds: some(binds),
        mounts: some(mounts.iter().map(|m| mount(m)).collect::<Result<_>>()?),
        tmpfs: tmpfs(&given.many("tmpfs")),
        container_id_file: text("cidfile"),
        log_config: log_config(given)?,
        network_mode: Some(network(given, notes)?),
        restart_policy: given.one("restart").map(restart).transpose()?,
        auto_remove: Some(given.on("rm")),
        cap_add: list("cap-add"),
        cap_drop: list("cap-drop"),
        dns: list("dns"),
        dns_options: some([given.many("dns-option"), given.many("dns-opt")].concat()),
        dns_search: list("dns-search"),
        extra_hosts: some(hosts(&given.many("add-host"))?),
        group_add: list("group-add"),
        ipc_mode: text("ipc"),
        pid_mode: text("pid"),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        oom_score_adj: given.number("oom-score-adj")?,
        privileged: Some(given.on("privileged")),
        readonly_rootfs: Some(given.on("read-only")),
        security_opt: some(
            given
                .many("security-opt")
                .iter()
                .map(|o| security_option(o))
                .collect::<Result<_>>()?,
        ),
        shm_size: bytes("shm-size")?,
        sysctls: pairs(&given.many("sysctl"))?,
        console_size: given
            .on("tty")
            .then(terminal::size)
            .map(|(rows, cols)| vec![rows.into(), cols.into()]),
        ..Default::default()
    })
}

/// `none` and `host` so far; the default says what it is.
fn network(given: &Given, notes: &mut Vec<String>) -> Result<String> {
    let asked = [given.many("network"), given.many("net")].concat();
    match asked.as_slice() {
        [] => {
            notes.push("note: no bridge networks yet: the container runs with --network none (--network host shares this host's)".into());
            Ok("none".into())
        }
        [one] if one == "none" || one == "host" => Ok(one.clone()),
        [one, ..] => Err(
            Error::new(Kind::NotImplemented, format!("--network {one}: not supported yet"))
                .hint("none and host are there"),
        ),
    }
}

/// `NAME=value`, or a bare `NAME` from our own environment; files first.
pub fn variables(files: &[String], list: &[String]) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).step_with(|| format!("open {file}"))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) || name.is_empty() {
                return Err(Error::invalid(format!(
                    "poorly formatted environment: variable '{name}' contains whitespaces"
                )));
            }
            variables.extend(from_environment(line));
        }
    }
    for entry in list {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
        variables.extend(from_environment(entry));
    }
    Ok(variables)
}

fn from_environment(entry: &str) -> Option<String> {
    match entry.contains('=') {
        true => Some(entry.to_owned()),
        false => std::env::var(entry).ok().map(|value| format!("{entry}={value}")),
    }
}

fn labels(given: &Given) -> Result<Option<HashMap<String, String>>> {
    let mut labels = HashMap::new();
    let mut lines = Vec::new();
    for file in given.many("label-file") {
        let text = std::fs::read_to_string(&file).step_with(|| format!("open {file}"))?;
        lines.extend(
            text.lines()
                .map(str::trim)
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(String::from),
        );
    }
    for label in lines.into_iter().chain(given.many("label")) {
        let (key, value) = label.split_once('=').unwrap_or((&label, ""));
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok((!labels.is_empty()).then_some(labels))
}

fn pairs(list: &[String]) -> Result<Option<HashMap<String, String>>> {
    let pair = |entry: &String| {
        let pair = entry.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.to_owned()));
        pair.ok_or_else(|| Error::invalid(format!("{entry:?}: it has no '='")))
    };
    let map: HashMap<_, _> = list.iter().map(pair).collect::<Result<_>>()?;
    Ok((!map.is_empty()).then_some(map))
}

fn expose(list: &[String]) -> Vec<String> {
    list.iter()
        .map(|p| if p.contains('/') { p.clone() } else { format!("{p}/tcp") })
        .collect()
}

/// A source that is a path from here becomes absolute; Docker's CLI does that, too.
fn volumes(list: &[String]) -> Result<Vec<String>> {
    list.iter().map(|volume| volume_source(volume)).collect()
}

fn volume_source(volume: &str) -> Result<String> {
    let Some((source, rest)) = volume.split_once(':') else {
        return Ok(volume.to_owned());
    };
    let relative = source == "."
        || source == ".."
        || source.starts_with("./")
        || source.starts_with("../")
        || source.starts_with('~');
    if !relative {
        return Ok(volume.to_owned());
    }
    let here = std::env::current_dir().step("find the current directory")?;
    Ok(format!("{}:{rest}", here.join(source).display()))
}

fn tmpfs(list: &[String]) -> Option<HashMap<String, String>> {
    let pair = |t: &String| {
        t.split_once(':').map_or((t.clone(), String::new()), |(path, options)| {
            (path.into(), options.into())
        })
    };
    (!list.is_empty()).then(|| list.iter().map(pair).collect())
}

/// `type=bind,source=/a,target=/b,readonly`.
fn mount(text: &str) -> Result<Mount> {
    let invalid = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--mount\" flag: {why}"));
    let mut mount = Mount {
        typ: Some(MountType::VOLUME),
        ..Default::default()
    };
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let truth = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(invalid(format!("invalid value for {key}: {value}"))),
        };
        let bind = |m: &mut Mount, set: &dyn Fn(&mut MountBindOptions)| set(m.bind_options.get_or_insert_default());
        match key.to_ascii_lowercase().as_str() {
            "type" => {
                mount.typ = Some(match value {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    "image" => MountType::IMAGE,
                    other => return Err(invalid(format!("invalid mount type: {other}"))),
                })
            }
            "source" | "src" => mount.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
            "readonly" | "ro" => mount.read_only = Some(truth()?),
            "consistency" => mount.consistency = Some(value.to_owned()),
            "bind-propagation" => {
                let propagation: MountBindOptionsPropagationEnum = value
                    .parse()
                    .map_err(|_| invalid(format!("invalid propagation mode: {value}")))?;
                bind(&mut mount, &|b| b.propagation = Some(propagation));
            }
            "bind-recursive" if value == "disabled" => bind(&mut mount, &|b| b.non_recursive = Some(true)),
            "bind-recursive" if value == "enabled" => {}
            "bind-create-mountpoint" => {
                let make = truth()?;
                bind(&mut mount, &|b| b.create_mountpoint = Some(make));
            }
            "volume-nocopy" => {
                let no_copy = truth()?;
                mount.volume_options.get_or_insert_default().no_copy = Some(no_copy);
            }
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let options: &mut MountVolumeOptions = mount.volume_options.get_or_insert_default();
                options.labels.get_or_insert_default().insert(name.into(), value.into());
            }
            "tmpfs-size" => mount.tmpfs_options.get_or_insert_default().size_bytes = Some(parse_bytes(value)?),
            "tmpfs-mode" => {
                let mode =
                    i64::from_str_radix(value, 8).map_err(|_| invalid(format!("invalid value for {key}: {value}")))?;
                let options: &mut MountTmpfsOptions = mount.tmpfs_options.get_or_insert_default();
                options.mode = Some(mode);
            }
            "volume-driver" | "volume-opt" | "volume-subpath" | "image-subpath" | "bind-nonrecursive"
            | "bind-recursive" | "tmpfs-opt" => {
                return Err(Error::new(
                    Kind::NotImplemented,
                    format!("--mount {key}: not supported yet"),
                ));
            }
            _ => return Err(invalid(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if mount.target.as_deref().is_none_or(str::is_empty) {
        return Err(invalid("target is required".into()));
    }
    if mount.typ == Some(MountType::BIND) {
        mount.source = mount
            .source
            .map(|s| volume_source(&format!("{s}:")).map(|s| s.trim_end_matches(':').to_owned()))
            .transpose()?;
    }
    Ok(mount)
}

/// `1.5` processors in billionths.
fn cpus(text: &str) -> Result<i64> {
    let bad = || {
        Error::invalid(format!(
            "invalid argument {text:?} for \"--cpus\" flag: failed to parse {text} as a rational number"
        ))
    };
    let number: f64 = text.parse().map_err(|_| bad())?;
    if !number.is_finite() {
        return Err(bad());
    }
    Ok((number * 1e9).round() as i64)
}

/// `nofile=1024:2048`.
fn ulimit(text: &str) -> Result<ResourcesUlimits> {
    let bad = || Error::invalid(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |n: &str| {
        if n == "unlimited" {
            Ok(-1)
        } else {
            n.parse::<i64>().map_err(|_| bad())
        }
    };
    Ok(ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(number(soft)?),
        hard: Some(number(hard)?),
    })
}

/// `on-failure:3`.
fn restart(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').map_or((text, None), |(n, c)| (n, Some(c)));
    let name = match name {
        "" | "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    let bad = |_| Error::invalid("invalid restart policy format: maximum retry count must be an integer");
    let count = count.map(|c| c.parse::<i64>().map_err(bad)).transpose()?;
    Ok(RestartPolicy {
        name: Some(name),
        maximum_retry_count: Some(count.unwrap_or(0)),
    })
}

fn hosts(list: &[String]) -> Result<Vec<String>> {
    let entry = |text: &String| match text.split_once([':', '=']) {
        Some((name, address))
            if !name.is_empty() && address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() =>
        {
            Ok(format!("{name}:{}", address.trim_matches(['[', ']'])))
        }
        Some((_, "host-gateway")) => Err(Error::new(
            Kind::NotImplemented,
            "--add-host host-gateway: not supported yet",
        )),
        Some((_, address)) => Err(Error::invalid(format!("invalid IP address in add-host: {address:?}"))),
        None => Err(Error::invalid(format!("bad format for add-host: {text:?}"))),
    };
    list.iter().map(entry).collect()
}

/// A seccomp profile is a file of ours: the engine gets its content.
fn security_option(text: &str) -> Result<String> {
    let Some(profile) = text.strip_prefix("seccomp=").or(text.strip_prefix("seccomp:")) else {
        return Ok(text.to_owned());
    };
    if profile == "unconfined" || profile == "builtin" {
        return Ok(format!("seccomp={profile}"));
    }
    let json = std::fs::read_to_string(profile).step_with(|| format!("opening seccomp profile ({profile}) failed"))?;
    Ok(format!("seccomp={json}"))
}

fn log_config(given: &Given) -> Result<Option<HostConfigLogConfig>> {
    let options = pairs(&given.many("log-opt"))?;
    if let Some(unknown) = options
        .iter()
        .flat_map(|o| o.keys())
        .find(|k| !["max-size", "max-file"].contains(&k.as_str()))
    {
        return Err(Error::new(
            Kind::NotImplemented,
            format!("--log-opt {unknown}: not supported yet"),
        ));
    }
    let driver = given.one("log-driver").map(String::from);
    Ok((driver.is_some() || options.is_some()).then_some(HostConfigLogConfig {
        typ: driver,
        config: options,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_taken_apart() {
        let m = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert_eq!(
            (m.source.as_deref(), m.target.as_deref(), m.read_only),
            (Some("/a"), Some("/b"), Some(true))
        );
        assert_eq!(m.bind_options.unwrap().propagation.unwrap().to_string(), "rslave");
        let t = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
            .unwrap()
            .tmpfs_options
            .unwrap();
        assert_eq!((t.size_bytes, t.mode), (Some(1 << 20), Some(0o1770)));
        for bad in [
            "type=x,target=/a",
            "type=bind,src=/a",
            "nonsense",
            "type=tmpfs,target=/t,readonly=maybe",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn small_values_follow_docker() {
        assert_eq!(cpus("1.5").unwrap(), 1_500_000_000);
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(10), Some(20)));
        assert_eq!(ulimit("core=unlimited").unwrap().hard, Some(-1));
        assert_eq!(restart("on-failure:3").unwrap().maximum_retry_count, Some(3));
        assert!(restart("sometimes").is_err() && ulimit("nofile").is_err() && cpus("x").is_err());
        assert!(volume_source("./a:/b").unwrap().starts_with('/'));
        assert_eq!(volume_source("a:/b").unwrap(), "a:/b");
        assert_eq!(
            hosts(&["a:1.2.3.4".into(), "b=[::1]".into()]).unwrap(),
            ["a:1.2.3.4", "b:::1"]
        );
        assert!(hosts(&["a:x".into()]).is_err());
    }
}
