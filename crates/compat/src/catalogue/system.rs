//! Programs that expect a system of another time: systemd, iptables, removed files, limits, release numbers.

use super::{Look, finding, symptom};
use crate::finding::{Cause, Finding, Remedy, Sure};
use crate::host::Cgroup;
use crate::scan::Mark;
use crate::version::Version;

/// The first systemd that knows cgroup v2, and the first that knows nothing else.
const KNOWS_V2: Version = Version(226, 0, 0);
const NEEDS_V2: Version = Version(258, 0, 0);
const NEEDS_KERNEL: Version = Version(5, 4, 0);

/// systemd and cgroups.
pub fn systemd(look: &Look<'_>, found: &mut Vec<Finding>) {
    let version = look
        .closure
        .files
        .iter()
        .filter_map(|f| f.elf())
        .flat_map(|e| &e.marks)
        .find_map(|m| match m {
            Mark::Systemd(text) if look.file.name() == "systemd" || look.file.name() == "init" => Version::parse(text),
            _ => None,
        });
    let Some(version) = version else { return };
    // A systemd that nobody starts does no harm.
    let sure = if look.entry { Sure::OnStart } else { Sure::Unlikely };
    let number = version.0;
    if version < KNOWS_V2 {
        found.push(Finding {
            asks: format!("it is systemd {number}, which knows cgroup v1 alone"),
            lacks: match look.host.cgroup {
                Cgroup::V2 => "this host has cgroup v2 alone".into(),
                _ => "containers see version 2 of cgroups, and of version 1 what their limits need".into(),
            },
            symptom: symptom("Failed to mount cgroup at /sys/fs/cgroup/systemd; it hangs", None),
            remedy: Remedy::NamedHierarchy,
            advice: "an image with systemd 226 or newer; it also needs --tmpfs /run --tmpfs /run/lock --stop-signal SIGRTMIN+3".into(),
            ..finding(Cause::SystemdTooOld, sure, &look.file.path)
        });
    }
    if version < NEEDS_V2 {
        return;
    }
    let mut lacks = Vec::new();
    if look.host.cgroup == Cgroup::V1 {
        lacks.push("this host has cgroup v1 alone".to_owned());
    }
    if look.host.kernel < NEEDS_KERNEL {
        lacks.push(format!("this is Linux {}", look.host.kernel));
    }
    if !lacks.is_empty() {
        found.push(Finding {
            asks: format!("it is systemd {number}, which needs cgroup v2 and Linux {NEEDS_KERNEL}"),
            lacks: lacks.join("; "),
            symptom: symptom("it refuses to start", Some(1)),
            advice: "a host with cgroup v2 and a newer kernel, or an image with an older systemd".into(),
            ..finding(Cause::SystemdTooNew, sure, &look.file.path)
        });
    }
}

/// iptables of both sorts, and the kernel's modules.
pub fn firewall(look: &Look<'_>, found: &mut Vec<Finding>) {
    let (there, modules, seen) = match look.file.name() {
        "xtables-legacy-multi" | "xtables-multi" | "iptables-legacy" => (
            look.host.ip_tables,
            "ip_tables iptable_filter iptable_nat",
            "can't initialize iptables table `filter': Table does not exist",
        ),
        "xtables-nft-multi" | "iptables-nft" | "nft" => (
            look.host.nf_tables,
            "nf_tables nft_compat nft_counter nft_chain_nat",
            "RULE_APPEND failed (No such file or directory)",
        ),
        _ => return,
    };
    if there != Some(false) {
        return;
    }
    let sure = if look.entry { Sure::OnStart } else { Sure::OnSomePath };
    found.push(Finding {
        asks: "it programs the kernel's packet filter".into(),
        lacks: format!("the modules are not loaded: {modules}"),
        symptom: symptom(seen, Some(if seen.starts_with("can't") { 3 } else { 4 })),
        advice: format!("on the host: modprobe -a {modules}"),
        ..finding(Cause::FirewallModules, sure, &look.file.path)
    });
}

/// System calls and files that are no more.
pub fn removed(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(facts) = look.file.elf() else { return };
    for (import, gone) in [
        ("create_module", "2.6"),
        ("nfsservctl", "3.1"),
        ("query_module", "2.6"),
        ("sysctl", "5.5"),
        ("uselib", "newer kernels' configuration"),
    ] {
        if facts.imports.iter().any(|i| i == import) {
            found.push(Finding {
                asks: format!("it calls {import}"),
                lacks: format!("that went with Linux {gone}"),
                symptom: symptom(format!("{import}: Function not implemented"), None),
                advice: "rarely needed".into(),
                ..finding(Cause::Removed, Sure::Unlikely, &look.file.path)
            });
        }
    }
    for mark in &facts.marks {
        let Mark::RemovedFile(file) = mark else { continue };
        let gone = crate::scan::removed_in(file);
        found.push(Finding {
            asks: format!("it names {file}"),
            lacks: format!("that went with {gone}"),
            symptom: symptom(format!("{file}: No such file or directory"), None),
            advice: "rarely needed".into(),
            ..finding(Cause::Removed, Sure::Unlikely, &look.file.path)
        });
    }
}

/// io_uring and userfaultfd.
pub fn switched_off(look: &Look<'_>, found: &mut Vec<Finding>) {
    let uses = |start: &str| {
        look.file
            .elf()
            .is_some_and(|f| f.imports.iter().any(|i| i.starts_with(start)))
    };
    for (what, there, setting) in [
        ("io_uring", look.host.io_uring, "kernel.io_uring_disabled"),
        ("userfaultfd", look.host.userfaultfd, "vm.unprivileged_userfaultfd"),
    ] {
        if there == Some(false) && uses(what) {
            found.push(Finding {
                asks: format!("it uses {what}"),
                lacks: format!("this host has switched it off ({setting})"),
                symptom: symptom(
                    format!("{what}: Operation not permitted; most programs do without"),
                    None,
                ),
                advice: format!("on the host: sysctl {setting}, and a seccomp profile that allows it"),
                ..finding(Cause::SwitchedOff, Sure::OnSomePath, &look.file.path)
            });
        }
    }
}

/// Programs that walk through all files that could be open.
pub fn open_files(look: &Look<'_>, found: &mut Vec<Finding>) {
    let name = look.file.name();
    let walks = name.starts_with("python2") || ["yum", "xinetd", "mysqld", "mysqld_safe"].contains(&name);
    if !walks || !look.entry {
        return;
    }
    let high = look.host.open_files > 1 << 24;
    found.push(Finding {
        asks: format!("{name} closes or allocates for each file that could be open"),
        lacks: match high {
            true => format!("the limit is {}", look.host.open_files),
            false => {
                "nothing, with a limit of 1048576 open files; engines that leave it near 2^30 have the trouble".into()
            }
        },
        symptom: symptom("minutes for each child process; mysqld runs out of memory", None),
        remedy: if high {
            Remedy::OpenFiles { limit: 1 << 20 }
        } else {
            Remedy::NotAffected
        },
        advice: "--ulimit nofile=65536".into(),
        ..finding(Cause::OpenFiles, Sure::OnSomePath, &look.file.path)
    });
}

/// Programs that have a release number of Linux to compare with.
pub fn kernel_release(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(facts) = look.file.elf() else { return };
    let number = facts.marks.iter().find_map(|m| match m {
        Mark::Release(text) => Some(text),
        _ => None,
    });
    let Some(number) = number else { return };
    found.push(Finding {
        asks: format!("it asks for the release and has {number} to compare with"),
        lacks: format!("this is Linux {}", look.host.release),
        symptom: symptom("a wrong branch, if it takes the number literally", None),
        advice: format!("--kernel-release {}", number.trim_end_matches('.')),
        ..finding(Cause::KernelRelease, Sure::Unlikely, &look.file.path)
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::Host;
    use crate::facts::seccomp;
    use crate::judge::closure::Closure;
    use crate::scan::What;

    /// What is said of a program of that path with one import more, on a host like this one but for `change`.
    fn told(path: &str, import: &str, change: impl FnOnce(&mut Host)) -> Vec<(Cause, Remedy)> {
        let mut file = crate::scan::bytes(path, true, &std::fs::read("/bin/sh").unwrap()).unwrap();
        if let What::Elf(facts) = &mut file.what {
            facts.imports.push(import.into());
        }
        let file = Rc::new(file);
        let closure = Closure {
            files: vec![file.clone()],
            ..Closure::default()
        };
        let mut host = Host::probe();
        (host.ip_tables, host.nf_tables) = (Some(true), Some(true));
        (host.io_uring, host.userfaultfd) = (Some(true), Some(true));
        host.open_files = 1 << 20;
        change(&mut host);
        let look = Look {
            host: &host,
            profile: &seccomp::PROFILES[0],
            file: &file,
            closure: &closure,
            entry: true,
            analysis: None,
        };
        let mut found = Vec::new();
        for check in [firewall, switched_off, open_files] {
            check(&look, &mut found);
        }
        assert!(
            found
                .iter()
                .all(|f| !f.asks.is_empty() && !f.lacks.is_empty() && !f.advice.is_empty())
        );
        found.into_iter().map(|f| (f.cause, f.remedy)).collect()
    }

    #[test]
    fn what_a_host_has_not_loaded_or_has_switched_off_is_told() {
        let (legacy, nft) = ("/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi");
        let modules = vec![(Cause::FirewallModules, Remedy::None)];
        assert_eq!(told(legacy, "x", |host| host.ip_tables = Some(false)), modules);
        assert_eq!(told(nft, "x", |host| host.nf_tables = Some(false)), modules);
        assert_eq!(told(legacy, "x", |host| host.nf_tables = Some(false)), []);
        assert_eq!(told(nft, "x", |host| host.nf_tables = None), []);
        let off = vec![(Cause::SwitchedOff, Remedy::None)];
        assert_eq!(
            told("/bin/db", "io_uring_queue_init", |host| host.io_uring = Some(false)),
            off
        );
        assert_eq!(
            told("/bin/db", "userfaultfd", |host| host.userfaultfd = Some(false)),
            off
        );
        assert_eq!(told("/bin/db", "x", |host| host.io_uring = Some(false)), []);
    }

    #[test]
    fn programs_that_walk_through_all_open_files_get_a_limit() {
        let python = |limit| told("/usr/bin/python2.7", "x", |host| host.open_files = limit);
        assert_eq!(
            python(1 << 30),
            [(Cause::OpenFiles, Remedy::OpenFiles { limit: 1 << 20 })]
        );
        assert_eq!(python(1 << 20), [(Cause::OpenFiles, Remedy::NotAffected)]);
    }
}
