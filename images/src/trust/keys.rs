//! Public keys: where a policy has them, and what they verify.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_abi::digest::Algorithm;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;

use super::error::TrustError;
use super::openpgp::Keyring;
use crate::hash;

/// The longest file of keys that is read, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// With what a signature may be verified, of whatever kind the key is. Each is refused by a key of
/// another kind. RSA is the padding of PKCS #1 1.5, as cosign has it.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 6] = [
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ED25519,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
];

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In files.
    Files(Vec<PathBuf>),
    /// In the policy itself.
    Data(Vec<Vec<u8>>),
}

impl KeySource {
    pub(super) fn decoded(texts: &[String]) -> Result<Self, &'static str> {
        let decoded = texts.iter().map(|text| STANDARD.decode(text));
        let keys: Result<_, _> = decoded.collect();
        keys.map(Self::Data).map_err(|_| "a key is no base64")
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Files(files) => files.is_empty(),
            Self::Data(keys) => keys.is_empty(),
        }
    }

    /// Reads the public keys of PEM.
    ///
    /// # Errors
    ///
    /// [`TrustError::Key`], [`TrustError::NoKey`]: one that cannot be read is no reason to make do
    /// with the others.
    pub fn public_keys(&self) -> Result<Vec<PublicKey>, TrustError> {
        match self {
            Self::Files(files) => files
                .iter()
                .map(|path| PublicKey::from_pem(&read(path)?, &format!("`{}`", path.display())))
                .collect(),
            Self::Data(keys) => {
                keys.iter().map(|key| PublicKey::from_pem(key, "a key of the policy")).collect()
            }
        }
    }
}

impl KeySource {
    /// Reads OpenPGP keyrings.
    ///
    /// # Errors
    ///
    /// As [`Self::public_keys`].
    pub fn keyring(&self) -> Result<Keyring, TrustError> {
        let mut keyring = Keyring::default();
        match self {
            Self::Files(files) => {
                for path in files {
                    keyring.join(Keyring::parse(&read(path)?, &format!("`{}`", path.display()))?);
                }
            }
            Self::Data(keys) => {
                for key in keys {
                    keyring.join(Keyring::parse(key, "a key of the policy")?);
                }
            }
        }
        Ok(keyring)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => {
                let files: Vec<_> =
                    files.iter().map(|path| format!("`{}`", path.display())).collect();
                write!(f, "the key in {}", files.join(" or in "))
            }
            Self::Data(keys) if keys.len() == 1 => f.write_str("the key in the policy"),
            Self::Data(keys) => write!(f, "one of {} keys in the policy", keys.len()),
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let unreadable = |why: String| TrustError::Key { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_KEYS + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_KEYS {
        return Err(unreadable(format!("it is longer than {MAX_KEYS} bytes")));
    }
    Ok(bytes)
}

/// A public key: ECDSA on P-256 or P-384, Ed25519 or RSA.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: SubjectPublicKeyInfoDer<'static>,
    of: String,
}

impl PublicKey {
    /// Reads a key of PEM (`-----BEGIN PUBLIC KEY-----`); `of` says whose, for people.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoKey`].
    pub fn from_pem(pem: &[u8], of: &str) -> Result<Self, TrustError> {
        let no_key = |why| TrustError::NoKey { of: of.to_owned(), why };
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| no_key("it has no `-----BEGIN PUBLIC KEY-----`"))?;
        RawPublicKeyEntity::try_from(&spki).map_err(|_| no_key("its content is none"))?;
        Ok(Self { spki, of: of.to_owned() })
    }

    /// Tells whether `signature` is this key's, of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&self.spki) else { return false };
        ALGORITHMS
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }

    /// Returns SHA-256 over the whole key (`SubjectPublicKeyInfo`), in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hash::of(Algorithm::Sha256, &self.spki).hex().to_owned()
    }

    /// Where it is from, for people.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.of
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("of", &self.of).finish_non_exhaustive()
    }
}
