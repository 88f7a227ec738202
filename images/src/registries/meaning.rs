//! Which images a word may mean: the one it names, or the candidates of a short name, in order.
//!
//! A name becomes a whole one here, once, before a policy or the store is asked: what is kept, what
//! is judged and what is shown is never a short one. Nothing is looked up; who chooses among several
//! candidates asks the store first.

use super::aliases::{ShortName, ShortNameMode, untagged};
use super::conf::Registries;
use crate::reference::{Reference, ReferenceError};

/// What a word may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The images, in the order in which they are looked for. There is none if the word is a short
    /// name and the administrator has no registry searched for such.
    pub names: Vec<Reference>,
    /// The image of the store that may be meant if it has none of those: the word may be an id.
    pub id: Option<Reference>,
    /// What to do if there are several names and the store has none of them.
    pub mode: ShortNameMode,
}

impl Registries {
    /// Returns what `word` may mean.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] for what names no image, with whichever registry.
    pub fn expand(&self, word: &str) -> Result<Meaning, ReferenceError> {
        let whole = Reference::parse(word)?;
        if !Reference::is_short(word) {
            return Ok(Meaning::of(whole));
        }
        let (wholes, mode) = match self.short_name(word) {
            ShortName::Alias(repository) => {
                let name = untagged(word);
                let suffix = word.strip_prefix(name).unwrap_or_default();
                (vec![format!("{repository}{suffix}")], ShortNameMode::Disabled)
            }
            ShortName::Candidates { registries, mode } => {
                let on = |registry: String| format!("{registry}/{word}");
                (registries.into_iter().map(on).collect(), mode)
            }
        };
        let mut names: Vec<Reference> = Vec::with_capacity(wholes.len());
        for name in wholes {
            let name = Reference::parse(&name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let id = whole.id_prefix().map(|hex| Reference::parse(&format!("sha256:{hex}")));
        Ok(Meaning { names, id: id.transpose()?, mode })
    }
}

impl Meaning {
    fn of(whole: Reference) -> Self {
        Self { names: vec![whole], id: None, mode: ShortNameMode::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const CONF: &str = "unqualified-search-registries = ['q.org', 'docker.io', 'Q.org']\n\
        short-name-mode = 'enforcing'\n[aliases]\nbox = 'r.org:5000/team/box'\n";

    fn names(conf: &str, word: &str) -> Vec<String> {
        let meaning = Registries::parse(conf, "f").unwrap().expand(word).unwrap();
        meaning.names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_short_name_has_candidates_in_order_and_an_alias_has_one() {
        let digest = format!("@sha256:{HEX}");
        for (word, expected) in [
            ("app", &["q.org/app:latest", "docker.io/library/app:latest"][..]),
            ("team/app:1", &["q.org/team/app:1", "docker.io/team/app:1"]),
            ("box", &["r.org:5000/team/box:latest"]),
            ("box:2", &["r.org:5000/team/box:2"]),
            (&format!("box{digest}"), &[&format!("r.org:5000/team/box{digest}")]),
            ("team/box", &["q.org/team/box:latest", "docker.io/team/box:latest"]),
            ("docker://box", &["docker.io/library/box:latest"]),
            ("localhost/box", &["localhost/box:latest"]),
            ("x.org/box", &["x.org/box:latest"]),
            ("oci:/box", &["oci:/box"]),
            ("sha256:beef", &["sha256:beef"]),
        ] {
            assert_eq!(names(CONF, word), expected, "{word}");
        }
    }

    #[test]
    fn where_nothing_is_said_a_short_name_is_one_of_docker_hub() {
        for conf in ["", "[aliases]\nother = 'r.org/other'\n", "[[registry]]\nlocation = 'r.org'\n"]
        {
            assert_eq!(names(conf, "app:1"), ["docker.io/library/app:1"]);
        }
        assert_eq!(names("unqualified-search-registries = []", "app"), [""; 0]);
    }

    #[test]
    fn what_may_be_an_id_is_one_under_any_registry() {
        let read = Registries::parse(CONF, "f").unwrap();
        let id = |word: &str| read.expand(word).unwrap().id.map(|id| id.to_string());
        assert_eq!(id("deadbeef").as_deref(), Some("sha256:deadbeef"));
        for word in ["app", "deadbeef:1", "q.org/deadbeef"] {
            assert_eq!(id(word), None, "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_word_means_is_written_out(word in "[a-z0-9:/@._-]{0,40}|.*") {
            let read = Registries::parse(CONF, "f").unwrap();
            for name in read.expand(&word).map_or_else(|_| Vec::new(), |meaning| meaning.names) {
                let again = read.expand(&name.to_string()).unwrap();
                proptest::prop_assert_eq!(again, Meaning::of(name));
            }
        }
    }
}
