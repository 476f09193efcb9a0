//! The commands about containers.

use super::LIST;
use super::run_flags::{CONTAINER, OWN, RUN};
use crate::cli::flag::{Flag, many, on, one};
use crate::cli::{Command, Words};
use crate::commands::*;

const STOP: &[Flag] = &[
    one("signal", "Signal to send to the container").short('s'),
    one("timeout", "Seconds to wait before killing the container").short('t'),
    one("time", "Seconds to wait before killing the container"),
];

const PRUNE: &[Flag] = &[
    many("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
    on("force", "Do not prompt for confirmation").short('f'),
];

const UPDATE: &[Flag] = &[
    one("blkio-weight", "Block IO weight, between 10 and 1000, or 0 to disable"),
    one("cpu-period", "Limit CPU CFS period"),
    one("cpu-quota", "Limit CPU CFS quota"),
    one("cpu-rt-period", "Limit the CPU real-time period in microseconds"),
    one("cpu-rt-runtime", "Limit the CPU real-time runtime in microseconds"),
    one("cpu-shares", "CPU shares (relative weight)").short('c'),
    one("cpus", "Number of CPUs"),
    one("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    one("cpuset-mems", "Memory nodes in which to allow execution (0-3, 0,1)"),
    one(
        "egress",
        "What may be reached outside: none, or names and subnets; empty: no policy",
    ),
    one("memory", "Memory limit").short('m'),
    one("memory-reservation", "Memory soft limit"),
    one(
        "memory-swap",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    one("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    one("restart", "Restart policy to apply when a container exits"),
];

/// In the order of help.
pub const COMMANDS: &[Command] = &[
    command!(
        "run",
        &["container run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        Words::Command(1),
        &[CONTAINER, OWN, RUN],
        run::run
    ),
    command!(
        "exec",
        &["container exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        Words::Command(2),
        &[&[
            on("detach", "Detached mode: run command in the background").short('d'),
            one("detach-keys", "Override the key sequence for detaching a container"),
            many("env", "Set environment variables").short('e'),
            many("env-file", "Read in a file of environment variables"),
            on("interactive", "Keep STDIN open even if not attached").short('i'),
            on("privileged", "Give extended privileges to the command"),
            on("tty", "Allocate a pseudo-TTY").short('t'),
            one("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
            one("workdir", "Working directory inside the container").short('w'),
        ]],
        exec::exec
    ),
    command!(
        "ps",
        &["container ls", "container list", "container ps"],
        "[OPTIONS]",
        "List containers",
        Words::None,
        &[
            LIST,
            &[
                on("all", "Show all containers (default shows just running)").short('a'),
                one("last", "Show n last created containers (includes all states)").short('n'),
                on("latest", "Show the latest created container (includes all states)").short('l'),
                on("size", "Display total file sizes").short('s'),
            ]
        ],
        ps::ps
    ),
    command!(
        "create",
        &["container create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        Words::Command(1),
        &[CONTAINER, OWN],
        run::create
    ),
    command!(
        "start",
        &["container start"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        Words::AtLeast(1),
        &[&[
            on("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
            one("checkpoint", "Restore from this checkpoint").later(),
            one("checkpoint-dir", "Use a custom checkpoint storage directory").later(),
            one("detach-keys", "Override the key sequence for detaching a container"),
            on("interactive", "Attach container's STDIN").short('i'),
        ]],
        lifecycle::start
    ),
    command!(
        "stop",
        &["container stop"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        Words::AtLeast(1),
        &[STOP],
        lifecycle::stop
    ),
    command!(
        "restart",
        &["container restart"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        Words::AtLeast(1),
        &[STOP],
        lifecycle::restart
    ),
    command!(
        "kill",
        &["container kill"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        Words::AtLeast(1),
        &[&[one("signal", "Signal to send to the container").short('s')]],
        lifecycle::kill
    ),
    command!(
        "rm",
        &["container rm", "container remove"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        Words::AtLeast(1),
        &[&[
            on("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
            on("link", "Remove the specified link").short('l').later(),
            on("volumes", "Remove anonymous volumes associated with the container").short('v'),
        ]],
        lifecycle::rm
    ),
    command!(
        "pause",
        &["container pause"],
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        Words::AtLeast(1),
        &[],
        lifecycle::pause
    ),
    command!(
        "unpause",
        &["container unpause"],
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        Words::AtLeast(1),
        &[],
        lifecycle::unpause
    ),
    command!(
        "rename",
        &["container rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Words::Exactly(2),
        &[],
        lifecycle::rename
    ),
    command!(
        "wait",
        &["container wait"],
        "CONTAINER [CONTAINER...]",
        "Block until containers stop, then print their exit codes",
        Words::AtLeast(1),
        &[],
        lifecycle::wait
    ),
    command!(
        "attach",
        &["container attach"],
        "[OPTIONS] CONTAINER",
        "Attach local standard streams to a running container",
        Words::Exactly(1),
        &[&[
            one("detach-keys", "Override the key sequence for detaching a container"),
            on("no-stdin", "Do not attach STDIN"),
            on("sig-proxy", "Proxy all received signals to the process"),
        ]],
        attach::attach
    ),
    command!(
        "why",
        &["container why"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Say why a container ended, or could not be started",
        Words::AtLeast(1),
        &[&[one("format", "Format output as 'json'").short('f')]],
        why::why
    ),
    command!(
        "logs",
        &["container logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        Words::Exactly(1),
        &[&[
            on("details", "Show extra details provided to logs"),
            on("follow", "Follow log output").short('f'),
            one(
                "since",
                "Show logs since timestamp (2013-01-02T13:23:37Z) or relative (42m)"
            ),
            one("tail", "Number of lines to show from the end of the logs").short('n'),
            on("timestamps", "Show timestamps").short('t'),
            one("until", "Show logs before a timestamp or relative time"),
        ]],
        logs::logs
    ),
    command!(
        "stats",
        &["container stats"],
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        Words::AtLeast(0),
        &[&[
            on("all", "Show all containers (default shows just running)").short('a'),
            one(
                "format",
                "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'",
            ),
            on("no-stream", "Disable streaming stats and only pull the first result"),
            on("no-trunc", "Do not truncate output"),
        ]],
        stats::stats
    ),
    command!(
        "container prune",
        &[],
        "[OPTIONS]",
        "Remove all stopped containers",
        Words::None,
        &[PRUNE],
        prune::containers
    ),
    command!(
        "cp",
        &["container cp"],
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       berth cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        Words::Exactly(2),
        &[&[
            on("archive", "Archive mode (copy all uid/gid information)").short('a'),
            on("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
            on("quiet", "Suppress progress output during copy").short('q'),
        ]],
        cp::cp
    ),
    command!(
        "update",
        &["container update"],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        Words::AtLeast(1),
        &[UPDATE],
        update::update
    ),
    command!(
        "top",
        &["container top"],
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        Words::Command(1),
        &[],
        ps::top
    ),
    command!(
        "container inspect",
        &[],
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        Words::AtLeast(1),
        &[&[
            one("format", "Format output using a custom template, or 'json'").short('f'),
            on("size", "Display total file sizes").short('s'),
        ]],
        inspect::container
    ),
];
