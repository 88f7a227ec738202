//! For which machine an image is made, and which of several variants serves best.
//!
//! Words are the image-spec's, which are Go's `GOOS` and `GOARCH`.

use std::env::consts::ARCH;
use std::fmt;
use std::str::FromStr;

/// An operating system, an architecture, and its variant if one is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a word is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform: it takes OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")]
pub struct PlatformError(String);

impl Platform {
    /// Returns the platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "loongarch64" => "loong64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_owned);
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    pub(crate) fn os(&self) -> &str {
        &self.os
    }

    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }

    pub(crate) fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Returns how well an image for `offered` serves one who asked for `self`: 0 best, `None` not
    /// at all. ARM runs older variants, the newest first; where one side names no variant, the
    /// architecture's usual one is meant.
    pub(crate) fn rank(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let usual = match self.architecture.as_str() {
            "arm64" => "v8",
            "arm" => "v7",
            "amd64" => "v1",
            _ => "",
        };
        let asked = self.variant.as_deref().unwrap_or(usual);
        let offered = offered.variant.as_deref().unwrap_or(usual);
        let descending: &[&str] = match self.architecture.as_str() {
            "arm" => &["v8", "v7", "v6", "v5"],
            "amd64" => &["v4", "v3", "v2", "v1"],
            _ => &[],
        };
        let step = |word: &str| descending.iter().position(|variant| *variant == word);
        match (step(asked), step(offered)) {
            (Some(asked), Some(offered)) => offered.checked_sub(asked),
            _ => (asked == offered).then_some(0),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(word: &str) -> Result<Self, PlatformError> {
        let part = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = word.split('/').collect();
        match parts[..] {
            [os, architecture] if parts.iter().all(part) => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] if parts.iter().all(part) => {
                Ok(Self::new(os, architecture, Some(variant)))
            }
            _ => Err(PlatformError(word.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_checked_and_survive() {
        for good in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(good.parse::<Platform>().map(|p| p.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_older_variant_serves_best() {
        let rank = |asked: &str, offered: &str| {
            let [asked, offered] = [asked, offered].map(|word| word.parse::<Platform>().unwrap());
            asked.rank(&offered)
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/arm/v8", "linux/arm/v6"), Some(2));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(rank("linux/riscv64", "linux/riscv64/x"), None);
    }
}
