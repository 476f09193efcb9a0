//! Files to facts: what is in a layer or a directory that a kernel may have something against.
//!
//! A [`Scan`] knows nothing of a host, so that it is kept beside the layer and never gets stale: another kernel is
//! another judgement of the same facts.

mod cache;
mod file;
mod marks;
mod walk;

use serde::{Deserialize, Serialize};

pub use cache::{load, store};
pub use file::AOUT;
pub use walk::directory;

use crate::vsyscall::Site;

/// The version of what is kept: another one is made anew.
pub const VERSION: u32 = 3;

/// What was found in one tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// [`VERSION`] of whoever made it.
    pub version: u32,
    /// Files that were looked at.
    pub seen: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Those that matter, by path.
    pub files: Vec<File>,
    /// Why some of the tree was not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
}

/// A file that matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// From the root on, with a slash before it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether anybody may execute it.
    pub executable: bool,
    /// What it is.
    pub what: What,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A program or a library.
    Elf(Box<Facts>),
    /// `#!`.
    Script {
        /// The program that is to read it.
        interpreter: String,
        /// The one argument that it may have.
        argument: Option<String>,
    },
    /// A program of a format that Linux had once, or that another system has.
    Old(String),
    /// A list of kernel modules, for that release.
    Modules(String),
    /// A Java runtime of that version.
    Java(String),
    /// It could not be analysed.
    NotAnalysed(String),
}

/// What is known of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Docker's name of its architecture, or `x32` and the like.
    pub architecture: String,
    /// Whether the kernel starts it: no library.
    pub program: bool,
    /// Linked statically: the kernel starts it alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// `PT_INTERP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// `DT_NEEDED`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soname: Option<String>,
    /// `DT_RUNPATH` or `DT_RPATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_path: Option<String>,
    /// The oldest Linux that it takes (`NT_GNU_ABI_TAG`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<[u32; 3]>,
    /// x86-64 levels that it needs, a bit each.
    #[serde(skip_serializing_if = "is_zero")]
    pub isa_needed: u32,
    /// Smallest alignment of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_align: Option<u64>,
    /// Places that use the vsyscall page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vsyscalls: Vec<Site>,
    /// What packed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packer: Option<String>,
    /// Its byte order or ABI is one that Linux has left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_abi: Option<String>,
    /// Imported functions that decide something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<String>,
    /// What its text says of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What is read in a file's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It is glibc, of that version.
    Glibc(String),
    /// It is musl.
    Musl(String),
    /// Go made it.
    Go(String),
    /// It is systemd.
    Systemd(String),
    /// It looks at the kernel's release and refuses an old one ("kernel too old").
    ChecksKernel,
    /// It looks at the processor and refuses one below that x86-64 level.
    ChecksCpu(u8),
    /// It has jemalloc in it.
    Jemalloc,
    /// It names a file of /proc, /sys or /dev that Linux has no more.
    RemovedFile(String),
    /// It has a release number of Linux to compare with.
    Release(String),
}

impl File {
    /// The facts of an ELF file.
    pub fn elf(&self) -> Option<&Facts> {
        match &self.what {
            What::Elf(facts) => Some(facts),
            _ => None,
        }
    }

    /// Whether a user can start it.
    pub fn is_program(&self) -> bool {
        self.executable && self.elf().is_some_and(|f| f.program)
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl Facts {
    /// Places where the vsyscall page is called, not only named.
    pub fn vsyscall_calls(&self) -> impl Iterator<Item = &Site> {
        self.vsyscalls.iter().filter(|s| s.is_call())
    }

    /// glibc's version, if it is glibc.
    pub fn glibc(&self) -> Option<&str> {
        self.marks.iter().find_map(|m| match m {
            Mark::Glibc(version) => Some(version.as_str()),
            _ => None,
        })
    }

    /// musl's version, if it is musl.
    pub fn musl(&self) -> Option<&str> {
        self.marks.iter().find_map(|m| match m {
            Mark::Musl(version) => Some(version.as_str()),
            _ => None,
        })
    }
}

/// What took a file that Linux has no more.
pub fn removed_in(file: &str) -> &'static str {
    marks::REMOVED_FILES
        .iter()
        .find(|(f, _)| *f == file)
        .map_or("an old kernel", |(_, gone)| gone)
}

/// The facts of one file that is in memory.
pub fn bytes(path: &str, executable: bool, data: &[u8]) -> Option<File> {
    let what = file::what(path, executable, data)?;
    Some(File {
        path: path.to_owned(),
        size: data.len() as u64,
        executable,
        what,
    })
}
