//! What `berth info --kernel` shows: each feature with its state, and how that is known.

use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::Host;
use super::probe::sysctl;

/// Largest kernel configuration that is read.
const CONFIG: u64 = 4 << 20;

/// One thing that a kernel has, has not, or has in some way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Feature {
    /// The group that it is shown in.
    pub group: &'static str,
    /// Its name.
    pub name: String,
    /// `yes`, `no`, or a value.
    pub value: String,
    /// How that is known.
    pub how: String,
}

/// All that is shown, in order.
pub fn features(host: &Host) -> Vec<Feature> {
    let mut list = List::default();
    programs(&mut list, host);
    isolation(&mut list, host);
    calls(&mut list);
    modules(&mut list, host);
    sysctls(&mut list);
    configuration(&mut list);
    list.features
}

#[derive(Default)]
struct List {
    group: &'static str,
    features: Vec<Feature>,
}

impl List {
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>, how: impl Into<String>) {
        self.features.push(Feature {
            group: self.group,
            name: name.into(),
            value: value.into(),
            how: how.into(),
        });
    }

    fn yes(&mut self, name: &str, value: bool, how: &str) {
        self.add(name, if value { "yes" } else { "no" }, how);
    }
}

fn programs(list: &mut List, host: &Host) {
    list.group = "Programs";
    list.add("kernel", host.release.clone(), "uname");
    list.add("architecture", host.architecture.clone(), "uname");
    list.add("vsyscall", host.vsyscall.name(), "/proc/self/maps");
    list.yes("ia32 (32 bit x86 programs)", host.ia32, "executed one");
    list.yes("x32 programs", host.x32, "executed one");
    if host.cpu_level > 0 {
        list.add("processor level", format!("x86-64-v{}", host.cpu_level), "cpuid");
    }
    list.add("page size", host.page_size.to_string(), "auxiliary vector");
    list.add(
        "foreign architectures (binfmt_misc)",
        some(&host.foreign),
        "/proc/sys/fs/binfmt_misc",
    );
    list.add("qemu-user installed", some(&host.qemu), "files");
    list.yes("binfmt_misc of a container's own", host.own_binfmt, "made one");
}

fn some(words: &[String]) -> String {
    if words.is_empty() {
        "none".into()
    } else {
        words.join(" ")
    }
}

fn isolation(list: &mut List, host: &Host) {
    list.group = "Isolation";
    list.add("cgroup", host.cgroup.name(), "/proc/self/mountinfo");
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    if let Ok(text) = controllers.or_else(|_| std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers")) {
        list.add("cgroup v2 controllers", text.trim(), "cgroup.controllers");
    }
    let v1 = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let v1: Vec<&str> = v1
        .lines()
        .skip(1)
        .filter(|l| l.ends_with('1'))
        .filter_map(|l| l.split('\t').next())
        .collect();
    list.add("cgroup controllers compiled in", v1.join(" "), "/proc/cgroups");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        list.yes(
            &format!("{name} namespaces"),
            Path::new("/proc/self/ns").join(name).exists(),
            "/proc/self/ns",
        );
    }
    let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| systems.lines().any(|l| l.split('\t').next_back() == Some(name));
    list.yes("overlay", has("overlay"), "/proc/filesystems");
    list.yes(
        "idmapped mounts",
        sys::probe::knows("mount_setattr") == Some(true),
        "mount_setattr",
    );
    let actions = sysctl("kernel/seccomp/actions_avail");
    list.add(
        "seccomp actions",
        actions.unwrap_or_else(|| "none".into()),
        "/proc/sys/kernel/seccomp/actions_avail",
    );
    let lsm = std::fs::read_to_string("/sys/kernel/security/lsm");
    list.add(
        "security modules",
        lsm.map_or("not told".into(), |t| t.trim().to_owned()),
        "/sys/kernel/security/lsm",
    );
}

fn calls(list: &mut List) {
    list.group = "System calls";
    for name in sys::probe::names() {
        match sys::probe::knows(name) {
            Some(known) => list.yes(name, known, "called"),
            None => list.add(name, "not on this architecture", "table"),
        }
    }
}

fn modules(list: &mut List, host: &Host) {
    list.group = "Modules";
    let told = |value: Option<bool>| match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let how = "/proc/modules, /lib/modules";
    list.add("ip_tables (iptables-legacy)", told(host.ip_tables), how);
    list.add("nf_tables", told(host.nf_tables), how);
    let loaded = std::fs::read_to_string("/proc/modules").map_or(0, |t| t.lines().count());
    list.add("loaded", loaded.to_string(), "/proc/modules");
}

/// Those that decide whether programs in containers run.
const SYSCTLS: &[&str] = &[
    "fs/file-max",
    "fs/nr_open",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/io_uring_disabled",
    "kernel/modules_disabled",
    "kernel/pid_max",
    "kernel/perf_event_paranoid",
    "kernel/unprivileged_bpf_disabled",
    "kernel/unprivileged_userns_clone",
    "kernel/yama/ptrace_scope",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_unprivileged_port_start",
    "user/max_user_namespaces",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/unprivileged_userfaultfd",
];

fn sysctls(list: &mut List) {
    list.group = "Settings";
    for name in SYSCTLS {
        if let Some(value) = sysctl(name) {
            list.add(name.replace('/', "."), value, "/proc/sys");
        }
    }
}

/// What only the kernel's configuration tells.
const OPTIONS: &[&str] = &[
    "LEGACY_VSYSCALL_NONE",
    "LEGACY_VSYSCALL_XONLY",
    "IA32_EMULATION",
    "IA32_EMULATION_DEFAULT_DISABLED",
    "X86_X32_ABI",
    "OVERLAY_FS",
    "USER_NS",
    "TIME_NS",
    "MEMCG_V1",
    "CPUSETS_V1",
    "CFS_BANDWIDTH",
    "BPF_SYSCALL",
    "SECRETMEM",
    "UID16",
    "MODIFY_LDT_SYSCALL",
    "LEGACY_PTYS",
    "USELIB",
    "BINFMT_MISC",
];

fn configuration(list: &mut List) {
    list.group = "Configuration";
    let Some((text, how)) = config() else {
        list.add("configuration", "not told", "/proc/config.gz, /boot/config-*");
        return;
    };
    for option in OPTIONS {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("CONFIG_")?.strip_prefix(option)?.strip_prefix('='));
        list.add(*option, line.unwrap_or("n"), how.clone());
    }
}

fn config() -> Option<(String, String)> {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open("/proc/config.gz") {
        flate2::read::GzDecoder::new(file)
            .take(CONFIG)
            .read_to_string(&mut text)
            .ok()?;
        return Some((text, "/proc/config.gz".into()));
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let paths = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    paths.into_iter().find_map(|path| {
        let mut text = String::new();
        std::fs::File::open(&path)
            .ok()?
            .take(CONFIG)
            .read_to_string(&mut text)
            .ok()?;
        Some((text, path))
    })
}
