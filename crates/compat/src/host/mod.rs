//! What a host gives to programs: this one, by asking the kernel, or another, as the user describes it.

mod ask;
pub mod features;
mod probe;

use serde::{Deserialize, Serialize};

pub use ask::Asked;
pub use features::Feature;
pub use probe::qemu as qemu_path;

use crate::version::Version;

/// How the vsyscall page is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vsyscall {
    /// Calls work, and the page can be read.
    Emulate,
    /// Calls work.
    Xonly,
    /// It is not there: a call is a SIGSEGV.
    #[default]
    None,
}

impl Vsyscall {
    /// As on the kernel's command line.
    pub fn name(self) -> &'static str {
        match self {
            Vsyscall::Emulate => "emulate",
            Vsyscall::Xonly => "xonly",
            Vsyscall::None => "none",
        }
    }
}

/// Which hierarchies of cgroups are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    /// Version 1 alone.
    V1,
    /// Both.
    Hybrid,
    /// Version 2 alone.
    #[default]
    V2,
}

impl Cgroup {
    /// As a flag's value.
    pub fn name(self) -> &'static str {
        match self {
            Cgroup::V1 => "v1",
            Cgroup::Hybrid => "hybrid",
            Cgroup::V2 => "v2",
        }
    }
}

/// What programs can rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// `uname -r`, or the version that was asked for.
    pub release: String,
    /// Its numbers.
    pub kernel: Version,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// The page that old C libraries call.
    pub vsyscall: Vsyscall,
    /// Whether it executes 32 bit x86 programs.
    pub ia32: bool,
    /// Whether it executes x32 programs.
    pub x32: bool,
    /// x86-64-v1 to v4; 0 elsewhere.
    pub cpu_level: u8,
    /// Bytes.
    pub page_size: u64,
    /// Hierarchies.
    pub cgroup: Cgroup,
    /// Which engine's seccomp profile programs run under: `berth`, or a name of [`crate::facts::seccomp`].
    pub engine_seccomp: String,
    /// Architectures that the kernel hands to an interpreter (binfmt_misc).
    pub foreign: Vec<String>,
    /// Architectures whose qemu-user is installed.
    pub qemu: Vec<String>,
    /// The x86-64 level of the qemu-user for it; 0 if it is not installed.
    #[serde(default)]
    pub qemu_level: u8,
    /// Whether user namespaces have a binfmt_misc of their own, in which a container can have interpreters.
    #[serde(default)]
    pub own_binfmt: bool,
    /// Whether the modules that iptables-legacy needs are there or can be loaded; `None` when nobody knows.
    pub ip_tables: Option<bool>,
    /// The same of nf_tables.
    pub nf_tables: Option<bool>,
    /// Whether io_uring is allowed; `None` when nobody knows.
    pub io_uring: Option<bool>,
    /// Whether an unprivileged process may use userfaultfd.
    pub userfaultfd: Option<bool>,
    /// The limit of open files that a container gets.
    pub open_files: u64,
    /// Whether it is this machine's, without anything supposed.
    pub probed: bool,
}

impl Host {
    /// This machine.
    pub fn probe() -> Host {
        probe::host()
    }

    /// Changes without which a verdict for this host stays what it is: to know whether one is stale.
    pub fn fingerprint(&self) -> String {
        format!(
            "{} {} {} {}{} {} {} {} {} {} {}",
            self.release,
            self.architecture,
            self.vsyscall.name(),
            u8::from(self.ia32),
            u8::from(self.x32),
            self.cpu_level,
            self.page_size,
            self.cgroup.name(),
            self.engine_seccomp,
            self.foreign.join(","),
            self.qemu.join(","),
        )
    }

    /// In a few words.
    pub fn title(&self) -> String {
        let mut words = vec![format!("Linux {}", self.release), self.architecture.clone()];
        if self.architecture == "amd64" {
            words.push(format!("vsyscall={}", self.vsyscall.name()));
            words.push(format!("x86-64-v{}", self.cpu_level));
        }
        if self.page_size != 4096 {
            words.push(format!("{}k pages", self.page_size / 1024));
        }
        words.push(format!("cgroup {}", self.cgroup.name()));
        if self.engine_seccomp != "berth" {
            words.push(format!("seccomp {}", self.engine_seccomp));
        }
        words.join(", ")
    }
}

/// What qemu calls an architecture.
pub fn qemu_name(architecture: &str) -> Option<&'static str> {
    probe::QEMU.iter().find(|(a, _)| *a == architecture).map(|(_, q)| *q)
}

/// The architecture that `qemu-aarch64` and the like are for.
pub fn architecture_of_qemu(program: &str) -> Option<&'static str> {
    let name = program.strip_prefix("qemu-")?;
    probe::QEMU.iter().find(|(_, q)| *q == name).map(|(a, _)| *a)
}
