//! The registry client (OCI distribution specification 1.1; Docker's own registries).
//!
//! Blocking: layers are fetched side by side by as many threads. Redirects are followed here, not by the HTTP library,
//! so that no credential ever reaches another host than the one it is for.

mod auth;
mod blob;
mod bundle;
mod http;
mod lists;
mod login;
mod part;
mod tls;
mod trust;
mod upload;

use std::io::Read;
use std::path::PathBuf;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::{Descriptor, MediaType};

use crate::verify::{Verified, read_bounded};
use crate::{DOCUMENT_LIMIT, Digest, Reference, digest_of};
use http::{Answer, Http};
pub use login::{Hit, forget, keep};
pub use part::Part;
pub use trust::{Policy, Rule};
pub use upload::Upload;

/// What the caller read from the user's settings; this crate reads no environment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Docker's config.json (auths, credHelpers, credsStore).
    pub docker_config: Option<PathBuf>,
    /// Registries (host[:port]) spoken to over plain HTTP; loopback ones always may be.
    pub insecure: Vec<String>,
    /// `http_proxy` and its like, by name.
    pub proxy_env: Vec<(String, String)>,
    /// Before those of `docker_config`.
    pub credentials: Option<Credentials>,
    /// Where else a registry's (`*`: any registry's) images may be had: `HOST[:PORT][/PREFIX]`, tried in order, first.
    pub mirrors: Vec<(String, String)>,
    /// Docker's `certs.d`: certificates by registry.
    pub certificates: Option<PathBuf>,
    /// Whose images are taken.
    pub policy: Policy,
    /// How long a registry may be silent; a minute unless given.
    pub patience: Option<std::time::Duration>,
}

/// What a user shows to one registry.
#[derive(Clone)]
pub struct Credentials {
    /// `host[:port]`, as in [`Reference`]: nobody else gets them.
    pub registry: String,
    /// A name, or `<token>`.
    pub user: String,
    /// A password, or an identity token.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials for {}", self.registry)
    }
}

/// Talks to any number of registries.
pub struct Client {
    http: Http,
    policy: Policy,
}

/// A manifest as fetched: verified against the digest when the reference has one.
pub struct Manifest {
    /// What it is, and how large.
    pub descriptor: Descriptor,
    /// Exactly as it came.
    pub bytes: Vec<u8>,
}

impl Manifest {
    /// Whether it is a list of manifests.
    pub fn is_index(&self) -> bool {
        let kind = self.descriptor.media_type().to_string();
        kind.contains("index") || kind.contains("list")
    }
}

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

impl Client {
    /// A client with these settings.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Client {
            policy: options.policy.clone(),
            http: Http::new(options)?,
        })
    }

    /// Manifest or index by tag or digest. Media types: OCI and Docker schema 2; others refused by name.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        for mirror in self.http.mirrors(reference) {
            if let Ok(manifest) = self.manifest_at(&mirror) {
                return Ok(manifest);
            }
        }
        self.manifest_at(reference)
    }

    fn manifest_at(&self, reference: &Reference) -> Result<Manifest> {
        let name = selector(reference);
        let mut answer = self
            .http
            .get(reference, &format!("manifests/{name}"), &[("Accept", ACCEPTED)], false)?;
        if answer.status() != 200 {
            return Err(self.refused(reference, answer));
        }
        let header = answer.header("Content-Type").unwrap_or_default();
        let bytes = read_bounded(
            answer.body(),
            DOCUMENT_LIMIT,
            &format!("the manifest of {}", reference.familiar()),
        )?;
        let digest = digest_of(&bytes);
        if let Some(expected) = reference.digest.as_ref().filter(|d| **d != digest) {
            return Err(Error::invalid(format!(
                "manifest of {} has the digest {digest}, not {expected}",
                reference.familiar()
            )));
        }
        let media_type = media_type(&bytes, &header, reference)?;
        Ok(Manifest {
            descriptor: Descriptor::new(media_type, bytes.len() as u64, digest),
            bytes,
        })
    }

    /// A blob's verified stream: errors at its end if size or digest differ; resumes by range when the connection dies.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let stream = self.open_blob(reference, descriptor, 0)?;
        Ok(verified(stream, descriptor))
    }

    /// The same, begun with what is there already; what comes is kept there, too.
    pub fn blob_with_part(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        part: &Part,
    ) -> Result<Box<dyn Read + Send>> {
        let stream = self.open_blob(reference, descriptor, part.kept())?;
        let whole = part.reader(stream).step("keep what has come of a layer")?;
        Ok(verified(whole, descriptor))
    }

    /// What is at a URL, with the proxies and certificates of registries, and nobody's credentials.
    pub fn download(&self, url: &str) -> Result<Box<dyn Read + Send>> {
        let answer = self.http.download(url)?;
        match answer.status() {
            200 => Ok(answer.into_body()),
            status => Err(Error::new(
                if status == 404 {
                    Kind::NotFound
                } else {
                    Kind::Unavailable
                },
                format!("get {url}: the server answered {status}"),
            )),
        }
    }

    /// From the first mirror that has it, or the registry itself: whose bytes they are, the digest tells.
    fn open_blob(&self, reference: &Reference, descriptor: &Descriptor, done: u64) -> Result<blob::Resuming> {
        for mirror in self.http.mirrors(reference) {
            if let Ok(stream) = blob::Resuming::open(self.http.clone(), mirror, descriptor, done) {
                return Ok(stream);
            }
        }
        blob::Resuming::open(self.http.clone(), reference.clone(), descriptor, done)
    }

    /// Whether the repository has it.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let answer = self.http.head(reference, &format!("blobs/{digest}"))?;
        match answer.status() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused(reference, answer)),
        }
    }

    /// Cross-repository mount; false when the registry wants an upload instead.
    pub fn mount_blob(&self, reference: &Reference, digest: &Digest, from_repository: &str) -> Result<bool> {
        let answer = self.http.post(
            reference,
            &format!("blobs/uploads/?mount={digest}&from={from_repository}"),
        )?;
        match answer.status() {
            201 => Ok(true),
            202 => Ok(false),
            _ => Err(self.refused(reference, answer)),
        }
    }

    /// Uploads a manifest under the reference's tag (or its own digest).
    pub fn push_manifest(&self, reference: &Reference, media_type: &MediaType, bytes: &[u8]) -> Result<Digest> {
        let digest = digest_of(bytes);
        let name = reference.tag.clone().unwrap_or_else(|| digest.to_string());
        let mut content = bytes;
        let path = format!("manifests/{name}");
        let answer = self
            .http
            .put(reference, &path, media_type.as_ref(), bytes.len() as u64, &mut content)?;
        match answer.status() {
            200..=202 => Ok(digest),
            _ => Err(self.refused(reference, answer)),
        }
    }

    /// The registry's refusal in Docker's words.
    fn refused(&self, reference: &Reference, mut answer: Answer) -> Error {
        let status = answer.status();
        let text = read_bounded(answer.body(), 64 * 1024, "the registry's answer").unwrap_or_default();
        let said = said(&text);
        let name = reference.familiar_name();
        let known = self.http.has_credentials(&reference.registry);
        match status {
            401 | 403 if known => Error::new(
                Kind::Unauthorized,
                format!("unauthorized: {}", said.as_deref().unwrap_or("authentication required")),
            )
            .hint(format!("the credentials for {} were refused", reference.registry)),
            401 | 403 => Error::new(
                Kind::Unauthorized,
                format!(
                    "pull access denied for {name}, repository does not exist or may require 'docker login': {}",
                    said.as_deref()
                        .unwrap_or("denied: requested access to the resource is denied")
                ),
            )
            .hint(format!(
                "Berth uses the credentials of `docker login {}`",
                reference.registry
            )),
            404 => Error::not_found(format!(
                "manifest for {} not found: {}",
                reference.familiar(),
                said.as_deref().unwrap_or("manifest unknown: manifest unknown")
            )),
            429 => Error::new(
                Kind::Unavailable,
                format!(
                    "toomanyrequests: {}",
                    said.unwrap_or_else(|| format!("{} asks for a pause", reference.registry))
                ),
            )
            .hint("try again later; with credentials the limits are higher"),
            _ => Error::new(
                Kind::Unavailable,
                format!(
                    "{} answered {status}{}",
                    reference.registry,
                    said.map(|s| format!(": {s}")).unwrap_or_default()
                ),
            ),
        }
    }
}

fn verified(stream: impl Read + Send + 'static, descriptor: &Descriptor) -> Box<dyn Read + Send> {
    Box::new(Verified::new(stream, descriptor.digest().clone(), descriptor.size()))
}

/// Tag, or digest where there is one.
fn selector(reference: &Reference) -> String {
    let digest = reference.digest.as_ref().map(|d| d.to_string());
    digest
        .or_else(|| reference.tag.clone())
        .unwrap_or_else(|| "latest".into())
}

/// The first of the registry's errors: `manifest unknown: ...`.
fn said(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let first = json.get("errors")?.get(0)?;
    let code = first.get("code")?.as_str()?.to_lowercase().replace('_', " ");
    let message = first.get("message").and_then(|m| m.as_str()).unwrap_or_default();
    let clean: String = format!("{code}: {message}")
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    Some(clean)
}

/// What the document says that it is, which must be what the registry says, and what it looks like (CVE-2021-41190).
fn media_type(bytes: &[u8], header: &str, reference: &Reference) -> Result<MediaType> {
    let name = reference.familiar();
    let json: serde_json::Value = serde_json::from_slice(bytes)
        .step_with(|| format!("read the manifest of {name}"))
        .map_err(|e| e.kind_is(Kind::Invalid))?;
    let header = header.split(';').next().unwrap_or_default().trim();
    let inside = json.get("mediaType").and_then(|m| m.as_str());
    if json.get("schemaVersion").and_then(|v| v.as_u64()) == Some(1) {
        return Err(Error::invalid(format!(
            "{name} has a manifest of schema version 1, which nobody can verify: not supported"
        ))
        .hint("push the image again with any tool of the last eight years"));
    }
    if let Some(inside) = inside.filter(|i| !header.is_empty() && header != "application/json" && *i != header) {
        return Err(Error::invalid(format!(
            "the manifest of {name} says that it is {inside}, its registry says {header}"
        )));
    }
    let kind = inside.unwrap_or(header);
    let (index, manifest) = (
        json.get("manifests").is_some(),
        json.get("layers").is_some() || json.get("config").is_some(),
    );
    let media_type = MediaType::from(kind);
    let good = match kind {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            index && !manifest
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            manifest && !index
        }
        other => {
            return Err(Error::invalid(format!(
                "{name} is no image: its manifest is of the type {other:?}"
            )));
        }
    };
    match good {
        true => Ok(media_type),
        false => Err(Error::invalid(format!(
            "the manifest of {name} is not what its type {kind} says"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageIndex, ImageManifest, Platform};

    #[test]
    fn mutated_manifests_are_refused_or_read_and_never_a_panic() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":1,"annotations":{{"k":"v"}}}}]}}"#
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#
        );
        let reference = Reference::parse("x").unwrap();
        let mut seed = 7u64;
        let mut chance = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for round in 0..4000 {
            let mut bytes = if round % 2 == 0 {
                manifest.clone()
            } else {
                index.clone()
            }
            .into_bytes();
            for _ in 0..1 + chance(4) {
                let (at, what) = (chance(bytes.len()), chance(256) as u8);
                match chance(3) {
                    0 => bytes[at] = what,
                    1 => _ = bytes.remove(at),
                    _ => bytes.insert(at, b"{}[]\",:0-9e"[chance(11)]),
                }
            }
            let _ = media_type(&bytes, kind, &reference);
            let _ = serde_json::from_slice::<ImageManifest>(&bytes);
            if let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes) {
                let _ = Platform::host().select(&index, "x");
            }
            let text: String = String::from_utf8_lossy(&bytes).chars().take(90).collect();
            if let Ok(reference) = Reference::parse(&text) {
                assert_eq!(Reference::parse(&reference.canonical()).unwrap(), reference);
            }
        }
    }
}
