//! An OCI runtime document to a process and back. Knows no image, no network driver, no Docker word.
//!
//! CONTRACT STUB: signatures that the monitor and the engine are written against.
#![allow(missing_docs)]
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use errdefs::Result;
pub use oci_spec::runtime as oci;

/// Where the container's root comes from.
pub enum Rootfs<'a> {
    /// `root.path` of the document, relative to the bundle.
    Document,
    /// A detached mount made on demand; called once the container's user namespace exists, with it
    /// (`None` when the container uses the host's) so that layers can be idmapped for it.
    Detached(&'a mut dyn FnMut(Option<BorrowedFd<'_>>) -> Result<OwnedFd>),
}

/// The first process's standard streams.
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These three.
    Files { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal made inside the container's devpts; its master comes back in `console`.
    Terminal { rows: u16, cols: u16 },
}

/// What a container is made from.
pub struct Create<'a> {
    pub id: &'a str,
    /// Used in place; `linux.cgroupsPath` is the cgroup ("/berth/ID" below each hierarchy's mount).
    pub spec: &'a oci::Spec,
    pub bundle: &'a Path,
    pub rootfs: Rootfs<'a>,
    pub stdio: Stdio,
    /// Run a minimal init (reaper, signal forwarder) as process 1 and the command as its child (`docker run --init`).
    pub init: bool,
}

/// A container whose init waits, fully set up, for the word to execute the command.
pub struct Created {
    /// In the caller's pid namespace.
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub console: Option<OwnedFd>,
    pub cgroup: cgroup::Cgroup,
    // + private fields (start gate)
}

/// Sets up a container up to, but without, executing its command. On error nothing is left behind.
/// The caller must be single-threaded.
pub fn create(_request: Create<'_>) -> Result<Created> {
    todo!()
}

impl Created {
    /// Lets init execute the command; returns once it did (CLOEXEC pipe closed) or with the reason why not
    /// (kinds CommandNotFound / CommandNotExecutable in docker's words, e.g.
    /// `exec: "nosuch": executable file not found in $PATH`).
    pub fn start(&mut self) -> Result<()> {
        todo!()
    }
}

/// A process added to a running container.
pub struct Exec<'a> {
    /// The container's first process.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// The document of the container: seccomp, namespaces, default capabilities.
    pub spec: &'a oci::Spec,
    /// args, env, cwd, user (already numeric, with additional gids), capabilities, rlimits, noNewPrivileges, terminal.
    pub process: &'a oci::Process,
    pub stdio: Stdio,
    pub cgroup: &'a cgroup::Cgroup,
}

pub struct Execed {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub console: Option<OwnedFd>,
}

/// Starts a process inside a running container and returns once it executed its command. The caller is its parent.
pub fn exec(_request: Exec<'_>) -> Result<Execed> {
    todo!()
}

/// Control groups: v2, v1 and hybrid.
pub mod cgroup {
    use super::*;

    /// The cgroups of one container. Serialisable, so that whoever tears down can find it again by path.
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub struct Cgroup {
        /// Below each hierarchy's mount point, e.g. "/berth/ID".
        pub path: String,
    }

    impl Cgroup {
        pub fn at(path: &str) -> Self {
            Cgroup { path: path.into() }
        }
        /// Applies changed limits (docker update).
        pub fn apply(&self, _resources: &oci::LinuxResources) -> Result<()> {
            todo!()
        }
        /// SIGKILLs every process of it (cgroup.kill, or freeze + walk).
        pub fn kill(&self) -> Result<()> {
            todo!()
        }
        pub fn freeze(&self, _frozen: bool) -> Result<()> {
            todo!()
        }
        /// Process ids in it and below.
        pub fn pids(&self) -> Result<Vec<i32>> {
            todo!()
        }
        /// How many processes were killed for lack of memory in it.
        pub fn oom_kills(&self) -> u64 {
            todo!()
        }
        /// Removes it from all hierarchies; fine if it is gone already. Retries EBUSY briefly.
        pub fn remove(&self) -> Result<()> {
            todo!()
        }
    }
}
