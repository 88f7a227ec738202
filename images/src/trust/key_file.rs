//! Files of public keys of whichever kind: which one it is, and what tells its keys from others.
//!
//! ```text
//! -----BEGIN PUBLIC KEY-----             a key of cosign (PEM)
//! -----BEGIN PGP PUBLIC KEY BLOCK-----   keys of OpenPGP, armored
//! a byte that no text begins with        keys of OpenPGP
//! ```
//!
//! The content decides, never the name of the file. What holds a private key is refused, whatever
//! else it holds: it is in the wrong place.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::TrustError;
use super::keys::{KeySource, PublicKey, read};
use super::openpgp::{self, Keyring};
use super::policy::Requirement;

/// The line before a key of PEM.
const PEM: &str = "-----BEGIN PUBLIC KEY-----";

/// A file of public keys.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// The one key that a signature of cosign may be by.
    Cosign(PublicKey),
    /// Those that a signature of OpenPGP may be by.
    OpenPgp(Keyring),
}

/// What tells a key from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// What it verifies: `cosign` or `OpenPGP`.
    pub kind: &'static str,
    /// The hash of the whole key in hexadecimal digits: for cosign SHA-256 over its
    /// `SubjectPublicKeyInfo`, for OpenPGP the fingerprint of the primary key.
    pub fingerprint: String,
    /// The key id of OpenPGP.
    pub id: Option<String>,
    /// Whose it says it is: the user ids of OpenPGP. Nobody has checked them.
    pub users: Vec<String>,
    /// Why nothing it signs now would count.
    pub useless: Option<&'static str>,
}

/// A place of keys that a requirement names, and the keys there.
#[derive(Clone, Debug)]
pub struct KeyPlace {
    /// The file; none for the policy itself.
    pub path: Option<PathBuf>,
    /// The keys, or why there are none.
    pub keys: Result<Vec<KeyFacts>, TrustError>,
}

impl KeyFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`TrustError::Key`] for what cannot be read, [`TrustError::NoKey`] for what holds no public
    /// key, or another one beside it that a policy would pass over.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        Self::parse(&read(path)?, &format!("`{}`", path.display()))
    }

    fn parse(bytes: &[u8], of: &str) -> Result<Self, TrustError> {
        let no_key = |why| Err(TrustError::NoKey { of: of.to_owned(), why });
        let text = String::from_utf8_lossy(bytes);
        let lines = || text.lines().map(str::trim_end);
        let begins = |line: &str| line.starts_with("-----BEGIN ");
        if lines().any(|line| begins(line) && line.contains("PRIVATE KEY")) {
            return no_key("it holds a private key, which belongs to whoever signs");
        }
        let keys = lines().filter(|line| *line == PEM).count();
        let is_armored = lines().any(|line| line.starts_with("-----BEGIN PGP "));
        match (bytes.first().is_some_and(|first| first & 0x80 != 0), is_armored, keys) {
            (true, ..) | (_, true, 0) => Keyring::parse(bytes, of).map(Self::OpenPgp),
            (_, true, _) => no_key("it holds keys of cosign and of OpenPGP"),
            (_, _, 1) => PublicKey::from_pem(bytes, of).map(Self::Cosign),
            (_, _, 0) => no_key("it begins neither as PEM nor as OpenPGP"),
            _ => no_key("it holds several keys, and a file of PEM takes one"),
        }
    }
}

impl PublicKey {
    fn facts(&self) -> KeyFacts {
        KeyFacts {
            kind: "cosign",
            fingerprint: self.fingerprint(),
            id: None,
            users: Vec::new(),
            useless: None,
        }
    }
}

fn told(keyring: &Keyring, now: SystemTime) -> Vec<KeyFacts> {
    let one = |facts: openpgp::Facts| {
        let openpgp::Facts { fingerprint, id, users, useless } = facts;
        KeyFacts { kind: "OpenPGP", fingerprint, id: Some(id), users, useless }
    };
    keyring.facts(now).into_iter().map(one).collect()
}

impl Requirement {
    /// Returns the places of the keys that are asked for, with what they hold at `now`.
    #[must_use]
    pub fn keys(&self, now: SystemTime) -> Vec<KeyPlace> {
        let of_pem = |source: &KeySource| {
            source.public_keys().map(|keys| keys.iter().map(PublicKey::facts).collect())
        };
        let of_openpgp = |source: &KeySource| source.keyring().map(|keyring| told(&keyring, now));
        match self {
            Self::SignedBy(asked) => asked.keys.places(&of_openpgp),
            Self::SigstoreSigned(asked) => {
                asked.keys.as_ref().map_or_else(Vec::new, |keys| keys.places(&of_pem))
            }
            Self::InsecureAcceptAnything {} | Self::Reject {} | Self::SignedBaseLayer { .. } => {
                Vec::new()
            }
        }
    }
}

impl KeySource {
    /// Looks into each place for itself: one without keys does not hide the others.
    fn places(&self, read: &dyn Fn(&Self) -> Result<Vec<KeyFacts>, TrustError>) -> Vec<KeyPlace> {
        let place =
            |path: Option<&PathBuf>, source| KeyPlace { path: path.cloned(), keys: read(&source) };
        match self {
            Self::Files(files) => files
                .iter()
                .map(|path| place(Some(path), Self::Files(vec![path.clone()])))
                .collect(),
            Self::Data(keys) => {
                keys.iter().map(|key| place(None, Self::Data(vec![key.clone()]))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On P-256, as `openssl pkey -pubout` writes it.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEUPMgW/vkFYvypcu2gw4Ew1+9CfKm\n\
        18XPn6VRKyhw3Pd732Stk2o0DM2V5xoLumzdq3TEvbNXelR4r8SKQQ3SoQ==\n\
        -----END PUBLIC KEY-----\n";

    fn why(bytes: &[u8]) -> String {
        KeyFile::parse(bytes, "`f`").unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_known_by_the_hash_that_openssl_gives() {
        let KeyFile::Cosign(key) = KeyFile::parse(KEY.as_bytes(), "f").unwrap() else { panic!() };
        let sum = "17d2cb740bb887de61af8528cecb5fcd4e46f19dd170035714e083514ebe39fb";
        assert_eq!(key.facts().fingerprint, sum);
    }

    #[test]
    fn the_content_says_what_a_file_is() {
        let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let encrypted = private.replace("PRIVATE", "ENCRYPTED SIGSTORE PRIVATE");
        let armored = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n";
        for text in [private, &encrypted, armored, &format!("{KEY}{private}")] {
            assert!(why(text.as_bytes()).contains("a private key"), "{text}");
        }
        let public =
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n";
        for (bytes, expected) in [
            (&b""[..], "neither as PEM nor as OpenPGP"),
            (b"no key", "neither as PEM nor as OpenPGP"),
            (b"\x30\x59\x30\x13", "neither as PEM nor as OpenPGP"),
            (b"\xff\xff\xff", "OpenPGP packets"),
            (format!("{KEY}{KEY}").as_bytes(), "several keys"),
            (format!("{KEY}{public}").as_bytes(), "of cosign and of OpenPGP"),
            (b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n", "a block of another kind"),
        ] {
            assert!(why(bytes).contains(expected), "{}", why(bytes));
        }
    }

    #[test]
    fn one_place_without_keys_does_not_hide_the_others() {
        let source = KeySource::Files(vec!["/nowhere/a".into(), "/nowhere/b".into()]);
        let read = |source: &KeySource| source.public_keys().map(|_| Vec::new());
        let places = source.places(&read);
        assert_eq!(places.len(), 2);
        assert!(places.iter().all(|place| place.path.is_some() && place.keys.is_err()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>) {
            let _ = KeyFile::parse(&bytes, "f");
        }
    }
}
