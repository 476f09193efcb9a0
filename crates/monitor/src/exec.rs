//! Processes added to the running container.

use std::os::fd::{AsFd, OwnedFd};

use engine::container::record::{now, read_json};
use engine::link::{Answer, ExecRequest, Exit};
use errdefs::{Error, Result};
use runtime::oci::Spec;
use runtime::{Exec, Stdio, exec};
use rustix::process::{WaitId, WaitIdOptions};

use crate::client::{Client, Role};
use crate::event_loop::Monitor;

/// A process that was added.
pub struct Added {
    pub pidfd: OwnedFd,
    /// Who wants to know how it ended.
    pub client: u64,
}

impl Monitor {
    /// Starts one, and answers its client.
    pub fn add_process(&mut self, client: &mut Client, request: ExecRequest, fds: Vec<OwnedFd>) {
        match self.exec(request, fds) {
            Ok((pid, pidfd, console)) => {
                let fds: Vec<_> = console.iter().map(|c| c.as_fd()).collect();
                client.role = Role::Exec;
                client.answer(
                    &Answer::Started {
                        pid,
                        warnings: Vec::new(),
                    },
                    &fds,
                );
                self.added.push(Added {
                    pidfd,
                    client: client.number,
                });
            }
            Err(error) => client.answer(&Answer::Failed(error.to_wire()), &[]),
        }
    }

    fn exec(&mut self, request: ExecRequest, fds: Vec<OwnedFd>) -> Result<(i32, OwnedFd, Option<OwnedFd>)> {
        let Some(run) = self.run.as_ref().filter(|_| !self.paused) else {
            return Err(Error::conflict(format!("container {} is not running", self.record.id)));
        };
        let spec: Option<Spec> = read_json(&self.roots.document(&self.record.id))?;
        let spec = spec.ok_or_else(|| Error::system("the container's config.json is gone"))?;
        let stdio = match (request.process.terminal(), <[OwnedFd; 3]>::try_from(fds)) {
            (Some(true), _) => Stdio::Terminal {
                rows: request.size.0,
                cols: request.size.1,
            },
            (_, Ok([stdin, stdout, stderr])) => Stdio::Files { stdin, stdout, stderr },
            _ => return Err(Error::invalid("a process without a terminal needs three descriptors")),
        };
        let process = exec(Exec {
            pid: run.created.pid,
            pidfd: run.created.pidfd.as_fd(),
            spec: &spec,
            process: &request.process,
            stdio,
            cgroup: &run.created.cgroup,
            below: &[],
            outlives: false,
            preserved: 0,
        })?;
        Ok((process.pid, process.pidfd, process.console))
    }

    /// Tells the clients of those that have ended.
    pub fn collect_added(&mut self) {
        let clients = &mut self.clients;
        self.added.retain(|added| match exit_code(&added.pidfd, false) {
            None => true,
            Some(code) => {
                let exit = Exit {
                    code,
                    finished_at: now(),
                    ..Default::default()
                };
                if let Some(client) = clients.iter_mut().find(|c| c.number == added.client) {
                    client.answer(&Answer::Exited(exit), &[]);
                    client.gone = true;
                }
                false
            }
        });
    }

    /// The container has ended, and they with it.
    pub fn bury_added(&mut self) {
        for added in std::mem::take(&mut self.added) {
            let code = exit_code(&added.pidfd, false).unwrap_or(137);
            let exit = Exit {
                code,
                finished_at: now(),
                ..Default::default()
            };
            if let Some(client) = self.clients.iter_mut().find(|c| c.number == added.client) {
                client.answer(&Answer::Exited(exit), &[]);
                client.gone = true;
            }
        }
    }
}

/// How a child ended, as a shell tells it: its code, or 128 + the signal. `None` if it has not (unless we `wait`).
pub fn exit_code(pidfd: &OwnedFd, wait: bool) -> Option<i32> {
    let options = if wait {
        WaitIdOptions::EXITED
    } else {
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG
    };
    loop {
        return match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(|s| 128 + s);
                Some(status.exit_status().or(signal).unwrap_or(255))
            }
            Ok(None) => None,
            Err(rustix::io::Errno::INTR) => continue,
            // Somebody else has collected it: there is nothing to wait for.
            Err(_) => Some(255),
        };
    }
}
