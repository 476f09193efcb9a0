//! Starting a container's monitor.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use errdefs::{ErrnoStep, Error, Kind, Result, Step};

use super::record::Record;
use crate::link::{self, Answer, Attached, Request};
use crate::{Engine, Roots};

/// The argument list of a monitor, after the program's name: the two sides of it stand here, side by side.
pub mod arguments {
    use std::ffi::OsString;

    use super::*;

    /// What `start` gives.
    pub fn encode(roots: &Roots, id: &str) -> Vec<OsString> {
        vec![
            "monitor".into(),
            id.into(),
            "--data".into(),
            (&roots.data).into(),
            "--run".into(),
            (&roots.run).into(),
        ]
    }

    /// What the program gets, its own name taken off.
    pub fn decode(arguments: &[OsString]) -> Option<(Roots, String)> {
        let [command, id, data_flag, data, run_flag, run] = arguments else {
            return None;
        };
        let good = command == "monitor" && data_flag == "--data" && run_flag == "--run";
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

/// Starts the monitor of `record`'s container and waits until the container runs. The monitor is born with the lock as
/// its standard input (held as long as any copy of that descriptor is open, which is as long as it lives) and a socket
/// as its standard output.
pub fn spawn(engine: &Engine, record: &Record, lock: File, attach: bool) -> Result<Attached> {
    let (ours, theirs) = UnixStream::pair().step("make a socket for the monitor")?;
    if attach {
        link::send(std::os::fd::AsFd::as_fd(&ours), &Request::Attach { stdin: true }, &[])?;
    } else {
        ours.shutdown(std::net::Shutdown::Write)
            .step("make a socket for the monitor")?;
    }
    let mut words = memory_file()?;
    let program = Program::find(engine.monitor_program.as_deref(), record.ids.is_none());
    let child = Command::new(&program.path)
        .args(arguments::encode(&engine.roots, &record.id))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::from(words.try_clone().step("make the monitor's standard error")?))
        .spawn();
    child.step_with(|| format!("start the monitor ({})", program.path.display()))?;
    match link::answer(&ours) {
        Ok((Answer::Started { warnings, .. }, _)) => Ok(Attached {
            socket: ours,
            tty: record.tty(),
            warnings,
        }),
        Ok(_) => Err(Error::system("the monitor gave an answer that fits no start")),
        Err(e) if e.kind() == Kind::Unavailable => Err(died(&mut words, e)),
        Err(e) => Err(e),
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

/// The program to start monitors with. For a container whose root is the host's it is a read-only view of our own file:
/// nobody who gets hold of it through `/proc/PID/exe` can write to it (CVE-2019-5736). Root of a user namespace of its own
/// cannot write to it anyway.
struct Program {
    path: PathBuf,
    _view: Option<OwnedFd>,
}

impl Program {
    fn find(set: Option<&Path>, guarded: bool) -> Self {
        let original = set.unwrap_or(Path::new("/proc/self/exe"));
        match guarded.then(|| sys::mount::read_only_view(original)) {
            Some(Ok(view)) => Program {
                path: format!("/proc/self/fd/{}", view.as_raw_fd()).into(),
                _view: Some(view),
            },
            Some(Err(_)) | None => Program {
                path: original.into(),
                _view: None,
            },
        }
    }
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
        let (back, id) = arguments::decode(&arguments::encode(&roots, "abc")).unwrap();
        assert_eq!((back.data, back.run, id.as_str()), (roots.data, roots.run, "abc"));
        assert!(arguments::decode(&["monitor".into(), "x".into()]).is_none());
    }
}
