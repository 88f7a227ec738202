//! What is told of the keys of a keyring, for people: it lets nothing in.

use std::time::SystemTime;

use pgp::composed::SignedPublicKey;
use pgp::types::KeyDetails as _;

use super::keyring::Keyring;
use super::standing::{Moments, certifications, primary_may_sign, subkey_may_sign};

/// The longest user id that is told, in characters: nothing bounds what a key calls itself.
const MAX_USER: usize = 200;

/// What tells a key from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trust) struct Facts {
    /// The fingerprint of the primary key, in upper-case hexadecimal digits.
    pub(in crate::trust) fingerprint: String,
    /// Its id, in the same digits.
    pub(in crate::trust) id: String,
    /// What the key itself says of whose it is, and has not taken back.
    pub(in crate::trust) users: Vec<String>,
    /// Why neither the key nor a subkey of it may sign at the moment.
    pub(in crate::trust) useless: Option<&'static str>,
}

impl Keyring {
    /// Tells of every key, as of `now`.
    pub(in crate::trust) fn facts(&self, now: SystemTime) -> Vec<Facts> {
        self.keys().iter().map(|key| facts(key, Moments::at(now))).collect()
    }
}

fn facts(key: &SignedPublicKey, now: Moments) -> Facts {
    let own = key.details.users.iter().filter(|user| !certifications(key, user).is_empty());
    let by_primary = primary_may_sign(key, now);
    let by_subkey = || key.public_subkeys.iter().any(|it| subkey_may_sign(key, it, now).is_ok());
    Facts {
        fingerprint: super::fingerprint(key),
        id: super::hex(key.primary_key.legacy_key_id().as_ref()),
        users: own.map(|user| plain(user.id.id())).collect(),
        useless: by_primary.err().filter(|_| !by_subkey()),
    }
}

/// Cuts a user id short and keeps it from moving a terminal's cursor.
fn plain(id: &[u8]) -> String {
    let text = String::from_utf8_lossy(id);
    let told = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    told.take(MAX_USER).collect()
}
