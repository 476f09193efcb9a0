//! Layers as directories: unpacking tars into them, writing tars from them, mounting them.
//!
//! CONTRACT STUB.
#![allow(missing_docs)]
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errdefs::Result;
pub use oci_spec::image::Digest;

/// All layers of a host: `DIR/<hex of diff id>/{fs/, recipe}`; staging happens in `DIR/staging/`.
pub struct Store;

#[derive(Clone, Debug)]
pub struct Layer {
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
}

impl Store {
    /// Opens (makes) the store.
    pub fn open(_dir: &Path) -> Result<Self> { todo!() }
    pub fn has(&self, _diff_id: &Digest) -> bool { todo!() }
    pub fn layer(&self, _diff_id: &Digest) -> Result<Layer> { todo!() }
    pub fn layers(&self) -> Result<Vec<Layer>> { todo!() }
    /// Unpacks an uncompressed tar stream into a new layer: staged, hashed, synced, renamed into place. When `expect` is
    /// given and differs, nothing stays. Two at once for the same layer: one wins, both succeed.
    pub fn apply(&self, _tar: &mut dyn Read, _expect: Option<&Digest>) -> Result<Layer> { todo!() }
    /// The byte-exact tar that the layer was made from.
    pub fn write_tar(&self, _diff_id: &Digest, _out: &mut dyn Write) -> Result<()> { todo!() }
    pub fn remove(&self, _diff_id: &Digest) -> Result<()> { todo!() }
    /// Removes what an interrupted `apply` left (staging directories without a live owner's flock).
    pub fn sweep(&self) -> Result<()> { todo!() }
    /// Mounts layers (bottom first) and a container's own directory as one detached overlay.
    /// `userns`: idmap the layers for this user namespace. No mount appears in the caller's namespace.
    pub fn mount(&self, _layers: &[Digest], _own: Option<&Writable>, _userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> { todo!() }
}

/// A container's own changes: `DIR/upper` and `DIR/work`, owned by the container's first host id.
#[derive(Clone, Debug)]
pub struct Writable { pub dir: PathBuf }

impl Writable {
    /// Makes the two directories for a container whose root is `uid:gid` on the host.
    pub fn create(_dir: &Path, _uid: u32, _gid: u32) -> Result<Self> { todo!() }
    pub fn at(dir: &Path) -> Self { Writable { dir: dir.into() } }
}

/// Removes a tree that a hostile container wrote: never leaves it, whatever is swapped meanwhile.
pub fn remove_tree(_dir: &Path) -> Result<()> { todo!() }

/// Copies the contents (not the directory itself) of `path` inside the mounted tree `root` into `target`, keeping owners (mapped back through the
/// idmap already on `root`), modes, xattrs, links. Used to fill a new volume.
pub fn copy_tree(_root: BorrowedFd<'_>, _path: &Path, _target: &Path) -> Result<()> { todo!() }
