//! Whose images are taken: a rule for each registry or repository, and cosign's signatures by keys that are at hand
//! (sigstore "Cosign signature specification": simple signing, beside the image under the tag `sha256-HEX.sig`).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::ImageManifest;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde::Deserialize;

use super::{Client, read_bounded};
use crate::{Digest, Reference};

/// What holds for a registry, or a repository in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Whatever it has.
    Accept,
    /// Nothing of it.
    Reject,
    /// What one of these public keys (PEM; ECDSA P-256 or Ed25519) has signed.
    Cosign(Vec<PathBuf>),
}

/// Rules by `REGISTRY[/PATH]`; the longest counts, then `default`.
pub type Policy = Vec<(String, Rule)>;

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PAYLOAD_LIMIT: u64 = 1 << 20;
/// More signatures of one image are not looked at.
const SIGNATURES: usize = 64;

/// The rule for an image; without any it is taken.
fn rule<'a>(policy: &'a Policy, reference: &Reference) -> &'a Rule {
    let name = format!("{}/{}", reference.registry, reference.repository);
    let covers = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let rules = policy.iter().filter(|(prefix, _)| covers(prefix));
    let longest = rules.max_by_key(|(prefix, _)| prefix.len());
    let default = || policy.iter().find(|(prefix, _)| prefix == "default");
    longest.or_else(default).map_or(&Rule::Accept, |(_, rule)| rule)
}

impl Client {
    /// Whether an image may be taken by the rules: its manifest or index has this digest.
    pub fn check_trust(&self, reference: &Reference, digest: &Digest) -> Result<()> {
        let name = reference.familiar();
        match rule(&self.policy, reference) {
            Rule::Accept => Ok(()),
            Rule::Reject => Err(Error::new(
                Kind::Forbidden,
                format!("{name} is refused by the policy for its registry"),
            )
            .hint("see \"policy\" in registries.json")),
            Rule::Cosign(keys) => self.signed(reference, digest, keys).map_err(|e| {
                let message = format!("{name} is not signed as the policy for its registry asks: {e}");
                Error::new(Kind::Forbidden, message).hint("see \"policy\" in registries.json")
            }),
        }
    }

    fn signed(&self, reference: &Reference, digest: &Digest, keys: &[PathBuf]) -> Result<()> {
        let keys: Vec<Key> = keys.iter().map(|path| Key::read(path)).collect::<Result<_>>()?;
        let signatures = Reference {
            tag: Some(format!("sha256-{}.sig", digest.digest())),
            digest: None,
            ..reference.clone()
        };
        let manifest = self.manifest(&signatures).map_err(|e| match e.kind() {
            Kind::NotFound => Error::not_found(format!("there is no signature of {digest}")),
            _ => e,
        })?;
        let manifest: ImageManifest = serde_json::from_slice(&manifest.bytes).step("read the signatures")?;
        let mut why = Error::invalid("none of its signatures is by one of the keys");
        for layer in manifest
            .layers()
            .iter()
            .filter(|l| l.media_type().to_string() == PAYLOAD)
            .take(SIGNATURES)
        {
            let text = layer.annotations().as_ref().and_then(|a| a.get(SIGNATURE));
            let Some(signature) = text.and_then(|t| STANDARD.decode(t.trim()).ok()) else {
                continue;
            };
            let payload = read_bounded(self.blob(&signatures, layer)?, PAYLOAD_LIMIT, "a signature's payload")?;
            if keys.iter().any(|key| key.verifies(&payload, &signature)) {
                match claims(&payload, reference, digest) {
                    Ok(()) => return Ok(()),
                    Err(e) => why = e,
                }
            }
        }
        Err(why)
    }
}

/// What was signed must be this image under this name: a signature of another proves nothing.
fn claims(payload: &[u8], reference: &Reference, digest: &Digest) -> Result<()> {
    let document: serde_json::Value = serde_json::from_slice(payload).step("read what was signed")?;
    let text = |path: &str| {
        document
            .pointer(path)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    if text("/critical/image/docker-manifest-digest") != digest.to_string() {
        return Err(Error::invalid("what was signed is another image"));
    }
    let signed = text("/critical/identity/docker-reference");
    let signed = Reference::parse(&signed).map(|r| (r.registry, r.repository)).ok();
    match signed == Some((reference.registry.clone(), reference.repository.clone())) {
        true => Ok(()),
        false => Err(Error::invalid("it was signed under another name")),
    }
}

/// A public key.
enum Key {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// What stands before the key itself (RFC 5480, RFC 8410).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Key {
    fn read(path: &Path) -> Result<Key> {
        let step = || format!("read the key {}", path.display());
        Key::parse(&std::fs::read_to_string(path).step_with(step)?).ok_or_else(|| {
            Error::invalid(format!(
                "{} is no public key of a kind that is known (PEM; ECDSA P-256 or Ed25519)",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Option<Key> {
        let body = text.split_once("-----BEGIN PUBLIC KEY-----")?.1;
        let body: String = body.split_once("-----END")?.0.split_whitespace().collect();
        let der = STANDARD.decode(body).ok()?;
        match (der.strip_prefix(P256), der.strip_prefix(ED)) {
            (Some(point), _) if point.len() == 65 => Some(Key::P256(point.to_vec())),
            (_, Some(key)) if key.len() == 32 => Some(Key::Ed25519(key.to_vec())),
            _ => None,
        }
    }

    fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(payload, signature),
            Key::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(payload, signature),
        }
        .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_counts() {
        let policy: Policy = vec![
            ("default".into(), Rule::Reject),
            ("reg.example".into(), Rule::Accept),
            ("reg.example/team".into(), Rule::Cosign(Vec::new())),
        ];
        let found = |name: &str| format!("{:?}", rule(&policy, &Reference::parse(name).unwrap()));
        assert_eq!(found("reg.example/x"), "Accept");
        assert_eq!(found("reg.example/team/x"), "Cosign([])");
        assert_eq!(found("reg.example/teams/x"), "Accept");
        assert_eq!(found("debian"), "Reject");
        assert!(Key::parse("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").is_none());
    }
}
