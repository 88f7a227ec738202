//! The words of appc: names, identifiers, hashes, versions, paths.
//!
//! Every function tells whether a word is one, or refuses with the word and what it is of. Source:
//! appc spec 0.8.11, `spec/types.md`.

use std::collections::BTreeMap;

use pod_abi::text;
use serde::{Deserialize, Deserializer};

use super::error::AppcError;

/// `PATH_MAX` without its NUL.
const MAX_PATH: usize = 4095;

/// A name and what it stands for, as lists of appc have them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
}

/// Takes `null` for what is not there, as Go does and its programs write it.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Makes the refusal of the manifest's part `what`, which says `word`.
pub(super) fn refuse(what: &str, word: &str, why: &str) -> AppcError {
    AppcError::Manifest(format!("{what} `{}` {why}", text::tame(word, 80)))
}

/// Checks an AC Identifier: `^[a-z0-9]+([-._~/][a-z0-9]+)*$`.
pub(super) fn identifier(what: &str, word: &str) -> Result<(), AppcError> {
    if joined(word, b"-._~/") { Ok(()) } else { Err(refuse(what, word, "is no AC Identifier")) }
}

/// Checks an AC Name: `^[a-z0-9]+(-[a-z0-9]+)*$`.
pub(super) fn name(what: &str, word: &str) -> Result<(), AppcError> {
    if joined(word, b"-") { Ok(()) } else { Err(refuse(what, word, "is no AC Name")) }
}

fn joined(word: &str, joints: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    word.as_bytes()
        .split(|byte| joints.contains(byte))
        .all(|part| !part.is_empty() && part.iter().all(plain))
}

/// Checks an image ID in full: rkt took shortened ones too, which several images may share.
pub(super) fn image_id(what: &str, word: &str) -> Result<(), AppcError> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match word.strip_prefix("sha512-") {
        Some(digits) if digits.len() == 128 && digits.bytes().all(hex) => Ok(()),
        _ => Err(refuse(what, word, "is no full image ID of sha512")),
    }
}

/// Checks that a word begins as a semantic version does.
pub(super) fn version(what: &str, word: &str) -> Result<(), AppcError> {
    let core = word.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| {
        !part.is_empty() && part.len() <= 10 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() == 3 && parts.iter().all(|part| number(part)) {
        Ok(())
    } else {
        Err(refuse(what, word, "is no version"))
    }
}

/// Checks an absolute path that does not go up.
pub(super) fn absolute(what: &str, path: &str) -> Result<(), AppcError> {
    let why = if !path.starts_with('/') {
        "is no absolute path"
    } else if path.len() > MAX_PATH {
        "is longer than 4095 bytes"
    } else if path.split('/').any(|component| component == "..") {
        "goes up"
    } else {
        return plain(what, path);
    };
    Err(refuse(what, path, why))
}

/// Checks text that is to reach the kernel, which ends at a NUL.
pub(super) fn plain(what: &str, word: &str) -> Result<(), AppcError> {
    if word.contains('\0') { Err(refuse(what, word, "has a NUL character")) } else { Ok(()) }
}

/// Makes a map of a list of identifiers that may name each only once.
pub(super) fn map(what: &str, pairs: Vec<Pair>) -> Result<BTreeMap<String, String>, AppcError> {
    let mut map = BTreeMap::new();
    for Pair { name, value } in pairs {
        identifier(what, &name)?;
        if map.contains_key(&name) {
            return Err(refuse(what, &name, "is there twice"));
        }
        map.insert(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_names_are_lower_case_and_joined_singly() {
        for (word, is_identifier, is_name) in [
            ("example.com/a-b_c~d", true, false),
            ("web-8080", true, true),
            ("1", true, true),
            ("", false, false),
            ("A", false, false),
            ("a--b", false, false),
            ("a-", false, false),
            ("/a", false, false),
            ("a b", false, false),
            ("é", false, false),
        ] {
            assert_eq!(identifier("name", word).is_ok(), is_identifier, "{word}");
            assert_eq!(name("name", word).is_ok(), is_name, "{word}");
        }
    }

    #[test]
    fn hashes_and_versions_are_whole() {
        assert!(image_id("id", &format!("sha512-{}", "0f".repeat(64))).is_ok());
        for bad in ["", "sha512-", "sha512-abc", "sha256-00"] {
            assert!(image_id("id", bad).is_err(), "{bad}");
        }
        assert!(image_id("id", &format!("sha512-{}", "0F".repeat(64))).is_err());
        for (word, good) in [("0.8.11", true), ("1.0.0-rc.1+x", true), ("1.0", false), ("", false)]
        {
            assert_eq!(version("acVersion", word).is_ok(), good, "{word}");
        }
    }

    #[test]
    fn paths_begin_at_the_root_and_stay_there() {
        for (path, good) in
            [("/", true), ("/a/b/", true), ("", false), ("a", false), ("/a/../b", false)]
        {
            assert_eq!(absolute("path", path).is_ok(), good, "{path}");
        }
        assert!(absolute("path", "/a\0").is_err());
        assert!(absolute("path", &"/a".repeat(3000)).is_err());
    }
}
