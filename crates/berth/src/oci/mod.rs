//! `berth oci`: runc's command line over the runtime crate, for engines that drive an OCI runtime (podman, dockerd,
//! containerd, buildah). The same program called as `runc` is this.
//!
//! ```text
//! create ---> ROOT/ID/{state.json, door}, init waits at the door          create.rs
//! start  ---> knocks at the door                                          lifecycle.rs
//! kill, pause, resume, delete, update                                     lifecycle.rs
//! exec   ---> one more process                                            exec.rs
//! state, list, ps, features, spec                                         inform.rs
//! events                                                                  events.rs
//! ```

mod create;
mod events;
mod exec;
mod inform;
mod lifecycle;
mod listener;
mod state;
mod streams;
mod table;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use errdefs::{Error, Result, Step};

use crate::cli::Parsed;
use crate::cli::flag::Given;
use crate::{output, settings};
use table::{GLOBAL, LATER, VERBS};

/// What the flags before the verb say.
pub struct Host {
    /// Where containers' states are.
    pub root: PathBuf,
    log: Option<PathBuf>,
    json: bool,
}

/// Does what the arguments after `oci` say; the exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    let given = match GLOBAL.parse(arguments) {
        Ok(Parsed::Given(given)) => given,
        Ok(Parsed::Help(_)) => {
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
            true => format!(
                "berth version {}\nspec: {}\n",
                env!("CARGO_PKG_VERSION"),
                state::SPECIFICATION
            ),
            false => table::help(),
        });
        return 0;
    }
    let host = Host {
        root: given
            .one("root")
            .map_or_else(|| settings::roots().run.join("oci"), PathBuf::from),
        log: given.one("log").filter(|path| !path.is_empty()).map(PathBuf::from),
        json: given.one("log-format") == Some("json"),
    };
    dispatch(&host, &given).unwrap_or_else(|error| {
        output::complain(&error);
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
    let (name, rest) = (&given.words[0], &given.words[1..]);
    let Some(verb) = VERBS.iter().find(|verb| verb.command.name == name) else {
        return Err(match LATER.contains(&name.as_str()) {
            true => Error::not_yet(name),
            false => Error::invalid(format!("unknown command: {name}")).hint("see 'berth oci --help'"),
        });
    };
    let rest: Vec<OsString> = rest.iter().map(OsString::from).collect();
    match verb.command.parse(&rest)? {
        Parsed::Help(text) => {
            output::say(&text);
            Ok(0)
        }
        Parsed::Given(given) => (verb.run)(host, &given),
    }
}

impl Host {
    /// Errors go to the file of `--log`, too: that is where engines look for them. What cannot be written there was said on
    /// standard error.
    fn log(&self, error: &Error) {
        let Some(path) = &self.log else { return };
        let time = engine::container::record::now();
        let line = match self.json {
            true => serde_json::json!({ "level": "error", "msg": error.to_string(), "time": time }).to_string(),
            false => format!("time=\"{time}\" level=error msg={:?}", error.to_string()),
        };
        let file = std::fs::File::options().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
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
