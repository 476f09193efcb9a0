//! A child in the user namespace of others, from which nobody comes back.

use std::os::fd::AsFd;

use errdefs::{ErrnoStep, Error, Result};
use rustix::process::{WaitId, WaitIdOptions};
use sys::process::Forked;

use crate::sync::{FromInit, Socket};

/// A process of our own goes there, makes the other one as our child, and ends. `bear` is how: it enters, and clones with
/// `CLONE_PARENT`; `step` is what all of this is for.
pub(crate) fn bear(step: &'static str, bear: impl FnOnce() -> Result<Forked>) -> Result<Forked> {
    // A socket of its own: the new process may say something before we hear that it is there.
    let (ours, theirs) = Socket::pair()?;
    match sys::process::clone3(0, None).errno_step(step)? {
        Forked::Child => {
            let told = match bear() {
                Ok(Forked::Child) => return Ok(Forked::Child),
                Ok(Forked::Parent { pid, pidfd }) => theirs.send(&FromInit::Born { pid }, &[pidfd.as_fd()]),
                Err(error) => {
                    theirs.send_failure(&error);
                    Ok(())
                }
            };
            sys::process::exit_now(told.is_err().into())
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).errno_step(step)?;
            match ours.receive()? {
                Some((FromInit::Born { pid }, mut fds)) => {
                    let pidfd = fds
                        .pop()
                        .ok_or_else(|| Error::system("the new process's pidfd did not come"))?;
                    Ok(Forked::Parent { pid, pidfd })
                }
                Some((FromInit::Failed(wire), _)) => Err(wire.into()),
                _ => Err(Error::system(format!("{step}: the process that was to do it died"))),
            }
        }
    }
}
