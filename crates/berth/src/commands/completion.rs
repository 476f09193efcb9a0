//! `completion`: scripts for shells, from the same tables as everything else.

use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::cli::table::commands;
use crate::output;

/// Prints the script.
pub fn completion(given: &Given) -> Result<u8> {
    let shell: clap_complete::Shell = given.words[0].parse().map_err(|_| {
        Error::invalid(format!("unknown shell: {}", given.words[0])).hint("bash, zsh, fish and elvish are there")
    })?;
    let mut berth = clap::Command::new("berth").subcommand_required(true);
    let mut groups = [
        clap::Command::new("container").about("Manage containers"),
        clap::Command::new("image").about("Manage images"),
        clap::Command::new("system").about("Manage Berth"),
        clap::Command::new("volume").about("Manage volumes"),
    ];
    for command in commands() {
        if !command.name.contains(' ') {
            berth = berth.subcommand(command.build());
        }
        for name in command.aliases.iter().chain([&command.name]) {
            let Some((group, name)) = name.split_once(' ') else {
                continue;
            };
            if let Some(found) = groups.iter_mut().find(|g| g.get_name() == group) {
                *found = found.clone().subcommand(command.build().name(name));
            }
        }
    }
    berth = berth.subcommands(groups);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut berth, "berth", &mut script);
    output::say(&String::from_utf8_lossy(&script));
    Ok(0)
}
