//! `why`: the true cause of a container's end.
//!
//! Nothing watches a container for it. When one ends badly its monitor looks at the kernel's log, once, and at the
//! container's files; what it finds is a part of how the container ended ([`Exit::why`]).

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use compat::why::{Cause, Evidence, Files, Refused, explain, needs_log};
use errdefs::Result;
use rustix::fs::OFlags;
use snapshot::{Digest, Store, Writable};

use crate::container::Record;
use crate::container::record::read_json;
use crate::container::status::Status;
use crate::link::Exit;
use crate::{Engine, Roots};

/// So much of the kernel's log is looked at.
const LOG: usize = 128 * 1024;
/// The kernel writes lines of seccomp a little later.
const LATE: Duration = Duration::from_millis(20);
/// The log's clock and ours may differ by so much, and by a part of the time that the machine is up.
const CLOCK: u64 = 1_000_000;
const DRIFT: u64 = 10_000;
/// So many bytes of refused calls are read.
const REFUSED: u64 = 256 * 1024;
/// Bigger files are not looked into.
const FILE_LIMIT: u64 = 256 << 20;
/// Where the dynamic loader looks.
const LIBRARIES: &[&str] = &[
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
];
const PROGRAMS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a monitor knows of an end.
pub struct End<'a> {
    /// As in [`Exit`].
    pub code: i32,
    /// The first process.
    pub pid: i32,
    /// Kills for lack of memory were counted.
    pub memory_kill: bool,
    /// How long it ran.
    pub ran: Duration,
    /// The last bytes that it wrote.
    pub said: &'a [u8],
}

/// Why it ended so; `None` if there is nothing to explain.
pub fn why(roots: &Roots, record: &Record, end: &End<'_>) -> Option<Cause> {
    if end.code == 0 {
        return None;
    }
    let (said, args) = (String::from_utf8_lossy(end.said), record.args());
    let files = Rootfs {
        roots,
        record,
        root: OnceCell::new(),
    };
    let read = needs_log(end.code, end.memory_kill);
    let mut log = if read { kernel_log() } else { String::new() };
    if end.code == 128 + 31 && !log.contains("type=1326") {
        std::thread::sleep(LATE);
        log = kernel_log();
    }
    let processor = match end.code {
        132 => std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        _ => String::new(),
    };
    let refused = refused(roots, record);
    let filter = OnceCell::new();
    let filter = |call: &str| {
        let filter = filter.get_or_init(|| own_filter(roots, record)).as_ref()?;
        runtime::seccomp::answer_to(filter, call)
    };
    let evidence = Evidence {
        code: end.code,
        pid: end.pid,
        since: since(end.ran),
        log: &log,
        command: args.first().map_or("", String::as_str),
        said: &said,
        cgroup: &record.cgroup(),
        memory: record.host().memory.filter(|m| *m > 0),
        memory_kill: end.memory_kill,
        processor: processor.lines().find(|l| l.starts_with("flags")).unwrap_or_default(),
        refused: &refused,
        filter: Some(&filter),
        capability: Some(&runtime::seccomp::capability_of),
    };
    explain(&evidence, &files)
}

/// System calls that a tracer saw refused.
fn refused(roots: &Roots, record: &Record) -> Vec<Refused> {
    let Ok(file) = File::open(roots.refused(&record.id)) else {
        return Vec::new();
    };
    let text = std::io::read_to_string(file.take(REFUSED)).unwrap_or_default();
    text.lines().filter_map(Refused::parse).collect()
}

/// The filter that its processes had.
fn own_filter(roots: &Roots, record: &Record) -> Option<runtime::oci::LinuxSeccomp> {
    let spec: runtime::oci::Spec = read_json(&roots.document(&record.id)).ok()??;
    spec.linux().as_ref()?.seccomp().clone()
}

fn kernel_log() -> String {
    // Who may not read it explains less.
    let bytes = sys::kernel_log::last(LOG).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// When it began, in the log's microseconds.
fn since(ran: Duration) -> u64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let up = up.tv_sec as u64 * 1_000_000 + up.tv_nsec as u64 / 1000;
    up.saturating_sub(ran.as_micros() as u64 + CLOCK + up / DRIFT)
}

/// The container's files as they were at its end.
struct Rootfs<'a> {
    roots: &'a Roots,
    record: &'a Record,
    /// Mounted once somebody asks.
    root: OnceCell<Option<OwnedFd>>,
}

impl Rootfs<'_> {
    fn mount(&self) -> Option<OwnedFd> {
        let store = Store::open(&self.roots.layers()).ok()?;
        let layers: Vec<Digest> = self
            .record
            .layers
            .iter()
            .map(|l| l.parse().ok())
            .collect::<Option<_>>()?;
        let own = Writable::at(&self.roots.container(&self.record.id), !self.record.auto_remove());
        Some(store.mount(&layers, Some(&own), None).ok()?.root)
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let root = self.root.get_or_init(|| self.mount()).as_ref()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(sys::path::open(root.as_fd(), Path::new(path), flags).ok()?);
        if !file.metadata().is_ok_and(|m| m.is_file() && m.len() <= FILE_LIMIT) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl Files for Rootfs<'_> {
    fn find(&self, name: &str) -> Option<(String, Vec<u8>)> {
        if name.contains('/') {
            return self.read(name).map(|bytes| (name.to_owned(), bytes));
        }
        // The command itself may be anywhere.
        let args = self.record.args();
        let command = args
            .first()
            .filter(|c| c.rsplit('/').next() == Some(name) && c.contains('/'));
        if let Some(found) = command.and_then(|path| Some((path.clone(), self.read(path)?))) {
            return Some(found);
        }
        let variable = |name: &str| {
            let mut list = self.record.body.env.iter().flatten();
            list.find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
        };
        let programs = variable("PATH").unwrap_or(PROGRAMS).split(':');
        let libraries = variable("LD_LIBRARY_PATH").unwrap_or_default().split(':');
        let given = programs.chain(libraries).filter(|dir| dir.starts_with('/'));
        let paths = given
            .chain(LIBRARIES.iter().copied())
            .map(|dir| format!("{dir}/{name}"));
        paths
            .into_iter()
            .find_map(|path| self.read(&path).map(|bytes| (path, bytes)))
    }
}

/// What there is to say about a container's end, or about why it has none.
pub struct Explained {
    /// What state it is in: `running`, `exited (139)`.
    pub state: String,
    /// Why.
    pub cause: Option<Cause>,
    /// What is done so that it runs on this kernel.
    pub remedies: Vec<String>,
}

impl Exit {
    /// The one sentence for `State.Error`: why it could not be started or kept, else why it ended, if there is no doubt.
    pub fn sentence(&self) -> Option<&str> {
        let why = self
            .why
            .as_ref()
            .filter(|why| why.certain)
            .map(|why| why.sentence.as_str());
        self.error.as_deref().or(why)
    }
}

impl Engine {
    /// Why a container ended, or could not be started.
    pub fn why(&self, name: &str) -> Result<Explained> {
        let row = self.find(name)?;
        let ended = |exit: &Exit| {
            let error = exit.error.clone().map(|sentence| Cause {
                sentence,
                hint: None,
                certain: true,
            });
            exit.why.clone().or(error)
        };
        let record = self.read_record(&row.id)?;
        let layers: Vec<Digest> = record.layers.iter().filter_map(|l| l.parse().ok()).collect();
        let remedies = crate::mend::remedies(&self.layers, &layers, &crate::mend::asked(record.host())?)?;
        let (state, cause) = match self.settled(&row.id)? {
            Status::Created | Status::Changing => ("has not been started".into(), None),
            Status::Alive(live) | Status::Orphaned(live) => match live.last.filter(|_| live.pid == 0) {
                Some(last) => (
                    format!("ended with {}, and will be started again", last.code),
                    ended(&last),
                ),
                None => ("runs".into(), None),
            },
            Status::Exited(end) if end.started_at.is_empty() => ("could not be started".into(), ended(&end.exit)),
            Status::Exited(end) => (format!("ended with {}", end.exit.code), ended(&end.exit)),
        };
        Ok(Explained { state, cause, remedies })
    }
}
