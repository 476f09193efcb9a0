//! `--security-opt seccomp=...`: none, the default profile, or one in Docker's format (with `includes`, `excludes`).

use bollard_stubs::models::HostConfig;
use compat::facts::syscalls as calls;
use errdefs::{Error, Result, Step};
use runtime::oci::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};
use serde::Deserialize;
use std::collections::HashSet;

use super::privileged;
use crate::mend::Asked;

/// The filter of the container's processes; `None` for none.
pub fn filter(host: &HostConfig, caps: &[Capability]) -> Result<Option<LinuxSeccomp>> {
    let asked = host
        .security_opt
        .iter()
        .flatten()
        .rev()
        .find_map(|o| o.strip_prefix("seccomp=").or(o.strip_prefix("seccomp:")));
    match asked {
        Some("unconfined") => Ok(None),
        None | Some("builtin") if privileged(host) => Ok(None),
        None | Some("builtin") => Ok(Some(runtime::seccomp::default_profile(caps))),
        Some(json) => profile(json, caps).map(Some),
    }
}

/// The filter of a container that is to see another kernel: `uname` is passed on to its monitor, and what that kernel does
/// not have is not there, whatever else is allowed.
pub fn adapt(filter: Option<LinuxSeccomp>, asked: &Asked) -> Option<LinuxSeccomp> {
    if asked.release.is_none() {
        return filter;
    }
    let mut filter = filter.unwrap_or_else(|| {
        let mut open = LinuxSeccomp::default();
        open.set_default_action(LinuxSeccompAction::ScmpActAllow);
        open.set_architectures(Some(SIBLINGS.to_vec()));
        open
    });
    let newer = asked.as_kernel.map(calls::newer_than).unwrap_or_default();
    let newer: HashSet<&str> = newer.into_iter().collect();
    let mut rules = filter.syscalls().clone().unwrap_or_default();
    for rule in &mut rules {
        let others = rule
            .names()
            .iter()
            .filter(|n| *n != "uname" && !newer.contains(n.as_str()));
        rule.set_names(others.cloned().collect());
    }
    let mut rule = |names: Vec<String>, action, errno| {
        let mut rule = LinuxSyscall::default();
        rule.set_names(names);
        rule.set_action(action);
        rule.set_errno_ret(errno);
        rules.push(rule);
    };
    rule(vec!["uname".into()], LinuxSeccompAction::ScmpActNotify, None);
    let newer = newer.into_iter().map(String::from).collect();
    rule(newer, LinuxSeccompAction::ScmpActErrno, Some(ENOSYS));
    filter.set_syscalls(Some(rules));
    Some(filter)
}

/// A profile in Docker's format (moby `profiles/seccomp/seccomp.go`); the OCI's own is a part of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<runtime::oci::LinuxSeccompFilterFlag>>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<Capability>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

fn profile(json: &str, caps: &[Capability]) -> Result<LinuxSeccomp> {
    let decoding = || "Decoding seccomp profile failed".to_owned();
    let profile: Profile = serde_json::from_str(json)
        .step_with(decoding)
        .map_err(|e| e.kind_is(errdefs::Kind::Invalid))?;
    if profile.architectures.is_some() && profile.arch_map.is_some() {
        return Err(Error::invalid(
            "use either 'architectures' or 'archMap', not both, in the seccomp profile",
        ));
    }
    let mut architectures = profile.architectures.unwrap_or_default();
    for map in profile
        .arch_map
        .into_iter()
        .flatten()
        .filter(|m| m.architecture == NATIVE)
    {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures.unwrap_or_default());
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        let included = rule.includes.as_ref().is_none_or(|c| c.all_hold(caps));
        let excluded = rule.excludes.as_ref().is_some_and(|c| c.any_holds(caps));
        if !included || excluded {
            continue;
        }
        let mut call = LinuxSyscall::default();
        call.set_names(rule.name.into_iter().chain(rule.names).collect());
        call.set_action(rule.action);
        call.set_errno_ret(rule.errno_ret);
        call.set_args(rule.args.filter(|a| !a.is_empty()));
        syscalls.push(call);
    }
    syscalls.extend(unknown(&profile.default_action, profile.default_errno_ret, &syscalls));
    let mut filter = LinuxSeccomp::default();
    filter.set_default_action(profile.default_action);
    filter.set_default_errno_ret(profile.default_errno_ret);
    filter.set_architectures(Some(architectures).filter(|a| !a.is_empty()));
    filter.set_flags(profile.flags);
    filter.set_syscalls(Some(syscalls));
    Ok(filter)
}

/// Calls that the profile does not name and that are younger than it may be: C libraries take ENOSYS for "not there" and go
/// another way, and EPERM for an answer.
fn unknown(action: &LinuxSeccompAction, errno: Option<u32>, rules: &[LinuxSyscall]) -> Option<LinuxSyscall> {
    let forbids = *action == LinuxSeccompAction::ScmpActErrno && errno.is_none_or(|e| e == EPERM);
    let named: HashSet<&str> = rules.iter().flat_map(|r| r.names()).map(String::as_str).collect();
    let names = runtime::seccomp::recent_calls()
        .into_iter()
        .filter(|n| !named.contains(n));
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.map(String::from).collect());
    rule.set_action(LinuxSeccompAction::ScmpActErrno);
    rule.set_errno_ret(Some(ENOSYS));
    (forbids && !rule.names().is_empty()).then_some(rule)
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[cfg(target_arch = "x86_64")]
const NATIVE: Arch = Arch::ScmpArchX86_64;
#[cfg(target_arch = "x86_64")]
const SIBLINGS: &[Arch] = &[Arch::ScmpArchX86_64, Arch::ScmpArchX86];
#[cfg(target_arch = "aarch64")]
const SIBLINGS: &[Arch] = &[Arch::ScmpArchAarch64, Arch::ScmpArchArm];
#[cfg(target_arch = "aarch64")]
const NATIVE: Arch = Arch::ScmpArchAarch64;

/// Go's name of this processor, as profiles write it.
const GO_ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

impl Condition {
    /// Each condition that is stated holds.
    fn all_hold(&self, caps: &[Capability]) -> bool {
        self.caps.iter().flatten().all(|c| caps.contains(c))
            && self
                .arches
                .as_ref()
                .is_none_or(|a| a.is_empty() || a.iter().any(|a| a == GO_ARCH))
            && self.min_kernel.as_deref().is_none_or(kernel_at_least)
    }

    /// One of the conditions that are stated holds.
    fn any_holds(&self, caps: &[Capability]) -> bool {
        self.caps.iter().flatten().any(|c| caps.contains(c))
            || self.arches.iter().flatten().any(|a| a == GO_ARCH)
            || self.min_kernel.as_deref().is_some_and(kernel_at_least)
    }
}

/// `minKernel` is the one place where a profile asks for a version; there is nothing to probe.
fn kernel_at_least(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let parts = text.split(|c: char| !c.is_ascii_digit()).take(2);
        parts.map(|p| p.parse().unwrap_or(0)).collect()
    };
    let uname = rustix::system::uname();
    numbers(&uname.release().to_string_lossy()) >= numbers(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_conditions_are_resolved() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],"syscalls":[
            {"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["far"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]}"#;
        let names = |caps: &[Capability]| -> Vec<String> {
            profile(json, caps)
                .unwrap()
                .syscalls()
                .iter()
                .flatten()
                .filter(|s| s.action() == LinuxSeccompAction::ScmpActAllow)
                .flat_map(|s| s.names().clone())
                .collect()
        };
        assert_eq!(names(&[]), ["read", "write", "clone", "ptrace"]);
        assert_eq!(names(&[Capability::SysAdmin]), ["read", "write", "mount", "ptrace"]);
        assert!(
            profile("{", &[])
                .unwrap_err()
                .to_string()
                .starts_with("Decoding seccomp profile failed")
        );
    }
}
