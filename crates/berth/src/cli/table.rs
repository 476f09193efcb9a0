//! All commands: those about containers and images stand in files of their own.

use super::flag::{Flag, many, on, one};
use super::{Command, Words};
use crate::commands::*;

const LIST: &[Flag] = &[
    many("filter", "Filter output based on conditions provided").short('f'),
    one(
        "format",
        "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'",
    ),
    on("no-trunc", "Don't truncate output"),
    on("quiet", "Only display IDs").short('q'),
];

macro_rules! command {
    ($name:literal, $aliases:expr, $usage:literal, $about:literal, $words:expr, $flags:expr, $run:path) => {
        Command {
            name: $name,
            aliases: $aliases,
            usage: $usage,
            about: $about,
            words: $words,
            flags: $flags,
            run: $run,
        }
    };
}

mod compat;
mod containers;
mod images;
mod networks;
mod run_flags;

/// All, in the order of help.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    let objects = images::COMMANDS.iter().chain(networks::COMMANDS);
    containers::COMMANDS
        .iter()
        .chain(objects)
        .chain(compat::COMMANDS)
        .chain(COMMANDS)
}

/// Those about everything else.
const COMMANDS: &[Command] = &[
    command!(
        "inspect",
        &[],
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on objects",
        Words::AtLeast(1),
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            on("size", "Display total file sizes if the type is container").short('s'),
            one("type", "Only inspect objects of the given type"),
        ]],
        inspect::inspect
    ),
    command!(
        "volume create",
        &[],
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        Words::AtMost(1),
        &[&[
            one("driver", "Specify volume driver name").short('d'),
            many("label", "Set metadata for a volume"),
            many("opt", "Set driver specific options").short('o'),
        ]],
        volume::create
    ),
    command!(
        "volume ls",
        &["volume list"],
        "[OPTIONS]",
        "List volumes",
        Words::None,
        &[LIST],
        volume::ls
    ),
    command!(
        "volume rm",
        &["volume remove"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        Words::AtLeast(1),
        &[&[on("force", "Force the removal of one or more volumes").short('f')]],
        volume::rm
    ),
    command!(
        "volume inspect",
        &[],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        Words::AtLeast(1),
        &[&[one("format", "Format output using a custom template, or 'json'").short('f')]],
        volume::inspect
    ),
    command!(
        "volume update",
        &[],
        "[OPTIONS] VOLUME",
        "Update a volume (cluster volumes only)",
        Words::Exactly(1),
        &[&[one(
            "availability",
            "Cluster Volume availability (active, pause, drain)"
        )]],
        volume::update
    ),
    command!(
        "volume prune",
        &[],
        "[OPTIONS]",
        "Remove unused local volumes",
        Words::None,
        &[&[
            on("all", "Remove all unused volumes, not just anonymous ones").short('a'),
            many("filter", "Provide filter values (e.g. \"label=<label>\")"),
            on("force", "Do not prompt for confirmation").short('f'),
        ]],
        prune::volumes
    ),
    command!(
        "system prune",
        &[],
        "[OPTIONS]",
        "Remove unused data",
        Words::None,
        &[&[
            on("all", "Remove all unused images not just dangling ones").short('a'),
            many("filter", "Provide filter values (e.g. \"label=<key>=<value>\")"),
            on("force", "Do not prompt for confirmation").short('f'),
            on("volumes", "Prune anonymous volumes"),
        ]],
        prune::system
    ),
    command!(
        "events",
        &["system events"],
        "[OPTIONS]",
        "Get real time events",
        Words::None,
        &[&[
            many("filter", "Filter output based on conditions provided").short('f'),
            one("format", "Format output using a custom template, or 'json'"),
            one("since", "Show all events created since timestamp"),
            one("until", "Stream events until this timestamp"),
        ]],
        events::events
    ),
    command!(
        "info",
        &["system info"],
        "[OPTIONS]",
        "Display system-wide information",
        Words::None,
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            on("kernel", "Show what this kernel gives to programs"),
        ]],
        info::info
    ),
    command!(
        "version",
        &[],
        "[OPTIONS]",
        "Show the version information",
        Words::None,
        &[&[one("format", "Format output using a custom template, or 'json'").short('f')]],
        info::version
    ),
    command!(
        "api",
        &[],
        "[OPTIONS]",
        "Serve Docker Engine's API",
        Words::None,
        &[&[
            many("host", "Where to listen: unix://PATH, tcp://ADDRESS:PORT, fd://").short('H'),
            one("group", "Group for the unix socket").short('G'),
            one("idle-exit", "End after so many seconds without anybody connected"),
            on("tls", "Use TLS; implied by --tlsverify"),
            on("tlsverify", "Use TLS and verify the remote"),
            one("tlscacert", "Trust certs signed only by this CA"),
            one("tlscert", "Path to TLS certificate file"),
            one("tlskey", "Path to TLS key file"),
            one("ui", "Also serve a web page, read-only: 127.0.0.1:PORT"),
            on(
                "ui-write",
                "Let the page start and stop containers, and open terminals in them"
            ),
        ]],
        api::api
    ),
    command!(
        "system dial-stdio",
        &[],
        "",
        "Proxy the stdio stream to the API's connection",
        Words::None,
        &[],
        api::dial_stdio
    ),
    command!(
        "socket create",
        &[],
        "[OPTIONS] NAME",
        "Make a socket for the API that allows only some of it",
        Words::Exactly(1),
        &[&[
            on("read-only", "Nothing that changes anything"),
            many("label", "Only what has this label is there"),
            many("allow", "Allowed operations: containers.list,events,images"),
            one("group", "Group that may use it").short('G'),
        ]],
        socket::create
    ),
    command!(
        "socket ls",
        &["socket list"],
        "",
        "List sockets",
        Words::None,
        &[],
        socket::list
    ),
    command!(
        "socket rm",
        &["socket remove"],
        "NAME [NAME...]",
        "Remove one or more sockets",
        Words::AtLeast(1),
        &[],
        socket::remove
    ),
    command!(
        "tour",
        &[],
        "",
        "Show what a container is, on this machine, with an image that Berth carries itself",
        Words::None,
        &[],
        tour::tour
    ),
    command!(
        "completion",
        &[],
        "bash|zsh|fish",
        "Print a completion script for a shell",
        Words::Exactly(1),
        &[],
        completion::completion
    ),
];

/// Docker's other commands: known, and refused by name.
pub const LATER: &[&str] = &[
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "container",
    "context",
    "image",
    "manifest",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "stack",
    "swarm",
    "system",
    "trust",
    "volume",
];
