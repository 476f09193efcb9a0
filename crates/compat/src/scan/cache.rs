//! Keeping a scan beside what it is of: whole or not at all.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use errdefs::{Result, Step};

use super::{Scan, VERSION};

/// Largest file of facts that is read.
const LIMIT: u64 = 512 << 20;

/// A scan that was kept, if it is there and of this version.
pub fn load(path: &Path) -> Option<Scan> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    BufReader::new(file).take(LIMIT).read_to_end(&mut bytes).ok()?;
    let scan: Scan = serde_json::from_slice(&bytes).ok()?;
    (scan.version == VERSION).then_some(scan)
}

/// Keeps a scan; a name of its own first, so that nobody reads half of it.
pub fn store(path: &Path, scan: &Scan) -> Result<()> {
    let step = "keep what was found in the layer";
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = File::create(&aside).step(step)?;
    let written = serde_json::to_vec(scan)
        .step(step)
        .and_then(|bytes| file.write_all(&bytes).step(step));
    let done = written.and_then(|()| std::fs::rename(&aside, path).step(step));
    if done.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    done
}
