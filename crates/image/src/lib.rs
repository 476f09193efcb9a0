//! References, the content store, the registry client, archives.
//!
//! CONTRACT STUB.
#![allow(missing_docs)]
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use errdefs::Result;
pub use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

pub mod reference {
    use super::*;
    /// A normalised image reference: `debian` is `docker.io/library/debian:latest`.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Reference { pub registry: String, pub repository: String, pub tag: Option<String>, pub digest: Option<Digest> }
    impl Reference {
        /// Docker's grammar (distribution/reference); no tag and no digest means `latest`.
        pub fn parse(_s: &str) -> Result<Self> { todo!() }
        /// The short form that docker prints: `debian:bookworm`.
        pub fn familiar(&self) -> String { todo!() }
        /// The short repository: `debian`, `127.0.0.1:5000/app`.
        pub fn familiar_name(&self) -> String { todo!() }
        /// The full form: `docker.io/library/debian:bookworm` (`@digest`).
        pub fn canonical(&self) -> String { todo!() }
    }
}
pub use reference::Reference;

/// Small JSON documents (manifests, indexes, configs) by digest: `DIR/sha256/HEX`.
pub mod content {
    use super::*;
    pub struct Store;
    impl Store {
        pub fn open(_dir: &Path) -> Result<Self> { todo!() }
        pub fn put(&self, _bytes: &[u8]) -> Result<Digest> { todo!() }
        /// Verified on reading.
        pub fn get(&self, _digest: &Digest) -> Result<Vec<u8>> { todo!() }
        pub fn has(&self, _digest: &Digest) -> bool { todo!() }
        pub fn remove(&self, _digest: &Digest) -> Result<()> { todo!() }
        pub fn list(&self) -> Result<Vec<Digest>> { todo!() }
    }
}

/// os/architecture/variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform { pub os: String, pub architecture: String, pub variant: Option<String> }
impl Platform {
    pub fn host() -> Self { todo!() }
    /// `linux/arm64/v8`, `arm64`, `amd64`, ...
    pub fn parse(_s: &str) -> Result<Self> { todo!() }
}

pub mod registry {
    use super::*;
    /// What the caller read from the user's settings; this crate reads no environment.
    #[derive(Clone, Debug, Default)]
    pub struct Options {
        /// Docker's config.json (auths, credHelpers, credsStore).
        pub docker_config: Option<PathBuf>,
        /// Registries (host[:port]) spoken to over plain HTTP; loopback ones always may be.
        pub insecure: Vec<String>,
        pub proxy_env: Vec<(String, String)>,
    }
    pub struct Client;
    /// A manifest as fetched: verified against the digest when the reference has one.
    pub struct Manifest { pub descriptor: Descriptor, pub bytes: Vec<u8> }
    impl Client {
        pub fn new(_o: Options) -> Result<Self> { todo!() }
        /// Manifest or index by tag or digest. Media types: OCI and Docker schema 2; others refused by name.
        pub fn manifest(&self, _r: &Reference) -> Result<Manifest> { todo!() }
        /// A blob's verified stream: errors at EOF if size or digest differ; resumes by range when the connection dies.
        pub fn blob(&self, _r: &Reference, _d: &Descriptor) -> Result<Box<dyn Read + Send>> { todo!() }
        pub fn has_blob(&self, _r: &Reference, _d: &Digest) -> Result<bool> { todo!() }
        /// Cross-repository mount; false when the registry wants an upload instead.
        pub fn mount_blob(&self, _r: &Reference, _d: &Digest, _from_repository: &str) -> Result<bool> { todo!() }
        /// Uploads content of known digest and size.
        pub fn push_blob(&self, _r: &Reference, _d: &Descriptor, _content: &mut (dyn Read + Send)) -> Result<()> { todo!() }
        pub fn push_manifest(&self, _r: &Reference, _media_type: &MediaType, _bytes: &[u8]) -> Result<Digest> { todo!() }
    }
}

/// Undoes gzip, zstd, bzip2-less: by the first bytes, not by media type. Plain tar passes.
pub fn decompress(_r: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>> { todo!() }

pub mod archive {
    use super::*;
    /// One image found in an archive.
    pub struct Found {
        /// Tags it carries (docker's RepoTags, or the OCI `ref.name` annotation).
        pub references: Vec<Reference>,
        pub config: Vec<u8>,
        /// The manifest as found; `None` for docker archives (the engine writes one).
        pub manifest: Option<Vec<u8>>,
        /// Opens layer `i` (compressed or not, see `decompress`), bottom first.
        pub layers: Vec<LayerSource>,
    }
    /// Where a layer's bytes are: opened when needed.
    pub struct LayerSource { pub descriptor: Option<Descriptor> /* + private */ }
    impl LayerSource { pub fn open(&self) -> Result<Box<dyn Read + Send>> { todo!() } }
    /// Opens a docker archive (old `VERSION/layer.tar` and new), an OCI archive or an OCI layout directory. A stream
    /// (stdin, HTTP body) is first spooled into `spool`.
    pub fn open_path(_path: &Path, _p: &Platform) -> Result<Vec<Found>> { todo!() }
    pub fn open_stream(_r: &mut dyn Read, _spool: &Path, _p: &Platform) -> Result<Vec<Found>> { todo!() }
    /// One image to save.
    pub struct Saved<'a> {
        pub references: Vec<Reference>,
        pub config: Vec<u8>,
        pub config_digest: Digest,
        /// diff id, size, writer of the plain tar; bottom first.
        #[allow(clippy::type_complexity)]
        pub layers: Vec<(Digest, Box<dyn Fn(&mut dyn Write) -> Result<()> + 'a>)>,
    }
    /// docker 25+'s shape: OCI layout with manifest.json beside it (readable by old and new docker, skopeo, podman).
    pub fn save(_images: &[Saved<'_>], _out: &mut dyn Write, _spool: &Path) -> Result<()> { todo!() }
}
