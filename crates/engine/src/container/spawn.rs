//! Starting processes of ours: a container's monitor, what there is one of per host.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bollard_stubs::models::{ContainerCreateBody, HostConfig};
use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::fs::{Mode, OFlags};

use super::record::Record;
use super::{lock, names};
use crate::link::{self, Answer, Attached, Request};
use crate::{Roots, spec};

/// What monitors are called among our processes.
pub const PROCESS: &str = "monitor";
/// And those of usual containers (`spec::usual`): their first process can be born before more is known.
pub const AHEAD: &str = "monitor-ahead";

/// The argument list of a process of ours, after the program's name: the two sides of it stand here, side by side.
pub mod arguments {
    use super::*;

    /// What `start` gives: which of our processes, and which one of those.
    pub fn encode(roots: &Roots, process: &str, id: &str) -> Vec<OsString> {
        vec![
            process.into(),
            id.into(),
            "--data".into(),
            (&roots.data).into(),
            "--run".into(),
            (&roots.run).into(),
        ]
    }

    /// What the program gets, its own name taken off.
    pub fn decode(arguments: &[OsString], process: &str) -> Option<(Roots, String)> {
        let [command, id, data_flag, data, run_flag, run] = arguments else {
            return None;
        };
        let good = command == process && data_flag == "--data" && run_flag == "--run";
        let id = id.to_str().filter(|_| good)?.to_owned();
        Some((
            Roots {
                data: data.into(),
                run: run.into(),
            },
            id,
        ))
    }
}

/// Starts a process of ours that waits for nobody, with this as its standard input.
pub fn start(roots: &Roots, process: &str, id: &str, input: BorrowedFd<'_>) -> Result<()> {
    let step = || format!("start 'berth {process}'");
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).errno_step(step())?;
    launch(
        OWN,
        arguments::encode(roots, process, id),
        [input, null.as_fd(), null.as_fd()],
    )
    .step_with(step)
}

/// Our own program's file.
const OWN: &str = "/proc/self/exe";

/// Returns once the new process has executed the program: as long we rest, so that it begins at once, and both go on on
/// processors of their own (`posix_spawn`). A fork leaves the new process waiting on ours.
fn launch(file: &str, words: Vec<OsString>, streams: [BorrowedFd<'_>; 3]) -> std::io::Result<()> {
    let [input, output, error] = streams.map(|fd| fd.try_clone_to_owned().map(Stdio::from));
    let mut command = Command::new(file);
    command.arg0("berth").args(words).env_clear();
    command.stdin(input?).stdout(output?).stderr(error?);
    command.spawn().map(drop)
}

/// A monitor that was started, and waits to be told that its container is made.
pub struct Monitor {
    roots: Roots,
    id: String,
    /// Ours, until the monitor is alone with it.
    lock: Option<File>,
    socket: UnixStream,
    words: File,
}

impl Monitor {
    /// Starts the monitor of a container that is still to be made (`body`), under a new id: the making and the beginning
    /// of a process take equally long, and need not take turns. Dropped, it leaves nothing.
    pub fn ahead(roots: &Roots, body: &ContainerCreateBody) -> Result<Self> {
        roots.make()?;
        let id = names::new_id()?;
        let lock = lock::take(roots, &id, || Ok(false))?;
        let lock = lock.ok_or_else(|| Error::conflict(format!("container {id} is busy")))?;
        let host = body.host_config.clone().unwrap_or_default();
        Monitor::start_for(roots, &id, lock, &host, spec::host_users(&host))
    }

    /// Starts the monitor of a container that is there: its first process is born while the networks are asked about.
    pub(super) fn start(roots: &Roots, record: &Record, lock: File) -> Result<Self> {
        Monitor::start_for(roots, &record.id, lock, record.host(), record.ids.is_none())
    }

    /// It is born with the lock as its standard input (held as long as any copy of that descriptor is open, which is as long as
    /// it lives) and a socket as its standard output.
    fn start_for(roots: &Roots, id: &str, lock: File, host: &HostConfig, host_root: bool) -> Result<Self> {
        let process = if spec::usual(host) { AHEAD } else { PROCESS };
        let (ours, theirs) = UnixStream::pair().step("make a socket for the monitor")?;
        let words = memory_file()?;
        let streams = [lock.as_fd(), theirs.as_fd(), words.as_fd()];
        launch_monitor(arguments::encode(roots, process, id), host_root, streams)?;
        Ok(Monitor {
            roots: roots.clone(),
            id: id.into(),
            lock: Some(lock),
            socket: ours,
            words,
        })
    }

    /// Of its container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Has it run the container, and waits until that runs.
    /// `early`: the monitor's ends of connections that were made before (see there).
    pub(super) fn begin(
        &mut self,
        attach: bool,
        tty: bool,
        networks: Vec<network::Attachment>,
        early: &[OwnedFd],
    ) -> Result<Attached> {
        let early: Vec<_> = early.iter().map(|fd| fd.as_fd()).take(link::FDS_LIMIT).collect();
        let told = link::send(self.socket.as_fd(), &Request::Begin { attach, networks }, &early);
        self.lock = None;
        match told.and_then(|()| link::answer(&self.socket)) {
            Ok((Answer::Started { warnings, .. }, _)) => Ok(Attached {
                socket: self.socket.try_clone().step("keep the monitor's socket")?,
                tty,
                warnings,
            }),
            Ok(_) => Err(Error::system("the monitor gave an answer that fits no start")),
            Err(e) if e.kind() == Kind::Unavailable => Err(died(&mut self.words, e)),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // It hears the end of its socket, and goes: once it is gone nothing of the container is left. What cannot be
            // removed is found by `reap`.
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
            let _ = self.socket.read_to_end(&mut Vec::new());
            let _ = lock::discard(&self.roots, &self.id);
        }
    }
}

/// For what a monitor says that nobody is to hear but who waits for it: why it panicked.
fn memory_file() -> Result<File> {
    let made = rustix::fs::memfd_create(c"berth-monitor", rustix::fs::MemfdFlags::CLOEXEC);
    Ok(made.errno_step("make the monitor's standard error")?.into())
}

/// A monitor that ended without an answer: its last words, if any.
fn died(words: &mut File, error: Error) -> Error {
    let mut text = String::new();
    let _ = words.rewind().and_then(|()| words.read_to_string(&mut text));
    match text.trim() {
        "" => Error::system("the container's monitor died before the container ran"),
        text => Error::caused(format!("the container's monitor died: {text}"), error),
    }
}

/// Our own program as a monitor. For a container whose root is the host's it is a view of our file or a copy: nobody who
/// gets hold of it through `/proc/PID/exe` can write to it (CVE-2019-5736). Root of a user namespace of its own cannot
/// write to it anyway.
fn launch_monitor(words: Vec<OsString>, host_root: bool, streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    let view = match host_root {
        true => {
            Some(sys::mount::unwritable(Path::new(OWN)).errno_step("keep our own program out of containers' reach")?)
        }
        false => None,
    };
    let file = view
        .as_ref()
        .map_or(OWN.to_owned(), |view| format!("/proc/self/fd/{}", view.as_raw_fd()));
    launch(&file, words, streams).step("start the monitor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_way() {
        let roots = Roots {
            data: "/d".into(),
            run: "/r".into(),
        };
        let words = arguments::encode(&roots, PROCESS, "abc");
        let (back, id) = arguments::decode(&words, PROCESS).unwrap();
        assert_eq!((back.data, back.run, id.as_str()), (roots.data, roots.run, "abc"));
        assert!(arguments::decode(&["monitor".into(), "x".into()], PROCESS).is_none());
        assert!(arguments::decode(&words, "other").is_none());
    }
}
