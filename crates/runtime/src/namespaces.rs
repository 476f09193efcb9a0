//! The document's namespaces as the kernel's flags.

use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use errdefs::{Error, Kind, Result};

/// Which namespaces of its own the container has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Namespaces {
    flags: u64,
}

impl Namespaces {
    /// Those of the document. Joining namespaces by path is refused by name.
    pub fn of(spec: &Spec) -> Result<Self> {
        let list: &[LinuxNamespace] = spec
            .linux()
            .as_ref()
            .and_then(|l| l.namespaces().as_deref())
            .unwrap_or_default();
        let mut flags = 0;
        for namespace in list {
            let typ = namespace.typ();
            if namespace.path().is_some() || typ == LinuxNamespaceType::Time {
                let message = format!("a {typ} namespace that exists already or is for time: not supported yet");
                return Err(Error::new(Kind::NotImplemented, message));
            }
            flags |= flag(typ);
        }
        if flags & u64::from(CLONE_NEWNS) == 0 {
            return Err(Error::invalid("a container needs a mount namespace of its own"));
        }
        Ok(Namespaces { flags })
    }

    /// For clone3. Not the cgroup namespace: its root is where its maker is, so that init makes it once it is in its
    /// cgroup.
    pub fn for_clone(self) -> u64 {
        self.flags & !u64::from(CLONE_NEWCGROUP)
    }

    /// For setns into the container: all but the pid namespace, which only children enter.
    pub fn for_join(self) -> u64 {
        self.flags & !u64::from(CLONE_NEWPID)
    }

    /// Users of its own.
    pub fn user(self) -> bool {
        self.flags & u64::from(CLONE_NEWUSER) != 0
    }
    /// Processes of its own.
    pub fn pid(self) -> bool {
        self.flags & u64::from(CLONE_NEWPID) != 0
    }
    /// A network of its own.
    pub fn network(self) -> bool {
        self.flags & u64::from(CLONE_NEWNET) != 0
    }
    /// A host name of its own.
    pub fn uts(self) -> bool {
        self.flags & u64::from(CLONE_NEWUTS) != 0
    }
    /// A view of cgroups of its own.
    pub fn cgroup(self) -> bool {
        self.flags & u64::from(CLONE_NEWCGROUP) != 0
    }
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
        LinuxNamespaceType::Time => 0,
    })
}
