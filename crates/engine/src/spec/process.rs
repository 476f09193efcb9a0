//! The process of the document: command, environment, user, limits.

use std::path::{Component, Path, PathBuf};

use bollard_stubs::models::ResourcesUlimits;
use errdefs::{Error, Kind, Result, Step};
use runtime::oci::{Capability, LinuxCapabilities, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User};

use super::user::{Identity, ReadFile, look_up};
use super::{capabilities, privileged};
use crate::container::{ExecOptions, Record};

/// Docker's, where the image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs of all ages get along with this many; beyond it some loop over all descriptors for seconds.
const OPEN_FILES: u64 = 1_048_576;

/// The container's own process.
/// `linked`: variables of links.
pub fn process(record: &Record, read: &ReadFile<'_>, caps: &[Capability], linked: &[String]) -> Result<Process> {
    let (body, host) = (&record.body, record.host());
    let further = host.group_add.as_deref().unwrap_or_default();
    let identity = look_up(read, body.user.as_deref().unwrap_or_default(), further)?;
    let mut process = Process::default();
    process.set_terminal(Some(record.tty()));
    process.set_args(Some(record.args()));
    process.set_cwd(clean(
        body.working_dir.as_deref().filter(|d| !d.is_empty()).unwrap_or("/"),
    ));
    process.set_env(Some(environment(
        record,
        record.tty(),
        linked,
        body.env.as_deref().unwrap_or_default(),
        &identity.home,
    )));
    process.set_user(user(&identity));
    process.set_capabilities(Some(sets(caps, identity.uid)));
    process.set_rlimits(Some(rlimits(host.ulimits.as_deref().unwrap_or_default())?));
    process.set_no_new_privileges(Some(no_new_privileges(record)));
    process.set_oom_score_adj(host.oom_score_adj.map(|s| s as i32).filter(|s| *s != 0));
    Ok(process)
}

/// A process added to a running container. Its environment is the container's, then its own.
pub fn exec_process(record: &Record, read: &ReadFile<'_>, options: &ExecOptions, linked: &[String]) -> Result<Process> {
    let (body, host) = (&record.body, record.host());
    let user_name = options.user.as_deref().or(body.user.as_deref()).unwrap_or_default();
    let further = host
        .group_add
        .as_deref()
        .filter(|_| options.user.is_none())
        .unwrap_or_default();
    let identity = look_up(read, user_name, further)?;
    let mut env = body.env.clone().unwrap_or_default();
    for entry in &options.env {
        set(&mut env, entry);
    }
    let mut process = Process::default();
    process.set_terminal(Some(options.tty));
    process.set_args(Some(options.command.clone()));
    let cwd = options
        .workdir
        .as_deref()
        .or(body.working_dir.as_deref())
        .filter(|d| !d.is_empty())
        .unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(Error::new(
            Kind::ProcessNotAdded,
            format!("Cwd must be an absolute path: {cwd}"),
        ));
    }
    process.set_cwd(clean(cwd));
    process.set_env(Some(environment(record, options.tty, linked, &env, &identity.home)));
    process.set_user(user(&identity));
    let host_config = bollard_stubs::models::HostConfig {
        privileged: Some(options.privileged || privileged(host)),
        ..host.clone()
    };
    process.set_capabilities(Some(sets(&capabilities(&host_config)?, identity.uid)));
    process.set_rlimits(Some(rlimits(host.ulimits.as_deref().unwrap_or_default())?));
    process.set_no_new_privileges(Some(no_new_privileges(record)));
    process.set_oom_score_adj(host.oom_score_adj.map(|s| s as i32).filter(|s| *s != 0));
    Ok(process)
}

/// A directory without `.` and `..`, taken by their names as Docker does.
fn clean(dir: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(dir).components() {
        match part {
            Component::ParentDir => _ = clean.pop(),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Whether setuid programs and file capabilities give nothing (prctl(2), `PR_SET_NO_NEW_PRIVS`).
fn no_new_privileges(record: &Record) -> bool {
    let options = record.host().security_opt.iter().flatten();
    options
        .filter_map(|o| o.strip_prefix("no-new-privileges"))
        .any(|v| ["", ":true", "=true"].contains(&v))
}

/// `PATH`, `HOSTNAME`, `TERM`, those of links, then what was asked for, then `HOME`: Docker's order.
fn environment(record: &Record, tty: bool, linked: &[String], asked: &[String], home: &str) -> Vec<String> {
    let mut env = vec![PATH.to_owned()];
    env.extend(record.body.hostname.iter().map(|h| format!("HOSTNAME={h}")));
    if tty {
        env.push("TERM=xterm".into());
    }
    for entry in linked.iter().chain(asked) {
        set(&mut env, entry);
    }
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Replaces or appends `NAME=value`; a bare `NAME` takes it away.
fn set(env: &mut Vec<String>, entry: &str) {
    let (name, value) = entry.split_once('=').map_or((entry, None), |(n, v)| (n, Some(v)));
    let place = env.iter().position(|e| e.split('=').next() == Some(name));
    match (place, value) {
        (Some(i), Some(_)) => env[i] = entry.to_owned(),
        (Some(i), None) => drop(env.remove(i)),
        (None, Some(_)) => env.push(entry.to_owned()),
        (None, None) => {}
    }
}

fn user(identity: &Identity) -> User {
    let mut user = User::default();
    user.set_uid(identity.uid);
    user.set_gid(identity.gid);
    // With its own group among the further ones: what a file denies to that group stays denied when a set-group-id
    // program made another one its own (CVE-2022-36109).
    let others = identity.groups.iter().copied().filter(|g| *g != identity.gid);
    user.set_additional_gids(Some(std::iter::once(identity.gid).chain(others).collect()));
    user
}

/// Bounding, and for root effective and permitted; nothing inheritable (CVE-2022-24769), nothing ambient. Others gain
/// capabilities by executing what has them, as far as the bounding set goes.
fn sets(caps: &[Capability], uid: u32) -> LinuxCapabilities {
    let set = |held: bool| held.then(|| caps.iter().copied().collect());
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(set(true));
    sets.set_effective(set(uid == 0));
    sets.set_permitted(set(uid == 0));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

/// What was asked for, and the limit on open files.
fn rlimits(asked: &[ResourcesUlimits]) -> Result<Vec<PosixRlimit>> {
    let limit = |typ, soft: u64, hard: u64| {
        PosixRlimitBuilder::default()
            .typ(typ)
            .soft(soft)
            .hard(hard)
            .build()
            .step("describe a limit")
    };
    let mut list = Vec::new();
    for ulimit in asked {
        let typ = rlimit_type(ulimit.name.as_deref().unwrap_or_default())?;
        // -1 is Docker's word for no limit, and the kernel's, too: RLIM_INFINITY.
        list.push(limit(
            typ,
            ulimit.soft.unwrap_or(-1) as u64,
            ulimit.hard.unwrap_or(-1) as u64,
        )?);
    }
    if !list.iter().any(|l| l.typ() == PosixRlimitType::RlimitNofile) {
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .maximum
            .unwrap_or(u64::MAX);
        let files = OPEN_FILES.min(hard);
        list.push(limit(PosixRlimitType::RlimitNofile, files, files)?);
    }
    Ok(list)
}

/// A limit that is known, the soft one not above the hard one.
pub fn check_ulimit(ulimit: &ResourcesUlimits) -> Result<()> {
    let name = ulimit.name.as_deref().unwrap_or_default();
    rlimit_type(name)?;
    let (soft, hard) = (ulimit.soft.unwrap_or(-1), ulimit.hard.unwrap_or(-1));
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {name} {soft} > {hard}"
        )));
    }
    Ok(())
}

/// By Docker's name for `--ulimit`.
fn rlimit_type(name: &str) -> Result<PosixRlimitType> {
    use PosixRlimitType::*;
    const NAMES: &[(&str, PosixRlimitType)] = &[
        ("core", RlimitCore),
        ("cpu", RlimitCpu),
        ("data", RlimitData),
        ("fsize", RlimitFsize),
        ("locks", RlimitLocks),
        ("memlock", RlimitMemlock),
        ("msgqueue", RlimitMsgqueue),
        ("nice", RlimitNice),
        ("nofile", RlimitNofile),
        ("nproc", RlimitNproc),
        ("rss", RlimitRss),
        ("rtprio", RlimitRtprio),
        ("rttime", RlimitRttime),
        ("sigpending", RlimitSigpending),
        ("stack", RlimitStack),
        ("as", RlimitAs),
    ];
    let found = NAMES.iter().find(|(n, _)| *n == name);
    found
        .map(|(_, typ)| *typ)
        .ok_or_else(|| Error::invalid(format!("invalid ulimit type: {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_in_place_and_bare_names_take_away() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        for entry in ["A=3", "B", "C=4=5", "D"] {
            set(&mut env, entry);
        }
        assert_eq!(env, ["A=3", "C=4=5"]);
    }

    #[test]
    fn directories_are_taken_by_their_names() {
        for (dir, expected) in [("/a/../b/./c/", "/b/c"), ("/../../x", "/x"), ("/..", "/"), ("/", "/")] {
            assert_eq!(clean(dir), Path::new(expected));
        }
    }

    #[test]
    fn open_files_have_a_limit_unless_asked_otherwise() {
        let limits = rlimits(&[]).unwrap();
        assert!(limits[0].soft() <= OPEN_FILES && limits[0].soft() == limits[0].hard());
        let asked = ResourcesUlimits {
            name: Some("nofile".into()),
            soft: Some(10),
            hard: Some(20),
        };
        let limits = rlimits(&[asked]).unwrap();
        assert_eq!((limits.len(), limits[0].soft(), limits[0].hard()), (1, 10, 20));
    }
}
