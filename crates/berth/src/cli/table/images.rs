//! Commands about images, and about where the space is.

use super::LIST;
use crate::cli::flag::{many, on, one};
use crate::cli::{Command, Words};
use crate::commands::*;

const INSECURE: &str = "Allow communication with an insecure registry";

/// In the order of help.
pub const COMMANDS: &[Command] = &[
    command!(
        "image inspect",
        &[],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        Words::AtLeast(1),
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            one("platform", "Inspect a specific platform of a multi-platform image"),
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
            on("all-tags", "Download all tagged images in the repository").short('a'),
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
            on("all-tags", "Push all tags of an image to the repository").short('a'),
            on("disable-content-trust", "Skip image signing"),
            one("platform", "Push a platform-specific manifest"),
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
                on("tree", "List multi-platform images as a tree"),
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
            many("platform", "Remove only the given platform variant"),
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
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
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
            many("platform", "Load only the given platform variant"),
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
            many("platform", "Save only the given platform variant"),
        ]],
        archives::save
    ),
    command!(
        "history",
        &["image history"],
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        Words::Exactly(1),
        &[&[
            one(
                "format",
                "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'"
            ),
            on("human", "Print sizes and dates in human readable format (default true)").short('H'),
            on("no-trunc", "Don't truncate output"),
            one("platform", "Show history for the given platform"),
            on("quiet", "Only show image IDs").short('q'),
        ]],
        history::history
    ),
    command!(
        "commit",
        &["container commit"],
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        Words::AtLeast(1),
        &[&[
            one("author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")").short('a'),
            many("change", "Apply Dockerfile instruction to the created image").short('c'),
            one("message", "Commit message").short('m'),
            on("no-pause", "Disable pausing container during commit"),
            on("pause", "Pause container during commit (default true)").short('p'),
        ]],
        commit::commit
    ),
    command!(
        "diff",
        &["container diff"],
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        Words::Exactly(1),
        &[],
        commit::diff
    ),
    command!(
        "export",
        &["container export"],
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        Words::Exactly(1),
        &[&[one("output", "Write to a file, instead of STDOUT").short('o')]],
        commit::export
    ),
    command!(
        "image prune",
        &[],
        "[OPTIONS]",
        "Remove unused images",
        Words::None,
        &[&[
            on("all", "Remove all unused images, not just dangling ones").short('a'),
            many("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
            on("force", "Do not prompt for confirmation").short('f'),
            one(
                "max-used-space",
                "Remove images until the rest takes no more, those used longest ago first"
            ),
            one(
                "unused-for",
                "Remove images that no container was made of for so long (720h)"
            ),
        ]],
        prune::images
    ),
    command!(
        "image mount",
        &[],
        "[IMAGE]",
        "Mount an image's files to be read, and print where; without an image list those that are mounted",
        Words::AtMost(1),
        &[],
        mount::mount
    ),
    command!(
        "image unmount",
        &["image umount"],
        "IMAGE [IMAGE...]",
        "Take mounted images from where they are",
        Words::AtLeast(1),
        &[],
        mount::unmount
    ),
    command!(
        "image tree",
        &[],
        "IMAGE",
        "Show the layers of an image, and which images each is the top of",
        Words::Exactly(1),
        &[],
        mount::tree
    ),
    command!(
        "system check",
        &[],
        "[OPTIONS]",
        "Look at all images on disk for damage",
        Words::None,
        &[&[on("repair", "Fetch again what is damaged, and nothing else")]],
        check::check
    ),
    command!(
        "login",
        &[],
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        Words::AtMost(1),
        &[&[
            one("password", "Password or Personal Access Token (PAT)").short('p'),
            on(
                "password-stdin",
                "Take the Password or Personal Access Token (PAT) from stdin"
            ),
            one("username", "Username").short('u'),
        ]],
        login::login
    ),
    command!(
        "logout",
        &[],
        "[SERVER]",
        "Log out from a registry",
        Words::AtMost(1),
        &[],
        login::logout
    ),
    command!(
        "search",
        &[],
        "[OPTIONS] TERM",
        "Search a registry for images",
        Words::Exactly(1),
        &[&[
            many("filter", "Filter output based on conditions provided").short('f'),
            one("format", "Pretty-print search using a Go template"),
            one("limit", "Max number of search results"),
            on("no-trunc", "Don't truncate output"),
        ]],
        search::search
    ),
    command!(
        "manifest inspect",
        &[],
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        Words::AtLeast(1),
        &[&[
            on("insecure", INSECURE),
            on("verbose", "Output additional info including layers and platform").short('v'),
        ]],
        manifest::inspect
    ),
    command!(
        "manifest create",
        &[],
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Create a local manifest list for annotating and pushing to a registry",
        Words::AtLeast(2),
        &[&[
            on("amend", "Amend an existing manifest list").short('a'),
            on("insecure", INSECURE),
        ]],
        manifest::create
    ),
    command!(
        "manifest annotate",
        &[],
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Add additional information to a local image manifest",
        Words::Exactly(2),
        &[&[
            one("arch", "Set architecture"),
            one("os", "Set operating system"),
            many("os-features", "Set operating system feature"),
            one("os-version", "Set operating system version"),
            one("variant", "Set architecture variant"),
        ]],
        manifest::annotate
    ),
    command!(
        "manifest push",
        &[],
        "[OPTIONS] MANIFEST_LIST",
        "Push a manifest list to a repository",
        Words::Exactly(1),
        &[&[
            on("insecure", INSECURE),
            on("purge", "Remove the local manifest list after push").short('p'),
        ]],
        manifest::push
    ),
    command!(
        "manifest rm",
        &[],
        "MANIFEST_LIST [MANIFEST_LIST...]",
        "Delete one or more manifest lists from local storage",
        Words::AtLeast(1),
        &[],
        manifest::remove
    ),
    command!(
        "image referrers",
        &[],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "List what a registry has that refers to an image: signatures, bills of materials, attestations",
        Words::Exactly(1),
        &[&[
            one("artifact-type", "List only what is of this type"),
            one(
                "format",
                "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'"
            ),
        ]],
        manifest::referrers
    ),
    command!(
        "system df",
        &[],
        "[OPTIONS]",
        "Show disk usage",
        Words::None,
        &[&[
            one(
                "format",
                "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'"
            ),
            on("verbose", "Show detailed information on space usage").short('v'),
        ]],
        usage::df
    ),
];
