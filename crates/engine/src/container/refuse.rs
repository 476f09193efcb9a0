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
            false => Error::invalid(format!(
                "error looking up logging plugin {log}: plugin {log:?} not found"
            )),
        });
    }
    mode("PID", &host.pid_mode, &["", "private", "host", "container:"])?;
    let ipc = ["", "private", "shareable", "none", "host", "container:"];
    mode("IPC", &host.ipc_mode, &ipc)?;
    mode("UTS", &host.uts_mode, &["", "host"])?;
    mode("USER", &host.userns_mode, &["", "private", "host"])
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

/// One that ends with a colon goes on with a name.
fn mode(what: &str, value: &Option<String>, known: &[&str]) -> Result<()> {
    let is = |value: &str| {
        known
            .iter()
            .any(|k| value == *k || k.ends_with(':') && value.starts_with(k))
    };
    match value.as_deref().filter(|v| !is(v)) {
        Some(value) => Err(Error::invalid(format!("invalid {what} mode: {value}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let host = HostConfig {
            volume_driver: Some("nfs".into()),
            binds: Some(vec!["v:/v".into()]),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            host_config: Some(host),
            ..Default::default()
        };
        let error = refuse_unsupported(&body).unwrap_err();
        assert_eq!(error.to_string(), "volume drivers: not supported yet");
        assert!(refuse_unsupported(&ContainerCreateBody::default()).is_ok());
    }
}
