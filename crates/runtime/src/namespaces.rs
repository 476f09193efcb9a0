//! The document's namespaces: those of its own as the kernel's flags, and those of others to join.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use sys::process::Forked;

/// Which namespaces the container has, other than its caller's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespaces {
    /// Of its own.
    own: u64,
    /// Of others, by their files.
    joined: Vec<(u64, PathBuf)>,
}

impl Namespaces {
    /// Those of the document.
    pub fn of(spec: &Spec) -> Result<Self> {
        let list: &[LinuxNamespace] = spec
            .linux()
            .as_ref()
            .and_then(|l| l.namespaces().as_deref())
            .unwrap_or_default();
        let mut found = Namespaces::default();
        for namespace in list {
            let typ = namespace.typ();
            if found.has(flag(typ)) {
                return Err(Error::invalid(format!("linux.namespaces: {typ} is there twice")));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => found.own |= flag(typ),
                Some(path) if typ == LinuxNamespaceType::Mount => {
                    return Err(Error::not_yet(format_args!(
                        "linux.namespaces: joining the mount namespace {}",
                        path.display()
                    )));
                }
                Some(path) => found.joined.push((flag(typ), path.clone())),
            }
        }
        Ok(found)
    }

    /// One of every kind that most containers have, all new.
    pub fn usual() -> Self {
        let own =
            CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
        Namespaces {
            own: own.into(),
            joined: Vec::new(),
        }
    }

    /// For clone3. Not the cgroup namespace: its root is where its maker is, so that init makes it once it is in its
    /// cgroup. Not the time namespace: its clocks are set before anybody is in it.
    pub fn for_clone(&self) -> u64 {
        self.own & !u64::from(CLONE_NEWCGROUP | CLONE_NEWTIME)
    }

    /// For setns into the container: all but the pid namespace, which only children enter.
    pub fn for_join(&self) -> u64 {
        let all = self.joined.iter().fold(self.own, |all, (flag, _)| all | flag);
        all & !u64::from(CLONE_NEWPID)
    }

    fn has(&self, flag: u64) -> bool {
        self.own & flag != 0 || self.joined.iter().any(|(joined, _)| *joined == flag)
    }

    fn makes(&self, flag: u32) -> bool {
        self.own & u64::from(flag) != 0
    }

    /// Users other than its caller's.
    pub fn user(&self) -> bool {
        self.has(CLONE_NEWUSER.into())
    }
    /// Users that are to be mapped.
    pub fn new_user(&self) -> bool {
        self.makes(CLONE_NEWUSER)
    }
    /// Users of others: nobody comes back from there.
    pub fn joins_user(&self) -> bool {
        self.user() && !self.new_user()
    }
    /// Mounts of its own: without them its root is a directory of the host that it is locked into (chroot(2)).
    pub fn mount(&self) -> bool {
        self.makes(CLONE_NEWNS)
    }
    /// Processes other than its caller's.
    pub fn pid(&self) -> bool {
        self.has(CLONE_NEWPID.into())
    }
    /// A network of its own.
    pub fn network(&self) -> bool {
        self.makes(CLONE_NEWNET)
    }
    /// A host name of its own.
    pub fn uts(&self) -> bool {
        self.makes(CLONE_NEWUTS)
    }
    /// A view of cgroups that is to be made.
    pub fn new_cgroup(&self) -> bool {
        self.makes(CLONE_NEWCGROUP)
    }
    /// A view of cgroups other than its caller's.
    pub fn cgroup(&self) -> bool {
        self.has(CLONE_NEWCGROUP.into())
    }

    /// What `make` makes is born in the namespaces of others that the container joins, and in its time namespace. We come
    /// back afterwards; whether that went well is the second result. The child stays.
    pub fn enter_others(
        &self,
        spec: &Spec,
        make: impl FnOnce() -> rustix::io::Result<Forked>,
    ) -> Result<(rustix::io::Result<Forked>, Result<()>)> {
        let mut ways_back = Vec::new();
        let user = u64::from(CLONE_NEWUSER);
        let (users, others): (Vec<_>, Vec<_>) = self.joined.iter().partition(|(flag, _)| *flag == user);
        // Some may be joined only as a user of their own user namespace, others only as ourselves.
        let mut refused = Vec::new();
        for namespace in others {
            ways_back.push((
                File::open(own_file(namespace.0)).step("open our own namespace")?,
                namespace.0,
            ));
            match join(namespace) {
                Err(error) if error.errno() == Some(EPERM) && !users.is_empty() => refused.push(namespace),
                joined => joined?,
            }
        }
        users.into_iter().chain(refused).try_for_each(join)?;
        if self.makes(CLONE_NEWTIME) {
            let own = File::open(own_file(CLONE_NEWTIME.into())).step("open our own namespace")?;
            sys::process::unshare(CLONE_NEWTIME.into()).errno_step("make a time namespace")?;
            set_clocks(spec)?;
            ways_back.push((own, CLONE_NEWTIME.into()));
        }
        let made = make();
        if matches!(made, Ok(Forked::Child)) {
            // It is to stay there.
            return Ok((made, Ok(())));
        }
        let back = ways_back.into_iter().rev().try_for_each(|(own, flag)| {
            sys::process::setns(own.as_fd(), flag).errno_step("go back to our own namespace")
        });
        Ok((made, back))
    }
}

const EPERM: i32 = 1;

fn join((flag, path): &(u64, PathBuf)) -> Result<()> {
    let step = || format!("linux.namespaces: join {}", path.display());
    let theirs = File::open(path).step_with(step)?;
    sys::process::setns(theirs.as_fd(), *flag).errno_step(step())
}

/// time_namespaces(7): offsets of the clocks that the container's processes see.
fn set_clocks(spec: &Spec) -> Result<()> {
    let offsets = spec.linux().iter().flat_map(|l| l.time_offsets().iter().flatten());
    let text: String = offsets
        .map(|(clock, offset)| {
            let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            format!("{clock} {seconds} {nanoseconds}\n")
        })
        .collect();
    match text.as_str() {
        "" => Ok(()),
        text => std::fs::write("/proc/self/timens_offsets", text).step("set the time namespace's clocks"),
    }
}

/// Where our own namespace of a kind is found; children's, for those that only children enter.
fn own_file(flag: u64) -> &'static str {
    const FILES: &[(u32, &str)] = &[
        (CLONE_NEWPID, "/proc/self/ns/pid_for_children"),
        (CLONE_NEWTIME, "/proc/self/ns/time_for_children"),
        (CLONE_NEWIPC, "/proc/self/ns/ipc"),
        (CLONE_NEWUTS, "/proc/self/ns/uts"),
        (CLONE_NEWNET, "/proc/self/ns/net"),
        (CLONE_NEWCGROUP, "/proc/self/ns/cgroup"),
    ];
    FILES
        .iter()
        .find(|(f, _)| u64::from(*f) == flag)
        .map_or("/proc/self/ns/mnt", |(_, file)| file)
}

fn flag(typ: LinuxNamespaceType) -> u64 {
    u64::from(match typ {
        LinuxNamespaceType::User => CLONE_NEWUSER,
        LinuxNamespaceType::Mount => CLONE_NEWNS,
        LinuxNamespaceType::Pid => CLONE_NEWPID,
        LinuxNamespaceType::Ipc => CLONE_NEWIPC,
        LinuxNamespaceType::Uts => CLONE_NEWUTS,
        LinuxNamespaceType::Network => CLONE_NEWNET,
        LinuxNamespaceType::Cgroup => CLONE_NEWCGROUP,
        LinuxNamespaceType::Time => CLONE_NEWTIME,
    })
}
