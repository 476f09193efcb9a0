//! What Docker's body can ask for and Berth does not do yet is refused by name, never ignored.

use bollard_stubs::models::{ContainerCreateBody, HostConfig};
use errdefs::{Error, Result};

/// Those that Docker has besides ours.
const DOCKERS_LOG_DRIVERS: &[&str] = &[
    "awslogs", "fluentd", "gcplogs", "gelf", "journald", "local", "splunk", "syslog",
];
/// Other names of the one runtime that there is: it is called as runc, too.
const RUNTIMES: &[&str] = &["", "berth", "runc", "io.containerd.runc.v2"];

/// Fails with the name of the first setting that is not supported yet.
pub fn refuse_unsupported(body: &ContainerCreateBody) -> Result<()> {
    let empty = HostConfig::default();
    let host = body.host_config.as_ref().unwrap_or(&empty);
    let asked = [
        (
            "volume drivers",
            has_volumes(body)
                && host
                    .volume_driver
                    .as_deref()
                    .is_some_and(|d| !d.is_empty() && d != "local"),
        ),
        (
            "isolation technologies",
            host.isolation
                .is_some_and(|i| !["", "default"].contains(&i.to_string().as_str())),
        ),
    ];
    if let Some((name, _)) = asked.into_iter().chain(limits(host)).find(|(_, asked)| *asked) {
        return Err(Error::not_yet(name));
    }
    if let Some(other) = host.runtime.as_deref().filter(|r| !RUNTIMES.contains(r)) {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {other}")));
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        let sets = request.capabilities.clone().unwrap_or_default();
        let sets: Vec<String> = sets.iter().map(|set| format!("[{}]", set.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            request.driver.as_deref().unwrap_or_default(),
            sets.join(" ")
        ))
        .hint("Berth has no driver for GPUs yet; nodes can be given by --device /dev/dri and the like"));
    }
    if let Some(log) = host.log_config.as_ref().and_then(|l| l.typ.as_deref())
        && !["", "json-file", "local", "none"].contains(&log)
    {
        return Err(match DOCKERS_LOG_DRIVERS.contains(&log) {
            true => Error::not_yet(format_args!("the log driver {log:?}")),
            false => Error::invalid(format!("logger: no log driver named '{log}' is registered")),
        });
    }
    if !host.pid_mode.as_deref().is_some_and(|m| m.starts_with("container:")) {
        mode("pid mode", &host.pid_mode, &["", "private", "host"])?;
    }
    mode(
        "ipc mode",
        &host.ipc_mode,
        &["", "private", "shareable", "none", "host"],
    )?;
    mode("uts mode", &host.uts_mode, &["", "host"])?;
    mode("user namespace mode", &host.userns_mode, &["", "private", "host"])
}

/// Limits that are asked for, and nobody would enforce.
fn limits(host: &HostConfig) -> [(&'static str, bool); 1] {
    [(
        "host Windows limits",
        host.cpu_count.unwrap_or(0) + host.cpu_percent.unwrap_or(0) != 0,
    )]
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

/// Whether a volume may have to be made for it.
fn has_volumes(body: &ContainerCreateBody) -> bool {
    let host = body.host_config.as_ref();
    some(&body.volumes) || host.is_some_and(|h| some(&h.binds) || some(&h.mounts))
}

fn mode(what: &str, value: &Option<String>, known: &[&str]) -> Result<()> {
    match value.as_deref().filter(|v| !known.contains(v)) {
        Some(value) => Err(Error::not_yet(format_args!("the {what} {value:?}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let host = HostConfig {
            ipc_mode: Some("container:x".into()),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            host_config: Some(host),
            ..Default::default()
        };
        let error = refuse_unsupported(&body).unwrap_err();
        assert_eq!(error.to_string(), "the ipc mode \"container:x\": not supported yet");
        assert!(refuse_unsupported(&ContainerCreateBody::default()).is_ok());
    }
}
