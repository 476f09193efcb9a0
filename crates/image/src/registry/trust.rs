//! Whose images are taken: a rule for each registry or repository, and cosign's signatures by keys that are at hand
//! (sigstore "Cosign signature specification": simple signing, beside the image under the tag `sha256-HEX.sig`; and
//! sigstore's bundles, which refer to the image).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::ImageManifest;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde::Deserialize;

use super::{Client, Manifest, bundle, read_bounded};
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

/// Said where there are signatures of others.
pub(super) const NO_KEY: &str = "none of its signatures is by one of the keys";
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
    /// Whether an image may be taken by the rules, by its manifest or index.
    pub fn check_trust(&self, reference: &Reference, manifest: &Manifest) -> Result<()> {
        let name = reference.familiar();
        match rule(&self.policy, reference) {
            Rule::Accept => Ok(()),
            Rule::Reject => Err(Error::new(
                Kind::Forbidden,
                format!("{name} is refused by the policy for its registry"),
            )
            .hint("see \"policy\" in registries.json")),
            Rule::Cosign(keys) => self.signed(reference, manifest, keys).map_err(|e| {
                let message = format!("{name} is not signed as the policy for its registry asks: {e}");
                Error::new(Kind::Forbidden, message).hint("see \"policy\" in registries.json")
            }),
        }
    }

    /// In either of the two places where cosign puts signatures.
    fn signed(&self, reference: &Reference, manifest: &Manifest, keys: &[PathBuf]) -> Result<()> {
        let keys: Vec<Key> = keys.iter().map(|path| Key::read(path)).collect::<Result<_>>()?;
        let digest = manifest.descriptor.digest();
        let beside = match self.signed_beside(reference, digest, &keys) {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(why) => Some(why),
        };
        match (self.signed_in_a_bundle(reference, manifest, &keys), beside) {
            (Ok(true), _) => Ok(()),
            (Err(why), _) | (Ok(false), Some(why)) => Err(why),
            (Ok(false), None) => Err(Error::not_found(format!("there is no signature of {digest}"))),
        }
    }

    /// Under the tag `sha256-HEX.sig`; false if there is none.
    fn signed_beside(&self, reference: &Reference, digest: &Digest, keys: &[Key]) -> Result<bool> {
        let signatures = Reference {
            tag: Some(format!("sha256-{}.sig", digest.digest())),
            digest: None,
            ..reference.clone()
        };
        let manifest = match self.manifest(&signatures) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(false),
            other => other?,
        };
        let manifest: ImageManifest = serde_json::from_slice(&manifest.bytes).step("read the signatures")?;
        let mut why = Error::invalid(NO_KEY);
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
                    Ok(()) => return Ok(true),
                    Err(e) => why = e,
                }
            }
        }
        Err(why)
    }

    /// In sigstore's bundles that refer to the image; false if there are none.
    fn signed_in_a_bundle(&self, reference: &Reference, manifest: &Manifest, keys: &[Key]) -> Result<bool> {
        let is_bundle = |kind: String| kind.starts_with(bundle::KIND);
        let all = self.referrers(reference, manifest.descriptor.digest(), None)?;
        let mut why = None;
        for bundle in all
            .iter()
            .filter(|d| {
                d.artifact_type()
                    .as_ref()
                    .is_some_and(|kind| is_bundle(kind.to_string()))
            })
            .take(SIGNATURES)
        {
            let place = Reference {
                tag: None,
                digest: Some(bundle.digest().clone()),
                ..reference.clone()
            };
            let document = self.manifest(&place)?;
            let document: ImageManifest = serde_json::from_slice(&document.bytes).step("read a signature")?;
            let blob = document.layers().iter().find(|l| is_bundle(l.media_type().to_string()));
            let Some(blob) = blob else { continue };
            let text = read_bounded(self.blob(&place, blob)?, PAYLOAD_LIMIT, "a signature")?;
            match bundle::signs(&text, manifest, &|text, signature| {
                keys.iter().any(|key| key.verifies(text, signature))
            }) {
                Ok(()) => return Ok(true),
                Err(e) => why = Some(e),
            }
        }
        why.map_or(Ok(false), Err)
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
