//! Control groups: version 2, version 1 and both at once.
//!
//! Every container is in the version 2 hierarchy where there is one: clone3 puts its first process there for nothing,
//! and it can be killed and frozen as a whole. Version 1 hierarchies are joined only when a limit needs them, because
//! moving a process there makes the kernel wait for all processors (10 ms and more).

mod dbus;
mod devices;
mod host;
mod meant;
mod membership;
pub(crate) mod named;
mod stats;
mod systemd;
mod v1;
mod v2;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxRdma, LinuxResources};

use crate::kernel_files;

pub use crate::kernel_files::DeviceIo;
use host::{Hierarchy, Host};
use meant::{limits, meant};
pub(crate) use membership::Membership;
pub use stats::Stats;

/// How long a removal waits for the last processes to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cgroups of one container. Serialisable, so that whoever tears down can find it again by path.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Cgroup {
    /// Below each hierarchy's mount point, e.g. "/berth/ID".
    pub path: String,
    /// systemd's name of it, where systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// It is in the hierarchy of an old systemd, too ([`named`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    named: bool,
    /// Its directories, where whoever made them is the one that asks; else they are looked for.
    #[serde(skip)]
    made: Option<Vec<PathBuf>>,
}

/// Who makes a container's cgroup, and in which hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// We: in version 2, and in those hierarchies of version 1 that a limit needs.
    AsNeeded,
    /// We, in every hierarchy of the host: for engines that look into them.
    Everywhere,
    /// systemd, as a scope; `linux.cgroupsPath` is `SLICE:PREFIX:NAME`.
    Systemd,
}

/// Looks up, once, which hierarchies the host has.
pub(crate) fn look_up() -> Result<()> {
    Host::get().map(drop)
}

/// Whether a controller is in a version 1 hierarchy here.
pub fn has_version_1(controller: &str) -> bool {
    Host::get().is_ok_and(|host| host.find(controller).is_some() && !host.in_v2(controller))
}

/// Whether processors' real time can be limited: with version 1, in some kernels.
pub fn has_realtime() -> bool {
    let cpu = Host::get().ok().and_then(|host| host.find("cpu"));
    cpu.is_some_and(|hierarchy| hierarchy.mount.join("cpu.rt_runtime_us").exists())
}

/// A cgroup below a container's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Below {
    /// In the hierarchies of these; of all if there are none.
    controllers: Vec<String>,
    path: PathBuf,
}

impl Below {
    /// `[CONTROLLER,...:]PATH`.
    pub fn parse(text: &str) -> Result<Self> {
        let (controllers, path) = text.split_once(':').unwrap_or(("", text));
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(Error::invalid(format!("bad sub cgroup path: {}", path.display())));
        }
        Ok(Below {
            controllers: controllers
                .split(',')
                .filter(|c| !c.is_empty())
                .map(String::from)
                .collect(),
            path: path.into(),
        })
    }
}

/// The way into a running container's cgroups, for one more process.
pub(crate) struct Entrance {
    v2: Option<File>,
    v1: Vec<PathBuf>,
    named: Option<named::Named>,
}

impl Entrance {
    /// Of all hierarchies in which the container is, or into cgroups below.
    pub fn open(cgroup: &Cgroup, below: &[Below]) -> Result<Self> {
        if cgroup.is_none() && below.is_empty() {
            return Ok(Entrance {
                v2: None,
                v1: Vec::new(),
                named: None,
            });
        }
        cgroup.there()?;
        let host = Host::get()?;
        for name in below.iter().flat_map(|b| &b.controllers) {
            host.find(name)
                .ok_or_else(|| Error::invalid(format!("unknown controller {name} in the cgroup's name")))?;
        }
        let place = |mount: &Path, controllers: &[String]| {
            let meant = |b: &&Below| b.controllers.is_empty() || b.controllers.iter().any(|c| controllers.contains(c));
            let below = below.iter().rev().find(meant);
            below.map_or(cgroup.below(mount), |below| cgroup.below(mount).join(&below.path))
        };
        let there = |dir: &PathBuf| match dir.is_dir() {
            true => Ok(()),
            false => Err(Error::not_found(format!(
                "exec: adding pid to {}/cgroup.procs: no such file or directory",
                dir.display()
            ))),
        };
        let v2 = match &host.v2 {
            Some(root) => {
                let dir = place(root, &[]);
                there(&dir)?;
                Some(File::open(dir).step("open the cgroup")?)
            }
            None => None,
        };
        let joined = host.v1.iter().filter(|h| cgroup.below(&h.mount).is_dir());
        let v1: Vec<PathBuf> = joined.map(|h| place(&h.mount, &h.controllers)).collect();
        v1.iter().try_for_each(there)?;
        let named = cgroup.named.then(|| named::Named::find(cgroup)).transpose()?;
        Ok(Entrance { v2, v1, named })
    }

    /// For clone3.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(|f| f.as_fd())
    }

    /// The rest of the way.
    pub fn join(&self, pid: i32) -> Result<()> {
        let named = self.named.iter().map(|named| &named.dir);
        self.v1.iter().chain(named).try_for_each(|dir| enter(dir, pid))
    }
}

impl Cgroup {
    /// At this path below each hierarchy's mount point.
    pub fn at(path: &str) -> Self {
        Cgroup {
            path: path.into(),
            unit: None,
            named: false,
            made: None,
        }
    }

    /// For a container that has none.
    fn none() -> Self {
        Cgroup::at("")
    }

    fn is_none(&self) -> bool {
        self.path.is_empty()
    }

    fn below(&self, mount: &Path) -> PathBuf {
        mount.join(self.path.trim_start_matches('/'))
    }

    fn there(&self) -> Result<()> {
        match self.is_none() {
            true => Err(Error::invalid("the container has no cgroup of its own")
                .hint("a user needs one that was handed down: see linux.cgroupsPath")),
            false => Ok(()),
        }
    }

    /// All directories of it that exist.
    fn directories(&self) -> Result<Vec<PathBuf>> {
        if self.is_none() {
            return Ok(Vec::new());
        }
        if let Some(made) = &self.made {
            return Ok(made.clone());
        }
        let host = Host::get()?;
        let mounts = host.v2.iter().chain(host.v1.iter().map(|h| &h.mount));
        Ok(mounts
            .map(|mount| self.below(mount))
            .filter(|dir| dir.is_dir())
            .collect())
    }

    /// The directory that all of its processes are in: version 2, or the version 1 hierarchy that every container joins.
    fn main(&self) -> Result<Option<PathBuf>> {
        if self.is_none() {
            return Ok(None);
        }
        let host = Host::get()?;
        let mount = host.v2.as_ref().or(host.find("freezer").map(|h| &h.mount));
        Ok(mount
            .map(|m| self.below(m))
            .filter(|dir| self.made.is_some() || dir.is_dir()))
    }

    /// Applies changed limits (docker update).
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        self.there()?;
        let resources = &meant(resources.clone());
        let host = Host::get()?;
        if let Some(root) = &host.v2 {
            if let Some(unit) = &self.unit {
                systemd::set(unit, &v2::properties(&self.below(root), resources))?;
            }
            v2::apply(root, &self.below(root), resources, host)?;
            let opened = File::open(self.below(root)).step("open the cgroup")?;
            restrict_devices(&opened, resources.devices().as_deref(), false)?;
        }
        for hierarchy in v1::needed(resources, host, false)? {
            let dir = self.below(&hierarchy.mount);
            let is_new = !dir.is_dir();
            make(&dir)?;
            v1::apply(hierarchy, &dir, resources)?;
            if is_new {
                self.move_to(&dir)?;
            }
        }
        Ok(())
    }

    /// All of its processes into one more hierarchy, also those that are made meanwhile.
    fn move_to(&self, dir: &Path) -> Result<()> {
        loop {
            let inside = pids_below(dir)?;
            let outside: Vec<i32> = self.pids()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                match enter(dir, pid) {
                    // It has ended.
                    Err(error) if error.errno() == Some(3) => {}
                    entered => entered?,
                }
            }
        }
    }

    /// SIGKILLs every process of it and below. Fine if it is gone.
    pub fn kill(&self) -> Result<()> {
        let Some(dir) = self.main()? else { return Ok(()) };
        // Linux 5.14.
        if std::fs::write(dir.join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        for _ in 0..100 {
            let pids = pids_below(&dir)?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                let _ = sys::process::kill(pid, 9);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::system(format!(
            "processes in the cgroup {} do not die",
            self.path
        )))
    }

    /// Freezes or thaws it; returns once it is done.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.there()?;
        let host = Host::get()?;
        if let Some(root) = &host.v2 {
            return v2::freeze(&self.below(root), frozen);
        }
        match host.find("freezer") {
            Some(hierarchy) => v1::freeze(&self.below(&hierarchy.mount), frozen),
            None => Err(Error::system("this host has no cgroup freezer")),
        }
    }

    /// Whether its processes are frozen.
    pub fn frozen(&self) -> bool {
        if self.is_none() {
            return false;
        }
        let Ok(host) = Host::get() else { return false };
        let (mount, file, wanted) = match (&host.v2, host.find("freezer")) {
            (Some(root), _) => (root, "cgroup.freeze", "1"),
            (None, Some(hierarchy)) => (&hierarchy.mount, "freezer.state", "FROZEN"),
            (None, None) => return false,
        };
        std::fs::read_to_string(self.below(mount).join(file)).is_ok_and(|text| text.trim() == wanted)
    }

    /// Process ids in it and below.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.main()?.map_or(Ok(Vec::new()), |dir| pids_below(&dir))
    }

    /// How many processes were killed for lack of memory in it.
    pub fn oom_kills(&self) -> u64 {
        let Ok(directories) = self.directories() else { return 0 };
        let count = |text: String| kernel_files::named(&text, "oom_kill");
        let files = directories
            .iter()
            .flat_map(|d| [d.join("memory.events"), d.join("memory.oom_control")]);
        files
            .filter_map(|f| std::fs::read_to_string(f).ok().and_then(count))
            .max()
            .unwrap_or(0)
    }

    /// Removes it from all hierarchies, with what the container made below; fine if it is gone already. Waits for its
    /// last processes to go.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        if let Some(unit) = &self.unit {
            systemd::stop(unit)?;
        }
        for dir in self.directories()? {
            let mut pause = Duration::from_micros(50);
            loop {
                match remove_below(&dir) {
                    Ok(()) => break,
                    Err(e) if e.raw_os_error() == Some(16) && Instant::now() < deadline => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(20));
                    }
                    Err(e) => return Err(e).step_with(|| format!("remove the cgroup {}", dir.display())),
                }
            }
        }
        Ok(())
    }
}

fn not_ours(error: &Error) -> bool {
    const REFUSED: &[i32] = &[1, 13, 30];
    let root = rustix::process::geteuid().is_root() && sys::process::has_hosts_users();
    !root && error.errno().is_some_and(|errno| REFUSED.contains(&errno))
}

/// A line of `rdma.max`.
fn rdma_line(device: &str, rdma: &LinuxRdma) -> String {
    let number = |word: &str, n: Option<u32>| n.map(|n| format!(" {word}={n}")).unwrap_or_default();
    format!(
        "{device}{}{}",
        number("hca_handle", rdma.hca_handles()),
        number("hca_object", rdma.hca_objects())
    )
}

/// In version 2.
fn restrict_devices(cgroup: &File, rules: Option<&[LinuxDeviceCgroup]>, is_new: bool) -> Result<()> {
    let rules = devices::complete(rules);
    match rules.is_empty() {
        true => Ok(()),
        false => devices::enforce(cgroup.as_fd(), &rules, is_new),
    }
}

/// Where a cgroup is on the host, in the hierarchy of these controllers (as [`Membership::joined`] names them).
pub(crate) fn place(controllers: &str, path: &Path) -> Result<PathBuf> {
    let host = Host::get()?;
    let found = match controllers {
        "unified" => host.v2.as_ref(),
        names => host.find(names.split(',').next().unwrap_or_default()).map(|h| &h.mount),
    };
    let mount = found.ok_or_else(|| Error::system(format!("this host has no cgroup hierarchy {controllers}")))?;
    Ok(mount.join(path.strip_prefix("/").unwrap_or(path)))
}

fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).step_with(|| format!("make the cgroup {}", dir.display()))
}

/// For a new container: nobody else may be in it, or it would be killed with the container; and nothing starts in one that is
/// frozen.
fn make_new(dir: &Path) -> Result<()> {
    match std::fs::create_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return make(dir),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).step_with(|| format!("make the cgroup {}", dir.display())),
    }
    if !pids_below(dir)?.is_empty() {
        return Err(Error::conflict(format!(
            "container's cgroup is not empty: {}",
            dir.display()
        )));
    }
    let says = |file: &str, word: &str| std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.trim() == word);
    match says("cgroup.freeze", "1") || says("freezer.state", "FROZEN") {
        true => Err(Error::conflict(format!(
            "container's cgroup unexpectedly frozen: {}",
            dir.display()
        ))),
        false => Ok(()),
    }
}

fn enter(dir: &Path, pid: i32) -> Result<()> {
    write(&dir.join("cgroup.procs"), &pid.to_string())
}

/// Writes a setting; the error names the file.
fn write(file: &Path, value: &str) -> Result<()> {
    std::fs::write(file, value).step_with(|| format!("write {value:?} to {}", file.display()))
}

fn remove_below(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir(dir) {
        Err(e) if e.raw_os_error() == Some(16) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => return other,
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn pids_below(dir: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(kernel_files::pids(&text));
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        todo.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
    }
    Ok(pids)
}

/// What a limit needs and this host does not have.
fn missing(controller: &str, hierarchy: Option<&Hierarchy>) -> Result<()> {
    match hierarchy {
        Some(_) => Ok(()),
        None => Err(
            Error::system(format!("this host has no {controller} cgroup controller")).hint(format!(
                "boot the kernel with it enabled, or leave out the limit that needs {controller}"
            )),
        ),
    }
}
