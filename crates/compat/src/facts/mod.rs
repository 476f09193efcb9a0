//! Facts in tables.

pub mod seccomp;
