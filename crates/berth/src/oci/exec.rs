//! `exec`: one more process in a container.

use errdefs::{ErrnoStep, Error, Result};
use runtime::cgroup::Below;
use runtime::{Exec, oci};
use rustix::process::{Pid, PidfdFlags};

use super::state::{Saved, Status, wrong_state};
use super::{Host, document, listener, own_program, streams, write_pid};
use crate::cli::flag::Given;

/// Starts it; its exit code, unless detached.
pub fn exec(host: &Host, given: &Given) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    match host.status(&saved)? {
        Status::Running | Status::Created => {}
        Status::Paused if given.on("ignore-paused") => {}
        Status::Paused => {
            return Err(wrong_state(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(wrong_state("cannot exec in a stopped container")),
    }
    own_program::protect(&saved.spec)?;
    let process = process(host, given, &saved)?;
    let detached = given.on("detach");
    let signals = if detached { None } else { Some(streams::signals()?) };
    let console = streams::Console::new(given, process.terminal().unwrap_or(false), detached)?;
    let pid = Pid::from_raw(saved.pid).ok_or_else(|| wrong_state("cannot exec in a stopped container"))?;
    let container = rustix::process::pidfd_open(pid, PidfdFlags::empty()).errno_step("find the container's process")?;
    // The number may have been used again since we looked.
    if !saved.alive() {
        return Err(wrong_state("cannot exec in a stopped container"));
    }
    let below = given.many("cgroup");
    let below = below
        .iter()
        .map(|text| Below::parse(text))
        .collect::<Result<Vec<_>>>()?;
    let filters = host.filters();
    let request = Exec {
        pid: saved.pid,
        pidfd: std::os::fd::AsFd::as_fd(&container),
        spec: &saved.spec,
        process: &process,
        stdio: console.stdio(Some(&process)),
        cgroup: &saved.cgroup,
        below: &below,
        outlives: true,
        preserved: streams::preserved(given)?,
        filters: Some(&filters),
        born: &mut |_| Ok(()),
    };
    let mut take = |pid, fd| listener::hand_over(&saved, pid, Status::Running, fd);
    let mut execed = runtime::exec(request, &mut take)?;
    console.hand_over(&mut execed.console)?;
    streams::send_pidfd(given, &execed.pidfd)?;
    write_pid(given, execed.pid)?;
    match signals {
        None => Ok(0),
        Some(signals) => streams::follow(&execed.pidfd, execed.console.as_ref(), &signals),
    }
}

/// That of the file, or the container's own with what the flags say.
fn process(host: &Host, given: &Given, saved: &Saved) -> Result<oci::Process> {
    if let Some(path) = given.one("process") {
        let read = document::process(path)?;
        read.warnings.iter().for_each(|warning| host.warn(warning));
        return Ok(read.document);
    }
    let arguments = &given.words[1..];
    if arguments.is_empty() {
        return Err(Error::invalid("process args cannot be empty"));
    }
    let mut process = saved.spec.process().clone().unwrap_or_default();
    process.set_args(Some(arguments.to_vec()));
    process.set_terminal(Some(given.on("tty")));
    if let Some(cwd) = given.one("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut environment = process.env().clone().unwrap_or_default();
    environment.extend(given.many("env"));
    process.set_env(Some(environment));
    if given.on("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = given.one("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if let Some(profile) = given.one("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    if let Some(text) = given.one("user") {
        let number = |part: &str| {
            part.parse::<u32>()
                .map_err(|_| Error::invalid(format!("--user: {text:?} is not UID[:GID]")))
        };
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        let mut user = process.user().clone();
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
        process.set_user(user);
    }
    let groups = given.many("additional-gids");
    if !groups.is_empty() {
        let numbers: std::result::Result<Vec<u32>, _> = groups.iter().map(|g| g.parse()).collect();
        let mut user = process.user().clone();
        user.set_additional_gids(Some(
            numbers.map_err(|_| Error::invalid("--additional-gids: numbers are needed"))?,
        ));
        process.set_user(user);
    }
    add_capabilities(&mut process, &given.many("cap"))?;
    Ok(process)
}

/// As runc: to all sets but the inheritable one.
fn add_capabilities(process: &mut oci::Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let parsed: std::result::Result<oci::Capability, _> = serde_json::from_value(name.to_uppercase().into());
        let cap = parsed.map_err(|_| Error::invalid(format!("--cap: unknown capability {name:?}")))?;
        let with = |set: &Option<oci::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(cap);
            Some(set)
        };
        let (bounding, effective) = (with(sets.bounding()), with(sets.effective()));
        let (permitted, ambient) = (with(sets.permitted()), with(sets.ambient()));
        sets.set_bounding(bounding)
            .set_effective(effective)
            .set_permitted(permitted)
            .set_ambient(ambient);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}
