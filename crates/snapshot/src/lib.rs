//! Layers as directories: unpacking tars into them, writing tars from them, mounting them.
//!
//! ```text
//! DIR/<hex of diff id>/fs/      the layer's files; whiteouts as overlayfs has them
//!                     /recipe   the tar without its files' contents, compressed: with fs/ it gives the tar back, byte by byte
//!                     /extra/   contents that have no place in fs/ (written over later in the same tar)
//!                     /size     bytes of content
//!                     /sums     checksums of the contents
//!                     /NAME/    copies of some of its files, changed: laid over it where that is wanted
//! DIR/staging/                  layers that are being unpacked, each locked by whoever does it
//! ```
//!
//! The attacker is the tar: every path is resolved by the kernel below the layer's own root, and everything that is read
//! has a limit.
#![forbid(unsafe_code)]

mod amend;
mod apply;
mod at_once;
mod check;
mod find;
mod mount;
mod mount_points;
mod pack;
pub mod quota;
mod shift;
mod store;
mod tar;
#[cfg(test)]
mod testing;
mod tree;
mod unpack;
mod upper;

pub use amend::{Amended, Edit, Original};
pub use mount::{Mounted, Writable};
pub use oci_spec::image::Digest;
pub use pack::{Ids, inside, pack};
pub use store::{Doomed, Layer, Prepared, Scratch, Store};
pub use tree::{copy_tree, disk_usage, remove_tree};
pub use unpack::Unpack;
pub use upper::{Change, ChangeKind};
