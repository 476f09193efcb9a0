//! The program: one static binary for the command line and for the monitors of containers.
//!
//! `berth COMMAND` is a row of [`cli::table`]; `berth monitor ...` is how the engine starts the parent of a container,
//! `berth names ...` the name service of the host: both are recognised before anything else is set up.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod format;
mod oci;
mod output;
mod settings;
mod template;
mod terminal;
mod translate;
mod users;

use std::ffi::OsString;
use std::process::ExitCode;

use engine::container::spawn;
use errdefs::{Error, Kind, Result};

use cli::table::{LATER, commands};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = own_process(&arguments) {
        return ExitCode::from(code as u8);
    }
    if arguments.first().is_some_and(|a| a == commands::tour::INSIDE) {
        return ExitCode::from(commands::tour::inside());
    }
    if called_as() == "runc" {
        return ExitCode::from(oci::run(&arguments));
    }
    if arguments.first().is_some_and(|a| a == "oci") {
        return ExitCode::from(oci::run(&arguments[1..]));
    }
    let code = dispatch(&arguments).unwrap_or_else(|error| fail(&error, &arguments));
    ExitCode::from(code)
}

/// The exit code of a process that the engine has started, if we are one. It stays in no directory of the starter's.
fn own_process(arguments: &[OsString]) -> Option<i32> {
    let am = |process: &str| {
        let found = spawn::arguments::decode(arguments, process)?;
        let _ = std::env::set_current_dir("/");
        // Who cannot be written down works all the same; another command may just not find its way to it.
        let _ = users::register(&found.0);
        Some(found)
    };
    let monitor = |ahead| move |(roots, id): (_, String)| monitor::run(roots, &id, ahead);
    am(spawn::PROCESS)
        .map(monitor(false))
        .or_else(|| am(spawn::AHEAD).map(monitor(true)))
        .or_else(|| am(engine::names::PROCESS).map(|(roots, _)| names::run(&roots)))
        .or_else(|| am(engine::network::keep::PROCESS).map(|(roots, _)| engine::network::keep::run(&roots)))
}

/// The name that the program was called by.
pub(crate) fn called_as() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn dispatch(arguments: &[OsString]) -> Result<u8> {
    // What the caller had open stays the caller's: a monitor lives on, and would hold its locks and pipes.
    let _ = sys::process::close_on_exec_from(3);
    let text = |i: usize| arguments.get(i).and_then(|a| a.to_str()).unwrap_or_default();
    let (first, second) = (text(0), text(1));
    if ["", "help", "--help", "-h"].contains(&first) && (first != "help" || second.is_empty()) {
        help();
        return Ok(0);
    }
    if ["--version", "-v"].contains(&first) {
        output::say(&format!("Berth version {}\n", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    let two = format!("{first} {second}");
    for (name, used) in [(two.as_str(), 2), (first, 1)] {
        if let Some(command) = commands().find(|c| c.name == name || c.aliases.contains(&name)) {
            return command.call(&arguments[used..]);
        }
    }
    if ["", "--help"].contains(&second) && group(first) {
        return Ok(0);
    }
    if let Some(name) = [two.as_str(), first].into_iter().find(|name| LATER.contains(name)) {
        let what = if ["container", "image", "volume", "system"].contains(&name) {
            two.trim()
        } else {
            name
        };
        return Err(Error::not_yet(what));
    }
    let what = if first.starts_with('-') {
        "unknown flag"
    } else {
        "unknown command"
    };
    Err(Error::invalid(format!("{what}: {first}")).hint("see 'berth --help'"))
}

/// Prints the commands of a group (`volume`); whether it is one.
fn group(name: &str) -> bool {
    let of = format!("{name} ");
    let mut text = format!("Usage:  berth {name} COMMAND\n\nCommands:\n");
    let mut any = false;
    for command in commands() {
        let names = std::iter::once(&command.name).chain(command.aliases);
        if let Some(own) = names.into_iter().find_map(|n| n.strip_prefix(&of)) {
            text.push_str(&format!("  {own:<12} {}\n", command.about));
            any = true;
        }
    }
    if any {
        output::say(&(text + &format!("\nRun 'berth {name} COMMAND --help' for more on a command.\n")));
    }
    any
}

/// Prints the error; its exit code.
fn fail(error: &Error, arguments: &[OsString]) -> u8 {
    output::complain(error);
    // Of compat 1 and 2 are answers.
    let starts = ["run", "create", "exec", "compat"];
    let command = arguments
        .iter()
        .filter_map(|a| a.to_str())
        .find(|a| *a != "container")
        .unwrap_or_default();
    match error.kind() {
        Kind::CommandNotFound
        | Kind::CommandNotExecutable
        | Kind::ProcessNotAdded
        | Kind::Usage
        | Kind::Flag
        | Kind::NotImplemented => error.kind().exit_code(),
        // A container that is not there or does not run, or without such a user: exec says 1, as Docker does.
        Kind::NotFound | Kind::Conflict | Kind::Invalid if command == "exec" => 1,
        _ if starts.contains(&command) => error.kind().exit_code(),
        _ => 1,
    }
}

fn help() {
    let mut text = String::from(
        "Usage:  berth COMMAND [OPTIONS]\n\nRuns containers: other distributions' user space on this machine's kernel.\n\nCommands:\n",
    );
    for command in commands() {
        text.push_str(&format!("  {:<16} {}\n", command.name, command.about));
    }
    text.push_str("\nRun 'berth COMMAND --help' for more on a command.\n");
    output::say(&text);
}
