//! Versions of CNI: which ones there are, and what each can do.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, tame};

/// A version of CNI this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Chains of plugins, `interfaces`.
    V0_3_1,
    /// CHECK, and DEL is told the result.
    V0_4_0,
    /// Addresses lose their `version`.
    V1_0_0,
    /// GC and STATUS.
    V1_1_0,
}

/// Every version there is, the oldest first.
const ALL: [(Version, &str); 4] = [
    (Version::V0_3_1, "0.3.1"),
    (Version::V0_4_0, "0.4.0"),
    (Version::V1_0_0, "1.0.0"),
    (Version::V1_1_0, "1.1.0"),
];

impl Version {
    /// The newest one.
    pub const NEWEST: Self = Self::V1_1_0;

    /// Returns it as configurations have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ALL[self as usize].1
    }

    /// Tells whether plugins can be asked to CHECK, and are told the result when they DEL.
    #[must_use]
    pub fn remembers(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Tells whether plugins can be asked for their STATUS and for GC.
    #[must_use]
    pub fn collects(self) -> bool {
        self >= Self::V1_1_0
    }

    /// Tells whether an address in a result says that it is of version 4 or 6.
    #[must_use]
    pub fn labels_addresses(self) -> bool {
        self < Self::V1_0_0
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = ALL.iter().find(|(_, word)| *word == text);
        known.map(|(version, _)| *version).ok_or_else(|| {
            let sentence = format!("version `{}` of CNI is not spoken here", tame(text));
            Error::new(ErrorKind::Version, sentence)
                .hint("set `cniVersion` to one of 0.3.1, 0.4.0, 1.0.0, 1.1.0")
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_reads_itself() {
        assert!(ALL.is_sorted_by(|a, b| a.0 < b.0));
        for (version, text) in ALL {
            assert_eq!((version.as_str(), text.parse::<Version>().unwrap()), (text, version));
        }
        assert_eq!(Version::NEWEST, ALL[3].0);
        assert!("0.3.0".parse::<Version>().is_err() && "2".parse::<Version>().is_err());
    }
}
