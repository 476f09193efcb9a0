//! Health checks: the container's own command, run again and again inside it, by its monitor and without any program of
//! ours being started for it.
//!
//! As Docker does it (moby `daemon/health.go`): failures during the start period do not count until the first success;
//! the last five results are kept, with the first 4 KiB of output each.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use engine::container::record::{now, read_json, write_json};
use engine::container::{ExecOptions, Record};
use engine::models::{Health, HealthStatusEnum, HealthcheckResult};
use engine::network::linked;
use engine::spec;
use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::oci::Spec;
use runtime::{Exec, Joining, Stdio, begin_exec};
use rustix::fs::OFlags;

use crate::event_loop::{Monitor, Run};
use crate::exec::{exit_code, readable};
use crate::supervise;
use crate::uname::Uname;

/// Results that are kept.
const RESULTS: usize = 5;
/// Output that is kept of one.
const OUTPUT: usize = 4096;
/// Docker's, where nothing is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;

/// The check of a run.
pub struct HealthCheck {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
    /// What is known so far.
    pub state: Health,
    began: Instant,
    next: Instant,
    probe: Option<Probe>,
}

/// One that runs.
struct Probe {
    process: Process,
    output: Option<OwnedFd>,
    text: Vec<u8>,
    started_at: String,
    began: Instant,
}

impl HealthCheck {
    /// The container's, if it has one.
    pub fn new(record: &Record) -> Option<Box<Self>> {
        let config = record.body.healthcheck.as_ref()?;
        let command = command(config.test.as_deref()?, record)?;
        let or = |nanoseconds: Option<i64>, default| match nanoseconds {
            Some(n @ 1..) => Duration::from_nanos(n as u64),
            _ => default,
        };
        let mut check = HealthCheck {
            command,
            interval: or(config.interval, INTERVAL),
            timeout: or(config.timeout, TIMEOUT),
            start_period: or(config.start_period, Duration::ZERO),
            start_interval: or(config.start_interval, START_INTERVAL),
            retries: config.retries.filter(|n| *n > 0).unwrap_or(RETRIES),
            state: Health {
                status: Some(HealthStatusEnum::STARTING),
                failing_streak: Some(0),
                log: Some(Vec::new()),
            },
            began: Instant::now(),
            next: Instant::now(),
            probe: None,
        };
        check.plan();
        Some(Box::new(check))
    }

    /// What it says now.
    pub fn status(&self) -> HealthStatusEnum {
        self.state.status.unwrap_or(HealthStatusEnum::STARTING)
    }

    /// When there is something to do.
    pub fn deadline(&self) -> Instant {
        self.probe
            .as_ref()
            .map_or(self.next, |probe| probe.began + self.timeout)
    }

    /// What it waits for.
    pub fn sources(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        let output = self.probe.iter().filter_map(|p| p.output.as_ref().map(|fd| fd.as_fd()));
        self.probe.iter().map(|p| p.process.as_fd()).chain(output)
    }

    fn starting(&self) -> bool {
        self.status() == HealthStatusEnum::STARTING && self.began.elapsed() < self.start_period
    }

    fn plan(&mut self) {
        let pause = if self.starting() {
            self.start_interval
        } else {
            self.interval
        };
        self.next = Instant::now() + pause;
    }

    /// Takes a result into account; whether the status is another now.
    fn judge(&mut self, began: Instant, result: HealthcheckResult) -> bool {
        let before = self.status();
        let good = result.exit_code == Some(0);
        let log = self.state.log.get_or_insert_default();
        log.push(result);
        if log.len() > RESULTS {
            log.remove(0);
        }
        let forgiven = before == HealthStatusEnum::STARTING && began.duration_since(self.began) < self.start_period;
        let streak = self.state.failing_streak.get_or_insert(0);
        match good {
            true => {
                *streak = 0;
                self.state.status = Some(HealthStatusEnum::HEALTHY);
            }
            false if forgiven => {}
            false => {
                *streak += 1;
                if *streak >= self.retries {
                    self.state.status = Some(HealthStatusEnum::UNHEALTHY);
                }
            }
        }
        self.status() != before
    }
}

/// `CMD a b`, `CMD-SHELL line`; nothing for `NONE`.
fn command(test: &[String], record: &Record) -> Option<Vec<String>> {
    let (kind, rest) = test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => {
            let shell = record.body.shell.clone().filter(|s| !s.is_empty());
            let mut command = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            command.extend(rest.iter().cloned());
            Some(command)
        }
        _ => None,
    }
}

impl Monitor {
    /// Starts the next check when it is time, and takes in what there is of one that runs.
    pub fn mind_health(&mut self, buffer: &mut [u8]) {
        let Some(mut check) = self.health.take() else { return };
        match self.run.is_some() && !self.restart.forbidden {
            true => self.mind(&mut check, buffer),
            // Asked to stop: a check that is killed with the rest says nothing. It is collected, for its namespace cannot
            // end before.
            false => {
                let code = check.probe.as_mut().map(|probe| {
                    // Unread, it would wake us without end.
                    probe.read(buffer);
                    probe.process.code(&mut self.uname)
                });
                if !matches!(code, None | Some(Ok(None))) {
                    check.probe = None;
                }
            }
        }
        self.health = Some(check);
    }

    fn mind(&mut self, check: &mut HealthCheck, buffer: &mut [u8]) {
        let Some(probe) = &mut check.probe else {
            if Instant::now() >= check.next {
                self.begin_check(check);
            }
            return;
        };
        probe.read(buffer);
        let ended = match probe.process.code(&mut self.uname) {
            Ok(code) => code,
            Err(error) => {
                let (began, started_at) = (probe.began, probe.started_at.clone());
                check.probe = None;
                return self.fail_check(check, began, started_at, &error);
            }
        };
        let late = probe.began.elapsed() >= check.timeout;
        if ended.is_none() && !late {
            return;
        }
        let Some(mut probe) = check.probe.take() else { return };
        if ended.is_none() {
            probe.process.kill();
        }
        probe.read(buffer);
        let mut output = String::from_utf8_lossy(&probe.text).into_owned();
        if ended.is_none() {
            output = match output.as_str() {
                "" => format!("Health check exceeded timeout ({:?})", check.timeout),
                text => format!("Health check exceeded timeout ({:?}): {text}", check.timeout),
            };
        }
        let result = HealthcheckResult {
            start: Some(probe.started_at),
            end: Some(now()),
            exit_code: Some(ended.unwrap_or(-1).into()),
            output: Some(output),
        };
        self.end_check(check, probe.began, result);
    }

    fn begin_check(&mut self, check: &mut HealthCheck) {
        // A process in a frozen container would wait to be thawed, and we for it.
        if self.paused {
            return check.plan();
        }
        let (began, started_at) = (Instant::now(), now());
        match self.probe(&check.command) {
            Ok((joining, output)) => {
                check.probe = Some(Probe {
                    process: Process::Joining(joining),
                    output: Some(output),
                    text: Vec::new(),
                    started_at,
                    began,
                });
            }
            Err(error) => self.fail_check(check, began, started_at, &error),
        }
    }

    /// One that could not be made.
    fn fail_check(&mut self, check: &mut HealthCheck, began: Instant, started_at: String, error: &Error) {
        let result = HealthcheckResult {
            start: Some(started_at),
            end: Some(now()),
            exit_code: Some(-1),
            output: Some(error.to_string()),
        };
        self.end_check(check, began, result);
    }

    fn end_check(&mut self, check: &mut HealthCheck, began: Instant, result: HealthcheckResult) {
        let changed = check.judge(began, result);
        // A full disk must not end the container.
        let _ = write_json(&self.roots.health(&self.record.id), &check.state);
        if changed {
            self.health_status = Some(check.status());
            let _ = self.tell_state_again();
            self.tell(&format!("health_status: {}", check.status()), &[]);
        }
        check.plan();
    }

    /// A process on its way into the container, and what it writes.
    fn probe(&mut self, command: &[String]) -> Result<(Joining, OwnedFd)> {
        let run: &Run = self
            .run
            .as_ref()
            .ok_or_else(|| Error::conflict("the container does not run"))?;
        let spec: Option<Spec> = read_json(&self.roots.document(&self.record.id))?;
        let spec = spec.ok_or_else(|| Error::system("the container's config.json is gone"))?;
        let root = File::open(format!("/proc/{}/root", run.created.pid)).step("open the container's root")?;
        let options = ExecOptions {
            command: command.to_vec(),
            ..Default::default()
        };
        let read = |path: &str| spec::user::read_inside(root.as_fd(), path);
        let linked = linked::variables(&self.roots, &self.record);
        let process = spec::exec_process(&self.record, &read, &options, &linked)?;
        let (output, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).errno_step("make a pipe")?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).errno_step("make the pipe non-blocking")?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        let asked = engine::mend::asked(self.record.host())?;
        let joining = begin_exec(Exec {
            pid: run.created.pid,
            pidfd: run.created.pidfd.as_fd(),
            spec: &spec,
            process: &process,
            stdio: Stdio::Files {
                stdin: null.errno_step("open /dev/null")?,
                stdout: write.try_clone().step("copy a pipe")?,
                stderr: write,
            },
            cgroup: &run.created.cgroup,
            below: &[],
            outlives: false,
            preserved: 0,
            filters: None,
            born: &mut |pid| supervise::begin_if(&asked, &self.roots, &self.record, pid),
        })?;
        Ok((joining, output))
    }

    /// The run has ended, and its check with it: what was known, as Docker leaves it.
    pub fn end_health(&mut self) -> Option<Health> {
        let check = self.health.take()?;
        self.health_status = None;
        if let Some(Process::Runs(pidfd)) = check.probe.as_ref().map(|p| &p.process) {
            exit_code(pidfd, false);
        }
        Some(Health {
            status: Some(HealthStatusEnum::UNHEALTHY),
            ..check.state
        })
    }
}

/// A check's process.
enum Process {
    /// It may be held up by others inside.
    Joining(Joining),
    Runs(OwnedFd),
}

impl Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Process::Joining(joining) => joining.as_fd(),
            Process::Runs(pidfd) => pidfd.as_fd(),
        }
    }

    /// How it ended, if it has; the reason if it did not get there.
    fn code(&mut self, uname: &mut Uname) -> Result<Option<i32>> {
        if let Process::Joining(joining) = self {
            match readable(joining).then(|| joining.advance(&mut |listener| uname.take(listener))) {
                None => return Ok(None),
                Some(advanced) => match advanced? {
                    None => return Ok(None),
                    Some(execed) => *self = Process::Runs(execed.pidfd),
                },
            }
        }
        match self {
            Process::Runs(pidfd) => Ok(exit_code(pidfd, false)),
            Process::Joining(_) => Ok(None),
        }
    }

    /// One that has not got there goes with this value.
    fn kill(&self) {
        if let Process::Runs(pidfd) = self {
            let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), 9);
            exit_code(pidfd, true);
        }
    }
}

impl Probe {
    /// The beginning of what it writes is kept, the rest thrown away.
    fn read(&mut self, buffer: &mut [u8]) {
        while let Some(output) = &self.output {
            match rustix::io::read(output, &mut *buffer) {
                Ok(0) => self.output = None,
                Ok(read) => {
                    let room = OUTPUT.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.output = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start_period: u64, retries: i64) -> HealthCheck {
        HealthCheck {
            command: Vec::new(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            start_period: Duration::from_secs(start_period),
            start_interval: START_INTERVAL,
            retries,
            state: Health::default(),
            began: Instant::now(),
            next: Instant::now(),
            probe: None,
        }
    }

    fn result(code: i64) -> HealthcheckResult {
        HealthcheckResult {
            exit_code: Some(code),
            ..Default::default()
        }
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        use HealthStatusEnum::{HEALTHY, STARTING, UNHEALTHY};
        let mut strict = check(0, 2);
        assert!(!strict.judge(Instant::now(), result(1)));
        assert_eq!(strict.status(), STARTING);
        assert!(strict.judge(Instant::now(), result(1)));
        assert_eq!((strict.status(), strict.state.failing_streak), (UNHEALTHY, Some(2)));
        assert!(strict.judge(Instant::now(), result(0)));
        assert_eq!((strict.status(), strict.state.failing_streak), (HEALTHY, Some(0)));
        let mut patient = check(3600, 1);
        for _ in 0..9 {
            assert!(!patient.judge(Instant::now(), result(1)));
        }
        assert_eq!(
            (patient.status(), patient.state.log.as_ref().unwrap().len()),
            (STARTING, RESULTS)
        );
        patient.judge(Instant::now(), result(0));
        assert!(
            patient.judge(Instant::now(), result(1)),
            "once it was healthy failures count"
        );
        assert_eq!(patient.status(), UNHEALTHY);
    }
}
