//! A container's first process, made before anybody knows what for.
//!
//! New namespaces cost the kernel about a millisecond, most of it for the network. Nearly all containers have the same ones: who
//! waits to be told about a container has them made meanwhile. What was made does nothing but wait; told what it is, it
//! goes on as an init like any other.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use errdefs::{ErrnoStep, Error, Result, Step};
use oci_spec::runtime::{Capability, Spec};
use sys::process::Forked;

use crate::cgroup::{Cgroup, Driver, Membership};
use crate::create::{BIRTH, Child, hint_for_clone, process_of};
use crate::init::Init;
use crate::namespaces::Namespaces;
use crate::process::Plan;
use crate::sync::{Socket, ToInit};
use crate::{Create, Life, Rootfs, Stdio, seccomp};

/// The document's name in its bundle (OCI runtime-spec, "Filesystem Bundle").
const DOCUMENT: &str = "config.json";

/// A first process that waits to be told what it is. Dropped, it ends, and its cgroup goes.
pub struct Newborn {
    /// Until it is told.
    waits: Option<(Child, Membership)>,
}

impl Newborn {
    /// In new namespaces of all kinds but time, and in a new version 2 cgroup of this path; `None` where there is no version 2:
    /// into others a process is moved, which takes longer than this saves. While it waits it compiles the filter of a container
    /// with these capabilities. The caller must be single-threaded.
    pub fn bear(cgroup: &str, capabilities: &[Capability]) -> Result<Option<Self>> {
        let membership = Membership::without_limits(&Cgroup::at(cgroup))?;
        if membership.directory().is_none() {
            return Ok(None);
        }
        let born = Socket::pair().and_then(|(ours, theirs)| {
            let made = sys::process::clone3(Namespaces::usual().for_clone(), membership.directory());
            match made.errno_step(BIRTH).map_err(hint_for_clone)? {
                Forked::Child => {
                    drop(ours);
                    grow(theirs, capabilities)
                }
                Forked::Parent { pid, pidfd } => Ok(Child::new(pid, pidfd, ours)),
            }
        });
        match born {
            Ok(child) => Ok(Some(Newborn {
                waits: Some((child, membership)),
            })),
            Err(error) => {
                let _ = membership.cgroup.remove();
                Err(error)
            }
        }
    }

    /// Whether it can become what is asked for.
    pub(crate) fn fits(&self, request: &Create<'_>, namespaces: &Namespaces) -> bool {
        let path = request.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_ref());
        let here = self
            .waits
            .as_ref()
            .map(|(_, membership)| membership.cgroup.path.as_ref());
        here == path.map(|path| path.as_os_str())
            && *namespaces == Namespaces::usual()
            && matches!(request.rootfs, Rootfs::Detached(_))
            && matches!(request.life, Life::WithCaller)
            && !matches!(request.stdio, Stdio::Inherit)
            && request.preserved == 0
            && request.interpreters.is_empty()
            && !request.old_systemd
            && request.cgroups == Driver::AsNeeded
            && !(request.no_pivot || request.no_new_keyring)
            && request.state.is_none()
    }

    /// Tells it what it is, and limits it.
    pub(crate) fn tell(mut self, request: &Create<'_>) -> Result<(Child, Membership)> {
        let Some((child, membership)) = &mut self.waits else {
            return Err(Error::system("the container's first process was told already"));
        };
        let path = request.bundle.join(DOCUMENT);
        let document = File::open(&path).step_with(|| format!("open {}", path.display()))?;
        let mut fds = vec![document.as_fd()];
        let terminal = match &request.stdio {
            Stdio::Terminal { rows, cols, plain } => Some((*rows, *cols, *plain)),
            Stdio::Files { stdin, stdout, stderr } => {
                fds.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
                None
            }
            Stdio::Inherit => return Err(Error::system("the caller's own streams cannot be handed on")),
        };
        let told = ToInit::Become {
            bundle: request.bundle.into(),
            terminal,
            reaper: request.init,
        };
        child.tell(&told, &fds)?;
        membership.limit(request.spec.linux().as_ref().and_then(|l| l.resources().as_ref()))?;
        self.waits.take().ok_or_else(|| Error::system("it is gone"))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some((child, membership)) = self.waits.take() {
            child.end();
            // One that stays is found by the container's name.
            let _ = membership.cgroup.remove();
        }
    }
}

/// The newborn's side.
fn grow(parent: Socket, capabilities: &[Capability]) -> ! {
    match listen(&parent, capabilities) {
        Ok((spec, plan, init)) => {
            let (bundle, stdio, reaper) = init;
            Init {
                spec: &spec,
                plan,
                namespaces: Namespaces::usual(),
                stdio,
                parent,
                reaper,
                door: None,
                preserved: 0,
                no_pivot: false,
                no_new_keyring: false,
                state: None,
                interpreters: &[],
                bundle: &bundle,
                place: "/".into(),
            }
            .run()
        }
        Err(error) => {
            parent.send_failure(&error);
            sys::process::exit_now(1)
        }
    }
}

type Told = (Spec, Plan, (std::path::PathBuf, Stdio, bool));

/// Until it is told what it is.
fn listen(parent: &Socket, capabilities: &[Capability]) -> Result<Told> {
    sys::process::set_parent_death_signal(9).errno_step("follow the parent's death")?;
    // What fails will fail again, and be told then.
    let _ = seccomp::compile_ahead(seccomp::default_profile(capabilities));
    let (told, fds) = parent.expect()?;
    let ToInit::Become {
        bundle,
        terminal,
        reaper,
    } = told
    else {
        return Err(Error::system("the monitor said something out of turn"));
    };
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| Error::system("a descriptor did not come"));
    let mut document = Vec::new();
    File::from(next()?)
        .read_to_end(&mut document)
        .step("read the document")?;
    let spec: Spec = serde_json::from_slice(&document).step("read the document")?;
    let stdio = match terminal {
        Some((rows, cols, plain)) => Stdio::Terminal { rows, cols, plain },
        None => Stdio::Files {
            stdin: next()?,
            stdout: next()?,
            stderr: next()?,
        },
    };
    let plan = Plan::new(&spec, process_of(&spec)?, true, None)?;
    Ok((spec, plan, (bundle, stdio, reaper)))
}
