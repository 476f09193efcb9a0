//! `start`, `kill`, `pause`, `resume`, `update`, `delete`.

use std::path::Path;
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use runtime::hooks;

use super::create::poststart;
use super::state::{Saved, Status, wrong_state};
use super::{Host, listener, output};
use crate::cli::flag::Given;

/// How long a killed container is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the door.
pub fn start(host: &Host, given: &Given) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    match host.status(&saved)? {
        Status::Created => {}
        Status::Stopped => return Err(wrong_state("cannot start a container that has stopped")),
        Status::Running | Status::Paused => return Err(wrong_state("cannot start an already running container")),
    }
    let door = host.door(&saved.id)?;
    let take = &mut |fd| listener::hand_over(&saved, saved.pid, Status::Created, fd);
    let outcome = runtime::knock(&door, take);
    // Whoever comes next finds a container that was started, however that went.
    let _ = std::fs::remove_file(&door);
    outcome?;
    hooks::run("poststart", poststart(&saved), &saved.state(Status::Running)?)?;
    Ok(0)
}

/// Sends a signal.
pub fn kill(host: &Host, given: &Given) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    let signal = match given.words.get(1).map_or("TERM", String::as_str) {
        // Asks whether it is there.
        "0" => 0,
        name => engine::signal::parse(name)?,
    };
    if given.on("all") {
        let pids = saved.cgroup.pids()?;
        if pids.is_empty() && saved.alive() {
            // Without a cgroup: its pid namespace goes with it.
            sys::process::kill(saved.pid, signal).step("send the signal")?;
        }
        for pid in pids {
            // It may have ended meanwhile.
            let _ = sys::process::kill(pid, signal);
        }
        return Ok(0);
    }
    // Without a pid namespace of its own nobody dies with its first process, which may be gone already.
    if signal == 9 && saved.shares_processes() && !saved.cgroup.pids()?.is_empty() {
        saved.cgroup.kill()?;
        return Ok(0);
    }
    if !saved.alive() {
        return Err(wrong_state("container not running"));
    }
    sys::process::kill(saved.pid, signal).step("send the signal")?;
    // A frozen process does not die.
    if signal == 9 && saved.cgroup.frozen() {
        saved.cgroup.freeze(false)?;
    }
    Ok(0)
}

/// Freezes.
pub fn pause(host: &Host, given: &Given) -> Result<u8> {
    freeze(host, given, true)
}

/// Thaws.
pub fn resume(host: &Host, given: &Given) -> Result<u8> {
    freeze(host, given, false)
}

fn freeze(host: &Host, given: &Given, frozen: bool) -> Result<u8> {
    let saved = host.load(&given.words[0])?;
    match (host.status(&saved)?, frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => saved.cgroup.freeze(frozen)?,
        (_, true) => return Err(wrong_state("container not running or created")),
        (_, false) => return Err(wrong_state("container not paused")),
    }
    Ok(0)
}

/// CRIU's images are not made here; what is wrong with the request is said first.
pub fn checkpoint(host: &Host, given: &Given) -> Result<u8> {
    host.load(&given.words[0])?;
    let image = Path::new(given.one("image-path").unwrap_or("checkpoint"));
    if let Some(parent) = given.one("parent-path") {
        let bad = |why: &str| Err(Error::invalid(format!("invalid --parent-path {parent:?}: {why}")));
        if Path::new(parent).is_absolute() {
            return bad("it must be relative to --image-path");
        }
        if !image.join(parent).is_dir() {
            return bad("there is no such directory");
        }
    }
    Err(Error::not_yet("checkpoint"))
}

/// See [`checkpoint`].
pub fn restore(_: &Host, _: &Given) -> Result<u8> {
    Err(Error::not_yet("restore"))
}

/// Takes everything of a container away.
pub fn delete(host: &Host, given: &Given) -> Result<u8> {
    let (id, force) = (&given.words[0], given.on("force"));
    let saved = match host.load(id) {
        Err(error) if error.kind() == errdefs::Kind::NotFound => {
            // Perhaps whoever was making it was killed.
            let _ = std::fs::remove_dir_all(host.dir(id)?);
            return if force { Ok(0) } else { Err(error) };
        }
        loaded => loaded?,
    };
    match host.status(&saved)? {
        status @ (Status::Running | Status::Paused) if !force => Err(wrong_state(format!(
            "cannot delete container {id} that is not stopped: {}",
            status.name()
        ))),
        _ => remove(host, &saved).map(|()| 0),
    }
}

/// Kills what is left of a container, removes its cgroup and its state, and runs its last hooks; goes on after an error.
pub fn remove(host: &Host, saved: &Saved) -> Result<()> {
    if saved.cgroup.frozen() {
        saved.cgroup.freeze(false)?;
    }
    if saved.alive() {
        // Not by the cgroup alone: nobody promises that it is the container's own.
        let _ = sys::process::kill(saved.pid, 9);
        let deadline = Instant::now() + PATIENCE;
        while saved.alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    saved.cgroup.kill()?;
    let cgroup = saved.cgroup.remove();
    let dir = host.dir(&saved.id)?;
    std::fs::remove_dir_all(&dir).step_with(|| format!("remove {}", dir.display()))?;
    let poststop = saved
        .spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_deref());
    if let Err(error) = hooks::run("poststop", poststop, &saved.state(Status::Stopped)?) {
        // The specification: logged, and the rest goes on.
        output::note(&format!("berth: {error}"));
    }
    cgroup
}
