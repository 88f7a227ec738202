//! What a short name stands for: nothing is looked up, the list of candidates is all there is.

use std::collections::BTreeMap;

use super::error::Fault;
use super::prefix::{location, repository_at};
use crate::reference::Reference;

/// Short names, and the repository each stands for; `None` if a later file took it away.
pub(super) type Aliases = BTreeMap<String, Option<String>>;

/// What a short name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShortName {
    /// This repository, as `HOST[:PORT]/PATH`: nothing else is tried.
    Alias(String),
    /// The repository of that name on one of these registries.
    Candidates {
        /// The registries, as `HOST[:PORT]`, in the order in which they are tried.
        registries: Vec<String>,
        /// What to do if there is more than one.
        mode: ShortNameMode,
    },
}

/// What to do with a short name that may stand for more than one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShortNameMode {
    /// A person is asked; where there is none, it is refused.
    Enforcing,
    /// A person is asked; where there is none, all are tried.
    #[default]
    Permissive,
    /// All are tried.
    Disabled,
}

impl ShortNameMode {
    /// Reads a mode; an empty one is none.
    pub(super) fn read(word: &str) -> Result<Option<Self>, Fault> {
        match word {
            "" => Ok(None),
            "enforcing" => Ok(Some(Self::Enforcing)),
            "permissive" => Ok(Some(Self::Permissive)),
            "disabled" => Ok(Some(Self::Disabled)),
            _ => {
                let why = format!("`{word}` is none of `enforcing`, `permissive` and `disabled`");
                Err(Fault::of("short-name-mode", why))
            }
        }
    }
}

/// Reads the table of aliases.
pub(super) fn read(table: &[(&str, &str)]) -> Result<Aliases, Fault> {
    let alias = |(name, value): &(&str, &str)| {
        let fault = |why: String| Fault::of(format!("aliases.{name}"), why);
        if !is_short(name) {
            return Err(fault("a short name has neither host nor tag nor digest".to_owned()));
        }
        let repository = match *value {
            "" => None,
            value => Some(full(value).map_err(fault)?),
        };
        Ok(((*name).to_owned(), repository))
    };
    table.iter().map(alias).collect()
}

/// Cuts tag and digest off a name.
pub(super) fn untagged(name: &str) -> &str {
    let (name, _) = name.split_once('@').unwrap_or((name, ""));
    match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    }
}

fn is_short(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let host = first.contains(['.', '[']) || first == "localhost";
    let plain = !host && !name.contains([':', '@']);
    plain && Reference::parse(&format!("localhost/{name}")).is_ok()
}

fn full(value: &str) -> Result<String, String> {
    let repository = location(value)?;
    if !repository.contains('/') {
        return Err(format!("`{value}` is a registry without a repository"));
    }
    repository_at(&repository, "").ok_or_else(|| format!("`{value}` is no repository"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_a_short_name_for_a_full_one() {
        let read = read(&[("ubi8/ubi", "r.org:5000/ubi"), ("box", "docker.io/box"), ("no", "")]);
        let full = |name: &str| Some(name.to_owned());
        let expected = [
            ("box".to_owned(), full("docker.io/library/box")),
            ("no".to_owned(), None),
            ("ubi8/ubi".to_owned(), full("r.org:5000/ubi")),
        ];
        assert_eq!(read.unwrap(), Aliases::from(expected));
    }

    #[test]
    fn whatever_is_not_is_refused() {
        for (name, value) in [
            ("", "r.org/x"),
            ("x:1", "r.org/x"),
            ("x@sha256:00", "r.org/x"),
            ("r.org/x", "r.org/x"),
            ("localhost/x", "r.org/x"),
            ("X", "r.org/x"),
            ("x", "y"),
            ("x", "r.org"),
            ("x", "r.org/x:1"),
            ("x", "r.org/x@sha256:00"),
            ("x", "docker://r.org/x"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name} {value}");
        }
        assert!(ShortNameMode::read("Enforcing").is_err());
        assert_eq!(ShortNameMode::read(""), Ok(None));
    }

    #[test]
    fn a_port_is_no_tag() {
        for (name, short) in [
            ("box", "box"),
            ("box:1", "box"),
            ("a/box:1@sha256:00", "a/box"),
            ("r:5000/box", "r:5000/box"),
            ("", ""),
        ] {
            assert_eq!(untagged(name), short);
        }
    }
}
