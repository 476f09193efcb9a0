//! Programs for other machines and for newer processors run in qemu-user, in the container's own binfmt_misc: the host's
//! registrations are not touched.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use compat::elf;
use compat::host::{qemu_name, qemu_path};
use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::Interpreter;
use rustix::fs::{MemfdFlags, SealFlags};

/// The largest qemu-user that is copied.
const LARGEST: u64 = 64 << 20;

/// Docker's name of this machine.
const NATIVE: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// Whether programs of that architecture can be executed here by qemu-user.
pub fn possible(architecture: &str) -> bool {
    program(architecture).is_some() && sys::probe::own_binfmt_misc()
}

/// `qemu-aarch64`.
pub fn name(architecture: &str) -> String {
    format!("qemu-{}", qemu_name(architecture).unwrap_or(architecture))
}

fn program(architecture: &str) -> Option<String> {
    qemu_path(qemu_name(architecture)?)
}

/// What executes the programs of these architectures.
pub fn interpreters(architectures: &[String]) -> Result<Vec<Interpreter>> {
    architectures.iter().map(|a| interpreter(a)).collect()
}

fn interpreter(architecture: &str) -> Result<Interpreter> {
    let unknown = || Error::invalid(format!("qemu-user knows no programs for {architecture:?}"));
    let (magic, mask) = elf::magic(architecture).ok_or_else(unknown)?;
    let path = program(architecture).ok_or_else(|| {
        Error::not_found(format!("{} is not installed", name(architecture)))
            .hint("apt-get install qemu-user-static; --compat=off does without")
    })?;
    let file = File::open(&path).step_with(|| format!("open {path}"))?;
    Ok(Interpreter {
        name: architecture.to_owned(),
        magic: magic.to_vec(),
        mask: mask.to_vec(),
        program: match architecture {
            NATIVE => set_apart(file).step_with(|| format!("copy {path}"))?,
            _ => file.into(),
        },
    })
}

/// A copy that is not taken for one of the programs that it executes itself.
fn set_apart(file: File) -> Result<OwnedFd> {
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).step("read it")?;
    elf::set_apart(&mut bytes);
    let step = "write it to memory";
    let copy =
        rustix::fs::memfd_create("qemu-user", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).errno_step(step)?;
    let mut copy = File::from(copy);
    copy.write_all(&bytes).step(step)?;
    // Nobody in the container is to change what executes the others.
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).errno_step(step)?;
    // What is open for writing cannot be executed.
    let reading = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd())).step(step)?;
    Ok(reading.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_not_known_or_not_there_is_named() {
        let error = super::interpreter("vax").unwrap_err();
        assert!(error.to_string().contains("\"vax\""), "{error}");
        assert!(!super::possible("vax"));
        assert_eq!(super::name("arm64"), "qemu-aarch64");
    }
}
