//! Types of words that were parsed once and are valid for ever: what all of them have in common.

/// Makes a type of the words that `$sound` holds for; a word that is none is a `$error`, which has
/// fields `what` and `word`.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $sound:path, $error:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses a word.
            ///
            /// # Errors
            ///
            #[doc = concat!("[`", stringify!($error), "`] if it is none.")]
            pub fn parse(word: &str) -> Result<Self, $error> {
                if $sound(word) {
                    Ok(Self(word.to_owned()))
                } else {
                    Err($error { what: $what, word: word.chars().take(80).collect() })
                }
            }

            /// Returns it as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(word: &str) -> Result<Self, $error> {
                Self::parse(word)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(word: String) -> Result<Self, $error> {
                Self::parse(&word)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

pub(crate) use word;
