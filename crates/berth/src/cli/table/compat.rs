//! The command about kernels.

use crate::cli::flag::{many, on, one};
use crate::cli::{Command, Words};
use crate::commands::*;

/// In the order of help.
pub const COMMANDS: &[Command] = &[command!(
    "compat",
    &[],
    "[OPTIONS] IMAGE|CONTAINER|DIRECTORY|ARCHIVE|PROGRAM...",
    "Tell whether images run on this kernel or another, and why not (exit code 0 runs, 1 with remedies, 2 does not)",
    Words::AtLeast(0),
    &[&[
        on("all", "All images of the store").short('a'),
        one("arch", "Suppose a host of this architecture (amd64, arm64)"),
        one("cgroup", "Suppose a host with these control groups (v1, v2, hybrid)"),
        one("cpu", "Suppose a processor of this level (x86-64-v1 to x86-64-v4)"),
        one(
            "engine-seccomp",
            "Suppose another engine's seccomp profile (docker-17.09 to docker-23.0, none)",
        ),
        one("format", "Print a table, json, or an html page"),
        one(
            "ia32",
            "Suppose that the kernel executes 32 bit x86 programs, or not (on, off)"
        ),
        many("kernel", "Suppose this Linux, such as 5.10; several make columns"),
        one("page-size", "Suppose pages of this size (4k, 16k, 64k)"),
        many("program", "Judge this program in place of the image's command"),
        on("syscalls", "Analyse and print the system calls of all programs"),
        one("vsyscall", "Suppose a vsyscall page (none, xonly, emulate)"),
    ]],
    compat::compat
)];
