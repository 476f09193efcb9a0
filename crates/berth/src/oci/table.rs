//! runc's verbs and their flags.

use super::{Host, create, events, exec, inform, lifecycle, update};
use crate::cli::flag::{Flag, Given, many, on, one};
use crate::cli::{Command, Words};
use errdefs::Result;

/// A verb and who does it.
pub struct Verb {
    pub command: Command<()>,
    pub run: fn(&Host, &Given) -> Result<u8>,
}

/// What stands before the verb.
pub const GLOBAL: Command<()> = Command {
    name: "oci",
    aliases: &[],
    usage: "[OPTIONS] COMMAND [ARG...]",
    about: "An OCI runtime, with runc's command line",
    words: Words::Command(0),
    flags: &[&[
        one("root", "Directory of containers' states"),
        one("log", "File for errors"),
        one("log-format", "text or json"),
        on("version", "Print the version").short('v'),
        on("debug", "Say more"),
        on(
            "systemd-cgroup",
            "Let systemd make cgroups: linux.cgroupsPath is SLICE:PREFIX:NAME",
        ),
        one("rootless", "auto: a user without a cgroup does without"),
        one("criu", "Path of criu").later(),
    ]],
    run: (),
};

const DETACHED: &[Flag] = &[
    on("detach", "Do not wait for it").short('d'),
    on("no-subreaper", "Do not reap the container's orphans"),
];

/// Of `checkpoint` and `restore`.
const CHECKPOINTS: &[Flag] = &[
    one("image-path", "Directory of the image"),
    one("work-path", "Directory for logs"),
    one(
        "parent-path",
        "Directory of the image before, relative to that of this one",
    ),
    on("leave-running", "Let it run on"),
    on("tcp-established", "Keep connections"),
    on("ext-unix-sk", "Allow sockets to others"),
    on("shell-job", "Allow terminals of others"),
    on("lazy-pages", "Copy memory when it is asked for"),
    one("status-fd", "Descriptor for when that begins"),
    one("page-server", "ADDRESS:PORT for memory"),
    on("file-locks", "Keep locks"),
    on("pre-dump", "Memory alone, and let it run on"),
    one("manage-cgroups-mode", "soft, full, strict or ignore"),
    many("empty-ns", "Leave a namespace empty"),
    on("auto-dedup", "Keep a page once"),
];

/// Of `create` and `run`.
const MAKING: &[Flag] = &[
    one("bundle", "The bundle's directory; the current one unless given").short('b'),
    one("console-socket", "Socket that takes the terminal's master"),
    one("pid-file", "File for the process id"),
    one("pidfd-socket", "Socket that takes the process's pidfd"),
    on("no-pivot", "Enter the root without pivot_root, for an initramfs"),
    on("no-new-keyring", "Do not make a session keyring"),
    one("preserve-fds", "So many more descriptors for the command"),
];

const fn verb(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    words: Words,
    flags: &'static [&'static [Flag]],
    run: fn(&Host, &Given) -> Result<u8>,
) -> Verb {
    Verb {
        command: Command {
            name,
            aliases: &[],
            usage,
            about,
            words,
            flags,
            run: (),
        },
        run,
    }
}

pub const VERBS: &[Verb] = &[
    verb(
        "create",
        "ID",
        "Make a container",
        Words::Exactly(1),
        &[MAKING],
        create::create,
    ),
    verb(
        "run",
        "ID",
        "Make a container and run it",
        Words::Exactly(1),
        &[
            MAKING,
            &[
                on("detach", "Do not wait for it").short('d'),
                on("keep", "Do not delete it when it has ended"),
                on("no-subreaper", "Do not reap the container's orphans").later(),
            ],
        ],
        create::run,
    ),
    verb(
        "start",
        "ID",
        "Run the command of a made container",
        Words::Exactly(1),
        &[],
        lifecycle::start,
    ),
    verb(
        "state",
        "ID",
        "Say what is known of a container",
        Words::Exactly(1),
        &[],
        inform::state,
    ),
    verb(
        "kill",
        "ID [SIGNAL]",
        "Send a signal (SIGTERM) to a container",
        Words::AtLeast(1),
        &[&[on("all", "To all of its processes").short('a')]],
        lifecycle::kill,
    ),
    verb(
        "delete",
        "ID",
        "Remove a container that has ended",
        Words::Exactly(1),
        &[&[on("force", "Kill it first").short('f')]],
        lifecycle::delete,
    ),
    verb(
        "pause",
        "ID",
        "Freeze a container's processes",
        Words::Exactly(1),
        &[],
        lifecycle::pause,
    ),
    verb("resume", "ID", "Thaw them", Words::Exactly(1), &[], lifecycle::resume),
    verb(
        "update",
        "ID",
        "Change a container's limits",
        Words::Exactly(1),
        &[&[
            one("resources", "File with linux.resources ('-': standard input)").short('r'),
            one("memory", "Memory in bytes"),
            one("memory-reservation", "Memory that is kept for it, in bytes"),
            one("memory-swap", "Memory and swap in bytes"),
            one("cpu-period", "Microseconds"),
            one("cpu-quota", "Microseconds in a period"),
            one("cpu-share", "Relative weight"),
            one("cpuset-cpus", "Processors"),
            one("cpuset-mems", "Memory nodes"),
            one("pids-limit", "Number of processes"),
            one("blkio-weight", "Relative weight"),
            one("cpu-burst", "Microseconds"),
            one("cpu-idle", "Idle scheduling"),
            one("cpu-rt-period", "Microseconds"),
            one("cpu-rt-runtime", "Microseconds"),
            one("kernel-memory", "Obsolete").later(),
            one("kernel-memory-tcp", "Obsolete").later(),
            one("l3-cache-schema", "Intel RDT").later(),
            one("mem-bw-schema", "Intel RDT").later(),
        ]],
        update::update,
    ),
    verb(
        "exec",
        "ID [COMMAND [ARG...]]",
        "Run one more process in a container",
        Words::Command(1),
        &[&[
            one("console-socket", "Socket that takes the terminal's master"),
            one("cwd", "Working directory"),
            many("env", "Environment variable").short('e'),
            on("tty", "Make a terminal").short('t'),
            one("user", "UID[:GID]").short('u'),
            many("additional-gids", "More groups").short('g'),
            one("process", "File with the process").short('p'),
            on("detach", "Do not wait for it").short('d'),
            one("pid-file", "File for the process id"),
            one("pidfd-socket", "Socket that takes the process's pidfd"),
            one("process-label", "SELinux label"),
            one("apparmor", "AppArmor profile"),
            on("no-new-privs", "Set no-new-privileges"),
            many("cap", "Capability").short('c'),
            one("preserve-fds", "So many more descriptors for the process"),
            many("cgroup", "[CONTROLLER:]CGROUP below the container's"),
            on("ignore-paused", "Also in a paused container"),
        ]],
        exec::exec,
    ),
    verb(
        "checkpoint",
        "ID",
        "Keep a container's processes on disk (CRIU): not supported yet",
        Words::Exactly(1),
        &[CHECKPOINTS],
        lifecycle::checkpoint,
    ),
    verb(
        "restore",
        "ID",
        "Go on with kept processes (CRIU): not supported yet",
        Words::Exactly(1),
        &[MAKING, DETACHED, CHECKPOINTS],
        lifecycle::restore,
    ),
    verb(
        "list",
        "[OPTIONS]",
        "List containers",
        Words::None,
        &[&[
            one("format", "table or json").short('f'),
            on("quiet", "Ids alone").short('q'),
        ]],
        inform::list,
    ),
    verb(
        "ps",
        "ID [PS-ARG...]",
        "List a container's processes",
        Words::Command(1),
        &[&[one("format", "table or json").short('f')]],
        inform::ps,
    ),
    verb(
        "events",
        "ID",
        "Print what a container uses, and when it lacks memory",
        Words::Exactly(1),
        &[&[
            one("interval", "Time between two lines (5s)"),
            on("stats", "One line now"),
        ]],
        events::events,
    ),
    verb(
        "features",
        "",
        "Say what this runtime can",
        Words::None,
        &[],
        inform::features,
    ),
    verb(
        "spec",
        "",
        "Write an example config.json",
        Words::None,
        &[&[
            one("bundle", "The bundle's directory").short('b'),
            on("rootless", "For a user other than root"),
        ]],
        inform::spec,
    ),
];

/// `--help`, in runc's form.
pub fn help() -> String {
    let mut text = format!(
        "NAME:\n   runc - Open Container Initiative runtime, by berth\n\nUSAGE:\n   runc {}\n\nCOMMANDS:\n",
        GLOBAL.usage
    );
    for verb in VERBS {
        text.push_str(&format!("   {:<10} {}\n", verb.command.name, verb.command.about));
    }
    text.push_str("\nGLOBAL OPTIONS:\n");
    options(&mut text, GLOBAL.flags);
    text
}

/// Of a verb.
pub fn help_of(verb: &Verb) -> String {
    let Command {
        name,
        usage,
        about,
        flags,
        ..
    } = verb.command;
    let mut text = format!("NAME:\n   runc {name} - {about}\n\nUSAGE:\n   runc {name} {usage}\n\nOPTIONS:\n");
    options(&mut text, flags);
    text
}

fn options(text: &mut String, flags: &[&[Flag]]) {
    for flag in flags.iter().copied().flatten() {
        let short = flag.short.map(|letter| format!(", -{letter}")).unwrap_or_default();
        text.push_str(&format!("   {:<26} {}\n", format!("--{}{short}", flag.long), flag.help));
    }
}

/// `--version`, as programs that ask runc read it.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let specification = super::state::SPECIFICATION;
    format!("runc version {version}\ncommit: berth-{version}\nspec: {specification}\n")
}
