//! The keys that may sign, as `gpg --export` writes them.

use std::vec;

use pgp::composed::{SignedPublicKey, SignedPublicKeyParser};
use pgp::packet::{Packet, Signature, SignatureType};
use pgp::types::{KeyDetails as _, KeyVersion, Tag};

use super::armor::{Block, dearmored};
use super::packets::{Raw, packets};
use crate::trust::error::TrustError;

/// Keys that may sign: one or several OpenPGP keyrings.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads keyrings, binary or armored; an armored file may hold several blocks one after
    /// another. `origin` says whose, for people.
    ///
    /// # Errors
    ///
    /// [`TrustError::NoKey`]: a packet that cannot be read might be the revocation of its key, so
    /// it is no reason to make do with the others.
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self, TrustError> {
        let no_key = |why| TrustError::NoKey { of: origin.to_owned(), why };
        let bytes = dearmored(bytes, Block::Keys).map_err(no_key)?;
        let groups = grouped(packets(&bytes).map_err(no_key)?).map_err(no_key)?;
        if groups.is_empty() {
            return Err(no_key("it has no key"));
        }
        let mut keyring = Self { keys: Vec::new() };
        for group in groups {
            keyring.add(read_key(group).map_err(no_key)?);
        }
        Ok(keyring)
    }

    /// Takes over the keys of another keyring. What both say of the same key is put together: a
    /// revocation counts wherever it is from.
    pub fn join(&mut self, other: Self) {
        for key in other.keys {
            self.add(key);
        }
    }

    pub(super) fn keys(&self) -> &[SignedPublicKey] {
        &self.keys
    }

    fn add(&mut self, key: SignedPublicKey) {
        match self.keys.iter_mut().find(|known| known.primary_key == key.primary_key) {
            Some(known) => merge(known, key),
            None => self.keys.push(key),
        }
    }
}

fn merge(known: &mut SignedPublicKey, other: SignedPublicKey) {
    known.details.revocation_signatures.extend(other.details.revocation_signatures);
    known.details.direct_signatures.extend(other.details.direct_signatures);
    for user in other.details.users {
        match known.details.users.iter_mut().find(|known| known.id == user.id) {
            Some(known) => known.signatures.extend(user.signatures),
            None => known.details.users.push(user),
        }
    }
    for subkey in other.public_subkeys {
        match known.public_subkeys.iter_mut().find(|known| known.key == subkey.key) {
            Some(known) => known.signatures.extend(subkey.signatures),
            None => known.public_subkeys.push(subkey),
        }
    }
}

/// The packets of each key, of which the first is the key itself.
fn grouped(packets: Vec<Raw>) -> Result<Vec<Vec<Packet>>, &'static str> {
    let mut groups: Vec<Vec<Packet>> = Vec::new();
    for Raw { header, body } in packets {
        match header.tag() {
            // gpg's own notes, in the keyrings it keeps.
            Tag::Trust | Tag::Marker => continue,
            Tag::SecretKey | Tag::SecretSubkey => return Err("it holds a secret key"),
            Tag::PublicKey => groups.push(Vec::new()),
            _ => {}
        }
        let group = groups.last_mut().ok_or("it does not begin with a key")?;
        let packet = Packet::from_reader(header, &body[..]);
        group.push(packet.map_err(|_| "a packet of it cannot be read")?);
    }
    Ok(groups)
}

fn read_key(packets: Vec<Packet>) -> Result<SignedPublicKey, &'static str> {
    let revocations = packets.iter().filter(|packet| is_revocation(packet)).count();
    let packets: vec::IntoIter<_> = packets.into_iter();
    let mut parser = SignedPublicKeyParser::from_packets(packets.map(Ok).peekable());
    let key = parser.next().and_then(Result::ok).ok_or("a key of it is none")?;
    // The library drops what stands where it does not belong, and a revocation must not get lost.
    if parser.into_inner().next().is_some() || revocations_of(&key) != revocations {
        return Err("the packets of a key are in no order they may be in");
    }
    if key.primary_key.version() != KeyVersion::V4 {
        return Err("a key of it is not of version 4");
    }
    Ok(key)
}

fn is_revocation(packet: &Packet) -> bool {
    let Packet::Signature(signature) = packet else { return false };
    matches!(signature.typ(), Some(SignatureType::KeyRevocation | SignatureType::SubkeyRevocation))
}

/// How many revocations of a key and its subkeys have been read.
fn revocations_of(key: &SignedPublicKey) -> usize {
    let of_subkeys = key.public_subkeys.iter().flat_map(|subkey| &subkey.signatures);
    let revocation = |it: &&Signature| it.typ() == Some(SignatureType::SubkeyRevocation);
    key.details.revocation_signatures.len() + of_subkeys.filter(revocation).count()
}
