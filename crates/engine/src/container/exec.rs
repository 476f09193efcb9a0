//! `exec`: one more process in a running container.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::names;
use super::record::{LiveStatus, Record};
use crate::link::{self, Answer, ExecRequest, Request};
use crate::network::linked;
use crate::{Engine, spec};

/// What to run, and how.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=value`, over the container's.
    pub env: Vec<String>,
    /// `USER[:GROUP]`; the container's unless given.
    pub user: Option<String>,
    /// Absolute; the container's unless given.
    pub workdir: Option<String>,
    /// All capabilities of the container's user namespace.
    pub privileged: bool,
    /// With a terminal.
    pub tty: bool,
    /// With something to read.
    pub stdin: bool,
    /// Nobody listens.
    pub detach: bool,
    /// The terminal's first rows and columns.
    pub size: (u16, u16),
}

/// A process that was added, and the caller's ends of its streams.
pub struct Execed {
    /// 64 hexadecimal digits.
    pub id: String,
    /// In the host's pid namespace.
    pub pid: i32,
    /// The terminal's master.
    pub console: Option<OwnedFd>,
    /// Write here.
    pub stdin: Option<OwnedFd>,
    /// Read here.
    pub stdout: Option<OwnedFd>,
    /// And here.
    pub stderr: Option<OwnedFd>,
    socket: UnixStream,
}

impl Execed {
    /// Blocks until it has ended; its exit code, 137 if the container was killed with its monitor.
    pub fn wait(&mut self) -> Result<i32> {
        match link::answer(&self.socket) {
            Ok((Answer::Exited(exit), _)) => Ok(exit.code),
            Ok(_) => Err(Error::system("the monitor gave an answer that fits no exec")),
            Err(e) if e.kind() == Kind::Unavailable => Ok(137),
            Err(e) => Err(e),
        }
    }

    /// Readable once it has ended: for callers that poll.
    pub fn ended(&self) -> impl AsFd + '_ {
        &self.socket
    }
}

impl Execed {
    /// Leaves it to itself: what it writes from now on is thrown away.
    pub fn detach(self) {
        // A monitor that does not hear it is gone, and the process with it.
        let _ = rustix::io::write(&self.socket, &[1]);
    }
}

/// What names a process that was added, and what becomes of it: see [`ExecRequest`].
pub(super) struct Way {
    pub id: String,
    pub object: bool,
}

impl Engine {
    /// Starts a process in a running container, and returns once it runs. Kinds: `CommandNotFound` and
    /// `CommandNotExecutable` for a bad command, `Conflict` when the container does not run.
    pub fn exec(&self, name: &str, options: &ExecOptions) -> Result<Execed> {
        let record = self.record(name)?;
        let id = new_exec_id(&record.id)?;
        self.add_process(&record, options, Way { id, object: false })
    }

    /// The process id of a container that can be added to.
    pub(super) fn open_for_exec(&self, record: &Record) -> Result<i32> {
        let conflict = |words: &str| Err(Error::conflict(format!("container {} {words}", record.id)));
        match self.alive(&record.id)? {
            Some(live) if live.status == LiveStatus::Running && live.pid != 0 => Ok(live.pid),
            Some(live) if live.status == LiveStatus::Paused => {
                let name = record.name.trim_start_matches('/');
                let words = format!("Container {name} is paused, unpause the container before exec");
                Err(Error::conflict(words))
            }
            Some(_) => conflict("is restarting, wait until the container is running"),
            None => conflict("is not running"),
        }
    }

    pub(super) fn add_process(&self, record: &Record, options: &ExecOptions, way: Way) -> Result<Execed> {
        if options.command.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        let pid = self.open_for_exec(record)?;
        let root = File::open(format!("/proc/{pid}/root"));
        let root = root
            .step("open the container's root")
            .map_err(|e| e.kind_is(Kind::Conflict))?;
        let linked = linked::variables(&self.roots, record);
        let read = |path: &str| spec::user::read_inside(root.as_fd(), path);
        let process = spec::exec_process(record, &read, options, &linked)?;
        let streams = Streams::make(options, host_uid(record, process.user().uid()))?;
        let lasting = way.object || options.detach;
        let request = Request::Exec(Box::new(ExecRequest {
            id: way.id.clone(),
            process,
            size: options.size,
            object: way.object,
            lasting,
        }));
        let socket = link::connect(&self.roots.socket(&record.id))?;
        let mut passed: Vec<_> = streams.theirs.iter().map(|fd| fd.as_fd()).collect();
        if lasting {
            passed.extend(streams.ours[1..].iter().flatten().map(|fd| fd.as_fd()));
        }
        link::send(socket.as_fd(), &request, &passed)?;
        let (answer, mut fds) = link::answer(&socket)?;
        let Answer::Started { pid, .. } = answer else {
            return Err(Error::system("the monitor gave an answer that fits no exec"));
        };
        let [stdin, stdout, stderr] = streams.ours;
        Ok(Execed {
            id: way.id,
            pid,
            console: fds.pop(),
            stdin,
            stdout,
            stderr,
            socket,
        })
    }
}

/// An id nobody else has, that begins as its container's: so that it can be found without a list of them all.
pub(super) fn new_exec_id(container: &str) -> Result<String> {
    let half = container.len() / 2;
    Ok(format!("{}{}", &container[..half], &names::new_id()?[half..]))
}

/// Who a user of the container is on the host.
fn host_uid(record: &Record, uid: u32) -> u32 {
    record.ids.map_or(uid, |range| range.first.saturating_add(uid))
}

/// Pipes, or nothing for a terminal.
struct Streams {
    ours: [Option<OwnedFd>; 3],
    theirs: Vec<OwnedFd>,
}

impl Streams {
    /// The process must be able to open `/dev/stdout` again: its ends belong to its user.
    fn make(options: &ExecOptions, owner: u32) -> Result<Self> {
        let mut streams = Streams {
            ours: [None, None, None],
            theirs: Vec::new(),
        };
        if options.tty {
            return Ok(streams);
        }
        for (index, wanted) in [options.stdin && !options.detach, !options.detach, !options.detach]
            .into_iter()
            .enumerate()
        {
            if !wanted {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                let null = rustix::fs::open("/dev/null", flags, Mode::empty()).errno_step("open /dev/null")?;
                streams.theirs.push(null);
                continue;
            }
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).errno_step("make a pipe")?;
            let (ours, theirs) = if index == 0 { (write, read) } else { (read, write) };
            rustix::fs::fchown(&theirs, Some(Uid::from_raw(owner)), None::<Gid>).errno_step("give the pipe away")?;
            streams.ours[index] = Some(ours);
            streams.theirs.push(theirs);
        }
        Ok(streams)
    }
}
