//! Names of pods, apps and volumes, and the id of a pod: parsed once, valid for ever.
//!
//! All names are DNS labels, so that unit, hostname, machine and directory of a pod can bear the
//! same word, and so that no name can be mistaken for a path, an option or an id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::word::word;

/// The longest name: a DNS label (RFC 1035 §2.3.4), also the limit of a Linux hostname less one.
pub const MAX_NAME: usize = 63;

/// Why a word is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}` is no {what}: it takes 1 to {MAX_NAME} of a-z, 0-9 and `-`, with no `-` at either end"
)]
pub struct NameError {
    what: &'static str,
    word: String,
}

fn is_label(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !word.is_empty()
        && word.len() <= MAX_NAME
        && word.bytes().all(inner)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

word! {
    /// The name of an app, unique within its pod.
    AppName, "app name", is_label, NameError
}
word! {
    /// The name of a pod; the newest pod that bears it answers to it.
    PodName, "pod name", is_label, NameError
}
word! {
    /// The name of a volume, unique within its pod.
    VolumeName, "volume name", is_label, NameError
}

impl AppName {
    /// Makes a name out of the last component of an image's repository, as rkt did: letters are
    /// lowered, everything a label cannot hold becomes `-`. `None` if nothing is left.
    #[must_use]
    pub fn from_repository(repository: &str) -> Option<Self> {
        let last = repository.rsplit('/').next().unwrap_or(repository);
        let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let word: String = last.chars().map(label).take(MAX_NAME).collect();
        Self::parse(word.trim_matches('-')).ok()
    }
}

/// The id of a pod: a random UUID (RFC 9562 version 4) in its usual text form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodId(String);

/// Why a word is no pod id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pod id: it takes 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct PodIdError(String);

/// Where the dashes of a UUID stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl PodId {
    /// Makes the id that 16 random bytes stand for.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for byte in bytes {
            if DASHES.contains(&text.len()) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    /// Parses the text form, lower case only.
    ///
    /// # Errors
    ///
    /// [`PodIdError`] for everything else, so that an id can safely become a file name.
    pub fn parse(word: &str) -> Result<Self, PodIdError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits =
            |(at, byte): (usize, u8)| if DASHES.contains(&at) { byte == b'-' } else { digit(byte) };
        if word.len() == 36 && word.bytes().enumerate().all(fits) {
            Ok(Self(word.to_owned()))
        } else {
            Err(PodIdError(word.chars().take(80).collect()))
        }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first eight digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PodId {
    type Error = PodIdError;

    fn try_from(word: String) -> Result<Self, PodIdError> {
        Self::parse(&word)
    }
}

impl From<PodId> for String {
    fn from(id: PodId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert!(PodName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "..", "a b", "a\n", "ä", &"x".repeat(64)] {
            assert!(PodName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_app_is_named_after_the_last_component_of_its_repository() {
        let name = |repository| AppName::from_repository(repository).map(String::from);
        assert_eq!(name("library/redis").as_deref(), Some("redis"));
        assert_eq!(name("corp/My_App.v2").as_deref(), Some("my-app-v2"));
        assert_eq!(name("corp/__"), None);
    }

    #[test]
    fn an_id_survives_its_text_form() {
        let id = PodId::from_random([0xab; 16]);
        assert_eq!(id.as_str(), "abababab-abab-4bab-abab-abababababab");
        assert_eq!(PodId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn an_id_is_nothing_but_a_uuid() {
        for bad in [
            "",
            "abab",
            "../../../../../../../etc/passwd/aaaaa",
            "ABABABAB-abab-4bab-abab-abababababab",
        ] {
            assert!(PodId::parse(bad).is_err(), "{bad}");
        }
    }
}
