//! The program itself, out of containers' reach: a process on its way into one is seen there as `/proc/PID/exe`, and who takes
//! hold of that can write to the host's file once nobody executes it (CVE-2019-5736).

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use errdefs::{ErrnoStep, Result, Step};
use runtime::oci::{self, LinuxIdMapping, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags, SealFlags, StatVfsMountFlags};

const OWN: &str = "/proc/self/exe";

/// Goes on in a copy of this process that executes the program where nobody can write to it, if the container's processes could.
/// Nothing that we were born with is for a hook or a container from then on, unless it is asked for.
pub fn protect(spec: &oci::Spec) -> Result<()> {
    let step = "keep our own program out of the container's reach";
    let file = std::fs::metadata(OWN).step(step)?;
    if !can_own(spec, file.uid(), file.gid()) || is_protected().step(step)? {
        return sys::process::close_on_exec_from(3).errno_step("close descriptors");
    }
    let view = sys::mount::unwritable(Path::new(OWN)).errno_step(step)?;
    Err(execute(&view)).errno_step(step)
}

/// Whether a verb protects the program, once it knows the container: what it was born with is still needed until then.
pub fn protects(verb: &str) -> bool {
    ["create", "run", "exec"].contains(&verb)
}

/// Whether root of the container could be the file's owner, or of its group.
fn can_own(spec: &oci::Spec, uid: u32, gid: u32) -> bool {
    let Some(linux) = spec.linux() else { return true };
    let mut namespaces = linux.namespaces().iter().flatten();
    let joins = |n: &oci::LinuxNamespace| n.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    match namespaces.find(|n| n.typ() == LinuxNamespaceType::User) {
        // Whom others have mapped is not known here.
        Some(users) if !joins(users) => maps(linux.uid_mappings(), uid) || maps(linux.gid_mappings(), gid),
        _ => true,
    }
}

fn maps(list: &Option<Vec<LinuxIdMapping>>, id: u32) -> bool {
    let within = |m: &LinuxIdMapping| id.checked_sub(m.host_id()).is_some_and(|offset| offset < m.size());
    list.iter().flatten().any(within)
}

/// Whether what we execute is on a read-only mount, or sealed.
fn is_protected() -> std::io::Result<bool> {
    let read_only = rustix::fs::statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = |file: OwnedFd| rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let opened = || rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    Ok(read_only || opened().is_ok_and(sealed))
}

/// The same words, the same environment; why not, if it could not be.
fn execute(program: &OwnedFd) -> rustix::io::Errno {
    let c = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let path = c(format!("/proc/self/fd/{}", program.as_raw_fd()).into_bytes());
    let words: Vec<CString> = std::env::args_os().map(|word| c(word.into_vec())).collect();
    let pair = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
        name.push("=");
        name.push(value);
        c(name.into_vec())
    };
    let environment: Vec<CString> = std::env::vars_os().map(pair).collect();
    sys::process::execve(&path, &words, &environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_maps_its_owner_could_write_to_it() {
        let spec = |text: &str| serde_json::from_str::<oci::Spec>(text).unwrap();
        let users = |size: u32, path: &str| {
            spec(&format!(
                r#"{{"ociVersion": "1.2.0", "linux": {{"namespaces": [{{"type": "user"{path}}}],
                "uidMappings": [{{"containerID": 0, "hostID": 1000, "size": {size}}}]}}}}"#
            ))
        };
        assert!(can_own(&spec(r#"{"ociVersion": "1.2.0"}"#), 1000, 0));
        assert!(can_own(&spec(r#"{"ociVersion": "1.2.0", "linux": {}}"#), 1000, 0));
        assert!(can_own(&users(1, ""), 1000, 0) && !can_own(&users(1, ""), 1001, 0));
        assert!(!can_own(&users(1, ""), 0, 0));
        assert!(can_own(&users(1, r#", "path": "/proc/1/ns/user""#), 0, 0));
    }
}
