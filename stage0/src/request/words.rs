//! Single words of a line: sizes, numbers, choices, pairs.
//!
//! Every refusal is a usage error that names the word and says what would have been one.

use pod_abi::PodPath;

use crate::error::{CommandError, Result};

/// Parses a word that a type of the contract knows how to read.
pub(super) fn word<T: std::str::FromStr<Err: std::error::Error>>(word: &str) -> Result<T> {
    word.parse().map_err(|error: T::Err| CommandError::usage(error.to_string()))
}

/// Reads a path inside an app.
///
/// # Errors
///
/// A usage error that names it.
pub(crate) fn path(word: &str) -> Result<PodPath> {
    PodPath::parse(word).map_err(|error| CommandError::usage(error.to_string()))
}

/// Chooses from `table`; `None` if the flag was not given.
pub(super) fn choice<T: Copy>(
    flag: &str,
    word: Option<&str>,
    table: &[(&str, T)],
) -> Result<Option<T>> {
    let Some(word) = word else { return Ok(None) };
    if let Some((_, value)) = table.iter().find(|(known, _)| *known == word) {
        return Ok(Some(*value));
    }
    let known: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
    Err(CommandError::usage(format!("`{word}` is no value of `{flag}`"))
        .hint(format!("`{flag}` takes {}", one_of(&known))))
}

/// Lists words as a sentence does.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// Refuses two words that cannot both be meant.
pub(super) fn contradiction(one: &str, other: &str) -> CommandError {
    CommandError::usage(format!("`{one}` and `{other}` contradict each other"))
}

/// Reads `KEY=VALUE`; `kind` says what it is.
pub(super) fn pair(kind: &str, word: &str) -> Result<(String, String)> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() && !word.contains('\0') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(CommandError::usage(format!("`{word}` is no {kind}: it takes KEY=VALUE"))),
    }
}

/// Reads pairs into a map; the last of a key counts.
pub(super) fn pairs<C: FromIterator<(String, String)>>(kind: &str, words: &[String]) -> Result<C> {
    words.iter().map(|word| pair(kind, word)).collect()
}

/// Sets an option that may be said once, or again in the same way; `true`, for it is known.
pub(super) fn once<T: PartialEq>(option: &mut Option<T>, value: T, word: &str) -> Result<bool> {
    if option.as_ref().is_some_and(|earlier| *earlier != value) {
        return Err(CommandError::usage(format!("`{word}` contradicts an option before it")));
    }
    *option = Some(value);
    Ok(true)
}

/// Reads what docker takes for a yes or a no.
pub(super) fn boolean(word: &str) -> Option<bool> {
    match word {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a plain decimal number: no sign, no blank.
pub(super) fn number(word: &str) -> Option<u64> {
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| word.parse().ok())?
}

/// Reads permission bits, octal.
pub(super) fn mode(word: &str) -> Option<u32> {
    let plain = (1..=5).contains(&word.len()) && word.bytes().all(|b| (b'0'..=b'7').contains(&b));
    plain.then(|| u32::from_str_radix(word, 8).ok())?.filter(|mode| *mode <= 0o7777)
}

/// Reads a number of bytes, one or more: with `k`, `m`, `g` or `t` in powers of 1024, and a `b` or
/// `ib` behind it for those who type one.
pub(super) fn size(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number(digits)?.checked_mul(1 << shift).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        let table = [
            ("64", Some(64)),
            ("64b", Some(64)),
            ("64k", Some(65_536)),
            ("1G", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("2mb", Some(2 << 20)),
            ("1t", Some(1 << 40)),
            ("0", None),
            ("", None),
            ("m", None),
            ("+1", None),
            ("1.5g", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("99999999999999999g", None),
        ];
        for (word, expected) in table {
            assert_eq!(size(word), expected, "{word}");
        }
    }

    #[test]
    fn modes_are_octal() {
        let table = [
            ("755", Some(0o755)),
            ("1777", Some(0o1777)),
            ("0022", Some(0o22)),
            ("8", None),
            ("", None),
            ("10000", None),
            ("0o22", None),
        ];
        for (word, expected) in table {
            assert_eq!(mode(word), expected, "{word}");
        }
    }

    #[test]
    fn alternatives_are_listed_as_a_sentence_does() {
        assert_eq!(one_of(&["a"]), "`a`");
        assert_eq!(one_of(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
