//! The flags of `run` and `create` to Docker's body: what the user said, and what it means.

use std::collections::HashMap;

use engine::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig};
use errdefs::{Error, Result, Step};

use crate::cli::flag::Given;
use crate::terminal;

mod devices;
pub mod network;
pub mod values;
mod volumes;

/// What was asked for.
pub struct Asked {
    /// For the engine.
    pub body: ContainerCreateBody,
}

/// The whole body; `detached` decides what is attached.
pub fn body(given: &Given, detached: bool) -> Result<Asked> {
    let interactive = given.on("interactive");
    let text = |flag: &str| given.one(flag).map(String::from);
    let command = given.words[1..].to_vec();
    let networks = network::networks(given)?;
    let (ports, published) = network::publish(&given.many("publish"))?;
    let mut exposed = values::expose(&given.many("expose"))?;
    exposed.extend(published);
    let mut host = host(given, networks.mode)?;
    host.port_bindings = Some(ports).filter(|p| !p.is_empty());
    if given.one("stop-timeout").is_some() {
        given.number("stop-timeout")?;
    }
    let attach = attach(given, detached)?;
    let body = ContainerCreateBody {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin: Some(attach.stdin),
        attach_stdout: Some(attach.stdout),
        attach_stderr: Some(attach.stderr),
        exposed_ports: some(exposed),
        networking_config: networks.config,
        volumes: some(volumes::volumes(&given.many("volume"))?.1),
        tty: Some(given.on("tty")),
        open_stdin: Some(interactive),
        stdin_once: Some(interactive && attach.stdin),
        env: some(variables(&given.many("env-file"), &given.many("env"))?),
        cmd: some(command),
        image: Some(given.words[0].clone()),
        working_dir: text("workdir"),
        entrypoint: given.one("entrypoint").map(|e| vec![e.to_owned()]),
        labels: labels(given)?,
        stop_signal: text("stop-signal"),
        stop_timeout: given.number("stop-timeout")?,
        healthcheck: health(given)?,
        host_config: Some(host),
        ..Default::default()
    };
    Ok(Asked { body })
}

/// Which streams are attached.
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// `-a` names them; without it all of them are, unless the container is left alone.
pub fn attach(given: &Given, detached: bool) -> Result<Attach> {
    let asked = given.many("attach");
    if asked.is_empty() {
        return Ok(Attach {
            stdin: given.on("interactive") && !detached,
            stdout: !detached,
            stderr: !detached,
        });
    }
    if detached {
        return Err(Error::invalid("Conflicting options: -a and -d"));
    }
    let names: Vec<String> = asked.iter().map(|a| a.to_lowercase()).collect();
    if let Some(bad) = names
        .iter()
        .find(|n| !["stdin", "stdout", "stderr"].contains(&n.as_str()))
    {
        return Err(Error::flag(format!(
            "invalid argument {bad:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
        )));
    }
    let has = |name: &str| names.iter().any(|n| n == name);
    Ok(Attach {
        stdin: has("stdin"),
        stdout: has("stdout"),
        stderr: has("stderr"),
    })
}

/// The `--health-*` flags; nothing if none of them is given: then it is as the image says.
fn health(given: &Given) -> Result<Option<HealthConfig>> {
    const FLAGS: &[&str] = &[
        "health-cmd",
        "health-interval",
        "health-retries",
        "health-start-interval",
        "health-start-period",
        "health-timeout",
    ];
    let any = FLAGS.iter().any(|flag| given.has(flag));
    if given.on("no-healthcheck") {
        return match any {
            true => Err(Error::invalid("--no-healthcheck conflicts with --health-* options")),
            false => Ok(Some(HealthConfig {
                test: Some(vec!["NONE".into()]),
                ..Default::default()
            })),
        };
    }
    if !any {
        return Ok(None);
    }
    let duration = |flag: &str| -> Result<Option<i64>> {
        match given
            .one(flag)
            .map(|text| values::duration(&format!("--{flag}"), text))
            .transpose()?
        {
            Some(..0) => Err(Error::invalid(format!("--{flag} cannot be negative"))),
            other => Ok(other),
        }
    };
    let command = given.one("health-cmd").filter(|c| !c.is_empty());
    let config = HealthConfig {
        test: command.map(|c| vec!["CMD-SHELL".into(), c.into()]),
        interval: duration("health-interval")?,
        timeout: duration("health-timeout")?,
        start_period: duration("health-start-period")?,
        start_interval: duration("health-start-interval")?,
        retries: given.number("health-retries")?,
    };
    match config.retries {
        Some(..0) => Err(Error::invalid("--health-retries cannot be negative")),
        _ => Ok(Some(config)),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn host(given: &Given, network: String) -> Result<HostConfig> {
    let text = |flag: &str| given.one(flag).map(String::from);
    let list = |flag: &str| some(given.many(flag));
    let bytes = |flag: &str, shown: &str| given.one(flag).map(|text| values::bytes(shown, text)).transpose();
    let mode =
        |flag: &str, word: &str, known: &[&str]| values::mode(&format!("--{flag}"), word, given.one(flag), known);
    let (add, drop) = values::capabilities(&given.many("cap-add"), &given.many("cap-drop"));
    let (security, open) = security_options(&given.many("security-opt"))?;
    // `systempaths=unconfined` is the caller's: no masked and no read-only paths.
    let paths = open.then(Vec::new);
    Ok(HostConfig {
        cpu_shares: given.number("cpu-shares")?,
        memory: bytes("memory", "-m, --memory")?,
        memory_reservation: bytes("memory-reservation", "--memory-reservation")?,
        memory_swap: match given.one("memory-swap") {
            Some("-1") => Some(-1),
            _ => bytes("memory-swap", "--memory-swap")?,
        },
        nano_cpus: given.one("cpus").map(values::cpus).transpose()?,
        cpu_period: given.number("cpu-period")?,
        cpu_quota: given.number("cpu-quota")?,
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        blkio_weight: given
            .number("blkio-weight")?
            .map(|w| w.clamp(0, u16::MAX.into()) as u16),
        blkio_weight_device: some(each(given, "blkio-weight-device", devices::weight)?),
        blkio_device_read_bps: some(devices::throttles(given, "device-read-bps", true)?),
        blkio_device_write_bps: some(devices::throttles(given, "device-write-bps", true)?),
        blkio_device_read_iops: some(devices::throttles(given, "device-read-iops", false)?),
        blkio_device_write_iops: some(devices::throttles(given, "device-write-iops", false)?),
        devices: some(each(given, "device", devices::device)?),
        device_cgroup_rules: list("device-cgroup-rule"),
        device_requests: given
            .one("gpus")
            .map(devices::gpus)
            .transpose()?
            .map(|request| vec![request]),
        cpu_realtime_period: given.number("cpu-rt-period")?,
        cpu_realtime_runtime: given.number("cpu-rt-runtime")?,
        memory_swappiness: given.number("memory-swappiness")?,
        oom_kill_disable: given.has("oom-kill-disable").then(|| given.on("oom-kill-disable")),
        runtime: text("runtime"),
        volumes_from: list("volumes-from"),
        volume_driver: text("volume-driver"),
        pids_limit: given.number("pids-limit")?,
        ulimits: some(each(given, "ulimit", values::ulimit)?),
        cgroup_parent: text("cgroup-parent"),
        cgroupns_mode: match given.one("cgroupns") {
            None => None,
            Some("private") => Some(HostConfigCgroupnsModeEnum::PRIVATE),
            Some("host") => Some(HostConfigCgroupnsModeEnum::HOST),
            Some(_) => return Err(Error::invalid("--cgroupns: invalid CGROUP mode")),
        },
        init: given.has("init").then(|| given.on("init")),
        binds: some(volumes::volumes(&given.many("volume"))?.0),
        mounts: some(each(given, "mount", volumes::mount)?),
        tmpfs: volumes::tmpfs(&given.many("tmpfs")),
        container_id_file: text("cidfile"),
        log_config: log_config(given)?,
        network_mode: Some(network),
        publish_all_ports: Some(given.on("publish-all")),
        links: list("link"),
        restart_policy: restart_unless_removed(given)?.map(values::restart).transpose()?,
        auto_remove: Some(given.on("rm")),
        annotations: Some(annotations(given)?).filter(|a| !a.is_empty()),
        cap_add: some(add),
        cap_drop: some(drop),
        dns: some(values::servers(given.many("dns"))?),
        dns_options: some([given.many("dns-opt"), given.many("dns-option")].concat()),
        dns_search: list("dns-search"),
        extra_hosts: some(values::hosts(&given.many("add-host"))?),
        group_add: list("group-add"),
        ipc_mode: text("ipc"),
        pid_mode: mode("pid", "PID", &["", "private", "host", "container:"])?,
        uts_mode: mode("uts", "UTS", &["", "private", "host"])?,
        userns_mode: mode("userns", "USER", &["", "private", "host"])?,
        oom_score_adj: given.number("oom-score-adj")?,
        privileged: Some(given.on("privileged")),
        readonly_rootfs: Some(given.on("read-only")),
        security_opt: some(security),
        masked_paths: paths.clone(),
        readonly_paths: paths,
        shm_size: bytes("shm-size", "--shm-size")?,
        storage_opt: Some(
            each(given, "storage-opt", values::storage_option)?
                .into_iter()
                .collect(),
        )
        .filter(|s: &HashMap<_, _>| !s.is_empty()),
        sysctls: Some(each(given, "sysctl", values::sysctl)?.into_iter().collect())
            .filter(|s: &HashMap<_, _>| !s.is_empty()),
        console_size: given
            .on("tty")
            .then(terminal::size)
            .map(|(rows, cols)| vec![rows.into(), cols.into()]),
        ..Default::default()
    })
}

/// What Docker's body has no field for.
/// The user's, and those that stand for flags of our own.
fn annotations(given: &Given) -> Result<HashMap<String, String>> {
    let mut all: HashMap<_, _> = each(given, "annotation", devices::annotation)?.into_iter().collect();
    all.extend(own_annotations(given));
    Ok(all)
}

fn own_annotations(given: &Given) -> HashMap<String, String> {
    use engine::mend::annotation;
    let flags = [
        ("compat", annotation::COMPAT),
        ("kernel-release", annotation::RELEASE),
        ("as-kernel", annotation::AS_KERNEL),
        ("egress", engine::network::egress::EGRESS),
    ];
    let value = |(flag, name): (&str, &str)| given.one(flag).map(|value| (name.to_owned(), value.to_owned()));
    flags.into_iter().filter_map(value).collect()
}

/// `--restart`; what goes at its end is not started again.
fn restart_unless_removed(given: &Given) -> Result<Option<&str>> {
    match given.one("restart").filter(|policy| !policy.is_empty()) {
        Some(policy) if given.on("rm") && policy != "no" => Err(Error::invalid(
            "conflicting options: cannot specify both --restart and --rm",
        )),
        policy => Ok(policy),
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
            let bad = |why: String| Err(Error::invalid(format!("invalid env file ({file}): {why}")));
            if name.is_empty() {
                return bad(format!("no variable name on line '{line}'"));
            }
            if name.contains(char::is_whitespace) {
                return bad(format!("variable '{name}' contains whitespaces"));
            }
            variables.extend(from_environment(line));
        }
    }
    for entry in list {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
        // A bare name that is not set here stays bare: it takes the image's variable away.
        variables.push(from_environment(entry).unwrap_or_else(|| entry.clone()));
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

/// Every value of a flag, read.
fn each<T>(given: &Given, flag: &str, read: fn(&str) -> Result<T>) -> Result<Vec<T>> {
    given.many(flag).iter().map(|value| read(value)).collect()
}

/// The options for the engine, and whether `systempaths=unconfined` was among them.
fn security_options(list: &[String]) -> Result<(Vec<String>, bool)> {
    let (open, options): (Vec<_>, Vec<_>) = list.iter().partition(|o| *o == "systempaths=unconfined");
    let options = options.into_iter().map(|o| security_option(o)).collect::<Result<_>>()?;
    Ok((options, !open.is_empty()))
}

/// A seccomp profile is a file of ours: the engine gets its content.
fn security_option(text: &str) -> Result<String> {
    if !text.contains(['=', ':']) && text != "no-new-privileges" {
        return Err(Error::invalid(format!("Invalid --security-opt: {text:?}")));
    }
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
    let pair = |option: String| {
        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
        (name.to_owned(), value.to_owned())
    };
    let options: HashMap<_, _> = given.many("log-opt").into_iter().map(pair).collect();
    let options = (!options.is_empty()).then_some(options);
    if options.is_some() && given.one("log-driver") == Some("none") {
        return Err(Error::invalid("invalid logging opts for driver none"));
    }
    let driver = given.one("log-driver").map(String::from);
    Ok((driver.is_some() || options.is_some()).then_some(HostConfigLogConfig {
        typ: driver,
        config: options,
    }))
}

#[cfg(test)]
mod tests;
