//! `run` and `create`.

use std::io::Write;

use engine::Engine;
use engine::container::spawn::Monitor;
use engine::image::Platform;
use errdefs::{Error, Kind, Result, Step};

use super::progress;
use crate::cli::flag::Given;
use crate::terminal::{self, Ended};
use crate::translate::{self, Asked};
use crate::{output, settings};

/// Makes a container, starts it, and stays with it unless told otherwise.
pub fn run(given: &Given) -> Result<u8> {
    let (tty, interactive, detached) = (given.on("tty"), given.on("interactive"), given.on("detach"));
    if tty && interactive && !detached && !terminal::stdin_is() {
        return Err(Error::new(errdefs::Kind::Usage, "the input device is not a TTY"));
    }
    let asked = translate::body(given, detached)?;
    let mut monitor = Monitor::ahead(&settings::roots()?, &asked.body).map_err(settings::explain)?;
    let engine = settings::engine()?;
    let id = make(&engine, given, asked, Some(&monitor))?;
    let signals = if detached { None } else { Some(terminal::signals()?) };
    let attached = engine.begin(&mut monitor, &engine.read_record(&id)?, !detached)?;
    attached
        .warnings
        .iter()
        .for_each(|w| output::note(&format!("WARNING: {w}")));
    let Some(signals) = signals else {
        output::say(&format!("{id}\n"));
        return Ok(0);
    };
    let attach = translate::attach(given, detached)?;
    let streams = (interactive && attach.stdin, attach.stdout, attach.stderr);
    let proxy = !given.has("sig-proxy") || given.on("sig-proxy");
    let signal = |number: i32| _ = engine.kill(&id, &number.to_string());
    let signal: Option<&dyn Fn(i32)> = if proxy { Some(&signal) } else { None };
    ended(
        &engine,
        &id,
        terminal::attached_to(attached, streams, given.one("detach-keys"), &signals, signal)?,
    )
}

/// The exit code for the shell.
pub fn ended(engine: &Engine, id: &str, ended: Ended) -> Result<u8> {
    match ended {
        Ended::Exited(exit) => {
            if let Some(why) = exit.why.filter(|why| why.certain) {
                output::note(&format!("berth: {}", why.sentence));
                why.hint.iter().for_each(|hint| output::note(&format!("hint: {hint}")));
            }
            Ok(exit.code as u8)
        }
        Ended::Detached => {
            output::note("read escape sequence");
            Ok(0)
        }
        Ended::Lost => {
            let code = engine
                .wait(id, engine::container::WaitCondition::NotRunning)
                .map_or(137, |exit| exit.code);
            output::note("berth: the container's monitor was killed, and the container with it");
            Ok(code as u8)
        }
    }
}

/// Makes a container; prints its id.
pub fn create(given: &Given) -> Result<u8> {
    let asked = translate::body(given, false)?;
    let engine = settings::engine()?;
    let id = make(&engine, given, asked, None)?;
    output::say(&format!("{id}\n"));
    Ok(0)
}

/// The container's id, in the file of `--cidfile`, too. That is made first: a container whose id nobody learns is no use.
fn make(engine: &Engine, given: &Given, asked: Asked, monitor: Option<&Monitor>) -> Result<String> {
    let Some(path) = given.one("cidfile") else {
        return make_container(engine, given, asked, monitor);
    };
    let mut file = match std::fs::File::create_new(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::conflict(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        made => made.step_with(|| format!("failed to create the container ID file {path}"))?,
    };
    let made = make_container(engine, given, asked, monitor);
    match &made {
        Ok(id) => file
            .write_all(id.as_bytes())
            .step_with(|| format!("write the container ID file {path}"))?,
        Err(_) => _ = std::fs::remove_file(path),
    }
    made
}

/// The container's id. Pulls the image if it is not there, as `--pull` says.
fn make_container(engine: &Engine, given: &Given, asked: Asked, monitor: Option<&Monitor>) -> Result<String> {
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let image = &given.words[0];
    let policy = given.one("pull").unwrap_or("missing");
    let pull = || progress::pull(engine, image, platform.as_ref(), true, given.on("quiet")).map(drop);
    match policy {
        "always" => pull()?,
        "missing" | "never" => {}
        other => {
            return Err(Error::invalid(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            )));
        }
    }
    let (name, body, wanted) = (given.one("name"), &asked.body, platform.as_ref());
    let create = || match monitor {
        Some(monitor) => engine.create_for(monitor, name, body, wanted),
        None => engine.create(name, body, wanted),
    };
    let created = match create() {
        Err(e)
            if e.kind() == Kind::NotFound && policy == "missing" && missing_image(engine, image, platform.as_ref()) =>
        {
            let shown = engine::image::Reference::parse(image).map_or_else(|_| image.clone(), |r| r.familiar());
            output::note(&format!("Unable to find image '{shown}' locally"));
            pull()?;
            create()?
        }
        other => other?,
    };
    created
        .warnings
        .iter()
        .for_each(|w| output::note(&format!("WARNING: {w}")));
    Ok(created.id)
}

/// Whether it is the image that was not found, or its platform.
fn missing_image(engine: &Engine, image: &str, platform: Option<&Platform>) -> bool {
    platform.is_some() || engine.image(image).is_err_and(|e| e.kind() == Kind::NotFound)
}
