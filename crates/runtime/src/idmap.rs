//! Mappings of ids: written for a user namespace, or made a user namespace of (user_namespaces(7)).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::CLONE_NEWUSER;
use oci_spec::runtime::LinuxIdMapping;
use rustix::process::{WaitId, WaitIdOptions};
use sys::process::Forked;

/// Maps both kinds of ids for the user namespace of a process. A user maps its own id, or its subordinate ones by newuidmap(1).
pub fn write(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return write_for_user(pid, uids, gids);
    }
    write_one(pid, "uid_map", uids)?;
    write_one(pid, "gid_map", gids)
}

/// A user maps its own ids alone, and then no group may be dropped by anybody inside; more of them by the helpers that
/// know which ids are the user's (newuidmap(1), subuid(5)).
fn write_for_user(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    let own = |list: &[LinuxIdMapping], id: u32| matches!(list, [m] if m.size() == 1 && m.host_id() == id);
    match own(uids, rustix::process::geteuid().as_raw()) {
        true => write_one(pid, "uid_map", uids)?,
        false => ask("newuidmap", pid, uids)?,
    }
    match own(gids, rustix::process::getegid().as_raw()) {
        true => {
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny").step("deny setgroups")?;
            write_one(pid, "gid_map", gids)
        }
        false => ask("newgidmap", pid, gids),
    }
}

fn ask(helper: &str, pid: i32, mappings: &[LinuxIdMapping]) -> Result<()> {
    let numbers = mappings.iter().flat_map(|m| [m.container_id(), m.host_id(), m.size()]);
    let ran = Command::new(helper)
        .arg(pid.to_string())
        .args(numbers.map(|n| n.to_string()))
        .output()
        .step_with(|| format!("start {helper}"))
        .map_err(|e| e.hint("it is in Debian's package uidmap"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(
            Error::invalid(format!("{helper}: {}", String::from_utf8_lossy(&ran.stderr).trim()))
                .hint("/etc/subuid and /etc/subgid say which ids a user may map"),
        ),
    }
}

fn write_one(pid: i32, file: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/{file}"), text(mappings)).step_with(|| format!("write {file}"))
}

fn text(mappings: &[LinuxIdMapping]) -> String {
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
    mappings.iter().map(line).collect()
}

/// A user namespace with these mappings, which nobody is in: for mounts alone.
pub fn user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let (ours, theirs) = std::io::pipe().step("make a pipe")?;
    match sys::process::clone3(CLONE_NEWUSER.into(), None).errno_step("make a user namespace (clone3)")? {
        Forked::Child => {
            drop(theirs);
            // Until the other end is gone.
            let _ = std::io::Read::read(&mut &ours, &mut [0]);
            sys::process::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let made = write(pid, uids, gids).and_then(|()| {
                let path = format!("/proc/{pid}/ns/user");
                File::open(Path::new(&path)).step("open the user namespace")
            });
            drop(theirs);
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
                .errno_step("wait for the maker of a user namespace")?;
            made.map(OwnedFd::from)
        }
    }
}

/// Mappings that the kernel would refuse in fewer words.
pub fn check(what: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let end = |start: u32, size: u32| u64::from(start) + u64::from(size);
    for (index, mapping) in mappings.iter().enumerate() {
        let bad = |why: &str| Err(Error::invalid(format!("{what}[{index}]: {why}")));
        if mapping.size() == 0 {
            return bad("a mapping of no ids");
        }
        if end(mapping.container_id(), mapping.size()) > 1 << 32 || end(mapping.host_id(), mapping.size()) > 1 << 32 {
            return bad("ids out of range");
        }
    }
    Ok(())
}
