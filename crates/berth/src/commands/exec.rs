//! `exec`.

use engine::container::ExecOptions;
use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::terminal::{self, Ended};
use crate::{output, settings, translate};

/// Runs a command in a running container; its exit code is ours.
pub fn exec(given: &Given) -> Result<u8> {
    let (tty, interactive, detach) = (given.on("tty"), given.on("interactive"), given.on("detach"));
    if tty && interactive && !detach && !terminal::stdin_is() {
        return Err(Error::new(errdefs::Kind::Usage, "the input device is not a TTY"));
    }
    let options = ExecOptions {
        command: given.words[1..].to_vec(),
        env: translate::variables(&given.many("env-file"), &given.many("env"))?,
        user: given.one("user").map(String::from),
        workdir: given.one("workdir").map(String::from),
        privileged: given.on("privileged"),
        tty,
        stdin: interactive,
        detach,
        size: terminal::size(),
    };
    let engine = settings::engine()?;
    let process = engine.exec(&given.words[0], &options)?;
    if detach {
        return Ok(0);
    }
    // Until now whoever loses patience ends us: the container can hold up what joins it.
    let signals = terminal::signals()?;
    let pid = process.pid;
    let signal = |number: i32| _ = sys::process::kill(pid, number);
    match terminal::execed(process, interactive, given.one("detach-keys"), &signals, &signal)? {
        Ended::Exited(exit) => Ok(exit.code as u8),
        Ended::Detached => {
            output::note("read escape sequence");
            Ok(0)
        }
        Ended::Lost => Ok(137),
    }
}
