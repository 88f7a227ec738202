//! Whether a key may sign: what its owner last said of it.
//!
//! The library tells whether a signature is a key's, not whether the key was allowed to make it.
//! Every statement about a key is a signature, too, and the newest one counts: an older one has
//! been taken back. So the newest is looked for among all that are genuine, however weak, and only
//! then has to be strong: a weak one that shortens a key's life is not overlooked.

use std::time::{SystemTime, UNIX_EPOCH};

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails, KeyVersion, PublicParams, SignedUser, Tag};

/// By how much another computer's clock may be ahead, in seconds.
const SKEW: u64 = 24 * 60 * 60;
/// The shortest RSA key that may sign, in bits.
const MIN_RSA: u16 = 2048;

/// When a signature is judged and when it was made, in seconds of Unix.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    now: u64,
    signed: u64,
}

impl Moments {
    pub(super) fn of(signature: &Signature, now: SystemTime) -> Result<Self, &'static str> {
        let signed =
            u64::from(signature.created().ok_or("it says not when it was made")?.as_secs());
        Ok(Self { signed, ..Self::at(now) })
    }

    /// Those of a signature that is made and judged now.
    pub(super) fn at(now: SystemTime) -> Self {
        // Before 1970 everything is of the future, and refused.
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { now, signed: now }
    }
}

/// Tells whether the primary key may sign.
pub(super) fn primary_may_sign(
    key: &SignedPublicKey,
    moments: Moments,
) -> Result<(), &'static str> {
    if standing(key, moments)?.iter().all(|statement| statement.key_flags().sign()) {
        return Ok(());
    }
    Err("its key is not one for signatures")
}

/// Tells whether a subkey may sign, which its primary key must allow.
pub(super) fn subkey_may_sign(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    moments: Moments,
) -> Result<(), &'static str> {
    standing(key, moments)?;
    strong(&subkey.key)?;
    let revoked = |it: &Signature| it.typ() == Some(SignatureType::SubkeyRevocation);
    if subkey.signatures.iter().any(revoked) {
        return Err("its subkey is revoked");
    }
    let bindings = subkey.signatures.iter().filter(|binding| {
        binding.typ() == Some(SignatureType::SubkeyBinding)
            && binding.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok()
    });
    let bindings = newest(bindings);
    if bindings.is_empty() {
        return Err("its subkey is not bound to its key");
    }
    for binding in bindings {
        sound(binding, moments)?;
        alive(&subkey.key, binding.key_expiration_time(), moments)?;
        if !binding.key_flags().sign() {
            return Err("its subkey is not one for signatures");
        }
        bound_back(key, subkey, binding, moments)?;
    }
    Ok(())
}

/// Whoever has no subkey's secret cannot pass it off as theirs: the subkey has signed, too.
fn bound_back(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    binding: &Signature,
    moments: Moments,
) -> Result<(), &'static str> {
    let back = binding.embedded_signature().ok_or("its subkey does not own up to its key")?;
    back.verify_primary_key_binding(&subkey.key, &key.primary_key)
        .map_err(|_| "its subkey does not own up to its key")?;
    sound(back, moments)
}

/// What the owner of a key last said of it, if it is good for anything.
fn standing(key: &SignedPublicKey, moments: Moments) -> Result<Vec<&Signature>, &'static str> {
    strong(&key.primary_key)?;
    // Whoever revoked it and for whatever reason: it may be one who was appointed, whose key we
    // have not.
    if !key.details.revocation_signatures.is_empty() {
        return Err("its key is revoked");
    }
    let direct = key.details.direct_signatures.iter().filter(|direct| {
        direct.typ() == Some(SignatureType::Key) && direct.verify_key(&key.primary_key).is_ok()
    });
    let users = key.details.users.iter().flat_map(|user| certifications(key, user));
    let statements = newest(direct.chain(users));
    if statements.is_empty() {
        return Err("its key has no signature of its own");
    }
    for statement in &statements {
        sound(statement, moments)?;
        alive(&key.primary_key, statement.key_expiration_time(), moments)?;
    }
    Ok(statements)
}

/// What a key last said of one of its names: nothing that counts if it took the name back.
pub(super) fn certifications<'a>(
    key: &SignedPublicKey,
    user: &'a SignedUser,
) -> Vec<&'a Signature> {
    let own = user.signatures.iter().filter(|statement| {
        statement.verify_certification(&key.primary_key, Tag::UserId, &user.id).is_ok()
    });
    let own = newest(own);
    let taken_back = |it: &&Signature| it.typ() == Some(SignatureType::CertRevocation);
    if own.iter().any(taken_back) { Vec::new() } else { own }
}

/// The newest of some signatures: several if they were made in the same second.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Vec<&'a Signature> {
    let mut signatures: Vec<_> = signatures.collect();
    let last = signatures.iter().filter_map(|signature| signature.created()).max();
    signatures.retain(|signature| signature.created() == last);
    signatures
}

/// Tells whether a signature, of whatever kind, is of a form that still convinces, and in force.
pub(super) fn sound(signature: &Signature, moments: Moments) -> Result<(), &'static str> {
    if signature.version() != SignatureVersion::V4 {
        return Err("a signature is not of version 4");
    }
    let hash = signature.hash_alg();
    if !matches!(hash, Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
    {
        return Err("a signature is over a hash that is not SHA-2");
    }
    if !understood(signature) {
        return Err("a signature has a critical part that is unknown");
    }
    let created = signature.created().ok_or("a signature says not when it was made")?;
    let created = u64::from(created.as_secs());
    if created > moments.now.saturating_add(SKEW) {
        return Err("a signature was made in the future");
    }
    match end(created, signature.signature_expiration_time()) {
        Some(end) if end <= moments.now => Err("a signature has expired"),
        _ => Ok(()),
    }
}

/// Tells whether we heed every part that a signature does not want to be overlooked.
fn understood(signature: &Signature) -> bool {
    let Some(config) = signature.config() else { return false };
    let mut critical = config
        .hashed_subpackets()
        .chain(config.unhashed_subpackets())
        .filter(|subpacket| subpacket.is_critical);
    critical.all(|subpacket| {
        matches!(
            subpacket.data,
            SubpacketData::SignatureCreationTime(_)
                | SubpacketData::SignatureExpirationTime(_)
                | SubpacketData::KeyExpirationTime(_)
                | SubpacketData::KeyFlags(_)
                | SubpacketData::IssuerKeyId(_)
                | SubpacketData::IssuerFingerprint(_)
                | SubpacketData::EmbeddedSignature(_)
                | SubpacketData::IsPrimary(_)
                | SubpacketData::Features(_)
                | SubpacketData::ExportableCertification(_)
                | SubpacketData::Revocable(_)
        )
    })
}

/// Tells whether a key was and is in force.
fn alive(
    key: &impl KeyDetails,
    lifetime: Option<Duration>,
    moments: Moments,
) -> Result<(), &'static str> {
    let created = u64::from(key.created_at().as_secs());
    if moments.signed < created {
        return Err("it is older than its key");
    }
    match end(created, lifetime) {
        Some(end) if end <= moments.signed || end <= moments.now => Err("its key has expired"),
        _ => Ok(()),
    }
}

/// When something ends; no lifetime and one of nothing are without an end.
fn end(created: u64, lifetime: Option<Duration>) -> Option<u64> {
    let lifetime = lifetime.map(Duration::as_secs).filter(|seconds| *seconds != 0)?;
    Some(created.saturating_add(u64::from(lifetime)))
}

/// Tells whether a key is of a kind and a length that still convinces.
fn strong(key: &impl KeyDetails) -> Result<(), &'static str> {
    if key.version() != KeyVersion::V4 {
        return Err("its key is not of version 4");
    }
    match key.public_params() {
        PublicParams::RSA(rsa) => {
            // Its bits are the first thing that is written of it.
            let bytes = rsa.to_bytes().map_err(|_| "its key is broken")?;
            let bits = bytes.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits));
            if bits < MIN_RSA { Err("its RSA key is shorter than 2048 bits") } else { Ok(()) }
        }
        PublicParams::ECDSA(_) | PublicParams::EdDSALegacy(_) | PublicParams::Ed25519(_) => Ok(()),
        _ => Err("its key is of a kind that may not sign"),
    }
}
