//! `berth oci`: runc's command line over the runtime crate, for engines that drive an OCI runtime (podman, dockerd,
//! containerd, buildah). The same program called as `runc` is this.
//!
//! ```text
//! create ---> ROOT/ID/{state.json, door}, init waits at the door          create.rs
//! start  ---> knocks at the door                                          lifecycle.rs
//! kill, pause, resume, delete                                             lifecycle.rs
//! update                                                                  update.rs
//! exec   ---> one more process                                            exec.rs
//! state, list, ps, features, spec                                         inform.rs
//! events                                                                  events.rs
//! ```

mod create;
mod document;
mod events;
mod exec;
mod inform;
mod lifecycle;
mod listener;
mod own_program;
mod state;
mod streams;
mod table;
mod update;
mod validate;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use errdefs::{Error, Kind, Result, Step};
use runtime::cgroup::Driver;

use crate::cli::Parsed;
use crate::cli::flag::Given;
use crate::{output, settings};
use table::{GLOBAL, VERBS};

/// What the flags before the verb say.
pub struct Host {
    /// Where containers' states are.
    pub root: PathBuf,
    log: Option<PathBuf>,
    json: bool,
    debug: bool,
    /// systemd makes the cgroups.
    pub systemd: bool,
}

/// Does what the arguments after `oci` say; the exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    let given = match GLOBAL.parse(arguments) {
        Ok(Parsed::Given(given)) => given,
        Ok(Parsed::Help(_)) => {
            output::say(&table::help());
            return 0;
        }
        Err(_) if arguments.first().is_some_and(|word| word == "-h") => {
            output::say(&table::help());
            return 0;
        }
        Err(error) => {
            output::complain(&error);
            return 1;
        }
    };
    if given.on("version") || given.words.is_empty() {
        output::say(&match given.on("version") {
            true => table::version(),
            false => table::help(),
        });
        return 0;
    }
    if !own_program::protects(&given.words[0]) {
        let _ = sys::process::close_on_exec_from(3);
    }
    let host = Host {
        root: given.one("root").map_or_else(default_root, PathBuf::from),
        log: given.one("log").filter(|path| !path.is_empty()).map(PathBuf::from),
        json: given.one("log-format") == Some("json"),
        debug: given.on("debug"),
        systemd: given.on("systemd-cgroup"),
    };
    host.debug(&format!("berth {} {:?}", env!("CARGO_PKG_VERSION"), given.words));
    dispatch(&host, &given).unwrap_or_else(|error| {
        let error = match (crate::called_as().as_str(), given.words[0].as_str(), error.kind()) {
            // The command's own.
            (_, _, Kind::CommandNotFound | Kind::CommandNotExecutable) => error,
            // Who calls runc looks for its words.
            ("runc", verb @ ("run" | "create"), _) => Error::caused(format!("runc {verb} failed"), error),
            _ => error,
        };
        complain(&error);
        host.log(&error);
        // Another code than most commands end with.
        if given.words[0] == "exec" { 255 } else { 1 }
    })
}

fn dispatch(host: &Host, given: &Given) -> Result<u8> {
    let format = given.one("log-format").unwrap_or("text");
    if !["text", "json"].contains(&format) {
        return Err(Error::invalid(format!("invalid log-format: {format}")));
    }
    // It is always found out: a user that has no cgroup does without.
    if let Some(other) = given
        .one("rootless")
        .filter(|word| !["auto", "true", "false"].contains(word))
    {
        return Err(Error::invalid(format!(
            "--rootless: {other:?} is none of auto, true, false"
        )));
    }
    let (name, rest) = (&given.words[0], &given.words[1..]);
    let help = rest.iter().any(|word| word == "-h" || word == "--help");
    let Some(verb) = VERBS.iter().find(|verb| verb.command.name == name) else {
        return Err(match help {
            true => Error::invalid(format!("No help topic for '{name}'")),
            false => Error::invalid(format!("unknown command: {name}")).hint("see 'berth oci --help'"),
        });
    };
    let rest: Vec<OsString> = rest.iter().map(OsString::from).collect();
    if rest.first().is_some_and(|word| word == "-h") {
        output::say(&table::help_of(verb));
        return Ok(0);
    }
    match verb.command.parse(&rest)? {
        Parsed::Help(_) => {
            output::say(&table::help_of(verb));
            Ok(0)
        }
        Parsed::Given(given) => (verb.run)(host, &given),
    }
}

/// A user's containers are in its own directory.
fn default_root() -> PathBuf {
    own_directory().join("oci")
}

fn own_directory() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match own.filter(|_| !rustix::process::geteuid().is_root()) {
        Some(dir) => PathBuf::from(dir).join("berth"),
        None => settings::places(engine::Roots::system()).run,
    }
}

/// One line, which is what engines show; the hint is for people.
fn complain(error: &Error) {
    match std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        true => output::complain(error),
        false => output::note(&error.to_string()),
    }
}

impl Host {
    /// Who makes the cgroups of containers.
    pub fn cgroups(&self) -> Driver {
        if self.systemd {
            Driver::Systemd
        } else {
            Driver::Everywhere
        }
    }

    /// Where compiled seccomp filters are kept.
    pub fn filters(&self) -> PathBuf {
        own_directory().join("seccomp")
    }

    /// `--debug`: to the log, or where there is none to standard error.
    pub fn debug(&self, message: &str) {
        match (self.debug, &self.log) {
            (false, _) => {}
            (true, Some(_)) => self.write_log("debug", message),
            (true, None) => output::note(&self.line("debug", message)),
        }
    }

    /// Errors go to the file of `--log`, too: that is where engines look for them. What cannot be written there was said on
    /// standard error.
    fn log(&self, error: &Error) {
        self.write_log("error", &error.to_string());
    }

    /// What is not as asked for, and not worth failing for.
    pub fn warn(&self, message: &str) {
        output::note(&format!("berth: warning: {message}"));
        self.write_log("warning", message);
    }

    fn write_log(&self, level: &str, message: &str) {
        let Some(path) = &self.log else { return };
        let line = self.line(level, message);
        let file = std::fs::File::options().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}

impl Host {
    /// As runc's.
    fn line(&self, level: &str, message: &str) -> String {
        let time = engine::container::record::now();
        match self.json {
            true => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
            false => format!("time=\"{time}\" level={level} msg={message:?}"),
        }
    }
}

/// `--pid-file`: whole or not at all, as whoever waits for it reads it at once.
fn write_pid(given: &Given, pid: i32) -> Result<()> {
    let Some(path) = given.one("pid-file").map(PathBuf::from) else {
        return Ok(());
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, &path))
        .step_with(|| format!("write the pid file {}", path.display()))
}
