//! All commands: those about containers stand in a file of their own.

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

mod containers;
mod run_flags;

/// All, in the order of help.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    containers::COMMANDS.iter().chain(COMMANDS)
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
        "image inspect",
        &[],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        Words::AtLeast(1),
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            one("platform", "Inspect a specific platform of a multi-platform image").later(),
        ]],
        inspect::image
    ),
    command!(
        "pull",
        &["image pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        Words::Exactly(1),
        &[&[
            on("all-tags", "Download all tagged images in the repository")
                .short('a')
                .later(),
            on("disable-content-trust", "Skip image verification"),
            one("platform", "Set platform if server is multi-platform capable"),
            on("quiet", "Suppress verbose output").short('q'),
        ]],
        images::pull
    ),
    command!(
        "push",
        &["image push"],
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        Words::Exactly(1),
        &[&[
            on("all-tags", "Push all tags of an image to the repository")
                .short('a')
                .later(),
            on("disable-content-trust", "Skip image signing"),
            one("platform", "Push a platform-specific manifest").later(),
            on("quiet", "Suppress verbose output").short('q'),
        ]],
        images::push
    ),
    command!(
        "images",
        &["image ls", "image list"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        Words::AtMost(1),
        &[
            LIST,
            &[
                on("all", "Show all images").short('a'),
                on("digests", "Show digests"),
                on("tree", "List multi-platform images as a tree").later(),
            ]
        ],
        images::images
    ),
    command!(
        "rmi",
        &["image rm", "image remove"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        Words::AtLeast(1),
        &[&[
            on("force", "Force removal of the image").short('f'),
            on("no-prune", "Do not delete untagged parents").later(),
            many("platform", "Remove only the given platform variant").later(),
        ]],
        images::rmi
    ),
    command!(
        "tag",
        &["image tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        Words::Exactly(2),
        &[],
        images::tag
    ),
    command!(
        "import",
        &["image import"],
        "[OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        Words::AtLeast(1),
        &[&[
            many("change", "Apply Dockerfile instruction to the created image").short('c'),
            one("message", "Set commit message for imported image").short('m'),
            one("platform", "Set platform if server is multi-platform capable"),
        ]],
        archives::import
    ),
    command!(
        "load",
        &["image load"],
        "[OPTIONS]",
        "Load an image from a tar archive, an OCI layout directory, or STDIN",
        Words::None,
        &[&[
            one("input", "Read from a tar archive file or a directory, instead of STDIN").short('i'),
            one("platform", "Load only the given platform variant"),
            on("quiet", "Suppress the load output").short('q'),
        ]],
        archives::load
    ),
    command!(
        "save",
        &["image save"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        Words::AtLeast(1),
        &[&[
            one("output", "Write to a file, instead of STDOUT").short('o'),
            many("platform", "Save only the given platform variant").later(),
        ]],
        archives::save
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
            many("opt", "Set driver specific options").short('o').later(),
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
        "info",
        &["system info"],
        "[OPTIONS]",
        "Display system-wide information",
        Words::None,
        &[&[one("format", "Format output using a custom template, or 'json'").short('f')]],
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
    "commit",
    "compose",
    "config",
    "container",
    "context",
    "cp",
    "diff",
    "events",
    "export",
    "history",
    "image",
    "login",
    "logout",
    "manifest",
    "network",
    "node",
    "plugin",
    "port",
    "search",
    "secret",
    "service",
    "stack",
    "stats",
    "swarm",
    "system",
    "trust",
    "update",
    "volume",
    "api",
];
