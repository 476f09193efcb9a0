//! Waiting for everything at once: the container's end, its output, clients, added processes, deadlines.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use compat::why::Cause;
use engine::container::record::{now, write_json};
use engine::container::{Live, LiveStatus, Record};
use engine::link::{self, Answer, Exit, FrameKind, Request};
use engine::models::{Health, HealthStatusEnum};
use engine::why::End;
use engine::{Roots, event};
use errdefs::{Error, Result, Step};
use network::Attachment;
use network::pasta::Carrier;
use runtime::cgroup::Cgroup;
use runtime::{Created, Newborn};
use rustix::event::{PollFd, PollFlags};

use crate::bring_up::{BroughtUp, bring_up};
use crate::client::{self, BACKLOG, Client, Role};
use crate::exec::{Added, Arrival, exit_code};
use crate::health::HealthCheck;
use crate::last_words::LastWords;
use crate::log::Log;
use crate::names::Names;
use crate::output::{Read, Streams};
use crate::restart::Restart;
use crate::uname::Uname;

/// A client that sends half a message is not waited for longer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);
/// One read of output or input.
const BUFFER: usize = 32 * 1024;
/// Input that the container does not read is kept up to this size; then its client has to wait.
const INPUT_BACKLOG: usize = 64 * 1024;
/// How long a terminal that nobody has open is left alone.
const HANG_UP: Duration = Duration::from_millis(50);

/// One run of the container.
pub struct Run {
    pub created: Created,
    pub streams: Streams,
    started: Instant,
}

/// Everything that the monitor knows.
pub struct Monitor {
    pub roots: Roots,
    pub record: Record,
    pub restart: Restart,
    pub names: Names,
    pub clients: Vec<Client>,
    pub added: Vec<Added>,
    /// Those that are to be added, and are not inside yet.
    pub arrivals: Vec<Arrival>,
    /// Of those that were added and can still be looked at: which ended when.
    pub ended_objects: VecDeque<(String, Instant)>,
    /// `None` between two runs.
    pub run: Option<Run>,
    /// For the first run.
    newborn: Option<Newborn>,
    pub paused: bool,
    /// The networks that the container is on.
    pub networks: Vec<Attachment>,
    /// Who carries the network, without root.
    pub carrier: Option<Carrier>,
    /// See [`Monitor::reserve_ports`].
    pub reserved: Vec<OwnedFd>,
    /// RFC 3339; of the last run.
    pub started_at: String,
    last: Option<Exit>,
    /// Of the last run.
    cgroup: Option<Cgroup>,
    log: Log,
    last_words: LastWords,
    listener: Option<UnixListener>,
    pub uname: Uname,
    next_client: u64,
    /// Input that the container has not read yet.
    input: Vec<u8>,
    /// There is no more input after that.
    input_ended: bool,
    /// When the container is killed that was asked to stop.
    pub kill_at: Option<Instant>,
    /// When the next run begins.
    restart_at: Option<Instant>,
    /// Nobody inside has the terminal open. Polling it would tell so without end, but somebody may open it again.
    hung_up_until: Option<Instant>,
    /// Kept until the next run or our own end: see `snapshot::Mounted`.
    kept: Vec<OwnedFd>,
    /// Of a run whose container has one.
    pub health: Option<Box<HealthCheck>>,
    /// What it says.
    pub health_status: Option<HealthStatusEnum>,
    /// What it said of the last run.
    pub last_health: Option<Health>,
}

/// What one of the polled descriptors is.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Listener,
    Container,
    Output(FrameKind),
    Input,
    Client(u64),
    Added,
    Arrival,
    /// What an added process writes whose client is gone.
    Unheard,
    /// A call of uname that is to be answered.
    Uname,
    Health,
    /// The name service is gone.
    Names,
}

impl Monitor {
    /// The monitor of a container that does not run yet.
    pub fn new(roots: Roots, record: Record, networks: Vec<Attachment>, newborn: Option<Newborn>) -> Result<Self> {
        Ok(Monitor {
            uname: Uname::new(engine::mend::asked(record.host())?.release),
            restart: Restart::new(&record),
            log: Log::new(&roots.log(&record.id), &record),
            last_words: LastWords::default(),
            names: Names::default(),
            clients: Vec::new(),
            added: Vec::new(),
            arrivals: Vec::new(),
            ended_objects: VecDeque::new(),
            run: None,
            newborn,
            carrier: None,
            paused: false,
            networks,
            reserved: Vec::new(),
            started_at: String::new(),
            last: None,
            cgroup: None,
            listener: None,
            next_client: 0,
            input: Vec::new(),
            input_ended: false,
            kill_at: None,
            restart_at: None,
            hung_up_until: None,
            kept: Vec::new(),
            health: None,
            health_status: None,
            last_health: None,
            roots,
            record,
        })
    }

    /// Makes the socket for front doors.
    pub fn listen(&mut self) -> Result<()> {
        let listener = link::listen(&self.roots.socket(&self.record.id))?;
        listener.set_nonblocking(true).step("listen for clients")?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Begins a run; returns once the container's command executes, with what the user should know. `attach`: for somebody
    /// who is there already.
    pub fn start(&mut self, attach: bool) -> Result<Vec<String>> {
        // The last run's holds the ports.
        self.carrier = None;
        self.reserve_ports()?;
        let BroughtUp {
            mut created,
            streams,
            warnings,
            names,
            carrier,
            kept,
        } = bring_up(&self.roots, &self.record, &self.networks, self.newborn.take())?;
        created.started(&mut |listener| self.uname.take(listener))?;
        self.started_at = now();
        (self.kept, self.names, self.carrier) = (kept, names, carrier);
        self.run = Some(Run {
            created,
            streams,
            started: Instant::now(),
        });
        self.input_ended = false;
        self.health = HealthCheck::new(&self.record);
        self.health_status = self.health.as_ref().map(|h| h.status());
        self.tell_state(LiveStatus::Running)?;
        let mut events: Vec<_> = attach.then(|| self.event("attach", &[])).into_iter().collect();
        events.extend(event::of_mounts(&self.record, true));
        events.push(self.event("start", &[]));
        event::tell(&self.roots, &events);
        Ok(warnings)
    }

    /// Answers whoever started us; if it asked to be attached it is the first client.
    pub fn greet(&mut self, starter: &UnixStream, attach: bool, warnings: Vec<String>) -> Result<()> {
        let pid = self.run.as_ref().map_or(0, |run| run.created.pid);
        // The starter may be gone already; the container runs all the same.
        let _ = link::send(starter.as_fd(), &Answer::Started { pid, warnings }, &[]);
        if attach {
            let client = self.admit(starter.try_clone().step("keep the starter's socket")?);
            client.attach(true);
        }
        if !attach {
            let _ = starter.shutdown(std::net::Shutdown::Both);
        }
        Ok(())
    }

    pub fn tell_state(&self, status: LiveStatus) -> Result<()> {
        let live = Live {
            status,
            pid: self.run.as_ref().map_or(0, |run| run.created.pid),
            started_at: self.started_at.clone(),
            restart_count: self.restart.count,
            last: self.last.clone(),
            health: self.health_status,
            networks: self.networks.clone(),
        };
        write_json(&self.roots.live_state(&self.record.id), &live)
    }

    /// Nothing but the health has changed.
    pub fn tell_state_again(&self) -> Result<()> {
        self.tell_state(if self.paused {
            LiveStatus::Paused
        } else {
            LiveStatus::Running
        })
    }

    fn admit(&mut self, socket: UnixStream) -> &mut Client {
        self.next_client += 1;
        self.clients.push(Client::new(self.next_client, socket));
        let last = self.clients.len() - 1;
        &mut self.clients[last]
    }

    /// Everything, until the container has ended for good and is torn down.
    pub fn run_until_ended(&mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let ready = self.wait()?;
            self.rejoin_names(ready.contains(&Source::Names));
            for source in ready {
                match source {
                    Source::Listener => self.accept(),
                    Source::Output(kind) => self.take_output(kind, &mut buffer),
                    Source::Input => self.feed_input(),
                    Source::Client(number) => self.serve(number, &mut buffer),
                    Source::Added => self.collect_added(),
                    Source::Arrival => self.meet_arrivals(),
                    Source::Unheard => self.discard_output(&mut buffer),
                    Source::Uname => self.uname.answer(),
                    Source::Container | Source::Health | Source::Names => {}
                }
            }
            self.mind_health(&mut buffer);
            self.forget_gone();
            if self.kill_at.is_some_and(|at| Instant::now() >= at) {
                self.kill_at = None;
                self.signal(9);
            }
            if let Some(exit) = self.collect_container(&mut buffer)
                && let Some(exit) = self.after_run(exit)
            {
                self.tear_down(exit);
                return Ok(());
            }
            if self
                .restart_at
                .is_some_and(|at| self.restart.forbidden || Instant::now() >= at)
                && let Some(exit) = self.begin_again()
            {
                self.tear_down(exit);
                return Ok(());
            }
        }
    }

    /// Sleeps until something is to do.
    fn wait<'a>(&'a self) -> Result<Vec<Source>> {
        let mut fds: Vec<PollFd<'a>> = Vec::with_capacity(8);
        let mut sources: Vec<Source> = Vec::with_capacity(8);
        let mut add = |fd: BorrowedFd<'a>, flags, source| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            sources.push(source);
        };
        if let Some(listener) = &self.listener {
            add(listener.as_fd(), PollFlags::IN, Source::Listener);
        }
        for listener in self.uname.listeners() {
            add(listener, PollFlags::IN, Source::Uname);
        }
        for arrival in &self.arrivals {
            add(arrival.joining.as_fd(), PollFlags::IN, Source::Arrival);
        }
        for added in &self.added {
            add(added.pidfd.as_fd(), PollFlags::IN, Source::Added);
            for output in added.outputs.iter().filter(|_| added.unheard) {
                add(output.as_fd(), PollFlags::IN, Source::Unheard);
            }
        }
        if let Some(service) = self.names.service() {
            add(service, PollFlags::IN, Source::Names);
        }
        for fd in self.health.iter().flat_map(|h| h.sources()) {
            add(fd, PollFlags::IN, Source::Health);
        }
        let slow = self.clients.iter().any(|c| c.backlog() >= BACKLOG);
        let stuck = client::next_let_go(&self.clients);
        let hung_up = self.hung_up_until.filter(|until| Instant::now() < *until);
        let full = self.input.len() >= INPUT_BACKLOG;
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            let feeds = matches!(client.role, Role::Attached { stdin: true });
            if !(feeds && full) {
                flags |= PollFlags::IN;
            }
            if client.backlog() > 0 {
                flags |= PollFlags::OUT;
            }
            add(client.socket.as_fd(), flags, Source::Client(client.number));
        }
        if let Some(run) = &self.run {
            add(run.created.pidfd.as_fd(), PollFlags::IN, Source::Container);
            for kind in [FrameKind::Stdout, FrameKind::Stderr] {
                if let Some(fd) = run.streams.source(kind).filter(|_| !slow && hung_up.is_none()) {
                    add(fd, PollFlags::IN, Source::Output(kind));
                }
            }
            if let Some(fd) = run.streams.sink().filter(|_| !self.input.is_empty()) {
                add(fd, PollFlags::OUT, Source::Input);
            }
        }
        let health = self
            .health
            .as_ref()
            .filter(|_| self.run.is_some() && !self.restart.forbidden)
            .map(|h| h.deadline());
        let deadline = [
            self.kill_at,
            self.restart_at,
            hung_up,
            health,
            stuck,
            self.names.deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        let timeout = deadline.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(Error::caused("wait for the container", std::io::Error::from(e))),
        }
        Ok(fds
            .iter()
            .zip(sources)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, source)| source)
            .collect())
    }

    fn accept(&mut self) {
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(|l| l.accept()) {
            self.admit_patiently(socket);
        }
    }

    fn admit_patiently(&mut self, socket: UnixStream) {
        let _ = socket.set_nonblocking(false);
        let _ = socket.set_read_timeout(Some(CLIENT_PATIENCE));
        let _ = socket.set_write_timeout(Some(CLIENT_PATIENCE));
        self.admit(socket);
    }

    /// A client that was there before the start. What it asks has been sent already, so that it is heard before the first
    /// output is read.
    pub fn admit_early(&mut self, socket: OwnedFd) {
        self.admit_patiently(UnixStream::from(socket));
    }

    /// Output goes to the log and to everybody who is attached.
    fn take_output(&mut self, kind: FrameKind, buffer: &mut [u8]) {
        let Some(run) = &mut self.run else { return };
        match run.streams.read(kind, buffer) {
            Read::Later => {}
            Read::End => {
                run.streams.close(kind);
                if run.streams.terminal.is_some() {
                    self.hung_up_until = Some(Instant::now() + HANG_UP);
                }
            }
            Read::Bytes(n) => self.hand_out(kind, &buffer[..n]),
        }
    }

    fn hand_out(&mut self, kind: FrameKind, bytes: &[u8]) {
        self.log.take(kind, bytes);
        self.last_words.take(bytes);
        let attached = |c: &&mut Client| matches!(c.role, Role::Attached { .. });
        self.clients
            .iter_mut()
            .filter(attached)
            .for_each(|c| c.push(kind, bytes));
    }

    fn serve(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(index) = self.clients.iter().position(|c| c.number == number) else {
            return;
        };
        match self.clients[index].role {
            Role::New => self.first_request(index),
            Role::Attached { stdin } => {
                self.clients[index].flush();
                let frames = self.clients[index].frames(buffer);
                for frame in frames {
                    match frame.kind {
                        FrameKind::Stdin if stdin => self.queue_input(&frame.bytes),
                        FrameKind::CloseStdin if stdin => self.end_input(),
                        FrameKind::Resize => self.resize(&frame.bytes),
                        _ => {}
                    }
                }
                if self.clients[index].gone && stdin {
                    self.end_input();
                }
            }
            // They have nothing more to say: they are gone.
            Role::Waiting | Role::Stopping | Role::Exec => {
                let mut byte = [0; 1];
                let read = rustix::net::recv(&self.clients[index].socket, &mut byte, rustix::net::RecvFlags::DONTWAIT);
                let gone = !matches!(read, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR));
                self.clients[index].gone |= gone;
                if gone {
                    self.leave_added(number, matches!(read, Ok((1, _))));
                }
            }
        }
    }

    fn first_request(&mut self, index: usize) {
        let mut client = self.clients.swap_remove(index);
        match link::receive::<Request>(client.socket.as_fd()) {
            Ok(Some((request, fds))) => self.handle(&mut client, request, fds),
            Ok(None) | Err(_) => client.gone = true,
        }
        self.clients.push(client);
    }

    fn resize(&self, bytes: &[u8]) {
        if let [a, b, c, d] = bytes {
            self.resize_terminal(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        }
    }

    fn queue_input(&mut self, bytes: &[u8]) {
        if self.run.as_ref().is_some_and(|run| run.streams.sink().is_some()) {
            self.input.extend_from_slice(bytes);
            self.feed_input();
        }
    }

    /// Gives the container what it takes now.
    fn feed_input(&mut self) {
        let Some(run) = &mut self.run else { return };
        let mut fed = 0;
        while let Some(sink) = run.streams.sink().filter(|_| fed < self.input.len()) {
            match rustix::io::write(sink, &self.input[fed..]) {
                Ok(n) => fed += n,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                // It has closed its input.
                Err(_) => {
                    fed = self.input.len();
                    run.streams.close(FrameKind::Stdin);
                }
            }
        }
        self.input.drain(..fed);
        if self.input.is_empty() {
            self.input = Vec::new();
            if self.input_ended {
                run.streams.close(FrameKind::Stdin);
            }
        }
    }

    /// The client that feeds it has nothing more. `-i` without `-t` closes the container's input then, once.
    fn end_input(&mut self) {
        if self.record.body.stdin_once.unwrap_or(false) && !self.record.tty() {
            self.input_ended = true;
            self.feed_input();
        }
    }

    fn forget_gone(&mut self) {
        client::let_stuck_go(&mut self.clients);
        // The starter's connection has a second descriptor here: dropping one does not close it.
        for client in self.clients.iter().filter(|c| c.gone) {
            let _ = client.socket.shutdown(std::net::Shutdown::Both);
        }
        self.clients.retain(|c| !c.gone);
    }

    /// How the container ended, if it has; all its output taken.
    fn collect_container(&mut self, buffer: &mut [u8]) -> Option<Exit> {
        let run = self.run.as_ref()?;
        let code = exit_code(&run.created.pidfd, false)?;
        for kind in [FrameKind::Stdout, FrameKind::Stderr] {
            self.drain(kind, buffer);
        }
        self.log.finish();
        self.names.leave();
        let run = self.run.take()?;
        let oom_killed = run.created.cgroup.oom_kills() > 0;
        // With the host's process ids others of its processes may still be there.
        let _ = run.created.cgroup.kill();
        let why = self.why(code, oom_killed, &run);
        self.cgroup = Some(run.created.cgroup);
        self.last_health = self.end_health();
        self.tell_end(code, oom_killed, run.started, why.as_ref());
        let exit = Exit {
            code,
            oom_killed,
            error: None,
            why,
            finished_at: now(),
        };
        self.restart_at = self.restart.after(&exit, run.started);
        self.kill_at = None;
        self.paused = false;
        self.input = Vec::new();
        Some(exit)
    }

    /// Why it ended so; where somebody asked for it nobody needs to know.
    fn why(&self, code: i32, memory_kill: bool, run: &Run) -> Option<Cause> {
        if code == 0 || (self.restart.forbidden && !memory_kill) {
            return None;
        }
        let end = End {
            code,
            pid: run.created.pid,
            memory_kill,
            ran: run.started.elapsed(),
            said: self.last_words.bytes(),
        };
        engine::why::why(&self.roots, &self.record, &end)
    }

    /// What it wrote before its end.
    fn drain(&mut self, kind: FrameKind, buffer: &mut [u8]) {
        while let Some(run) = &self.run {
            match run.streams.read(kind, buffer) {
                Read::Bytes(n) => self.hand_out(kind, &buffer[..n]),
                Read::Later | Read::End => return,
            }
        }
    }

    /// After a run: the exit if it was the last one; else the pause before the next begins.
    fn after_run(&mut self, exit: Exit) -> Option<Exit> {
        if self.restart_at.is_none() {
            return Some(exit);
        }
        self.bury_added();
        for client in self.clients.iter_mut().filter(|c| matches!(c.role, Role::Waiting)) {
            client.finish(&exit);
            client.gone = true;
        }
        self.last = Some(exit);
        // A full disk must not end the restart policy.
        let _ = self.tell_state(LiveStatus::Restarting);
        None
    }

    /// That of the last run; of one whose start failed whatever is there.
    pub fn remove_cgroup(&mut self) -> Result<()> {
        let cgroup = self.cgroup.take().unwrap_or_else(|| Cgroup::at(&self.record.cgroup()));
        if engine::mend::asked(self.record.host())?.old_systemd {
            cgroup.remove_named()?;
        }
        cgroup.remove()
    }

    /// The next run; the last exit if there is to be none.
    fn begin_again(&mut self) -> Option<Exit> {
        self.restart_at = None;
        let _ = self.remove_cgroup();
        if self.restart.forbidden {
            return Some(self.last.clone().unwrap_or_default());
        }
        match self.start(false) {
            Ok(_) => None,
            Err(error) => {
                let mut exit = self.last.clone().unwrap_or_default();
                exit.error = Some(error.to_string());
                Some(exit)
            }
        }
    }
}
