//! Sigstore's bundles (protobuf-specs, `sigstore_bundle.proto`), as far as a key that is at hand can tell: what was signed, and
//! that it was this image. Certificates and transparency logs say who held a key; whoever gives the key knows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use errdefs::{Error, Result, Step};
use serde::Deserialize;
use serde_json::Value;

use super::Manifest;
use super::trust::NO_KEY;

/// How the types of bundles of all versions begin.
pub const KIND: &str = "application/vnd.dev.sigstore.bundle";
/// What a statement says that signs an image. Others are about it: that somebody has scanned it is no consent.
const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Signatures of one statement.
const SIGNATURES: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

/// Dead Simple Signing Envelope.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// Of the manifest itself.
#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

/// Fails unless the bundle signs this manifest, by a signature that `verifies`.
pub fn signs(bundle: &[u8], manifest: &Manifest, verifies: &dyn Fn(&[u8], &[u8]) -> bool) -> Result<()> {
    let bundle: Bundle = serde_json::from_slice(bundle).step("read a signature")?;
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| Error::invalid("a signature is no base64"))
    };
    let by_a_key = |text: &[u8], signature: &str| Ok::<_, Error>(verifies(text, &decode(signature)?));
    match (bundle.dsse_envelope, bundle.message_signature) {
        (Some(envelope), None) => {
            let payload = decode(&envelope.payload)?;
            let text = encoded(&envelope.payload_type, &payload);
            let mut signatures = envelope.signatures.iter().take(SIGNATURES);
            if !signatures.any(|s| by_a_key(&text, &s.sig).unwrap_or(false)) {
                return Err(Error::invalid(NO_KEY));
            }
            states(&envelope.payload_type, &payload, manifest.descriptor.digest().digest())
        }
        (None, Some(message)) => match by_a_key(&manifest.bytes, &message.signature)? {
            true => Ok(()),
            false => Err(Error::invalid(NO_KEY)),
        },
        _ => Err(Error::invalid("a signature of a kind that is not known")),
    }
}

/// What is signed of an envelope (DSSE, "PAE").
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// What was signed must say that it signs, and this image.
fn states(kind: &str, payload: &[u8], digest: &str) -> Result<()> {
    if kind != STATEMENT {
        return Err(Error::invalid("what was signed is no statement"));
    }
    let statement: Value = serde_json::from_slice(payload).step("read what was signed")?;
    if statement["predicateType"] != SIGNS {
        return Err(Error::invalid(
            "what was signed is about the image, and does not sign it",
        ));
    }
    let subjects = statement["subject"].as_array();
    let mut subjects = subjects.into_iter().flatten();
    match subjects.any(|s| s["digest"]["sha256"] == digest) {
        true => Ok(()),
        false => Err(Error::invalid("what was signed is another image")),
    }
}
