//! `start`, `stop`, `restart`, `kill`, `rm`, `pause`, `unpause`, `rename`, `wait`.

use engine::container::WaitCondition;
use errdefs::{Error, Kind, Result};

use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::{output, settings, terminal};

/// What is so already is no failure.
fn already(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() == Kind::NotModified => Ok(()),
        other => other,
    }
}

fn timeout(given: &Given) -> Result<Option<i64>> {
    Ok(given.number("timeout")?.or(given.number("time")?))
}

/// Starts containers; with `-a` or `-i` stays with one.
pub fn start(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    if given.on("attach") || given.on("interactive") {
        let [name] = given.words.as_slice() else {
            return Err(Error::invalid(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let id = engine.find(name)?.id;
        let record = engine.read_record(&id)?;
        let signals = terminal::signals()?;
        let attached = engine
            .start(&id, true)?
            .ok_or_else(|| Error::system("the container was started and not attached to"))?;
        let signal = |number: i32| _ = engine.kill(&id, &number.to_string());
        let stdin = given.on("interactive") && record.body.open_stdin.unwrap_or(false);
        let ended = terminal::attached(attached, stdin, given.one("detach-keys"), &signals, Some(&signal))?;
        return super::run::ended(&engine, &id, ended);
    }
    Ok(each(&given.words, |name| {
        already(engine.start(name, false).map(|started| {
            started
                .into_iter()
                .flat_map(|a| a.warnings)
                .for_each(|w| output::note(&format!("WARNING: {w}")));
        }))?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Stops containers.
pub fn stop(given: &Given) -> Result<u8> {
    let (engine, timeout) = (settings::engine()?, timeout(given)?);
    Ok(each(&given.words, |name| {
        already(engine.stop(name, given.one("signal"), timeout))?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Stops and starts containers.
pub fn restart(given: &Given) -> Result<u8> {
    let (engine, timeout) = (settings::engine()?, timeout(given)?);
    Ok(each(&given.words, |name| {
        engine.restart(name, given.one("signal"), timeout)?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Sends a signal to containers.
pub fn kill(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        engine.kill(name, given.one("signal").unwrap_or("KILL"))?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Removes containers. With `-f` one that is not there is no failure, but is told.
pub fn rm(given: &Given) -> Result<u8> {
    let (engine, force) = (settings::engine()?, given.on("force"));
    Ok(each(&given.words, |name| {
        match engine.remove(name, force, given.on("volumes")) {
            Err(e) if force && e.kind() == Kind::NotFound => output::note(&format!("berth: {e}")),
            Err(e) => return Err(e),
            Ok(()) => say(&format!("{name}\n")),
        }
        Ok(())
    }))
}

/// Freezes containers.
pub fn pause(given: &Given) -> Result<u8> {
    freeze(given, true)
}

/// Thaws containers.
pub fn unpause(given: &Given) -> Result<u8> {
    freeze(given, false)
}

fn freeze(given: &Given, paused: bool) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        engine.pause(name, paused)?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Gives a container another name.
pub fn rename(given: &Given) -> Result<u8> {
    settings::engine()?.rename(&given.words[0], &given.words[1]).map(|()| 0)
}

/// Prints exit codes as containers end.
pub fn wait(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        let exit = engine.wait(name, WaitCondition::NotRunning)?;
        say(&format!("{}\n", exit.code));
        Ok(())
    }))
}
