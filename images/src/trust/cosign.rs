//! Where cosign puts signatures, and how it writes them: both ways there are.
//!
//! | | beside the image, under the tag `sha256-HEX.sig` | as a referrer of the image |
//! |---|---|---|
//! | cosign | 1 and 2 | 3 |
//! | found by | [`tag_of`] | the referrers of the digest, of type [`BUNDLE`] |
//! | signed is | a layer, simple signing | the statement in the bundle's DSSE envelope |
//! | signature | an annotation of the layer | in the envelope |
//!
//! Source: cosign `specs/SIGNATURE_SPEC.md`; sigstore bundle format 0.3; DSSE `protocol.md`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_abi::Digest;
use serde::Deserialize;

use super::claim::{Claim, MAX_CLAIM};
use super::error::TrustError;
use super::judge::Signed;

/// The media type of layers that are signed claims.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of bundles.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The annotation a signature stands in.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The payload of an envelope that we know.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The most signatures of one image that are looked at.
const MAX_SIGNATURES: usize = 64;
/// The longest bundle that is read, in bytes.
const MAX_BUNDLE: usize = 1 << 20;

/// A signature of which the claim is a blob that is still to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What was signed: the digest of the blob.
    pub claim: Digest,
    /// How many bytes the blob has.
    pub size: u64,
    signature: Vec<u8>,
}

impl Attachment {
    /// Puts claim and signature together; `blob` is what [`Attachment::claim`] names.
    ///
    /// # Errors
    ///
    /// [`TrustError::Claim`].
    pub fn with(self, blob: Vec<u8>) -> Result<Signed, TrustError> {
        Ok(Signed { claim: Claim::simple(&blob)?, message: blob, signature: self.signature })
    }
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Vec<Referrer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    digest: Digest,
    #[serde(default)]
    artifact_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Returns the tag under which signatures of an image lie.
#[must_use]
pub fn tag_of(image: &Digest) -> String {
    format!("{}.sig", image.to_string().replace(':', "-"))
}

/// Returns the tag of the index of an image's referrers, where a registry keeps no lists of them
/// (distribution-spec 1.1, "Referrers Tag Schema").
#[must_use]
pub fn referrers_tag_of(image: &Digest) -> String {
    image.to_string().replace(':', "-")
}

/// Returns the manifests of bundles in an index of referrers.
///
/// # Errors
///
/// [`TrustError::Document`].
pub fn bundles_among(referrers: &[u8]) -> Result<Vec<Digest>, TrustError> {
    let index: Referrers = read(referrers)?;
    let bundles = index.manifests.into_iter().filter(|one| one.artifact_type == BUNDLE);
    let found: Vec<Digest> = bundles.map(|one| one.digest).collect();
    if found.len() > MAX_SIGNATURES {
        let what = format!("there are more than {MAX_SIGNATURES} signatures");
        return Err(TrustError::Document(what));
    }
    Ok(found)
}

/// Returns the digest and the size of the bundle a manifest is about.
///
/// # Errors
///
/// [`TrustError::Document`].
pub fn bundle_of(manifest: &[u8]) -> Result<(Digest, u64), TrustError> {
    let manifest: Manifest = read(manifest)?;
    match &manifest.layers[..] {
        [layer] if layer.media_type == BUNDLE && layer.size <= MAX_BUNDLE as u64 => {
            Ok((layer.digest.clone(), layer.size))
        }
        _ => Err(TrustError::Document("it holds no bundle, or one too long".into())),
    }
}

/// Returns the signatures in the manifest that [`tag_of`] names.
///
/// # Errors
///
/// [`TrustError::Document`].
pub fn attachments(manifest: &[u8]) -> Result<Vec<Attachment>, TrustError> {
    let manifest: Manifest = read(manifest)?;
    let mut found = Vec::new();
    for layer in manifest.layers.into_iter().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
        let signature = layer.annotations.as_ref().and_then(|all| all.get(SIGNATURE));
        let signature = signature.ok_or_else(|| {
            TrustError::Document(format!("layer {} has no `{SIGNATURE}`", layer.digest.short()))
        })?;
        if layer.size > MAX_CLAIM as u64 {
            return Err(TrustError::Document(format!("a claim is longer than {MAX_CLAIM} bytes")));
        }
        let signature = decoded(signature)?;
        found.push(Attachment { claim: layer.digest, size: layer.size, signature });
        if found.len() > MAX_SIGNATURES {
            let what = format!("there are more than {MAX_SIGNATURES} signatures");
            return Err(TrustError::Document(what));
        }
    }
    Ok(found)
}

/// Returns the signatures in a bundle.
///
/// # Errors
///
/// [`TrustError::Document`], [`TrustError::Claim`].
pub fn bundled(bundle: &[u8]) -> Result<Vec<Signed>, TrustError> {
    let bundle: Bundle = read(bundle)?;
    if bundle.media_type != BUNDLE {
        return Err(TrustError::Document("it is a bundle of another version".into()));
    }
    let Envelope { payload, payload_type, signatures } = bundle.dsse_envelope;
    if payload_type != IN_TOTO {
        return Err(TrustError::Document("it signs what is no statement".into()));
    }
    if signatures.len() > MAX_SIGNATURES {
        let what = format!("there are more than {MAX_SIGNATURES} signatures");
        return Err(TrustError::Document(what));
    }
    let payload = decoded(&payload)?;
    let claim = Claim::statement(&payload)?;
    let message = pre_authentication(&payload_type, &payload);
    let signed = signatures.into_iter().map(|one| {
        let signature = decoded(&one.sig)?;
        Ok(Signed { claim: claim.clone(), message: message.clone(), signature })
    });
    signed.collect()
}

/// What is signed of an envelope (DSSE, "PAE").
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, TrustError> {
    if bytes.len() > MAX_BUNDLE {
        return Err(TrustError::Document(format!("they take more than {MAX_BUNDLE} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| TrustError::Document(error.to_string()))
}

fn decoded(text: &str) -> Result<Vec<u8>, TrustError> {
    STANDARD.decode(text).map_err(|_| TrustError::Document("something is no base64".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_tag_is_the_digest_spelled_so_that_it_is_one() {
        let digest = Digest::parse(&format!("sha256:{}", "e".repeat(64))).unwrap();
        assert_eq!(tag_of(&digest), format!("sha256-{}.sig", "e".repeat(64)));
    }

    #[test]
    fn signatures_without_a_signature_are_none() {
        let digest = format!("sha256:{}", "e".repeat(64));
        let layer = |annotations: serde_json::Value, size: u64| {
            json!({"layers": [
                {"mediaType": "application/other", "digest": digest, "size": 1},
                {"mediaType": SIMPLE_SIGNING, "digest": digest, "size": size,
                 "annotations": annotations},
            ]})
            .to_string()
        };
        let found = attachments(layer(json!({SIGNATURE: "QUJD"}), 10).as_bytes()).unwrap();
        assert_eq!((found.len(), &found[0].signature[..]), (1, &b"ABC"[..]));
        assert!(attachments(layer(json!({}), 10).as_bytes()).is_err());
        assert!(attachments(layer(json!(null), 10).as_bytes()).is_err());
        assert!(attachments(layer(json!({SIGNATURE: "?"}), 10).as_bytes()).is_err());
        assert!(attachments(layer(json!({SIGNATURE: "QUJD"}), 1 << 30).as_bytes()).is_err());
        assert!(bundled(b"{}").is_err());
    }

    #[test]
    fn an_envelope_is_signed_with_its_type_and_lengths() {
        assert_eq!(pre_authentication("a/b", b"hi you"), b"DSSEv1 3 a/b 6 hi you");
    }
}
