//! Labels of the kernel's security modules: what a process is to be as soon as it executes its command (proc_pid_attr(5)).

use std::fs::File;
use std::io::Write;
use std::path::Path;

use errdefs::{Error, Result, Step};
use oci_spec::runtime::Process;

/// Whether this kernel has AppArmor, and it is on.
pub fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether this kernel has SELinux, and it was not turned off at boot: then there is its file system.
pub fn has_selinux() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "selinuxfs")
}

/// A mount's option for its label; the kernel's own trees have labels of their own.
pub fn mount_option(kind: &str, label: Option<&str>) -> Option<String> {
    let label = label.filter(|label| !label.is_empty())?;
    let own = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"].contains(&kind);
    (!own).then(|| format!("context=\"{label}\""))
}

/// What a process asks for.
#[derive(Clone, Default)]
pub struct Labels {
    /// File below `/proc/self/attr`, what is written there, and what of the document wants it.
    wanted: Vec<(&'static str, String, &'static str)>,
}

/// Files that are open for it.
pub struct Opened<'a>(Vec<(File, &'a str, &'static str)>);

impl Labels {
    /// Refused if this kernel cannot: nobody shall believe that it is confined and be wrong.
    pub fn of(process: &Process) -> Result<Self> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut wanted = Vec::new();
        if let Some(profile) = said(process.apparmor_profile()) {
            let place = "process.apparmorProfile";
            if !has_apparmor() {
                return Err(missing(place, "AppArmor"));
            }
            // Linux 5.8; before, all modules share one.
            let own = Path::new("/proc/self/attr/apparmor/exec").exists();
            let file = if own { "apparmor/exec" } else { "exec" };
            wanted.push((file, format!("exec {profile}"), place));
        }
        if let Some(label) = said(process.selinux_label()) {
            let place = "process.selinuxLabel";
            if !has_selinux() {
                return Err(missing(place, "SELinux"));
            }
            wanted.push(("exec", label, place));
        }
        Ok(Labels { wanted })
    }

    /// In the process itself, while the host's `/proc` is in sight: the container's may be anything (CVE-2019-16884,
    /// CVE-2025-52881).
    pub fn open(&self) -> Result<Opened<'_>> {
        let open = |(file, _, place): &(&'static str, String, &'static str)| {
            let path = format!("/proc/self/attr/{file}");
            let file = File::options().write(true).open(&path);
            file.step_with(|| format!("{place}: open {path}"))
        };
        let files: Result<Vec<File>> = self.wanted.iter().map(open).collect();
        let opened = files?.into_iter().zip(&self.wanted);
        Ok(Opened(
            opened
                .map(|(file, (_, text, place))| (file, text.as_str(), *place))
                .collect(),
        ))
    }
}

impl Opened<'_> {
    /// For the next execve of this process. The last thing before it, so that nothing else that is executed gets it.
    pub fn apply(&self) -> Result<()> {
        self.0.iter().try_for_each(|(file, text, place)| {
            let mut file = file;
            file.write_all(text.as_bytes())
                .step_with(|| format!("{place}: {text:?}"))
                .map_err(|e| e.hint("is this profile or label loaded on the host?"))
        })
    }
}

fn missing(place: &str, module: &str) -> Error {
    Error::invalid(format!("{place}: {module} is not enabled on this host")).hint(format!(
        "leave it out of the document, or boot the kernel with {module}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_trees_keep_their_labels() {
        let label = Some("system_u:object_r:container_file_t:s0:c1,c2");
        assert_eq!(
            mount_option("tmpfs", label).unwrap(),
            "context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        assert!(mount_option("proc", label).is_none());
        assert!(mount_option("tmpfs", None).is_none() && mount_option("tmpfs", Some("")).is_none());
    }

    #[test]
    fn what_this_kernel_has_not_is_refused_by_its_place() {
        let mut process = Process::default();
        process.set_apparmor_profile(Some("x".into()));
        if !has_apparmor() {
            let error = Labels::of(&process).err().unwrap().to_string();
            assert!(error.contains("process.apparmorProfile"), "{error}");
        }
        process.set_apparmor_profile(None).set_selinux_label(Some("x".into()));
        if !has_selinux() {
            let error = Labels::of(&process).err().unwrap().to_string();
            assert!(error.contains("process.selinuxLabel"), "{error}");
        }
        process.set_selinux_label(Some(String::new()));
        assert!(Labels::of(&process).unwrap().open().unwrap().0.is_empty());
    }
}
