//! Compiled filters on disk, for programs that live as long as one container's start: `berth oci` is a new one each time.
//!
//! A file is named by the digest of what it was compiled from (the rules, this processor's architecture, this very program) and
//! begins with the digest of what it holds. It counts only if it and its directory are ours alone to write: who could change it
//! could change the program as well. Whatever is wrong with it means that it is not there.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use errdefs::Result;
use linux_raw_sys::general::{O_DIRECTORY, O_NOFOLLOW};
use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest, Sha256};
use sys::seccomp::Instruction;

use super::{Compiled, bpf, compile};

const DIGEST: usize = 32;
const INSTRUCTION: usize = 8;
/// Digest, key and flags stand before the instructions.
const HEAD: usize = 2 * DIGEST + 4;
/// So many files are kept.
const KEPT: usize = 128;

/// The program for a filter, from `dir` if it is there, and kept there otherwise.
pub(crate) fn compile_in(filter: &LinuxSeccomp, dir: Option<&Path>) -> Result<Compiled> {
    let place = dir.and_then(|dir| Some((dir, key(filter)?)));
    if let Some(found) = place.as_ref().and_then(|(dir, key)| read(dir, key)) {
        return Ok(found);
    }
    let compiled = compile(filter)?;
    if let Some((dir, key)) = &place {
        // Nobody needs it: the next one compiles as we did.
        let _ = write(dir, key, &compiled);
    }
    Ok(compiled)
}

/// Also of the program that compiles: another one may do it otherwise.
fn key(filter: &LinuxSeccomp) -> Option<[u8; DIGEST]> {
    // A copy of the program in memory is never met again.
    let program = std::fs::metadata("/proc/self/exe")
        .ok()
        .filter(|file| file.nlink() > 0)?;
    let mut hash = Sha256::new();
    hash.update(concat!("berth seccomp 1 ", env!("CARGO_PKG_VERSION"), " "));
    hash.update(std::env::consts::ARCH);
    for number in [program.dev(), program.ino(), program.size()] {
        hash.update(number.to_le_bytes());
    }
    hash.update(program.mtime().to_le_bytes());
    hash.update(program.mtime_nsec().to_le_bytes());
    hash.update(serde_json::to_vec(filter).ok()?);
    Some(hash.finalize().into())
}

fn name(key: &[u8; DIGEST]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ours, and nobody else's to write.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

fn open(path: &Path, flags: u32) -> Option<File> {
    let file = File::options()
        .read(true)
        .custom_flags((O_NOFOLLOW | flags) as i32)
        .open(path)
        .ok()?;
    file.metadata().is_ok_and(|m| is_ours(&m)).then_some(file)
}

fn read(dir: &Path, key: &[u8; DIGEST]) -> Option<Compiled> {
    open(dir, O_DIRECTORY)?;
    let file = open(&dir.join(name(key)), 0)?;
    let longest = HEAD + bpf::LIMIT * INSTRUCTION;
    let mut bytes = Vec::with_capacity(longest / 2);
    file.take(longest as u64 + 1).read_to_end(&mut bytes).ok()?;
    decode(&bytes, key)
}

fn decode(bytes: &[u8], key: &[u8; DIGEST]) -> Option<Compiled> {
    let (digest, rest) = bytes.split_at_checked(DIGEST)?;
    let (own_key, rest_of_it) = rest.split_at_checked(DIGEST)?;
    let (flags, program) = rest_of_it.split_at_checked(4)?;
    let whole = program.len() % INSTRUCTION == 0 && (1..=bpf::LIMIT).contains(&(program.len() / INSTRUCTION));
    if own_key != key || !whole || digest != Sha256::digest(rest).as_slice() {
        return None;
    }
    let instruction = |bytes: &[u8]| {
        Some(Instruction {
            code: u16::from_le_bytes(bytes[..2].try_into().ok()?),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_le_bytes(bytes[4..].try_into().ok()?),
        })
    };
    let program: Option<Vec<_>> = program.chunks_exact(INSTRUCTION).map(instruction).collect();
    Some((program?, u32::from_le_bytes(flags.try_into().ok()?)))
}

fn encode((program, flags): &Compiled, key: &[u8; DIGEST]) -> Vec<u8> {
    let mut rest = key.to_vec();
    rest.extend(flags.to_le_bytes());
    for instruction in program {
        rest.extend(instruction.code.to_le_bytes());
        rest.extend([instruction.jt, instruction.jf]);
        rest.extend(instruction.k.to_le_bytes());
    }
    [Sha256::digest(&rest).as_slice(), &rest].concat()
}

/// Whole or not at all. Others may write the same file at the same time.
fn write(dir: &Path, key: &[u8; DIGEST], compiled: &Compiled) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if open(dir, O_DIRECTORY).is_none() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    make_room(dir)?;
    let temporary = dir.join(format!("{}.{}", name(key), std::process::id()));
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&temporary);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &encode(compiled, key)));
    written
        .and_then(|()| std::fs::rename(&temporary, dir.join(name(key))))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
}

/// Too many profiles, or programs that are gone: all of them are compiled again when somebody asks.
fn make_room(dir: &Path) -> std::io::Result<()> {
    let files: Vec<_> = std::fs::read_dir(dir)?.flatten().collect();
    if files.len() < KEPT {
        return Ok(());
    }
    files
        .iter()
        .try_for_each(|file| match std::fs::remove_file(file.path()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::default_profile;
    use std::os::unix::fs::PermissionsExt;

    fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
        let list = std::fs::read_dir(dir).into_iter().flatten().flatten();
        list.map(|e| e.path()).collect()
    }

    #[test]
    fn a_kept_filter_is_the_compiled_one_and_a_changed_one_is_none() {
        let dir = std::env::temp_dir().join(format!("berth-filters-{}", std::process::id()));
        let profile = default_profile(&[]);
        let compiled = compile(&profile).unwrap();
        assert_eq!(compile_in(&profile, Some(&dir)).unwrap(), compiled);
        let [file] = &entries(&dir)[..] else { panic!("one file") };
        let own = key(&profile).unwrap();
        assert_eq!(read(&dir, &own).unwrap(), compiled);
        // Another profile, and another program's, have other names.
        let mut other = profile.clone();
        other.set_default_errno_ret(Some(1));
        assert_ne!(key(&other), key(&profile));
        assert!(read(&dir, &key(&other).unwrap()).is_none());

        let good = std::fs::read(file).unwrap();
        for at in (0..good.len()).step_by(97) {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(decode(&changed, &own).is_none(), "{at}");
            assert!(decode(&good[..at], &own).is_none(), "{at}");
        }
        assert!(decode(&[&good[..], &[0; 8]].concat(), &own).is_none());

        // Whoever else may write it has not written what we execute.
        let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(file, 0o620);
        assert!(read(&dir, &own).is_none());
        mode(file, 0o600);
        mode(&dir, 0o777);
        assert!(read(&dir, &own).is_none());
        assert!(write(&dir, &own, &compiled).is_err());
        mode(&dir, 0o700);
        let moved = dir.with_extension("moved");
        std::fs::rename(file, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, file).unwrap();
        assert!(read(&dir, &own).is_none());
        assert_eq!(compile_in(&profile, Some(&dir)).unwrap(), compiled);
        assert_eq!(read(&dir, &own).unwrap(), compiled);
        std::fs::remove_file(moved).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
