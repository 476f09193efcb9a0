//! The layer below all others: what every container gets mounted, and an image need not have. With it a start writes
//! nothing to the container's own side, and what was added is no change of the container's.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use errdefs::{Result, Step};

use crate::store::Staging;

/// In the store's directory. The number is that of its content: another content gets another name.
const NAME: &str = "mount-points-1";
const DIRECTORIES: &[&str] = &["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
/// By the first one programs know that they are in a container.
const FILES: &[&str] = &[".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// Makes it, if it is not there; its name in the store's directory.
pub fn provide(store: &Path) -> Result<&'static str> {
    let place = store.join(NAME);
    if place.exists() {
        return Ok(NAME);
    }
    let staging = Staging::new(store)?;
    let fs = staging.dir.join("fs");
    fill(&fs).step("make the layer of mount points")?;
    match std::fs::rename(&fs, &place) {
        Ok(()) => Ok(NAME),
        // Somebody else was faster.
        Err(_) if place.exists() => Ok(NAME),
        Err(e) => Err(e).step("put the layer of mount points into the store"),
    }
}

fn fill(fs: &Path) -> std::io::Result<()> {
    let directory = |path: &Path| DirBuilder::new().mode(0o755).create(path);
    directory(fs)?;
    DIRECTORIES.iter().try_for_each(|name| directory(&fs.join(name)))?;
    for name in FILES {
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(fs.join(name))?;
    }
    // Old programs read it (mount(8)).
    symlink("/proc/mounts", fs.join("etc/mtab"))
}
