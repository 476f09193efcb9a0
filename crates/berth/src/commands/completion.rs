//! `completion`: scripts for shells, from the same tables as everything else.

use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::cli::table::COMMANDS;
use crate::output;

/// Prints the script.
pub fn completion(given: &Given) -> Result<u8> {
    let shell: clap_complete::Shell = given.words[0].parse().map_err(|_| {
        Error::invalid(format!("unknown shell: {}", given.words[0])).hint("bash, zsh, fish and elvish are there")
    })?;
    let mut berth = clap::Command::new("berth").subcommand_required(true);
    let mut volume = clap::Command::new("volume").about("Manage volumes");
    for command in COMMANDS {
        match command.name.split_once(' ') {
            Some((_, name)) => volume = volume.subcommand(command.build().name(name)),
            None => berth = berth.subcommand(command.build()),
        }
    }
    berth = berth.subcommand(volume);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut berth, "berth", &mut script);
    output::say(&String::from_utf8_lossy(&script));
    Ok(0)
}
