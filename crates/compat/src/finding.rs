//! What is found: a cause, who asks for it, what will be seen, how sure that is, and what is done about it.
//!
//! These types are the documents of `berth compat --format json`, whose shape is described in docs/compat-json.md: a field
//! is added freely, and never taken away or changed without another [`SCHEMA`].

use serde::{Deserialize, Serialize};

/// The version of the JSON documents.
pub const SCHEMA: u32 = 1;

/// A row of the catalogue of what is known to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The vsyscall page is not mapped, and the program calls it.
    Vsyscall,
    /// A static program's C library refuses this kernel ("FATAL: kernel too old").
    KernelTooOld,
    /// The dynamic loader refuses a library whose ABI note names a newer kernel.
    LibraryAbi,
    /// The program reads the release number and expects another.
    KernelRelease,
    /// A seccomp profile answers EPERM where the program's C library needs ENOSYS.
    SeccompEperm,
    /// The same, for the calls with 64 bit time of 32 bit programs.
    Time64,
    /// The program needs a newer processor.
    CpuLevel,
    /// A program of another architecture, or of a sort that this kernel does not take (i386, x32).
    Architecture,
    /// a.out, or an ARM ABI of before 2008.
    OldFormat,
    /// It assumes smaller pages.
    PageSize,
    /// A systemd that knows no cgroup v2, or none that is alone.
    SystemdTooOld,
    /// A systemd that needs cgroup v2, or a newer kernel.
    SystemdTooNew,
    /// Reads limits where cgroup v1 has them.
    CgroupReader,
    /// iptables or nft whose modules are not loaded.
    FirewallModules,
    /// Modules of another kernel in the image.
    KernelModules,
    /// Uses system calls or files that Linux has no more.
    Removed,
    /// Uses something that this host has switched off (io_uring, userfaultfd).
    SwitchedOff,
    /// Closes or allocates for each file that could be open.
    OpenFiles,
    /// The program's interpreter is not in the image.
    InterpreterMissing,
    /// A library that the program needs is not in the image.
    LibraryMissing,
    /// The code is packed: what it calls cannot be seen.
    Packed,
    /// The program may use a system call that is newer than the kernel.
    NewCall,
    /// The file could not be analysed.
    NotAnalysed,
}

impl Cause {
    /// As in JSON.
    pub fn name(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|v| v.as_str().map(String::from))
            .unwrap_or_default()
    }
}

/// How sure it is that a run meets this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sure {
    /// Never reached in practice: a fallback is there, or nothing leads to it.
    Unlikely,
    /// On some path of the program.
    OnSomePath,
    /// Each start of the program meets it.
    OnStart,
}

impl Sure {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Sure::Unlikely => "never reached in practice",
            Sure::OnSomePath => "on some path",
            Sure::OnStart => "certain on start",
        }
    }
}

/// What the user sees if nothing is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Symptom {
    /// What is printed, or happens.
    pub message: String,
    /// How the program ends, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// What Berth does about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Remedy {
    /// Nothing.
    None,
    /// Nothing needs to be done: Berth is not subject to it (its seccomp profile, its limits).
    NotAffected,
    /// Copies of the files, call sites replaced, in a layer above the image's.
    PatchedCopies,
    /// Copies without the note that refuses the kernel.
    AbiNoteRemoved,
    /// ptrace, on request.
    Supervise,
    /// `uname` answers with this release.
    KernelRelease {
        /// Such as `4.18`.
        release: String,
    },
    /// The program runs in qemu-user.
    QemuUser {
        /// `qemu-aarch64` and the like.
        program: String,
        /// Whether that is installed.
        installed: bool,
        /// The Debian package that has it.
        package: String,
        /// Whether Berth does it by itself: it is installed, and user namespaces have a binfmt_misc of their own.
        #[serde(default, rename = "by-itself")]
        by_itself: bool,
    },
    /// A version 1 cgroup hierarchy of its own, `name=systemd`.
    NamedHierarchy,
    /// A lower limit of open files.
    OpenFiles {
        /// The limit.
        limit: u64,
    },
}

impl Remedy {
    /// Whether it happens without being asked for, and turns failure into success.
    pub fn automatic(&self) -> bool {
        match self {
            Remedy::None | Remedy::Supervise => false,
            Remedy::QemuUser { by_itself, .. } => *by_itself,
            _ => true,
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Remedy::None => "nothing".into(),
            Remedy::NotAffected => "not affected under Berth".into(),
            Remedy::PatchedCopies => "patched copies of the files in a layer above the image".into(),
            Remedy::AbiNoteRemoved => "a copy of the library without the note, in a layer above the image".into(),
            Remedy::Supervise => "supervision, on request: --compat=supervise".into(),
            Remedy::KernelRelease { release } => format!("uname answers with release {release}"),
            Remedy::QemuUser {
                program,
                by_itself: true,
                ..
            } => format!("its programs run in {program}, by a binfmt_misc of the container's own"),
            Remedy::QemuUser {
                program,
                installed: true,
                ..
            } => format!(
                "nothing by itself: {program} is installed, but this kernel has one binfmt_misc for all (before Linux 6.7), and \
                 that does not know it"
            ),
            Remedy::QemuUser { program, package, .. } => {
                format!(
                    "nothing yet: its programs run in {program} once that is on the host: apt-get install {package}"
                )
            }
            Remedy::NamedHierarchy => "the container has a cgroup hierarchy name=systemd of its own".into(),
            Remedy::OpenFiles { limit } => format!("the open-files limit is {limit}"),
        }
    }
}

/// One thing that goes wrong, or could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The row of the catalogue.
    pub cause: Cause,
    /// How sure.
    pub sure: Sure,
    /// The file that asks for it; empty for the whole image.
    pub file: String,
    /// The package that it is of, if a package manager's list says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What in the file asks for it: a call site, a note.
    pub asks: String,
    /// What this kernel lacks.
    pub lacks: String,
    /// What is seen.
    pub symptom: Symptom,
    /// What Berth does.
    pub remedy: Remedy,
    /// What can be done besides; may be empty.
    pub advice: String,
    /// The same in that many other files of the image, which are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Finding {
    /// The architecture whose programs qemu-user would execute, in Docker's words.
    pub fn emulated(&self) -> Option<String> {
        match &self.remedy {
            Remedy::QemuUser { program, .. } => crate::host::architecture_of_qemu(program).map(String::from),
            _ => None,
        }
    }

    /// What it does to the outcome.
    pub fn status(&self) -> Status {
        match (self.sure, &self.remedy) {
            (Sure::Unlikely, _) | (_, Remedy::NotAffected) => Status::Runs,
            (_, remedy) if remedy.automatic() => Status::RunsWithRemedies,
            (Sure::OnStart, _) => Status::WillNotRun,
            (Sure::OnSomePath, _) => Status::RunsWithRemedies,
        }
    }
}

/// The outcome; the exit code of `berth compat` is its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nothing stands in the way.
    #[default]
    Runs,
    /// It runs with something done about it, or fails on some path.
    RunsWithRemedies,
    /// It fails on each start, and nothing that Berth does by itself helps.
    WillNotRun,
}

impl Status {
    /// 0, 1 or 2.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Status::Runs => "runs",
            Status::RunsWithRemedies => "runs with remedies",
            Status::WillNotRun => "will not run",
        }
    }
}

/// One program of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path in the image.
    pub path: String,
    /// What becomes of it.
    pub status: Status,
    /// Whether the image starts with it.
    #[serde(default)]
    pub entry: bool,
    /// Which of the verdict's findings concern it.
    pub findings: Vec<usize>,
}

/// An image (container, directory, archive) against one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// What the user calls it.
    pub name: String,
    /// Its id, for an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The outcome for what it starts with.
    pub status: Status,
    /// What it starts with.
    pub entry: Vec<String>,
    /// The most certain first.
    pub findings: Vec<Finding>,
    /// Programs that findings concern, and the entry; others run.
    pub programs: Vec<Program>,
    /// Programs looked at, in all.
    pub looked_at: usize,
}
