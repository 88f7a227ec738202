//! The words CNI knows things by, parsed once: containers, networks, interfaces, plugins.
//!
//! Each becomes part of a path or of another program's command line, so each is checked where it
//! comes in and is safe for ever after.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, tame};

/// The longest id of a container and name of a network, in bytes. The file of an attachment is
/// named after two of these words, and a file name has at most 255.
const MAX_WORD: usize = 128;
/// The longest name of an interface, in bytes: `IFNAMSIZ` without the terminating zero.
const MAX_INTERFACE: usize = 15;

/// Defines a word: a string that passed a check when it was parsed.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $good:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses a word.
            ///
            /// # Errors
            ///
            /// [`ErrorKind::Argument`] if it is none.
            pub fn parse(text: &str) -> Result<Self, Error> {
                if $good(text) {
                    return Ok(Self(text.to_owned()));
                }
                let sentence = format!(concat!("`{}` is no ", $what), tame(text));
                Err(Error::new(ErrorKind::Argument, sentence).because($rule))
            }

            /// Returns the word itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word!(
    /// What a container is called towards plugins, `CNI_CONTAINERID`; here the id of a pod.
    ContainerId,
    "id of a container",
    is_word,
    "it is made of up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit"
);
word!(
    /// The name of a network: `name` of its configuration.
    NetworkName,
    "name of a network",
    is_word,
    "it is made of up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit"
);
word!(
    /// The name of an interface in a container, `CNI_IFNAME`.
    IfName,
    "name of an interface",
    is_interface,
    "it has up to 15 bytes, none of them `/`, `:` or white space, and is neither `.` nor `..`"
);
word!(
    /// What a plugin is found by: `type` of its configuration, a file name and never a path.
    PluginType,
    "type of a plugin",
    is_file_name,
    "it is the name of a program: up to 128 bytes, without `/`, white space and control characters"
);

/// What a container, a network and an interface make together; each is attached at most once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The container.
    pub container: ContainerId,
    /// The network.
    pub network: NetworkName,
    /// The interface in the container.
    pub if_name: IfName,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}` on network `{}`", self.if_name, self.container, self.network)
    }
}

fn is_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    text.len() <= MAX_WORD
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

/// As the kernel's `dev_valid_name`.
fn is_interface(text: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    (1..=MAX_INTERFACE).contains(&text.len()) && text != "." && text != ".." && !text.contains(bad)
}

fn is_file_name(text: &str) -> bool {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    (1..=MAX_WORD).contains(&text.len()) && text != "." && text != ".." && !text.contains(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_could_leave_their_place_are_none() {
        let bad = ["", ".", "..", "a/b", "../a", "-a", "_a", "a b", "a\n", "a;b", "ä"];
        for text in bad {
            assert!(text.parse::<ContainerId>().is_err(), "{text:?}");
            assert!(text.parse::<NetworkName>().is_err(), "{text:?}");
        }
        let long = "x".repeat(129);
        assert!(long.parse::<NetworkName>().is_err() && long[..128].parse::<NetworkName>().is_ok());
        for text in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            assert!(text.parse::<IfName>().is_err(), "{text:?}");
        }
        for text in ["", ".", "..", "/bin/sh", "../x", "a b"] {
            assert!(text.parse::<PluginType>().is_err(), "{text:?}");
        }
        let good: IfName = "fifteen-bytes-x".parse().unwrap();
        assert_eq!(good.as_str(), "fifteen-bytes-x");
    }
}
