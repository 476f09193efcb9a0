//! What is done so that a container runs on a kernel that its image was not made for: what was asked for, what this kernel
//! needs, and changed copies of the image's files in a layer of the engine's own.
//!
//! Nothing of it touches the image: its layers, blobs and digests stay what they are, and `--compat=off` shows them.

use std::io::Read;

use bollard_stubs::models::HostConfig;
use compat::Version;
use compat::mend::{Change, Plan};
use errdefs::{Error, Result, Step};
use snapshot::{Digest, Edit, Original, Store};

/// Where in Docker's body it is asked for.
pub mod annotation {
    /// How much is done: `auto`, `off`, `patch`, `supervise`, `trace`.
    pub const COMPAT: &str = "berth.compat";
    /// The release that `uname` tells.
    pub const RELEASE: &str = "berth.kernel-release";
    /// The kernel that it is to run as if on.
    pub const AS_KERNEL: &str = "berth.as-kernel";
    /// `true`: shared libraries of the image that ask for a newer kernel than this are copied without their note.
    pub const LOWER_NOTES: &str = "berth.lower-notes";
    /// Architectures whose programs run in qemu-user, with commas.
    pub const EMULATE: &str = "berth.emulate";
    /// `true`: a cgroup hierarchy of its own, for a systemd before 226.
    pub const OLD_SYSTEMD: &str = "berth.old-systemd";
}

/// Bigger files are left alone.
const FILE_LIMIT: u64 = 256 << 20;
/// No note names more files.
const NAMED: usize = 3;

/// How much is done without being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What this kernel makes necessary, and is safe.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// As on a kernel without a vsyscall page: system calls are faster than its emulation.
    Patch,
    /// What `Auto` does; and calls of the vsyscall page that are left are answered by a supervisor (ptrace).
    Supervise,
    /// What `Supervise` does; and system calls that are refused are written down, to tell why it ended.
    Trace,
}

/// What a container asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How much.
    pub mode: Mode,
    /// The release that `uname` tells.
    pub release: Option<String>,
    /// System calls that are newer are not there.
    pub as_kernel: Option<Version>,
    /// Shared libraries ask for no kernel.
    pub lower_notes: bool,
    /// Architectures whose programs run in qemu-user.
    pub emulate: Vec<String>,
    /// It has a cgroup hierarchy of its own.
    pub old_systemd: bool,
}

/// Reads what was asked for.
pub fn asked(host: &HostConfig) -> Result<Asked> {
    let given = |name: &str| host.annotations.as_ref().and_then(|a| a.get(name)).map(String::as_str);
    let mode = match given(annotation::COMPAT) {
        None | Some("auto" | "") => Mode::Auto,
        Some("off") => Mode::Off,
        Some("patch") => Mode::Patch,
        Some("supervise") if cfg!(target_arch = "x86_64") => Mode::Supervise,
        Some("trace") if cfg!(target_arch = "x86_64") => Mode::Trace,
        Some(other) => {
            return Err(Error::invalid(format!(
                "invalid compat mode {other:?}: must be one of \"auto\", \"off\", \"patch\", \"supervise\" or \"trace\""
            )));
        }
    };
    let release = given(annotation::RELEASE).filter(|r| !r.is_empty()).map(check_release);
    let as_kernel = given(annotation::AS_KERNEL).filter(|r| !r.is_empty()).map(check_kernel);
    let as_kernel = as_kernel.transpose()?;
    let told = as_kernel.map(|Version(a, b, c)| format!("{a}.{b}.{c}"));
    Ok(Asked {
        mode,
        release: release.transpose()?.or(told),
        as_kernel,
        lower_notes: given(annotation::LOWER_NOTES) == Some("true"),
        emulate: given(annotation::EMULATE)
            .filter(|_| mode != Mode::Off)
            .map(|list| list.split(',').map(String::from).collect())
            .unwrap_or_default(),
        old_systemd: given(annotation::OLD_SYSTEMD) == Some("true") && mode != Mode::Off,
    })
}

/// An older kernel than this one: what it had not can be taken away, what this one has not cannot be given.
fn check_kernel(text: &str) -> Result<Version> {
    let version = Version::parse(text)
        .ok_or_else(|| Error::invalid(format!("invalid kernel version {text:?}")).hint("such as 5.10"))?;
    match release() {
        Some(own) if version > own => Err(Error::invalid(format!(
            "this kernel is Linux {own}: nothing can run on it as if on {version}"
        ))),
        _ => Ok(version),
    }
}

/// What fits into the kernel's field, and begins with a number as all releases do.
fn check_release(release: &str) -> Result<String> {
    let fits = release.len() < 65 && release.bytes().all(|b| b.is_ascii_graphic());
    match Version::parse(release).filter(|_| fits) {
        Some(_) => Ok(release.to_owned()),
        None => {
            Err(Error::invalid(format!("invalid kernel release {release:?}"))
                .hint("such as 4.18 or 2.6.32-431.el6.x86_64"))
        }
    }
}

impl Asked {
    /// Whether its processes are watched: where there is something to answer.
    pub fn supervised(&self) -> bool {
        self.traced() || (self.mode == Mode::Supervise && !vsyscall_page())
    }

    /// Whether all their system calls are looked at.
    pub fn traced(&self) -> bool {
        self.mode == Mode::Trace
    }

    /// What is to be changed in files, on this kernel.
    pub fn plan(&self) -> Plan {
        let native = cfg!(target_arch = "x86_64");
        let vsyscall = match self.mode {
            Mode::Off => false,
            Mode::Patch => native,
            Mode::Auto | Mode::Supervise | Mode::Trace => native && !vsyscall_page(),
        };
        let lower = self.lower_notes && self.mode != Mode::Off;
        let notes = (vsyscall || lower).then(release).flatten();
        Plan { vsyscall, notes }
    }
}

/// Whether old programs' calls at fixed addresses arrive; where it cannot be seen they do.
fn vsyscall_page() -> bool {
    std::fs::read_to_string("/proc/self/maps").map_or(true, |maps| maps.contains("[vsyscall]"))
}

fn release() -> Option<Version> {
    Version::parse(&rustix::system::uname().release().to_string_lossy())
}

/// What is done for a container, a line each.
pub fn remedies(store: &Store, layers: &[Digest], asked: &Asked) -> Result<Vec<String>> {
    let plan = asked.plan();
    let mut lines = Vec::new();
    for layer in layers.iter().filter(|_| !plan.is_empty()) {
        lines.extend(store.amended(layer, &plan.name())?.unwrap_or_default().notes);
    }
    lines.extend(
        asked
            .release
            .iter()
            .map(|release| format!("uname tells release {release}")),
    );
    if asked.old_systemd {
        lines.push("it has the cgroup hierarchy name=systemd".into());
    }
    let emulated = asked.emulate.iter();
    lines.extend(emulated.map(|a| format!("programs for {a} run in {}", crate::emulate::name(a))));
    if asked.supervised() && !vsyscall_page() {
        lines.push("calls of the vsyscall page are answered by a supervisor".into());
    }
    Ok(lines)
}

/// Makes sure that the changed copies are there, and lays them over from now on. What the user should know.
pub fn mend(store: &mut Store, layers: &[Digest], plan: &Plan) -> Result<Vec<String>> {
    if plan.is_empty() {
        return Ok(Vec::new());
    }
    let name = plan.name();
    let mut notes = Vec::new();
    for layer in layers {
        let found = match store.amended(layer, &name)? {
            Some(found) => found,
            None => store.amend(layer, &name, &mut |original| change(original, plan))?,
        };
        notes.extend(found.notes);
    }
    store.lay_over(&name);
    Ok(tell(&notes))
}

/// One file.
fn change(mut original: Original<'_>, plan: &Plan) -> Result<Edit> {
    let mut head = [0; 4];
    let begins = original.size > 64 && original.file.read_exact(&mut head).is_ok() && plan.concerns(&head);
    let shown = original.path.display();
    if !begins {
        return Ok(Edit::default());
    }
    if original.size > FILE_LIMIT {
        let note = Some(format!("left /{shown}: it is bigger than {} MiB", FILE_LIMIT >> 20));
        return Ok(Edit { content: None, note });
    }
    let mut content = head.to_vec();
    content.reserve_exact(original.size as usize);
    original
        .file
        .take(FILE_LIMIT)
        .read_to_end(&mut content)
        .step("read it")?;
    let changes = plan.apply(&mut content);
    if changes.is_empty() {
        return Ok(Edit::default());
    }
    let done = changes.iter().any(Change::changes);
    let words: Vec<String> = changes.iter().map(Change::to_string).collect();
    let word = if done { "mended" } else { "left" };
    Ok(Edit {
        content: done.then_some(content),
        note: Some(format!("{word} /{shown}: {}", words.join("; "))),
    })
}

/// A line for what is mended, one for what is not.
fn tell(notes: &[String]) -> Vec<String> {
    let line = |word: &str, before: &str, after: &str| {
        let files: Vec<&str> = notes
            .iter()
            .filter_map(|n| n.strip_prefix(word)?.split_once(": ").map(|(path, _)| path))
            .collect();
        let more = files.len().saturating_sub(NAMED);
        let shown = files[..files.len() - more].join(", ");
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        (!files.is_empty()).then(|| format!("{before}{shown}{more}{after}"))
    };
    let mended = line(
        "mended ",
        "mended for this kernel (changed copies are used; --compat=off shows the image's own): ",
        "",
    );
    let left = line(
        "left ",
        "calls into the vsyscall page stay, and will end in a segmentation fault: ",
        "",
    );
    mended.into_iter().chain(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_words() {
        let with = |mode: &str| HostConfig {
            annotations: Some([(annotation::COMPAT.to_owned(), mode.to_owned())].into()),
            ..Default::default()
        };
        assert_eq!(asked(&HostConfig::default()).unwrap().mode, Mode::Auto);
        assert_eq!(asked(&with("off")).unwrap().mode, Mode::Off);
        assert!(asked(&with("perhaps")).is_err());
        for bad in ["x", "4.18 ", &"4".repeat(70)] {
            assert!(check_release(bad).is_err(), "{bad}");
        }
        assert!(check_release("2.6.32-431.el6.x86_64").is_ok());
        assert!(asked(&with("off")).unwrap().plan().is_empty());
    }

    #[test]
    fn many_files_are_counted() {
        let notes: Vec<String> = (0..5).map(|n| format!("mended /f{n}: x")).collect();
        let told = tell(&notes);
        assert!(told[0].ends_with(": /f0, /f1, /f2 and 2 more"), "{told:?}");
        assert_eq!(told.len(), 1);
    }
}
