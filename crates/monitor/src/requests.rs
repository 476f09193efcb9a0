//! What clients ask for: each request, and what it comes to. And what is told of it as events.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use compat::why::Cause;
use engine::container::LiveStatus;
use engine::container::record::{read_json, write_json};
use engine::event;
use engine::link::{Amendment, Answer, Request};
use engine::models::EventMessage;
use engine::{container::Record, spec};
use errdefs::{Error, Result};
use runtime::cgroup::Cgroup;

use crate::client::{Client, Role};
use crate::event_loop::Monitor;

impl Monitor {
    /// Does what a client asks first.
    pub fn handle(&mut self, client: &mut Client, request: Request, fds: Vec<OwnedFd>) {
        let answer = match request {
            Request::Begin { .. } => Err(Error::conflict("the container was started already")),
            Request::Attach { stdin } => {
                client.answer(&Answer::Done, &[]);
                self.tell("attach", &[]);
                return client.attach(stdin);
            }
            Request::Exec(request) => return self.add_process(client, *request, fds),
            Request::Wait => {
                client.role = Role::Waiting;
                return;
            }
            Request::Stop { signal, timeout } => {
                client.role = Role::Stopping;
                return self.stop(signal, timeout);
            }
            Request::Kill { signal } => {
                self.signal(signal);
                Ok(())
            }
            Request::Connect { attachment } => self.connect(*attachment),
            Request::Egress { network, policy } => self.change_egress(&network, policy),
            Request::Disconnect { network } => self.disconnect(&network),
            Request::Pause { paused } => self.pause(paused),
            Request::Resize { rows, cols } => {
                self.resize_terminal(rows, cols);
                Ok(())
            }
            Request::ResizeExec { id, rows, cols } => self.resize_added(&id, rows, cols),
            Request::Amend(amendment) => self.amend(&amendment),
        };
        client.answer(
            &answer.map_or_else(|e| Answer::Failed(e.to_wire()), |()| Answer::Done),
            &[],
        );
        client.gone = true;
    }

    /// Signals, and kills after the timeout.
    fn stop(&mut self, signal: i32, timeout: i64) {
        self.restart.forbidden = true;
        if self.paused {
            let _ = self.pause(false);
        }
        self.signal(signal);
        if signal != 9 && timeout >= 0 {
            self.kill_at = Some(Instant::now() + Duration::from_secs(timeout as u64));
        }
    }

    /// To the first process. SIGKILL takes all others with it, wherever they are.
    pub fn signal(&mut self, signal: i32) {
        let Some(run) = &self.run else { return };
        // It may have ended just now.
        let sent = sys::process::pidfd_send_signal(run.created.pidfd.as_fd(), signal);
        if signal == 9 && !own_processes(&self.record) {
            let _ = run.created.cgroup.kill();
        }
        if sent.is_ok() {
            self.tell("kill", &[("signal", &signal.to_string())]);
        }
    }

    fn pause(&mut self, paused: bool) -> Result<()> {
        let Some(run) = &self.run else {
            return Err(Error::conflict(format!("Container {} is not running", self.record.id)));
        };
        run.created.cgroup.freeze(paused)?;
        self.paused = paused;
        self.tell(if paused { "pause" } else { "unpause" }, &[]);
        self.tell_state(if paused {
            LiveStatus::Paused
        } else {
            LiveStatus::Running
        })
    }

    /// Gives the container's terminal another size.
    pub fn resize_terminal(&self, rows: u16, cols: u16) {
        if let Some(run) = self.run.as_ref().filter(|run| run.streams.terminal.is_some()) {
            run.streams.resize(rows, cols);
            self.tell("resize", &[("height", &rows.to_string()), ("width", &cols.to_string())]);
        }
    }

    /// Limits first: what the kernel refuses is not written down.
    fn amend(&mut self, amendment: &Amendment) -> Result<()> {
        let mut changed = self.record.clone();
        amendment.apply(&mut changed);
        if let (Amendment::Settings(_), Some(run)) = (amendment, &mut self.run) {
            run.created.cgroup.apply(&spec::resources(changed.host())?)?;
            // It may be in more hierarchies than it was made in.
            run.created.cgroup = Cgroup::at(&changed.cgroup());
        }
        if let Amendment::Egress(_) = amendment {
            self.apply_egress(&changed)?;
        }
        let path = self.roots.record(&self.record.id);
        // It may be about to be removed.
        if read_json::<Record>(&path)?.is_some() {
            write_json(&path, &changed)?;
        }
        self.restart.change(&changed);
        if let Amendment::Name(name) = amendment {
            for attachment in &mut self.networks {
                let own = attachment.names.iter_mut().filter(|n| **n == self.record.name);
                own.for_each(|n| n.clone_from(name));
            }
        }
        self.record = changed;
        self.update_names()
    }

    /// An event of this container.
    pub fn event(&self, action: &str, more: &[(&str, &str)]) -> EventMessage {
        event::of_container(&self.record, action, more)
    }

    /// Writes one down.
    pub fn tell(&self, action: &str, more: &[(&str, &str)]) {
        event::tell(&self.roots, &[self.event(action, more)]);
    }

    /// The end of a run.
    pub fn tell_end(&self, code: i32, oom_killed: bool, started: Instant, why: Option<&Cause>) {
        let seconds = started.elapsed().as_secs().to_string();
        let mut events: Vec<_> = oom_killed.then(|| self.event("oom", &[])).into_iter().collect();
        let code = code.to_string();
        let mut attributes = vec![("execDuration", seconds.as_str()), ("exitCode", code.as_str())];
        attributes.extend(why.filter(|w| w.certain).map(|w| ("why", w.sentence.as_str())));
        events.push(self.event("die", &attributes));
        events.extend(event::of_mounts(&self.record, false));
        event::tell(&self.roots, &events);
    }
}

/// Whether all processes go with the first one.
fn own_processes(record: &engine::container::Record) -> bool {
    matches!(record.host().pid_mode.as_deref().unwrap_or_default(), "" | "private")
}
