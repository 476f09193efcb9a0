//! Will it run on this kernel? What programs ask of a kernel, what a kernel gives, and the verdict.
//!
//! ```text
//! scan      files of a layer or directory -> facts (no host in it: kept beside the layer)
//! host      what this kernel gives, or another that the user names
//! judge     facts of all layers + host -> verdict: findings, each with what is done about it
//! mend      a file's bytes -> the same without what this kernel lacks
//! syscalls  which system calls a program can make, from its code and that of its libraries
//! facts     tables: when system calls came and went
//! report    a verdict as a screen of text, or many as one page
//! ```
//!
//! The attacker is the image: files lie, links lead anywhere, sizes are huge. Everything that is read has a limit, paths
//! are resolved by the kernel below the image's root, and what cannot be analysed is a finding of its own.
#![forbid(unsafe_code)]

mod catalogue;
pub mod elf;
pub mod facts;
pub mod finding;
pub mod host;
pub mod judge;
pub mod mend;
pub mod report;
pub mod scan;
#[cfg(test)]
mod spoilt;
pub mod syscalls;
pub mod version;
pub mod vsyscall;
pub mod why;

pub use catalogue::qemu_advice;
pub use finding::{Cause, Finding, Program, Remedy, SCHEMA, Status, Sure, Symptom, Verdict};
pub use host::Host;
pub use judge::{Case, Depth, Subject, started};
pub use scan::Scan;
pub use version::Version;
