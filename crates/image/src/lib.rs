//! References, the content store, the registry client, archives.
//!
//! Everything that comes from outside has a limit and is checked against its digest before anybody uses it.
//!
//! Architecture invariant: reads no environment and no settings but those that it is given.
#![forbid(unsafe_code)]

pub mod archive;
mod compression;
pub mod content;
mod gzip;
mod platform;
pub mod reference;
pub mod registry;
mod verify;

pub use compression::decompress;
pub use gzip::Gzip;
pub use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
pub use platform::Platform;
pub use reference::Reference;
pub use verify::{Hashed, digest_of};

/// Manifests, indexes and configurations are documents, not content: none is larger (as in containerd).
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
