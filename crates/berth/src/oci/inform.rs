//! `state`, `list`, `ps`, `features`, `spec`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use errdefs::{Error, Result, Step};
use serde::Serialize;
use serde_json::{Value, json};

use super::Host;
use super::state::{SPECIFICATION, Saved, Status};
use crate::cli::flag::Given;
use crate::output;

/// One container, as the specification and runc say; in runc's order, which its users' tests know.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: PathBuf,
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a HashMap<String, String>>,
    /// Who made it.
    owner: &'static str,
}

fn describe(saved: &Saved, status: Status) -> Description<'_> {
    let root = saved.spec.root().as_ref().map(|root| root.path().as_path());
    Description {
        oci_version: SPECIFICATION,
        id: &saved.id,
        pid: if status == Status::Stopped { 0 } else { saved.pid },
        status: status.name(),
        bundle: &saved.bundle,
        rootfs: saved.bundle.join(root.unwrap_or(Path::new("rootfs"))),
        created: &saved.created,
        annotations: saved.spec.annotations().as_ref().filter(|a| !a.is_empty()),
        owner: "",
    }
}

/// Says what is known of a container.
pub fn state(host: &Host, given: &Given) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    let text = serde_json::to_string_pretty(&describe(&saved, host.status(&saved)?)).step("encode the state")?;
    output::say(&format!("{text}\n"));
    Ok(0)
}

/// All containers.
pub fn list(host: &Host, given: &Given) -> Result<u8> {
    let all = host.all()?;
    if given.on("quiet") {
        all.iter().for_each(|saved| output::say(&format!("{}\n", saved.id)));
        return Ok(0);
    }
    let describe = |saved| host.status(saved).map(|status| describe(saved, status));
    let found = all.iter().map(describe).collect::<Result<Vec<_>>>()?;
    match given.one("format").unwrap_or("table") {
        "json" => output::say(&format!("{}\n", serde_json::to_string(&found).step("encode the list")?)),
        "table" => {
            let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            let mut rows = vec![titles.map(String::from).to_vec()];
            for container in &found {
                let bundle = container.bundle.display().to_string();
                let columns = [
                    container.id,
                    &container.pid.to_string(),
                    container.status,
                    &bundle,
                    container.created,
                    "root",
                ];
                rows.push(columns.map(String::from).to_vec());
            }
            output::say(&output::table(&rows));
        }
        other => return Err(Error::invalid(format!("invalid format option: {other}"))),
    }
    Ok(0)
}

/// A container's processes.
pub fn ps(host: &Host, given: &Given) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    let pids = saved.cgroup.pids()?;
    match given.one("format").unwrap_or("table") {
        "json" => output::say(&format!("{}\n", json!(pids))),
        "table" => output::say(&processes(&pids, &given.words[1..])?),
        other => return Err(Error::invalid(format!("invalid format option: {other}"))),
    }
    Ok(0)
}

/// What the host's `ps` says of these processes, in its own words.
fn processes(pids: &[i32], arguments: &[String]) -> Result<String> {
    let usual = ["-ef".to_owned()];
    let arguments = if arguments.is_empty() { &usual[..] } else { arguments };
    let ran = std::process::Command::new("ps")
        .args(arguments)
        .output()
        .step("run ps on the host")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !ran.status.success() {
        return Err(Error::invalid(format!("ps: {}", text(&ran.stderr).trim())));
    }
    let table = text(&ran.stdout);
    let mut lines = table.lines();
    let titles = lines.next().unwrap_or_default();
    let column = titles.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let own = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let kept: Vec<&str> = std::iter::once(titles).chain(lines.filter(own)).collect();
    Ok(kept.join("\n") + "\n")
}

/// What this runtime can (runtime specification, "Features").
pub fn features(_: &Host, _: &Given) -> Result<u8> {
    let capabilities: Vec<String> = runtime::known_capabilities();
    let value = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": runtime::known_mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": false },
            "seccomp": {
                "enabled": true,
                "supportedFlags": runtime::seccomp::supported_flags(),
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": [
                    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG",
                    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
                ],
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": { "org.berth.version": env!("CARGO_PKG_VERSION") },
    });
    output::say(&format!("{value:#}\n"));
    Ok(0)
}

/// Writes an example.
pub fn spec(_: &Host, given: &Given) -> Result<u8> {
    let path = Path::new(given.one("bundle").unwrap_or(".")).join("config.json");
    let mut example: Value = serde_json::from_str(include_str!("example.json")).step("read the example")?;
    if given.on("rootless") {
        for_a_user(&mut example);
    }
    let file = std::fs::File::create_new(&path);
    if file
        .as_ref()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists)
    {
        return Err(Error::conflict(format!(
            "file {} exists: remove it first",
            path.display()
        )));
    }
    let step = || format!("write {}", path.display());
    let text = format!("{example:#}\n");
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .step_with(step)?;
    Ok(0)
}

/// A user namespace in which the caller is root, and nothing that the host's root is needed for.
fn for_a_user(example: &mut Value) {
    let id = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    let linux = &mut example["linux"];
    linux["uidMappings"] = id(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = id(rustix::process::getegid().as_raw());
    if let Some(resources) = linux.as_object_mut() {
        resources.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|n| n["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    let bind = json!({
        "destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
    });
    if let Some(mounts) = example["mounts"].as_array_mut() {
        mounts.retain(|m| m["destination"] != "/sys/fs/cgroup");
        for mount in mounts {
            if mount["destination"] == "/sys" {
                *mount = bind.clone();
            }
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| !o.as_str().is_some_and(|o| o.starts_with("gid=")));
            }
        }
    }
}
