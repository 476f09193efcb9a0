//! The parent of one container: brings it up, keeps its output, answers front doors, waits, restarts or tears down.
//!
//! ```text
//! engine                       monitor                                  container
//!      |-- Monitor::ahead -----> socket to the starter; what is the same for all is made ready
//!      |-- Begin ----------------> lock; bring up: spec, cgroup, clone3 -> init sets itself up
//!      |                           listen on monitor.sock                  execve
//!      |<-- Started or Failed ---- write state.json
//!      |                           loop: output, clients, exec, signals
//!      |                           <---------------------------------- ends
//!      |                           restart?  else tear down: cgroup, exit.json
//!      |<-- Exit ----------------- tell everybody who waits
//!      |                           remove: live directory, (--rm: everything)
//! ```
//!
//! Architecture invariant: single-threaded, no async runtime, no database until the end. An idle monitor costs a few
//! pages, because all of them share those of the one binary.

mod bring_up;
mod client;
mod event_loop;
mod exec;
mod health;
mod last_words;
mod log;
mod names;
mod network;
mod output;
mod requests;
mod restart;
mod supervise;
mod teardown;
mod uname;

use std::os::unix::net::UnixStream;

use engine::Roots;
use engine::container::Record;
use engine::container::record::read_json;
use engine::link::{self, Answer, Request};
use errdefs::{ErrnoStep, Error, Result};

use event_loop::Monitor;

/// Runs the monitor of a container; what `berth monitor` calls. The lock is its standard input, the socket to whoever
/// started it its standard output. Returns the process's exit code.
pub fn run(roots: Roots, id: &str, ahead: bool) -> i32 {
    let starter = match adopt() {
        Ok(starter) => starter,
        Err(_) => return 1,
    };
    match live(roots, id, ahead, &starter) {
        Ok(()) => 0,
        Err(error) => {
            // Whoever started us is gone, or will read this; there is nobody else to tell.
            let _ = link::send(
                std::os::fd::AsFd::as_fd(&starter),
                &Answer::Failed(error.to_wire()),
                &[],
            );
            1
        }
    }
}

/// The whole life, in order.
fn live(roots: Roots, id: &str, ahead: bool, starter: &UnixStream) -> Result<()> {
    // What fails now fails again later, and is told then.
    let newborn = match ahead {
        true => engine::spec::bear(id).unwrap_or(None),
        false => None,
    };
    if newborn.is_none() {
        engine::spec::get_ready();
    }
    let (attach, networks, early) = match link::receive(std::os::fd::AsFd::as_fd(starter))? {
        Some((Request::Begin { attach, networks }, early)) => (attach, networks, early),
        Some(_) => return Err(Error::invalid("a monitor is told to begin first")),
        // The container was not made after all.
        None => return Ok(()),
    };
    let record: Record =
        read_json(&roots.record(id))?.ok_or_else(|| Error::not_found(format!("No such container: {id}")))?;
    let mut monitor = Monitor::new(roots, record, networks, newborn)?;
    monitor.listen()?;
    match monitor.start(attach) {
        Ok(warnings) => {
            monitor.greet(starter, attach, warnings)?;
            early.into_iter().for_each(|socket| monitor.admit_early(socket));
        }
        Err(error) => {
            monitor.tear_down_unstarted(&error);
            return Err(error);
        }
    }
    monitor.run_until_ended()
}

/// Leaves the starter's session and terminal, and takes the socket off standard output, where a stray print could reach
/// it.
fn adopt() -> Result<UnixStream> {
    let starter = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).errno_step("adopt the socket")?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    rustix::stdio::dup2_stdout(null.errno_step("open /dev/null")?).errno_step("adopt the socket")?;
    // Fails only for a group leader, which somebody who starts us by hand may be.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"berth-monitor");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(UnixStream::from(starter))
}
