//! Signing: what cosign writes beside an image, made with a private key of the caller's.
//!
//! ```text
//! digest, name ─▶ claim (simple signing) ─▶ signature by the key ─▶ a layer with an annotation
//! ```
//!
//! Pure but for reading the key's file. Source: cosign `specs/SIGNATURE_SPEC.md`.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_abi::Digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::cosign::{SIGNATURE, SIMPLE_SIGNING};
use super::error::TrustError;
use super::keys::read;
use crate::hash;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A private key that signs as cosign verifies: with SHA-256, over the claim.
pub enum SigningKey {
    /// On P-256.
    Ecdsa(Box<EcdsaKeyPair>),
    /// Ed25519, which hashes by itself.
    Ed25519(Box<Ed25519KeyPair>),
    /// With the padding of PKCS #1 1.5.
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Reads a key of PEM (`-----BEGIN PRIVATE KEY-----`, PKCS #8 without a password).
    ///
    /// # Errors
    ///
    /// [`TrustError::Key`] for what cannot be read, [`TrustError::NoPrivateKey`] for what is none.
    pub fn from_file(path: &Path) -> Result<Self, TrustError> {
        let no_key = |why| TrustError::NoPrivateKey { path: path.to_owned(), why };
        let pem = read(path)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| no_key("it has no `-----BEGIN PRIVATE KEY-----`"))?;
        let der = key.secret_pkcs8_der();
        let random = SystemRandom::new();
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return Ok(Self::Ecdsa(Box::new(key)));
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::Ed25519(Box::new(key)));
        }
        RsaKeyPair::from_pkcs8(der)
            .map(|key| Self::Rsa(Box::new(key)))
            .map_err(|_| no_key("it must be ECDSA on P-256, Ed25519 or RSA, without a password"))
    }

    /// Signs a message.
    ///
    /// # Errors
    ///
    /// [`TrustError::Unsigned`] where the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TrustError> {
        let random = SystemRandom::new();
        let unsigned = |_| TrustError::Unsigned;
        match self {
            Self::Ecdsa(key) => {
                key.sign(&random, message).map(|made| made.as_ref().to_vec()).map_err(unsigned)
            }
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut made = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut made).map_err(unsigned)?;
                Ok(made)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa(_) => "SigningKey::Ecdsa",
            Self::Ed25519(_) => "SigningKey::Ed25519",
            Self::Rsa(_) => "SigningKey::Rsa",
        })
    }
}

/// Documents that say: the image `digest` is the one called `name`.
#[derive(Clone, Debug)]
pub struct SignatureDocuments {
    /// The claim, which is a blob.
    pub claim: Vec<u8>,
    /// A configuration, as every manifest has.
    pub config: Vec<u8>,
    /// The manifest, with the signatures that were there before.
    pub manifest: Vec<u8>,
    /// What the manifest is.
    pub media_type: &'static str,
}

/// Signs, and adds the signature to those of `before`, the manifest that lies beside the image.
///
/// # Errors
///
/// [`TrustError::Document`] if `before` is no manifest of signatures; those of the key.
pub fn signed(
    key: &SigningKey,
    (digest, name): (&Digest, &str),
    before: Option<&[u8]>,
) -> Result<SignatureDocuments, TrustError> {
    let claim = json!({
        "critical": {
            "identity": { "docker-reference": name },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let claim = claim.to_string().into_bytes();
    let mut layers = match before {
        None => Vec::new(),
        Some(bytes) => {
            let manifest: Value = serde_json::from_slice(bytes)
                .map_err(|error| TrustError::Document(error.to_string()))?;
            let layers = manifest["layers"].as_array().cloned();
            layers.ok_or_else(|| TrustError::Document("they have no `layers`".to_owned()))?
        }
    };
    layers.push(json!({
        "mediaType": SIMPLE_SIGNING,
        "digest": hash::of(digest.algorithm(), &claim),
        "size": claim.len(),
        "annotations": { SIGNATURE: STANDARD.encode(key.sign(&claim)?) },
    }));
    let ids: Vec<Value> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({
        "architecture": "", "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": CONFIG,
            "digest": hash::of(digest.algorithm(), &config),
            "size": config.len(),
        },
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    Ok(SignatureDocuments { claim, config, manifest, media_type: MANIFEST })
}
