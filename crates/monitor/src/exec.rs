//! Processes added to the running container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use engine::container::exec_object::{ExecObject, ExecState};
use engine::container::record::{now, read_json, write_json};
use engine::event;
use engine::link::{Answer, ExecRequest, Exit};
use errdefs::{Error, Result};
use runtime::oci::Spec;
use runtime::{Exec, Execed, Joining, Stdio, begin_exec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{WaitId, WaitIdOptions};

use crate::client::{Client, Role};
use crate::event_loop::Monitor;
use crate::supervise;

/// How long a process that was made before it was started can be looked at after its end.
const KEPT: Duration = Duration::from_secs(300);
/// And how many of them at most.
const MOST_KEPT: usize = 256;

/// A process that was added.
pub struct Added {
    pub id: String,
    pub pidfd: OwnedFd,
    /// Who wants to know how it ended.
    pub client: u64,
    /// It was made before, and can be looked at afterwards.
    object: bool,
    /// It goes on when its client is gone.
    lasting: bool,
    /// Its terminal, or what it writes to: read by its client as long as there is one.
    pub outputs: Vec<OwnedFd>,
    /// Its client is gone.
    pub unheard: bool,
}

/// A process on its way into the container.
pub struct Arrival {
    pub joining: Joining,
    request: ExecRequest,
    client: u64,
    outputs: Vec<OwnedFd>,
}

/// Whether there is something to read.
pub fn readable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl Monitor {
    /// Begins to start one; its client is answered once it executes its command.
    pub fn add_process(&mut self, client: &mut Client, request: ExecRequest, fds: Vec<OwnedFd>) {
        let begun = self.may_begin(&request).and_then(|()| {
            let begun = self.begin_exec(&request, fds);
            begun.inspect_err(|error| self.give_up(&request, error))
        });
        match begun {
            Ok((joining, outputs)) => {
                client.role = Role::Exec;
                self.arrivals.push(Arrival {
                    joining,
                    request,
                    client: client.number,
                    outputs,
                });
            }
            Err(error) => client.answer(&Answer::Failed(error.to_wire()), &[]),
        }
    }

    /// One that was made before is begun with once.
    fn may_begin(&self, request: &ExecRequest) -> Result<()> {
        if self.run.is_none() || self.paused {
            return Err(self.not_running());
        }
        if request.object {
            self.object(&request.id)?.may_start()?;
            self.set_object(&request.id, ExecState::Running(0));
        }
        Ok(())
    }

    fn not_running(&self) -> Error {
        Error::conflict(format!("container {} is not running", self.record.id))
    }

    /// The process on its way, and what it will write to.
    fn begin_exec(&mut self, request: &ExecRequest, mut fds: Vec<OwnedFd>) -> Result<(Joining, Vec<OwnedFd>)> {
        let run = self.run.as_ref().ok_or_else(|| self.not_running())?;
        let spec: Option<Spec> = read_json(&self.roots.document(&self.record.id))?;
        let spec = spec.ok_or_else(|| Error::system("the container's config.json is gone"))?;
        let outputs = fds.split_off(fds.len().min(3));
        let stdio = match (request.process.terminal(), <[OwnedFd; 3]>::try_from(fds)) {
            (Some(true), _) => Stdio::Terminal {
                rows: request.size.0,
                cols: request.size.1,
                plain: false,
            },
            (_, Ok([stdin, stdout, stderr])) => Stdio::Files { stdin, stdout, stderr },
            _ => return Err(Error::invalid("a process without a terminal needs three descriptors")),
        };
        let asked = engine::mend::asked(self.record.host())?;
        let joining = begin_exec(Exec {
            pid: run.created.pid,
            pidfd: run.created.pidfd.as_fd(),
            spec: &spec,
            process: &request.process,
            stdio,
            cgroup: &run.created.cgroup,
            below: &[],
            outlives: false,
            preserved: 0,
            filters: None,
            born: &mut |pid| supervise::begin_if(&asked, &self.roots, &self.record, pid),
        })?;
        Ok((joining, outputs))
    }

    /// One that did not get there.
    fn give_up(&self, request: &ExecRequest, error: &Error) {
        if request.object {
            self.set_object(&request.id, ExecState::Ended(error.kind().exit_code().into()));
        }
    }

    /// Takes what those on their way have to say.
    pub fn meet_arrivals(&mut self) {
        for mut arrival in std::mem::take(&mut self.arrivals) {
            match readable(&arrival.joining).then(|| arrival.joining.advance(&mut |listener| self.uname.take(listener)))
            {
                None | Some(Ok(None)) => self.arrivals.push(arrival),
                Some(Ok(Some(process))) => self.arrived(arrival, process),
                Some(Err(error)) => self.refuse_arrival(&arrival, &error),
            }
        }
    }

    /// It executes its command.
    fn arrived(&mut self, arrival: Arrival, process: Execed) {
        let Arrival {
            request,
            client,
            mut outputs,
            ..
        } = arrival;
        self.tell_added(&request);
        if request.object {
            self.set_object(&request.id, ExecState::Running(process.pid));
        }
        if let Some(console) = &process.console {
            outputs.extend(console.try_clone());
        }
        self.added.push(Added {
            id: request.id,
            pidfd: process.pidfd,
            client,
            object: request.object,
            lasting: request.lasting,
            outputs,
            unheard: false,
        });
        let fds: Vec<_> = process.console.iter().map(|c| c.as_fd()).collect();
        let started = Answer::Started {
            pid: process.pid,
            warnings: Vec::new(),
        };
        match self.clients.iter_mut().find(|c| c.number == client) {
            Some(client) => client.answer(&started, &fds),
            None => self.leave_added(client, false),
        }
    }

    fn refuse_arrival(&mut self, arrival: &Arrival, error: &Error) {
        self.give_up(&arrival.request, error);
        if let Some(client) = self.clients.iter_mut().find(|c| c.number == arrival.client) {
            client.answer(&Answer::Failed(error.to_wire()), &[]);
            client.gone = true;
        }
    }

    /// The event of its making was told already if it was made before.
    fn tell_added(&self, request: &ExecRequest) {
        let command = request.process.args().iter().flatten().map(String::as_str);
        let command = command.collect::<Vec<_>>().join(" ");
        let event = |what: &str| self.event(&format!("{what}: {command}"), &[("execID", &request.id)]);
        let mut events = Vec::with_capacity(2);
        if !request.object {
            events.push(event("exec_create"));
        }
        events.push(event("exec_start"));
        event::tell(&self.roots, &events);
    }

    fn object(&self, id: &str) -> Result<ExecObject> {
        let object = read_json(&self.roots.exec_object(&self.record.id, id))?;
        object.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// A full disk must not end the container: then it is looked at in vain.
    fn set_object(&self, id: &str, state: ExecState) {
        if let Ok(object) = self.object(id) {
            let _ = write_json(
                &self.roots.exec_object(&self.record.id, id),
                &ExecObject { state, ..object },
            );
        }
    }

    /// Another size for its terminal.
    pub fn resize_added(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let added = self.added.iter().find(|a| a.id == id);
        let added = added.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))?;
        for output in &added.outputs {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // One without a terminal has no size.
            let _ = rustix::termios::tcsetwinsize(output, size);
        }
        Ok(())
    }

    /// A client is gone. What is on its way and has nobody else ends. What goes on without it (`detached`: because it said so) is not heard any more; the terminal of
    /// anything else hangs up.
    pub fn leave_added(&mut self, client: u64, detached: bool) {
        self.arrivals
            .retain(|arrival| arrival.client != client || arrival.request.lasting);
        for added in self.added.iter_mut().filter(|a| a.client == client) {
            match added.lasting || detached {
                true => {
                    added.unheard = true;
                    for output in &added.outputs {
                        let _ = rustix::fs::fcntl_setfl(output, rustix::fs::OFlags::NONBLOCK);
                    }
                }
                false => added.outputs.clear(),
            }
        }
    }

    /// Takes what nobody hears.
    pub fn discard_output(&mut self, buffer: &mut [u8]) {
        for added in self.added.iter_mut().filter(|a| a.unheard) {
            added
                .outputs
                .retain(|output| match rustix::io::read(output, &mut *buffer) {
                    Ok(read) => read > 0,
                    Err(e) => matches!(e, rustix::io::Errno::AGAIN | rustix::io::Errno::INTR),
                });
        }
    }

    /// Tells the clients of those that have ended.
    pub fn collect_added(&mut self) {
        let mut ended = Vec::new();
        self.added.retain(|added| match exit_code(&added.pidfd, false) {
            None => true,
            Some(code) => {
                ended.push((added.id.clone(), added.client, added.object, code));
                false
            }
        });
        for (id, client, object, code) in ended {
            self.end_added(&id, client, object, code);
        }
    }

    fn end_added(&mut self, id: &str, client: u64, object: bool, code: i32) {
        if object {
            self.set_object(id, ExecState::Ended(code));
            self.ended_objects.push_back((id.to_owned(), Instant::now()));
            self.forget_objects();
        }
        self.tell("exec_die", &[("execID", id), ("exitCode", &code.to_string())]);
        let exit = Exit {
            code,
            finished_at: now(),
            ..Default::default()
        };
        if let Some(client) = self.clients.iter_mut().find(|c| c.number == client) {
            client.answer(&Answer::Exited(exit), &[]);
            client.gone = true;
        }
    }

    /// Those that ended long ago.
    fn forget_objects(&mut self) {
        let old = |at: &Instant| at.elapsed() > KEPT;
        while let Some((id, _)) = self
            .ended_objects
            .front()
            .filter(|(_, at)| old(at) || self.ended_objects.len() > MOST_KEPT)
        {
            let _ = std::fs::remove_file(self.roots.exec_object(&self.record.id, id));
            self.ended_objects.pop_front();
        }
    }

    /// The container has ended, and they with it.
    pub fn bury_added(&mut self) {
        let error = self.not_running();
        for arrival in std::mem::take(&mut self.arrivals) {
            self.refuse_arrival(&arrival, &error);
        }
        for added in std::mem::take(&mut self.added) {
            let code = exit_code(&added.pidfd, false).unwrap_or(137);
            // After the last run the live directory is gone.
            self.end_added(&added.id, added.client, added.object, code);
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
