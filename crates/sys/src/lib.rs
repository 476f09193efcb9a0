//! Kernel calls that rustix lacks: the one crate with `unsafe`.
//!
//! Each module wraps what belongs together; every block says why it is sound. What rustix has, callers take from there.
#![allow(unsafe_code)]

pub mod bpf;
pub mod idmap;
pub mod kernel_log;
pub mod mount;
pub mod net;
pub mod path;
pub mod probe;
pub mod process;
pub mod ptrace;
pub mod quota;
pub mod schedule;
pub mod seccomp;
pub mod signal;

/// The result of a kernel call.
pub type Result<T> = rustix::io::Result<T>;

/// The `syscalls` crate's errno as rustix's.
pub(crate) fn errno(error: syscalls::Errno) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(error.into_raw())
}
