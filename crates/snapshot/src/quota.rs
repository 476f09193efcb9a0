//! How large directories may become: project quotas, where the file system has them. Who has which is in the file system
//! itself.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::rand::GetRandomFlags;

/// Numbers of projects that administrators hardly give away themselves.
const FIRST: u32 = 0x4000_0000;
const COUNT: u32 = 0x2000_0000;
/// How often a number is drawn that is taken.
const DRAWS: usize = 64;

fn open(dir: &Path) -> Result<File> {
    File::open(dir).step_with(|| format!("open {}", dir.display()))
}

/// Fails, and says why, where directories below this one can have no limit.
pub fn can_limit(dir: &Path) -> Result<()> {
    sys::quota::usage(open(dir)?.as_fd(), FIRST).map(drop).map_err(|e| {
        let message = format!(
            "the file system of {} cannot limit the size of directories",
            dir.display()
        );
        let hint = match e {
            rustix::io::Errno::NOSYS => "it takes Linux 5.14",
            rustix::io::Errno::PERM => "it takes root",
            _ => "it takes ext4 or xfs, mounted with prjquota",
        };
        Error::caused(message, e).kind_is(Kind::Invalid).hint(hint)
    })
}

/// Limits what new, empty directories of one file system may take together, in bytes.
pub fn limit(dirs: &[&Path], bytes: u64) -> Result<()> {
    let dirs: Vec<File> = dirs.iter().map(|dir| open(dir)).collect::<Result<_>>()?;
    let Some(first) = dirs.first() else { return Ok(()) };
    let step = "limit the size of a directory";
    for _ in 0..DRAWS {
        let mut number = [0; 4];
        rustix::rand::getrandom(&mut number, GetRandomFlags::empty()).errno_step(step)?;
        let project = FIRST + u32::from_le_bytes(number) % COUNT;
        let used = sys::quota::usage(first.as_fd(), project).errno_step(step)?;
        if used.limit == 0 && used.space == 0 && used.files == 0 {
            sys::quota::set_limit(first.as_fd(), project, bytes).errno_step(step)?;
            let set = |dir: &File| sys::quota::set_project(dir.as_fd(), project).errno_step(step);
            return dirs.iter().try_for_each(set);
        }
    }
    Err(Error::new(Kind::Exhausted, "no number is left for another limit"))
}

/// Whether a directory has a limit.
pub fn is_limited(dir: &Path) -> bool {
    let project = open(dir).and_then(|dir| sys::quota::project(dir.as_fd()).errno_step("look at a directory"));
    project.is_ok_and(|project| (FIRST..FIRST + COUNT).contains(&project))
}

/// Forgets the limit of a directory that is about to be removed. Best effort: a limit of nothing hurts nobody.
pub fn forget_limit(dir: &Path) {
    if let Ok(dir) = open(dir)
        && let Ok(project @ FIRST..) = sys::quota::project(dir.as_fd())
        && project < FIRST + COUNT
    {
        let _ = sys::quota::set_limit(dir.as_fd(), project, 0);
    }
}
