//! Content digests: what a blob or a layer is called by.
//!
//! Only sha256 and sha512 in their canonical form parse, so that a digest may become part of a
//! path without a further look. Source: OCI image-spec `descriptor.md`, "Digests".

use std::fmt;

use serde::{Deserialize, Serialize};

/// The hash function of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hexadecimal digits.
    Sha256,
    /// SHA-512, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// Returns the name used in digests and in paths of OCI layouts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest such as `sha256:e3b0…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Why a word is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no digest: it takes `sha256:` and 64, or `sha512:` and 128 lower-case hexadecimal digits"
)]
pub struct DigestError(String);

impl Digest {
    /// Parses `ALGORITHM:HEX`.
    ///
    /// # Errors
    ///
    /// [`DigestError`] for other algorithms, lengths, upper-case digits or anything beside them.
    pub fn parse(word: &str) -> Result<Self, DigestError> {
        let refused = || DigestError(word.chars().take(160).collect());
        let (name, hex) = word.split_once(':').ok_or_else(refused)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(refused()),
        };
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(digit) {
            return Err(refused());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }

    /// Makes the digest whose hash is `bytes`; the length tells the function.
    ///
    /// # Errors
    ///
    /// [`DigestError`] unless there are 32 or 64 bytes.
    pub fn from_hash(bytes: &[u8]) -> Result<Self, DigestError> {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        let hex: String =
            bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let name = if bytes.len() == 64 { "sha512" } else { "sha256" };
        Self::parse(&format!("{name}:{hex}"))
    }

    /// Returns the hash function.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(word: String) -> Result<Self, DigestError> {
        Self::parse(&word)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_digests_parse() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let good = format!("sha256:{hex}");
        assert_eq!(Digest::parse(&good).unwrap().to_string(), good);
        let upper = format!("sha256:{}", hex.to_uppercase());
        let traversal = format!("sha256:../../{}", &hex[6..]);
        for bad in
            ["", "sha256:", hex, "md5:aaaa", &good[..70], &upper, &traversal, &format!("{good}0")]
        {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hash_becomes_the_digest_of_its_length() {
        assert!(Digest::from_hash(&[7; 32]).unwrap().to_string().starts_with("sha256:0707"));
        assert!(Digest::from_hash(&[7; 64]).unwrap().to_string().starts_with("sha512:0707"));
        assert!(Digest::from_hash(&[7; 31]).is_err());
    }
}
