//! Facts in tables: system calls, and other engines' seccomp profiles.

pub mod seccomp;
pub mod syscalls;
