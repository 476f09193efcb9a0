//! Another host, as the user describes it: `--kernel 5.10 --vsyscall none ...`.

use errdefs::{Error, Result};

use super::{Cgroup, Host, Vsyscall};
use crate::facts;
use crate::version::Version;

/// What the user says about the host; the rest is this machine's, or what is usual for that kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `5.10`.
    pub kernel: Option<String>,
    /// `none`, `xonly`, `emulate`.
    pub vsyscall: Option<String>,
    /// `x86-64-v2` or `v2`.
    pub cpu: Option<String>,
    /// `16k`, `65536`.
    pub page_size: Option<String>,
    /// `v1`, `v2`, `hybrid`.
    pub cgroup: Option<String>,
    /// `docker-20.10`.
    pub engine_seccomp: Option<String>,
    /// `on` or `off`: 32 bit x86 programs.
    pub ia32: Option<String>,
    /// `amd64`, `arm64`: the host's own.
    pub architecture: Option<String>,
}

impl Asked {
    /// Whether anything was said.
    pub fn is_empty(&self) -> bool {
        *self == Asked::default()
    }

    /// That host.
    pub fn host(&self, mut host: Host) -> Result<Host> {
        let bad = |flag: &str, value: &str, known: &str| {
            Error::flag(format!("invalid argument {value:?} for \"--{flag}\" flag")).hint(format!("known are {known}"))
        };
        if self.is_empty() {
            return Ok(host);
        }
        host.probed = false;
        if let Some(text) = &self.architecture {
            host = elsewhere(host, text).ok_or_else(|| bad("arch", text, "amd64 and arm64"))?;
        }
        if let Some(text) = &self.kernel {
            let number = Version::parse(text).ok_or_else(|| bad("kernel", text, "numbers such as 5.10"))?;
            host = at_kernel(host, text, number);
        }
        if let Some(text) = &self.vsyscall {
            host.vsyscall = match text.as_str() {
                "none" => Vsyscall::None,
                "xonly" => Vsyscall::Xonly,
                "emulate" => Vsyscall::Emulate,
                _ => return Err(bad("vsyscall", text, "none, xonly and emulate")),
            };
        }
        if let Some(text) = &self.cpu {
            host.cpu_level = level(text).ok_or_else(|| bad("cpu", text, "x86-64-v1 to x86-64-v4"))?;
        }
        if let Some(text) = &self.page_size {
            host.page_size = bytes(text).ok_or_else(|| bad("page-size", text, "4k, 16k and 64k"))?;
        }
        if let Some(text) = &self.cgroup {
            host.cgroup = match text.trim_start_matches('v') {
                "1" => Cgroup::V1,
                "2" => Cgroup::V2,
                "hybrid" => Cgroup::Hybrid,
                _ => return Err(bad("cgroup", text, "v1, v2 and hybrid")),
            };
        }
        if let Some(text) = &self.engine_seccomp {
            let known = facts::seccomp::names();
            if !known.contains(&text.as_str()) {
                return Err(bad("engine-seccomp", text, &known.join(", ")));
            }
            host.engine_seccomp.clone_from(text);
        }
        if let Some(text) = &self.ia32 {
            host.ia32 = match text.as_str() {
                "on" | "1" | "true" => true,
                "off" | "0" | "false" => false,
                _ => return Err(bad("ia32", text, "on and off")),
            };
        }
        Ok(host)
    }
}

/// Another kernel on this machine: what depends on how that kernel is built is not known, or as distributions build it.
fn at_kernel(mut host: Host, text: &str, number: Version) -> Host {
    host.release = text.to_owned();
    host.kernel = number;
    // Distributions' kernels have had no vsyscall page since about 5.10, and one that can be executed before.
    host.vsyscall = if number >= Version(5, 5, 0) {
        Vsyscall::None
    } else {
        Vsyscall::Emulate
    };
    host.ia32 = host.architecture == "amd64";
    host.x32 = false;
    host.cgroup = if number >= Version(5, 2, 0) {
        Cgroup::V2
    } else {
        Cgroup::V1
    };
    host.own_binfmt = number >= Version(6, 7, 0);
    (host.ip_tables, host.nf_tables) = (None, None);
    (host.io_uring, host.userfaultfd) = (None, None);
    host
}

fn elsewhere(mut host: Host, architecture: &str) -> Option<Host> {
    let name = match architecture {
        "amd64" | "x86_64" => "amd64",
        "arm64" | "aarch64" => "arm64",
        _ => return None,
    };
    if name == host.architecture {
        return Some(host);
    }
    host.architecture = name.into();
    (host.ia32, host.x32) = (name == "amd64", false);
    host.cpu_level = if name == "amd64" { 1 } else { 0 };
    host.vsyscall = Vsyscall::None;
    host.foreign.clear();
    host.qemu.clear();
    host.qemu_level = 0;
    Some(host)
}

fn level(text: &str) -> Option<u8> {
    let digit = text.strip_prefix("x86-64").unwrap_or(text).trim_start_matches('-');
    match digit.trim_start_matches('v') {
        "" if text == "x86-64" => Some(1),
        "1" => Some(1),
        "2" => Some(2),
        "3" => Some(3),
        "4" => Some(4),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.strip_suffix('k') {
        Some(digits) => (digits, 1024),
        None => (lower.as_str(), 1),
    };
    let size = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (size.is_power_of_two() && (4096..=1 << 20).contains(&size)).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_replaces_what_is_here() {
        let asked = Asked {
            kernel: Some("5.10".into()),
            vsyscall: Some("xonly".into()),
            cpu: Some("x86-64-v1".into()),
            page_size: Some("16k".into()),
            cgroup: Some("v1".into()),
            engine_seccomp: Some("docker-20.10".into()),
            ia32: Some("off".into()),
            architecture: None,
        };
        let host = asked.host(Host::probe()).unwrap();
        assert_eq!(
            (host.kernel, host.vsyscall, host.cpu_level),
            (Version(5, 10, 0), Vsyscall::Xonly, 1)
        );
        assert_eq!(
            (host.page_size, host.cgroup, host.ia32, host.probed),
            (16384, Cgroup::V1, false, false)
        );
        assert_eq!(Asked::default().host(Host::probe()).unwrap(), Host::probe());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_known() {
        let cases = [
            Asked {
                vsyscall: Some("maybe".into()),
                ..Asked::default()
            },
            Asked {
                cpu: Some("x86-64-v5".into()),
                ..Asked::default()
            },
            Asked {
                page_size: Some("5k".into()),
                ..Asked::default()
            },
            Asked {
                cgroup: Some("3".into()),
                ..Asked::default()
            },
            Asked {
                engine_seccomp: Some("docker-1.0".into()),
                ..Asked::default()
            },
            Asked {
                kernel: Some("new".into()),
                ..Asked::default()
            },
            Asked {
                architecture: Some("vax".into()),
                ..Asked::default()
            },
        ];
        for asked in cases {
            let error = asked.host(Host::probe()).unwrap_err();
            assert!(error.find_hint().is_some(), "{error}");
        }
    }
}
