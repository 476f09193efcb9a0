//! An OCI runtime document to a process and back: namespaces, root file system, cgroup, capabilities, seccomp.
//!
//! Knows no image, no network driver, no Docker word. [`create`] makes a container with one clone3; its child sets
//! itself up, and waits at a door if there is one. What the two tell each other stands in [`sync`], the child's life in [`init`].
//!
//! Architecture invariant: the caller is single-threaded. The child of a clone without shared memory may then run
//! ordinary code until it executes the command.
#![forbid(unsafe_code)]

mod capabilities;
pub mod cgroup;
mod command;
mod copy_up;
mod create;
mod devices;
mod exec;
mod go_between;
pub mod hooks;
mod idmap;
mod init;
mod interpreters;
pub mod kernel_files;
pub mod labels;
pub mod mountinfo;
mod mounts;
mod namespaces;
mod newborn;
mod options;
mod process;
mod reaper;
mod rootfs;
mod schedule;
pub mod seccomp;
mod sync;
pub mod uname;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use errdefs::Result;
pub use oci_spec::runtime as oci;

pub use create::create;
pub use exec::{Joining, begin_exec, exec};
pub use idmap::write as map_ids;
pub use interpreters::Interpreter;
pub use newborn::Newborn;

/// What may be mounted over in `/proc`: files that tell of resources, as lxcfs has them (runc `checkProcMount`).
pub const REPLACEABLE_IN_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
];

/// The capabilities that can be given, by name.
pub fn known_capabilities() -> Vec<String> {
    capabilities::NUMBERS
        .iter()
        .map(|c| format!("CAP_{}", c.to_string().trim_start_matches("CAP_")))
        .collect()
}

/// The mount options that are not a file system's own.
pub fn known_mount_options() -> Vec<&'static str> {
    options::known()
}

/// Mappings of ids that are out of range, by their place in the document.
pub fn check_mappings(place: &str, mappings: &[oci::LinuxIdMapping]) -> Result<()> {
    idmap::check(place, mappings)
}

/// Whether `linux.rootfsPropagation` may be this.
pub fn is_propagation(word: &str) -> bool {
    options::propagation(word).is_some()
}

/// Whether a container may have this kernel setting of its own.
pub fn is_namespaced(sysctl: &str) -> bool {
    init::namespaced(sysctl)
}

/// Does what does not depend on the container, for a caller that waits to be told about it: the host's cgroups are looked
/// up, and the filter of a container with these capabilities is compiled. What fails will fail again, and be told then.
pub fn get_ready(capabilities: &[oci::Capability]) {
    let _ = cgroup::look_up();
    let _ = seccomp::compile_ahead(seccomp::default_profile(capabilities));
}

/// Where the container's root comes from.
pub enum Rootfs<'a> {
    /// `root.path` of the document, relative to the bundle.
    Document,
    /// A detached mount made on demand; called once the container's user namespace exists, with it
    /// (`None` when the container uses the host's) so that layers can be idmapped for it.
    Detached(&'a mut dyn FnMut(Option<BorrowedFd<'_>>) -> Result<OwnedFd>),
}

/// Attaches a process's network namespace to networks.
pub type Attach<'a> = &'a mut dyn FnMut(i32) -> Result<()>;

/// The first process's standard streams.
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These three.
    Files {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A terminal made inside the container's devpts; its master comes back in `console`.
    Terminal {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        cols: u16,
        /// It adds no carriage returns: for who reads what a program wrote.
        plain: bool,
    },
}

/// What a container is made from.
pub struct Create<'a> {
    /// Names it in messages.
    pub id: &'a str,
    /// Used in place; `linux.cgroupsPath` is the cgroup ("/berth/ID" below each hierarchy's mount, unless systemd makes it).
    pub spec: &'a oci::Spec,
    /// The directory of the document.
    pub bundle: &'a Path,
    /// The root file system.
    pub rootfs: Rootfs<'a>,
    /// Called with the process's number once its network namespace is there, before the command is executed.
    pub network: Option<Attach<'a>>,
    /// Standard streams.
    pub stdio: Stdio,
    /// Run a minimal init (reaper, signal forwarder) as process 1 and the command as its child (`docker run --init`).
    pub init: bool,
    /// When the command begins, and whom it outlives.
    pub life: Life,
    /// So many of the caller's descriptors, from 3 on, are the command's.
    pub preserved: u32,
    /// Without pivot_root(2), for a host whose root cannot be left (an initramfs): the old root stays below the new one.
    pub no_pivot: bool,
    /// The caller's session keyring stays the container's.
    pub no_new_keyring: bool,
    /// For hooks: what is known of the container but its process and status.
    pub state: Option<&'a oci::State>,
    /// What executes programs of other machines in it; needs a user namespace of its own.
    pub interpreters: &'a [Interpreter],
    /// It has a cgroup hierarchy of its own, as a systemd before 226 needs it: `cgroup::Cgroup::remove_named` ends that.
    pub old_systemd: bool,
    /// A first process that waits already: taken if it is what the document asks for, else let go.
    pub newborn: Option<Newborn>,
    /// Where compiled seccomp filters are kept from one call to the next; nowhere unless it is said.
    pub filters: Option<&'a Path>,
    /// Who makes its cgroup.
    pub cgroups: cgroup::Driver,
    /// Gets the number of the first process while that is set up, before it executes anything.
    pub born: &'a mut dyn FnMut(i32) -> Result<()>,
}

/// When a container's command begins, and whom it outlives.
pub enum Life {
    /// It begins at once, and dies with the caller.
    WithCaller,
    /// It outlives the caller. With a door (a listening socket of the kind that [`door`] makes) its init waits there until
    /// somebody knocks.
    OfItsOwn {
        /// Without one the command begins at once.
        door: Option<OwnedFd>,
    },
}

/// A socket for init to wait at.
pub fn door(path: &Path) -> Result<OwnedFd> {
    sync::Socket::listen(path)
}

/// Gets the descriptor at which a process's calls arrive that its seccomp filter passes on (`SCMP_ACT_NOTIFY`): see
/// `sys::seccomp::receive`. Called before the process executes its command, and only if the filter has such a rule. With
/// an error the process is given up. Dropped, it makes these calls fail with ENOSYS.
pub type TakeListener<'a> = dyn FnMut(OwnedFd) -> Result<()> + 'a;

/// For who makes no use of one: a filter that asks for it is refused.
pub fn no_listener(_: OwnedFd) -> Result<()> {
    Err(errdefs::Error::not_yet("a seccomp profile that passes calls on"))
}

/// Lets the init at this door execute the command; returns once it did, or with the reason why not (kinds
/// `CommandNotFound` and `CommandNotExecutable`, in Docker's words).
pub fn knock(path: &Path, take: &mut TakeListener<'_>) -> Result<()> {
    let init = sync::Socket::connect(path)?;
    init.send(&sync::ToInit::Execute, &[])?;
    outcome(&init, take)
}

/// The socket closes with the execve: nothing to read is the good news.
fn outcome(init: &sync::Socket, take: &mut TakeListener<'_>) -> Result<()> {
    loop {
        match init.receive::<sync::FromInit>()? {
            None => return Ok(()),
            Some((sync::FromInit::Listener, mut fds)) => {
                let listener = fds.pop();
                take(listener.ok_or_else(|| errdefs::Error::system("the seccomp listener did not come"))?)?;
            }
            Some((sync::FromInit::Failed(wire), _)) => return Err(wire.into()),
            Some(_) => return Err(errdefs::Error::system("init said something out of turn")),
        }
    }
}

/// A container that is fully set up.
pub struct Created {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// Close-on-exec.
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub console: Option<OwnedFd>,
    /// Where its processes are counted and limited.
    pub cgroup: cgroup::Cgroup,
    /// What is not as asked for.
    pub warnings: Vec<String>,
    init: Option<sync::Socket>,
}

impl Created {
    /// Without a door: waits until the command executes; the reason if it does not, as [`knock`].
    pub fn started(&mut self, take: &mut TakeListener<'_>) -> Result<()> {
        let init = self.init.take();
        init.map_or(Ok(()), |init| outcome(&init, take))
    }
}

/// A process added to a running container.
pub struct Exec<'a> {
    /// The container's first process.
    pub pid: i32,
    /// The same, safe against reuse.
    pub pidfd: BorrowedFd<'a>,
    /// The document of the container: seccomp, namespaces.
    pub spec: &'a oci::Spec,
    /// Arguments, environment, directory, user (numeric), capabilities, limits, terminal.
    pub process: &'a oci::Process,
    /// Standard streams.
    pub stdio: Stdio,
    /// The container's.
    pub cgroup: &'a cgroup::Cgroup,
    /// Cgroups below that it is to be in.
    pub below: &'a [cgroup::Below],
    /// Whether it outlives the caller.
    pub outlives: bool,
    /// So many of the caller's descriptors, from 3 on, are the process's.
    pub preserved: u32,
    /// Where compiled seccomp filters are kept from one call to the next; nowhere unless it is said.
    pub filters: Option<&'a Path>,
    /// Gets its number before it executes anything.
    pub born: &'a mut dyn FnMut(i32) -> Result<()>,
}

/// What [`exec`] started.
pub struct Execed {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// Close-on-exec.
    pub pidfd: OwnedFd,
    /// The terminal's master, when one was asked for.
    pub console: Option<OwnedFd>,
}
