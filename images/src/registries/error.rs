//! Why what is said of registries cannot be used: the file, the key and the cause, in one sentence.

use std::path::PathBuf;

/// The longest key or cause that is printed, in characters: a value may be a megabyte.
const MAX_CITED: usize = 300;

/// Why a file about registries cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistriesError {
    /// A file or a directory cannot be read.
    #[error("`{path}` cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file breaks the rules of its format as a whole.
    #[error("`{origin}` says nothing of registries: {why}")]
    Format {
        /// Which file.
        origin: String,
        /// Why.
        why: String,
    },
    /// A key of a file is none, or its value cannot stand.
    #[error("`{key}` in `{origin}` cannot stand: {why}")]
    Key {
        /// Which file.
        origin: String,
        /// Which key, with the tables it stands in.
        key: String,
        /// Why.
        why: String,
    },
}

/// Why a file cannot be used, for those who do not know its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The key with the tables it stands in; empty for the whole file.
    key: String,
    why: String,
}

impl Fault {
    /// Makes a fault of a key; what it cites of the file is cut short and stays on its line.
    pub(super) fn of(key: impl AsRef<str>, why: impl AsRef<str>) -> Self {
        Self { key: cited(key.as_ref()), why: cited(why.as_ref()) }
    }

    /// Makes a fault of the file as a whole, of what a parser says in however many lines.
    pub(super) fn of_format(line: usize, why: &str) -> Self {
        let why: Vec<_> = why.lines().map(str::trim).collect();
        Self::of("", format!("line {line}: {}", why.join(", ")))
    }

    pub(super) fn found_in(self, origin: &str) -> RegistriesError {
        let Self { key, why } = self;
        let origin = origin.to_owned();
        if key.is_empty() {
            RegistriesError::Format { origin, why }
        } else {
            RegistriesError::Key { origin, key, why }
        }
    }
}

fn cited(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    plain.take(MAX_CITED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence() {
        for (fault, sentence) in [
            (Fault::of("a.b", "it is none"), "`a.b` in `/f` cannot stand: it is none"),
            (Fault::of_format(2, "x\n  y"), "`/f` says nothing of registries: line 2: x, y"),
            (Fault::of("a\n", "b\u{1b}"), "`a\u{fffd}` in `/f` cannot stand: b\u{fffd}"),
        ] {
            assert_eq!(fault.found_in("/f").to_string(), sentence);
        }
        let long = Fault::of("k".repeat(1 << 20), "w".repeat(1 << 20)).found_in("f").to_string();
        assert!(long.len() < 1000);
    }
}
