//! Signatures of OpenPGP, as `gpg --sign` and `skopeo copy --sign-by` make them.
//!
//! ```text
//! keyring ──▶ Keyring ──┐
//! message ──▶ packets ──┴─▶ whose signature ─▶ may that key sign? ─▶ content, fingerprint
//! ```
//!
//! Reading packets and the mathematics are the library's (rPGP). What it leaves to its callers is
//! here: which shape a message has, which hashes and keys still convince, and whether a key was
//! revoked, has expired or was never one for signatures. In doubt it is refused.

mod armor;
mod facts;
mod keyring;
mod packets;
mod standing;

use std::io::Read;
use std::time::SystemTime;

use pgp::composed::SignedPublicKey;
use pgp::line_writer::LineBreak;
use pgp::normalize_lines::NormalizedReader;
use pgp::packet::{Signature, SignatureConfig, SignatureType};
use pgp::types::{KeyDetails, VerifyingKey};

use self::armor::{Block, dearmored};
use self::standing::{Moments, primary_may_sign, sound, subkey_may_sign};
use super::error::TrustError;

pub(super) use self::facts::Facts;
pub use self::keyring::Keyring;

/// What was signed, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What was signed. If it was signed as text (`--textmode`), the ends of its lines were not.
    pub content: Vec<u8>,
    /// The fingerprint of the primary key, in upper-case hexadecimal digits.
    pub fingerprint: String,
}

impl Keyring {
    /// Verifies a message that has its content in it, as `gpg --sign` writes it: binary, of 4 MiB
    /// at most, with a content of 64 KiB at most and just one signature.
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`].
    pub fn open(&self, message: &[u8], now: SystemTime) -> Result<Opened, TrustError> {
        let message = packets::signed_message(message).map_err(refused)?;
        let fingerprint = self.signer(&message.signature, &mut &message.content[..], now)?;
        Ok(Opened { content: message.content, fingerprint })
    }

    /// Verifies a signature of `content` that is apart from it, as `gpg --detach-sign` writes it,
    /// armored or not. Returns the fingerprint of the primary key, as in [`Opened`].
    ///
    /// # Errors
    ///
    /// [`TrustError::Signature`]; also if `content` cannot be read.
    pub fn verify_detached(
        &self,
        signature: &[u8],
        content: &mut dyn Read,
        now: SystemTime,
    ) -> Result<String, TrustError> {
        let packets = dearmored(signature, Block::Signature).map_err(refused)?;
        let signature = packets::detached(&packets).map_err(refused)?;
        self.signer(&signature, content, now)
    }

    fn signer(
        &self,
        signature: &Signature,
        content: &mut dyn Read,
        now: SystemTime,
    ) -> Result<String, TrustError> {
        let moments = Moments::of(signature, now).map_err(refused)?;
        sound(signature, moments).map_err(refused)?;
        let digest = digest(signature, content).map_err(refused)?;
        // Two keys may share a subkey: one of them that may use it is enough.
        let mut why = "none of the keys made it";
        for key in self.keys() {
            match made(key, signature, &digest, moments) {
                Some(Ok(())) => return Ok(fingerprint(key)),
                Some(Err(reason)) => why = reason,
                None => {}
            }
        }
        Err(refused(why))
    }
}

/// Tells whether a key or a subkey of it made a signature, and whether it may.
fn made(
    key: &SignedPublicKey,
    signature: &Signature,
    digest: &[u8],
    moments: Moments,
) -> Option<Result<(), &'static str>> {
    if is_of(&key.primary_key, signature, digest) {
        return Some(primary_may_sign(key, moments));
    }
    let subkey = key.public_subkeys.iter().find(|it| is_of(&it.key, signature, digest))?;
    Some(subkey_may_sign(key, subkey, moments))
}

fn is_of(key: &impl VerifyingKey, signature: &Signature, digest: &[u8]) -> bool {
    let Some(config) = signature.config() else { return false };
    let Some(bytes) = signature.signature() else { return false };
    named(key, signature)
        && config.pub_alg == key.algorithm()
        && key.verify(config.hash_alg, digest, bytes).is_ok()
}

/// Tells whether a signature names this key as its maker, and no other.
fn named(key: &impl KeyDetails, signature: &Signature) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    let identifiers = signature.issuer_key_id();
    !(fingerprints.is_empty() && identifiers.is_empty())
        && fingerprints.iter().all(|fingerprint| **fingerprint == key.fingerprint())
        && identifiers.iter().all(|identifier| **identifier == key.legacy_key_id())
}

/// What a signature of a document signs, hashed.
fn digest(signature: &Signature, content: &mut dyn Read) -> Result<Box<[u8]>, &'static str> {
    let config = signature.config().ok_or("it is of an unknown version")?;
    let digest = hashed(config, content)?;
    // The signature has them in plain; the library asks for the same.
    let start = signature.signed_hash_value();
    if digest.first_chunk().copied() != start {
        return Err("it is of another content");
    }
    Ok(digest)
}

fn hashed(config: &SignatureConfig, content: &mut dyn Read) -> Result<Box<[u8]>, &'static str> {
    let mut hasher = config.hash_alg.new_hasher().map_err(|_| "its hash is unknown")?;
    let read = match config.typ() {
        SignatureType::Binary => config.hash_data_to_sign(&mut hasher, content),
        SignatureType::Text => {
            let lines = NormalizedReader::new(content, LineBreak::Crlf);
            config.hash_data_to_sign(&mut hasher, lines)
        }
        _ => return Err("it is not the signature of a document"),
    };
    read.map_err(|_| "its content cannot be read")?;
    let length = config.hash_signature_data(&mut hasher);
    let length = length.map_err(|_| "its parts contradict each other")?;
    let trailer = config.trailer(length).map_err(|_| "its parts contradict each other")?;
    hasher.update(&trailer);
    Ok(hasher.finalize())
}

fn fingerprint(key: &SignedPublicKey) -> String {
    hex(key.primary_key.fingerprint().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn refused(why: &'static str) -> TrustError {
    TrustError::Signature(why)
}

#[cfg(test)]
mod tests;
