//! All commands.

use super::flag::{Flag, many, on, one};
use super::{Command, Words};
use crate::commands::*;

/// Of `run` and `create`: Docker's 103, those that do nothing yet refused by name.
const CONTAINER: &[Flag] = &[
    many("add-host", "Add a custom host-to-IP mapping (host:ip)"),
    many("annotation", "Add an annotation to the container").later(),
    many("attach", "Attach to STDIN, STDOUT or STDERR").short('a').later(),
    one("blkio-weight", "Block IO weight, between 10 and 1000, or 0 to disable"),
    many("blkio-weight-device", "Block IO weight of a device").later(),
    many("cap-add", "Add Linux capabilities"),
    many("cap-drop", "Drop Linux capabilities"),
    one("cgroup-parent", "Optional parent cgroup for the container"),
    one("cgroupns", "Cgroup namespace to use (private)"),
    one("cidfile", "Write the container ID to the file"),
    one("cpu-count", "CPU count (Windows only)").later(),
    one("cpu-percent", "CPU percent (Windows only)").later(),
    one("cpu-period", "Limit CPU CFS period"),
    one("cpu-quota", "Limit CPU CFS quota"),
    one("cpu-rt-period", "Limit CPU real-time period in microseconds").later(),
    one("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds").later(),
    one("cpu-shares", "CPU shares (relative weight)").short('c'),
    one("cpus", "Number of CPUs"),
    one("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    one("cpuset-mems", "Memory nodes in which to allow execution (0-3, 0,1)"),
    many("device", "Add a host device to the container").later(),
    many("device-cgroup-rule", "Add a rule to the cgroup allowed devices list").later(),
    many("device-read-bps", "Limit read rate (bytes per second) from a device").later(),
    many("device-read-iops", "Limit read rate (IO per second) from a device").later(),
    many("device-write-bps", "Limit write rate (bytes per second) to a device").later(),
    many("device-write-iops", "Limit write rate (IO per second) to a device").later(),
    on("disable-content-trust", "Skip image verification"),
    many("dns", "Set custom DNS servers"),
    many("dns-opt", "Set DNS options"),
    many("dns-option", "Set DNS options"),
    many("dns-search", "Set custom DNS search domains"),
    one("domainname", "Container NIS domain name"),
    one("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    many("env", "Set environment variables").short('e'),
    many("env-file", "Read in a file of environment variables"),
    many("expose", "Expose a port or a range of ports"),
    one("gpus", "GPU devices to add to the container").later(),
    many("group-add", "Add additional groups to join"),
    one("health-cmd", "Command to run to check health").later(),
    one("health-interval", "Time between running the check").later(),
    one("health-retries", "Consecutive failures needed to report unhealthy").later(),
    one(
        "health-start-interval",
        "Time between running the check during the start period",
    )
    .later(),
    one("health-start-period", "Start period for the container to initialize").later(),
    one("health-timeout", "Maximum time to allow one check to run").later(),
    one("hostname", "Container host name").short('h'),
    on(
        "init",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    on("interactive", "Keep STDIN open even if not attached").short('i'),
    one(
        "io-maxbandwidth",
        "Maximum IO bandwidth limit for the system drive (Windows only)",
    )
    .later(),
    one("io-maxiops", "Maximum IOps limit for the system drive (Windows only)").later(),
    one("ip", "IPv4 address").later(),
    one("ip6", "IPv6 address").later(),
    one("ipc", "IPC mode to use (none, private, host)"),
    one("isolation", "Container isolation technology").later(),
    one("kernel-memory", "Kernel memory limit").later(),
    many("label", "Set meta data on a container").short('l'),
    many("label-file", "Read in a line delimited file of labels"),
    many("link", "Add link to another container").later(),
    many("link-local-ip", "Container IPv4/IPv6 link-local addresses").later(),
    one("log-driver", "Logging driver for the container (json-file, none)"),
    many("log-opt", "Log driver options (max-size, max-file)"),
    one("mac-address", "Container MAC address").later(),
    one("memory", "Memory limit").short('m'),
    one("memory-reservation", "Memory soft limit"),
    one(
        "memory-swap",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    one("memory-swappiness", "Tune container memory swappiness (0 to 100)").later(),
    many("mount", "Attach a filesystem mount to the container"),
    one("name", "Assign a name to the container"),
    many("net", "Connect a container to a network"),
    many("net-alias", "Add network-scoped alias for the container").later(),
    many("network", "Connect a container to a network (none, host)"),
    many("network-alias", "Add network-scoped alias for the container").later(),
    on("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    on("oom-kill-disable", "Disable OOM Killer").later(),
    one("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    one("pid", "PID namespace to use (host)"),
    one("pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    one("platform", "Set platform if server is multi-platform capable"),
    on("privileged", "Give extended privileges to this container"),
    many("publish", "Publish a container's port(s) to the host")
        .short('p')
        .later(),
    on("publish-all", "Publish all exposed ports to random ports")
        .short('P')
        .later(),
    one("pull", "Pull image before running (always, missing, never)"),
    on("quiet", "Suppress the pull output").short('q'),
    on("read-only", "Mount the container's root filesystem as read only"),
    one("restart", "Restart policy to apply when a container exits"),
    on(
        "rm",
        "Automatically remove the container and its anonymous volumes when it exits",
    ),
    one("runtime", "Runtime to use for this container").later(),
    many("security-opt", "Security Options"),
    one("shm-size", "Size of /dev/shm"),
    one("stop-signal", "Signal to stop the container"),
    one("stop-timeout", "Timeout (in seconds) to stop a container"),
    many("storage-opt", "Storage driver options for the container").later(),
    many("sysctl", "Sysctl options"),
    many("tmpfs", "Mount a tmpfs directory"),
    on("tty", "Allocate a pseudo-TTY").short('t'),
    many("ulimit", "Ulimit options"),
    on("use-api-socket", "Bind mount the API socket").later(),
    one("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    one("userns", "User namespace to use (private, host)"),
    one("uts", "UTS namespace to use (host)"),
    many("volume", "Bind mount a volume").short('v'),
    one("volume-driver", "Optional volume driver for the container").later(),
    many("volumes-from", "Mount volumes from the specified container(s)").later(),
    one("workdir", "Working directory inside the container").short('w'),
];

const RUN: &[Flag] = &[
    on("detach", "Run container in background and print container ID").short('d'),
    one("detach-keys", "Override the key sequence for detaching a container"),
    on("sig-proxy", "Proxy received signals to the process"),
];

const STOP: &[Flag] = &[
    one("signal", "Signal to send to the container").short('s'),
    one("timeout", "Seconds to wait before killing the container").short('t'),
    one("time", "Seconds to wait before killing the container"),
];

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

/// In the order of help.
pub const COMMANDS: &[Command] = &[
    command!(
        "run",
        &["container run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        Words::Command(1),
        &[CONTAINER, RUN],
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
        &[CONTAINER],
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
        "logs",
        &["container logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        Words::Exactly(1),
        &[&[
            on("details", "Show extra details provided to logs").later(),
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
        "top",
        &["container top"],
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        Words::Command(1),
        &[],
        ps::top
    ),
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
