//! Findings of an image that belong to no program: modules of another kernel, runtimes that read cgroup v1 files.

use super::{finding, symptom};
use crate::finding::{Cause, Finding, Sure};
use crate::host::{Cgroup, Host};
use crate::scan::{File, What};
use crate::version::Version;

/// Kernel modules in the image that are not this kernel's.
pub fn modules(file: &File, host: &Host) -> Option<Finding> {
    let What::Modules(release) = &file.what else {
        return None;
    };
    (*release != host.release).then(|| Finding {
        asks: format!("the image has modules of Linux {release}"),
        lacks: format!("this is Linux {}", host.release),
        symptom: symptom("modprobe: FATAL: Module not found in directory /lib/modules", Some(1)),
        advice: "load modules on the host; if a program looks for them: -v /lib/modules:/lib/modules:ro".into(),
        ..finding(Cause::KernelModules, Sure::Unlikely, &file.path)
    })
}

/// Java runtimes that find limits in cgroup v1 files alone.
pub fn java(file: &File, host: &Host, entry: bool) -> Option<Finding> {
    let What::Java(version) = &file.what else { return None };
    if host.cgroup != Cgroup::V2 || reads_v2(version) {
        return None;
    }
    Some(Finding {
        asks: format!("Java {version} reads limits from cgroup v1 files"),
        lacks: "this host has cgroup v2 alone".into(),
        symptom: symptom(
            "it takes the host's memory and processors for its own, and is killed (137)",
            Some(137),
        ),
        advice: "-XX:MaxRAM=... and -XX:ActiveProcessorCount=..., or Java 8u372, 11.0.16, 15 or newer".into(),
        ..finding(
            Cause::CgroupReader,
            if entry { Sure::OnSomePath } else { Sure::Unlikely },
            &file.path,
        )
    })
}

fn reads_v2(version: &str) -> bool {
    let number = Version::parse(version).unwrap_or_default();
    match number {
        // 1.8.0_372
        Version(1, 8, _) => version
            .rsplit('_')
            .next()
            .and_then(|u| u.split('-').next()?.parse::<u32>().ok())
            .is_some_and(|u| u >= 372),
        Version(1, ..) => false,
        Version(8..=10, ..) => false,
        Version(11, minor, patch) => minor > 0 || patch >= 16,
        Version(12..=14, ..) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn java_learnt_of_cgroup_v2_in_three_branches() {
        for (version, knows) in [
            ("1.8.0_121", false),
            ("1.8.0_372", true),
            ("11.0.15", false),
            ("11.0.16", true),
            ("14.0.2", false),
            ("17.0.1", true),
        ] {
            assert_eq!(super::reads_v2(version), knows, "{version}");
        }
    }
}
