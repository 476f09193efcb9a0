//! The name service: one small process per host that answers what containers ask by DNS.
//!
//! ```text
//! container                            name service, in the host's network namespace
//!   | 127.0.0.11:53, UDP or TCP ------>| who asks is known by the socket that the question came out of
//!   |                                  | a name or an address of its networks: answered at once   registry
//!   |                                  | a name that its egress policy does not know: refused      egress
//!   |                                  | anything else: refused, if nothing of its leaves the host
//!   |                                  |   else passed on to the host's resolvers, byte by byte    forward
//!   |<-----------------------------------
//! ```
//!
//! Containers and their sockets are told by monitors (`engine::names`). Single-threaded, one loop, no cache: what is
//! answered is what holds now.
#![forbid(unsafe_code)]

mod caller;
mod egress;
mod forward;
mod poller;
mod registry;
mod serve;
pub mod wire;

use std::os::unix::net::UnixListener;

use engine::Roots;
use errdefs::{ErrnoStep, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs the service; what `berth names` calls. Its standard input listens for monitors. Returns the process's exit code.
pub fn run(roots: &Roots) -> i32 {
    match adopt().and_then(|listener| serve::Service::new(roots.clone(), listener)?.run()) {
        Ok(()) => 0,
        // Nobody listens: monitors notice that we are gone.
        Err(_) => 1,
    }
}

/// Leaves the starter's session, and takes the socket off standard input.
fn adopt() -> Result<UnixListener> {
    let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).errno_step("adopt the socket")?;
    rustix::stdio::dup2_stdin(rustix::stdio::stdout()).errno_step("adopt the socket")?;
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"berth-names");
    // Three descriptors for each container, one for each question that is passed on.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let listener = UnixListener::from(listener);
    rustix::fs::fcntl_setfl(&listener, rustix::fs::OFlags::NONBLOCK).errno_step("listen for monitors")?;
    Ok(listener)
}
