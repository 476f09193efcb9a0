//! `linux.seccomp.listenerPath`: the calls that a container's filter passes on are answered by a program that listens
//! there (runtime specification, "The Container Process State").

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::oci;

use super::state::{SPECIFICATION, Saved, Status};
use super::streams::send;

/// The specification's name of the descriptor.
const NAME: &str = "seccompFd";

/// A filter that passes calls on names who answers for them.
pub fn check(spec: &oci::Spec) -> Result<()> {
    let Some(filter) = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) else {
        return Ok(());
    };
    let mut rules = filter.syscalls().iter().flatten();
    let notifies = rules.any(|rule| rule.action() == oci::LinuxSeccompAction::ScmpActNotify);
    match (notifies, path(filter)) {
        (true, None) => Err(Error::invalid(
            "linux.seccomp.listenerPath: a filter with SCMP_ACT_NOTIFY needs one",
        )),
        _ => Ok(()),
    }
}

fn path(filter: &oci::LinuxSeccomp) -> Option<&Path> {
    let path = filter.listener_path().as_deref();
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Sends a process's listener to the container's program, with what it is to know of both.
pub fn hand_over(saved: &Saved, pid: i32, status: Status, listener: OwnedFd) -> Result<()> {
    let filter = saved.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let path = filter.and_then(path);
    let path = path.ok_or_else(|| Error::invalid("linux.seccomp.listenerPath: there is none"))?;
    let metadata = filter.and_then(|f| f.listener_metadata().clone()).unwrap_or_default();
    let state = oci::ContainerProcessStateBuilder::default()
        .version(SPECIFICATION)
        .fds(vec![NAME.to_owned()])
        .pid(pid)
        .metadata(metadata)
        .state(saved.state(status)?)
        .build()
        .step("describe the process for linux.seccomp.listenerPath")?;
    let text = serde_json::to_vec(&state).step("describe the process for linux.seccomp.listenerPath")?;
    let step = || {
        format!(
            "failed to connect with seccomp agent at linux.seccomp.listenerPath {}",
            path.display()
        )
    };
    let socket = UnixStream::connect(path).step_with(step)?;
    send(&socket, &listener, &text).errno_step(step())
}
