//! `info` and `version`.

use std::collections::HashMap;

use bollard_stubs::models::{
    LocalNodeState, PluginsInfo, Runtime, SwarmInfo, SystemInfo, SystemInfoCgroupDriverEnum,
    SystemInfoCgroupVersionEnum, SystemVersion, SystemVersionComponents, SystemVersionPlatform,
};
use errdefs::{Result, Step};

use crate::Engine;
use crate::container::LiveStatus;
use crate::container::record::now;

/// The version of Docker's API whose bodies these are.
const API_VERSION: &str = "1.51";
const MIN_API_VERSION: &str = "1.24";

impl Engine {
    /// What `docker info` shows.
    pub fn info(&self) -> Result<SystemInfo> {
        let containers = self.state.containers()?;
        let (mut running, mut paused) = (0, 0);
        for row in &containers {
            match self.alive(&row.id)?.map(|live| live.status) {
                Some(LiveStatus::Paused) => paused += 1,
                Some(_) => running += 1,
                None => {}
            }
        }
        let uname = rustix::system::uname();
        let text = |c: &std::ffi::CStr| Some(c.to_string_lossy().into_owned());
        let controllers = controllers();
        let has = |name: &str| Some(controllers.iter().any(|c| c == name));
        let v2_only = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let mut security = vec!["name=seccomp,profile=builtin".to_owned(), "name=userns".to_owned()];
        if v2_only {
            security.push("name=cgroupns".into());
        }
        Ok(SystemInfo {
            containers: Some(containers.len() as i64),
            containers_running: Some(running),
            containers_paused: Some(paused),
            containers_stopped: Some(containers.len() as i64 - running - paused),
            images: Some(self.images(&[], true)?.len() as i64),
            driver: Some("overlay".into()),
            docker_root_dir: Some(self.roots.data.to_string_lossy().into_owned()),
            plugins: Some(PluginsInfo {
                volume: Some(vec!["local".into()]),
                network: Some(["bridge", "host", "ipvlan", "macvlan", "null"].map(String::from).into()),
                log: Some(vec!["json-file".into(), "none".into()]),
                ..Default::default()
            }),
            system_time: Some(now()),
            logging_driver: Some("json-file".into()),
            cgroup_driver: Some(SystemInfoCgroupDriverEnum::CGROUPFS),
            cgroup_version: Some(if v2_only {
                SystemInfoCgroupVersionEnum::_2
            } else {
                SystemInfoCgroupVersionEnum::_1
            }),
            kernel_version: text(uname.release()),
            operating_system: Some(operating_system()),
            os_type: Some("linux".into()),
            architecture: text(uname.machine()),
            ncpu: Some(std::thread::available_parallelism().map_or(1, |n| n.get()) as i64),
            mem_total: Some(memory()),
            memory_limit: has("memory"),
            swap_limit: has("memory"),
            oom_kill_disable: Some(!v2_only && has("memory") == Some(true)),
            cpu_cfs_period: has("cpu"),
            cpu_cfs_quota: has("cpu"),
            cpu_shares: has("cpu"),
            cpu_set: has("cpuset"),
            pids_limit: has("pids"),
            ipv4_forwarding: Some(forwards()),
            name: text(uname.nodename()),
            server_version: Some(env!("CARGO_PKG_VERSION").into()),
            // What Docker's clients expect it to be called; it is called as runc, too.
            default_runtime: Some("runc".into()),
            security_options: Some(security),
            id: Some(self.identity()?),
            debug: Some(false),
            experimental_build: Some(false),
            // There is no daemon whose end containers could notice.
            live_restore_enabled: Some(true),
            index_server_address: Some("https://index.docker.io/v1/".into()),
            labels: Some(Vec::new()),
            http_proxy: Some(String::new()),
            https_proxy: Some(String::new()),
            no_proxy: Some(String::new()),
            os_version: Some(String::new()),
            init_binary: Some(String::new()),
            n_events_listener: Some(0),
            nfd: Some(0),
            n_goroutines: Some(0),
            swarm: Some(SwarmInfo {
                local_node_state: Some(LocalNodeState::INACTIVE),
                ..Default::default()
            }),
            runtimes: Some(HashMap::from([(
                "runc".to_owned(),
                Runtime {
                    path: Some("berth oci".into()),
                    ..Default::default()
                },
            )])),
            warnings: Some(Vec::new()),
            ..Default::default()
        })
    }

    /// An id that nobody else has; made the first time.
    fn identity(&self) -> Result<String> {
        let path = self.roots.data.join("engine-id");
        if let Ok(id) = std::fs::read_to_string(&path) {
            return Ok(id.trim().to_owned());
        }
        let hex = crate::container::names::new_id()?;
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]];
        let id = parts.join("-");
        std::fs::write(&path, format!("{id}\n")).step("write the engine's id")?;
        Ok(id)
    }

    /// What `docker version` shows of a server.
    pub fn version(&self) -> SystemVersion {
        let uname = rustix::system::uname();
        let version = env!("CARGO_PKG_VERSION");
        let kernel = uname.release().to_string_lossy().into_owned();
        let details = [
            ("ApiVersion", API_VERSION),
            ("MinAPIVersion", MIN_API_VERSION),
            ("Arch", &::image::Platform::host().architecture),
            ("Os", "linux"),
            ("KernelVersion", &kernel),
            ("Experimental", "false"),
            ("BuildTime", ""),
            ("GitCommit", ""),
            ("GoVersion", ""),
        ];
        let details = details.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        SystemVersion {
            platform: Some(SystemVersionPlatform { name: "Berth".into() }),
            components: Some(vec![SystemVersionComponents {
                name: "Berth".into(),
                version: version.into(),
                details: Some(details),
            }]),
            version: Some(version.into()),
            api_version: Some(API_VERSION.into()),
            min_api_version: Some(MIN_API_VERSION.into()),
            // Clients read them, whatever they make of it.
            go_version: Some(String::new()),
            git_commit: Some(String::new()),
            build_time: Some(String::new()),
            experimental: Some(false),
            os: Some("linux".into()),
            arch: Some(::image::Platform::host().architecture),
            kernel_version: Some(kernel),
        }
    }
}

/// What limits can be set of, in version 1 or 2 of control groups.
fn controllers() -> Vec<String> {
    let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let v1 = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    // Name, hierarchy, groups, whether it is on.
    let on = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| !name.starts_with('#'))?;
        (words.nth(2) == Some("1")).then(|| name.to_owned())
    };
    let v2 = v2.split_ascii_whitespace().map(String::from);
    v2.chain(v1.lines().filter_map(on)).collect()
}

fn forwards() -> bool {
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    forward.is_ok_and(|text| text.trim() == "1")
}

/// os-release(5).
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |n| n.trim_matches('"').to_owned())
}

/// Bytes of memory (proc_meminfo(5)).
pub(crate) fn memory() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().split(' ').next()?.parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}
