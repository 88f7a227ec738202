//! `--insecure-options`: protections given up by name, in rkt's words.

use std::collections::BTreeSet;

use pod_abi::manifest::Insecure;

use super::words::one_of;
use crate::error::{CommandError, Result};
use crate::flags::FetchFlags;

/// Each word with what it gives up.
const WORDS: [(&str, &[Insecure]); 9] = [
    ("http", &[Insecure::Http]),
    ("image", &[Insecure::Image]),
    ("capabilities", &[Insecure::Capabilities]),
    ("paths", &[Insecure::Paths]),
    ("seccomp", &[Insecure::Seccomp]),
    ("all-fetch", &[Insecure::Http, Insecure::Image]),
    ("all-run", RUN),
    (
        "all",
        &[
            Insecure::Http,
            Insecure::Image,
            Insecure::Capabilities,
            Insecure::Paths,
            Insecure::Seccomp,
        ],
    ),
    ("none", &[]),
];

/// What only a pod can give up.
const RUN: &[Insecure] = &[Insecure::Capabilities, Insecure::Paths, Insecure::Seccomp];

/// Reads which protections are given up.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_insecure(flags: &FetchFlags) -> Result<BTreeSet<Insecure>> {
    let mut given_up = BTreeSet::new();
    for word in &flags.insecure_options {
        let Some((_, more)) = WORDS.iter().find(|(known, _)| known == word) else {
            return Err(refused(word));
        };
        given_up.extend(more.iter().copied());
    }
    if flags.insecure_options.iter().any(|word| word == "none") && !given_up.is_empty() {
        return Err(CommandError::usage(
            "`--insecure-options none` stands beside protections that are given up",
        ));
    }
    if flags.insecure_http {
        given_up.insert(Insecure::Http);
    }
    Ok(given_up)
}

fn refused(word: &str) -> CommandError {
    if word == "tls" {
        return CommandError::usage(
            "`--insecure-options tls` cannot be had: certificates are always checked",
        )
        .hint(
            "`/etc/containers/certs.d/HOST[:PORT]/ca.crt` makes a registry's own authority known",
        );
    }
    let known: Vec<&str> = WORDS.iter().map(|(known, _)| *known).collect();
    CommandError::usage(format!("`{word}` is no value of `--insecure-options`"))
        .hint(format!("`--insecure-options` takes {}", one_of(&known)))
}

/// Refuses what only a pod can give up, where no pod is made.
///
/// # Errors
///
/// A usage error that names a word.
pub(super) fn check_only_fetches(given_up: &BTreeSet<Insecure>) -> Result<()> {
    if RUN.iter().any(|protection| given_up.contains(protection)) {
        return Err(CommandError::usage(
            "`--insecure-options` gives up a protection of apps, and none is run",
        )
        .hint("`--insecure-options http` and `image` are what concerns fetching"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Vec<Insecure>> {
        let insecure_options = words.split(',').map(str::to_owned).collect();
        let flags = FetchFlags { insecure_options, ..FetchFlags::default() };
        read_insecure(&flags).map(|set| set.into_iter().collect())
    }

    #[test]
    fn words_give_up_what_they_say() {
        use Insecure::{Capabilities, Http, Image, Paths, Seccomp};
        let table: [(&str, &[Insecure]); 8] = [
            ("http", &[Http]),
            ("paths,seccomp", &[Paths, Seccomp]),
            ("capabilities", &[Capabilities]),
            ("all-run", &[Capabilities, Paths, Seccomp]),
            ("image", &[Image]),
            ("all-fetch", &[Http, Image]),
            ("all", &[Http, Image, Capabilities, Paths, Seccomp]),
            ("none", &[]),
        ];
        for (words, expected) in table {
            assert_eq!(read(words).unwrap(), expected, "{words}");
        }
        for words in ["tls", "images", "none,http", ""] {
            assert!(read(words).is_err(), "{words}");
        }
    }
}
