//! A new container's cgroup: made, limited, and joined by its first process.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::runtime::{LinuxResources, Spec};

use super::host::Host;
use super::systemd::{self, Scope};
use super::{Cgroup, Driver, enter, limits, make_new, meant, named, not_ours, restrict_devices, v1, v2};

/// A cgroup made for a new container, and which hierarchies its processes join.
pub(crate) struct Membership {
    pub cgroup: Cgroup,
    /// Open, for clone3 and programs; with systemd once it is there.
    v2: OnceCell<File>,
    scope: Option<Scope>,
    /// Version 1 hierarchies, by the names of their controllers.
    v1: Vec<(String, PathBuf)>,
    /// The hierarchy of an old systemd, which is mounted nowhere.
    _named: Option<named::Named>,
    /// Why there is none.
    pub warning: Option<String>,
}

impl Membership {
    fn of(cgroup: Cgroup) -> Self {
        Membership {
            cgroup,
            v2: OnceCell::new(),
            scope: None,
            v1: Vec::new(),
            _named: None,
            warning: None,
        }
    }

    /// Makes the directories and sets the limits; `old_systemd`: with a hierarchy for one inside. On error nothing is left.
    pub fn make(spec: &Spec, driver: Driver, old_systemd: bool) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let path = linux
            .and_then(|l| l.cgroups_path().as_ref())
            .ok_or_else(|| Error::invalid("the document names no cgroup"))?;
        if driver == Driver::Systemd {
            return Self::of_systemd(&path.to_string_lossy());
        }
        let cgroup = Cgroup::at(&path.to_string_lossy());
        let everywhere = driver == Driver::Everywhere && rustix::process::geteuid().is_root();
        let mut made = Self::fill(&cgroup, linux.and_then(|l| l.resources().as_ref()), everywhere);
        if old_systemd {
            let ids = linux.and_then(|l| l.uid_mappings().as_ref()?.first());
            made = made.and_then(|made| made.with_named(ids.map_or(0, |ids| ids.host_id())));
        }
        match made {
            // A user to whom no cgroup was handed down does without, as long as nothing is to be limited.
            Err(error) if not_ours(&error) && !limits(linux.and_then(|l| l.resources().as_ref())) => Ok(Membership {
                warning: Some(format!("the container has no cgroup of its own: {error}")),
                ..Self::of(Cgroup::none())
            }),
            Err(error) if not_ours(&error) => Err(error.hint(
                "who is not root can set limits only in a cgroup that was handed down to him (systemd's Delegate=)",
            )),
            made => made.inspect_err(|error| {
                // Another's is left alone.
                if error.kind() != Kind::Conflict {
                    let _ = cgroup.remove();
                }
            }),
        }
    }

    /// Nothing is there yet: systemd makes a scope around a process that is.
    fn of_systemd(path: &str) -> Result<Self> {
        systemd::check(Host::get()?)?;
        let scope = Scope::parse(path)?;
        let mut cgroup = Cgroup::at(&scope.path()?);
        cgroup.unit = Some(scope.unit.clone());
        Ok(Membership {
            scope: Some(scope),
            ..Self::of(cgroup)
        })
    }

    fn fill(cgroup: &Cgroup, resources: Option<&LinuxResources>, everywhere: bool) -> Result<Self> {
        let mut membership = Self::without_limits(cgroup)?;
        membership.set_limits(resources, everywhere)?;
        Ok(membership)
    }

    /// Makes the directory of version 2 alone: there is time for limits until something of the container's runs.
    pub fn without_limits(cgroup: &Cgroup) -> Result<Self> {
        let membership = Self::of(cgroup.clone());
        if let Some(root) = &Host::get()?.v2 {
            let dir = cgroup.below(root);
            make_new(&dir)?;
            let _ = membership.v2.set(File::open(&dir).step("open the cgroup")?);
        }
        Ok(membership)
    }

    /// Sets the limits, in the hierarchies that they need.
    pub fn limit(&mut self, resources: Option<&LinuxResources>) -> Result<()> {
        self.set_limits(resources, false)
    }

    fn set_limits(&mut self, resources: Option<&LinuxResources>, everywhere: bool) -> Result<()> {
        let host = Host::get()?;
        let resources = &meant(resources.cloned().unwrap_or_default());
        if let Some(root) = &host.v2 {
            v2::apply(root, &self.cgroup.below(root), resources, host)?;
        }
        for hierarchy in v1::needed(resources, host, everywhere)? {
            let dir = self.cgroup.below(&hierarchy.mount);
            make_new(&dir)?;
            v1::apply(hierarchy, &dir, resources)?;
            self.v1.push((hierarchy.controllers.join(","), dir));
        }
        let v2 = host.v2.iter().map(|root| self.cgroup.below(root));
        let v1 = self.v1.iter().map(|(_, dir)| dir.clone());
        self.cgroup.made = Some(v2.chain(v1).collect());
        Ok(())
    }

    fn with_named(mut self, owner: u32) -> Result<Self> {
        let named = named::Named::make(&self.cgroup, owner)?;
        self.v1.push((named::SYSTEMD.into(), named.dir.clone()));
        self._named = Some(named);
        self.cgroup.named = true;
        Ok(self)
    }

    /// For clone3.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.v2.get().map(|f| f.as_fd())
    }

    /// Moves the new process into those hierarchies that clone3 could not put it in; `born_outside`: into all.
    pub fn join(&self, pid: i32, born_outside: bool, resources: Option<&LinuxResources>) -> Result<()> {
        if let Some(scope) = &self.scope {
            return self.join_scope(scope, pid, resources);
        }
        if born_outside && let Some(root) = &Host::get()?.v2 {
            enter(&self.cgroup.below(root), pid)?;
        }
        self.v1.iter().try_for_each(|(_, dir)| enter(dir, pid))
    }

    /// Limits are written again where systemd has rounded them, or does not know them.
    fn join_scope(&self, scope: &Scope, pid: i32, resources: Option<&LinuxResources>) -> Result<()> {
        let host = Host::get()?;
        let resources = &meant(resources.cloned().unwrap_or_default());
        let root = host
            .v2
            .as_ref()
            .ok_or_else(|| Error::system("version 2 of cgroups is gone"))?;
        let dir = self.cgroup.below(root);
        scope.start(pid, v2::properties(&dir, resources))?;
        v2::apply(root, &dir, resources, host)?;
        let _ = self.v2.set(File::open(&dir).step("open the scope's cgroup")?);
        Ok(())
    }

    /// From now on devices are restricted in version 2. The kernel takes long to check the program: init has other things
    /// to do meanwhile, and runs nothing of the container's before.
    pub fn restrict_devices(&self, resources: Option<&LinuxResources>) -> Result<()> {
        match self.v2.get() {
            Some(cgroup) => {
                let restricted = restrict_devices(cgroup, resources.and_then(|r| r.devices().as_deref()), true);
                match restricted {
                    // A user may not; and can make no device either.
                    Err(error) if not_ours(&error) => Ok(()),
                    restricted => restricted,
                }
            }
            None => Ok(()),
        }
    }

    /// Names of the directories below `/sys/fs/cgroup` that the container is to see; none when it is version 2 alone.
    pub fn joined(&self) -> Vec<String> {
        let mut names: Vec<String> = self.v1.iter().map(|(name, _)| name.clone()).collect();
        if !names.is_empty() && self.v2.get().is_some() {
            names.push("unified".into());
        }
        names
    }
}
