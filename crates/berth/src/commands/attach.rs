//! `attach`.

use errdefs::Result;

use crate::cli::flag::Given;
use crate::{settings, terminal};

/// Joins a running container; its exit code is ours.
pub fn attach(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let id = engine.find(&given.words[0])?.id;
    let record = engine.read_record(&id)?;
    let attached = engine.attach(&id)?;
    let signals = terminal::signals()?;
    let proxy = !given.has("sig-proxy") || given.on("sig-proxy");
    let signal = |number: i32| _ = engine.kill(&id, &number.to_string());
    let signal: Option<&dyn Fn(i32)> = if proxy { Some(&signal) } else { None };
    let stdin = record.body.open_stdin.unwrap_or(false) && !given.on("no-stdin");
    super::run::ended(
        &engine,
        &id,
        terminal::attached(attached, stdin, given.one("detach-keys"), &signals, signal)?,
    )
}
