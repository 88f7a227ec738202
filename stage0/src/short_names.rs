//! Words that name images, made whole: the one place where a short name such as `busybox` becomes a
//! reference with its registry.
//!
//! ```text
//! word ─▶ images::registries: what it may mean ─▶ the one the store has, in that order
//!                                              ─▶ or those to ask for, or a refusal that lists them
//! ```
//!
//! Whatever goes on from here, to a policy, the store or the user, is a whole reference. Nobody is
//! asked on a terminal: a word means the same whoever types it.
//!
//! Never: a file written. The aliases that other tools have noted are only read.

use std::env;
use std::path::{Path, PathBuf};

use images::registries::{Meaning, Registries, RegistriesError, ShortNameMode};
use images::{ErrorKind, Reference, Store};

use crate::error::{CommandError, Result};

/// What says where registries really are, unless a variable names another file.
const REGISTRIES: &str = "/etc/containers/registries.conf";
/// The aliases that podman notes for root when somebody has chosen.
const NOTED: &str = "/var/cache/containers/short-name-aliases.conf";

/// What a word may mean: one image, or several if it is a short name.
#[derive(Debug)]
pub(crate) struct Names {
    word: String,
    meaning: Meaning,
}

/// Returns the file that says where registries really are. The variable is that of the tools it
/// belongs to.
pub(crate) fn registries_conf() -> PathBuf {
    let named = env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(REGISTRIES), PathBuf::from)
}

/// Reads a word. Files are looked into only for a short name.
///
/// # Errors
///
/// A usage error for what names no image; `image.invalid` for files that cannot be used,
/// `image.refused` for a short name where they have no registry for such.
pub(crate) fn read(word: &str) -> Result<Names> {
    let registries = match Reference::is_short(word) {
        true => of_host().map_err(|error| {
            let message = format!("it cannot be known what the short name `{word}` stands for");
            CommandError::new("image.invalid", message).because(&error).hint(WRITTEN_OUT)
        })?,
        false => Registries::default(),
    };
    let meaning = registries.expand(word);
    let meaning = meaning.map_err(|error| CommandError::usage(error.to_string()))?;
    if meaning.names.is_empty() && meaning.id.is_none() {
        return Err(nothing(word));
    }
    Ok(Names { word: word.to_owned(), meaning })
}

const WRITTEN_OUT: &str =
    "a name that is written out needs no such file: `docker.io/library/busybox`";

fn of_host() -> std::result::Result<Registries, RegistriesError> {
    let mut registries = Registries::load_with_drop_ins(&registries_conf())?;
    registries.load_noted_aliases(Path::new(NOTED))?;
    Ok(registries)
}

fn nothing(word: &str) -> CommandError {
    let message = format!(
        "`{word}` is a short name, and `unqualified-search-registries` has no registry for such"
    );
    CommandError::new("image.refused", message).hint(WRITTEN_OUT)
}

impl Names {
    /// Returns the name that an image is given by this word.
    ///
    /// # Errors
    ///
    /// `image.refused` if there is none.
    pub(crate) fn given(&self) -> Result<&Reference> {
        self.meaning.names.first().ok_or_else(|| nothing(&self.word))
    }

    /// Returns the one name of this word; `None` if it may mean several images.
    pub(crate) fn only(&self) -> Option<&Reference> {
        match &self.meaning.names[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Tells whether any of them is what `test` looks for.
    pub(crate) fn any(&self, test: impl Fn(&Reference) -> bool) -> bool {
        self.meaning.names.iter().chain(&self.meaning.id).any(test)
    }

    /// Returns the first of them that the store knows.
    fn known(&self, store: &Store) -> Result<Option<&Reference>> {
        for name in self.meaning.names.iter().chain(&self.meaning.id) {
            if store.knows(name).map_err(|error| CommandError::of(error.code(), &error))? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Returns what is meant by the word where the store alone is asked. Of several names it is the
    /// first that the store knows; one alone is not looked up, as whoever asks for it tells best.
    ///
    /// # Errors
    ///
    /// `image.not-found` if there are several and it knows none.
    pub(crate) fn stored(&self, store: &Store) -> Result<Reference> {
        if let (Some(only), None) = (self.only(), &self.meaning.id) {
            return Ok(only.clone());
        }
        match (self.known(store)?, self.only()) {
            (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
            (None, None) => {
                let message = format!("image `{}` is not in the store", self.word);
                let error = CommandError::new("image.not-found", message)
                    .hint("`pod image ls` lists what is in the store");
                Err(match self.meaning.names.is_empty() {
                    true => error,
                    false => error.hint(format!("it was looked for as {}", self.listed(" and "))),
                })
            }
        }
    }

    /// Returns what may be fetched for the word, in order: the one the store knows, which stays
    /// what is meant; else all that it may mean.
    ///
    /// # Errors
    ///
    /// As [`Self::to_ask`].
    pub(crate) fn to_fetch(&self, store: &Store) -> Result<Vec<Reference>> {
        if let (Some(only), None) = (self.only(), &self.meaning.id) {
            return Ok(vec![only.clone()]);
        }
        match self.known(store)? {
            Some(name) => Ok(vec![name.clone()]),
            None => self.to_ask(),
        }
    }

    /// Returns what to ask registries for, in order, whatever the store has.
    ///
    /// # Errors
    ///
    /// `image.ambiguous` if there are several and the administrator wants to be asked; `image.refused`
    /// if there is none.
    pub(crate) fn to_ask(&self) -> Result<Vec<Reference>> {
        self.given()?;
        if self.only().is_none() && self.meaning.mode == ShortNameMode::Enforcing {
            let list = self.listed(" or ");
            let word = &self.word;
            let message = format!("the short name `{word}` may mean {list}");
            return Err(CommandError::new("image.ambiguous", message)
                .hint(
                    "give the whole name; once the store has one of them, the short name means it",
                )
                .hint("or give it an alias: `[aliases]` in `/etc/containers/registries.conf`")
                .hint("`short-name-mode = \"permissive\"` there asks one after the other"));
        }
        Ok(self.meaning.names.clone())
    }

    /// Does something with the first of `names` it can be done with. Only where a registry has not
    /// got the image, does not give it or cannot be asked is the next one tried: another image must
    /// not take the place of one that was found and is not trusted.
    ///
    /// # Errors
    ///
    /// That of the only one, or of one that ends the search; else one that tells of all.
    pub(crate) fn first_of<T>(
        &self,
        names: &[Reference],
        mut deed: impl FnMut(&Reference) -> std::result::Result<T, images::Error>,
        told: impl Fn(&images::Error, &Reference) -> CommandError,
    ) -> Result<T> {
        let mut errors = Vec::new();
        for name in names {
            match deed(name) {
                Ok(done) => return Ok(done),
                Err(error) if names.len() > 1 && goes_on(error.kind()) => errors.push(error),
                Err(error) => return Err(told(&error, name)),
            }
        }
        let unreachable = errors.iter().find(|error| error.kind() == ErrorKind::Unreachable);
        let code = unreachable.or(errors.first()).map_or("image.not-found", images::Error::code);
        let message = format!("the short name `{}` leads to no image", self.word);
        let all =
            errors.iter().fold(CommandError::new(code, message), |all, error| all.because(error));
        Err(all.hint("is the name right? a whole name is looked for in one place only"))
    }

    fn listed(&self, joint: &str) -> String {
        let names = self.meaning.names.iter().map(|name| format!("`{name}`"));
        names.collect::<Vec<_>>().join(joint)
    }
}

/// Tells whether another registry may still have what was not to be had of this one.
fn goes_on(kind: ErrorKind) -> bool {
    use ErrorKind::{Denied, NotFound, Refused, Unreachable};
    matches!(kind, NotFound | Denied | Unreachable | Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(conf: &str, word: &str) -> Names {
        let meaning = Registries::parse(conf, "f").unwrap().expand(word).unwrap();
        Names { word: word.to_owned(), meaning }
    }

    const TWO: &str = "unqualified-search-registries = ['a.org', 'b.org']\n";

    fn said(error: &CommandError) -> String {
        format!("{:?}", error.report())
    }

    #[test]
    fn several_names_are_tried_or_refused_as_the_mode_says() {
        let asked = |mode: &str, word: &str| {
            let names = names(&format!("{TWO}short-name-mode = '{mode}'"), word).to_ask();
            names.map(|names| names.len())
        };
        assert_eq!(asked("disabled", "box").unwrap(), 2);
        assert_eq!(asked("permissive", "box").unwrap(), 2);
        assert_eq!(asked("enforcing", "a.org/box").unwrap(), 1);
        let error = asked("enforcing", "box").unwrap_err();
        assert_eq!(error.code(), "image.ambiguous");
        assert!(said(&error).contains("`a.org/box:latest` or `b.org/box:latest`"), "{error}");
        let one =
            names("unqualified-search-registries=['a.org']\nshort-name-mode='enforcing'", "x");
        assert_eq!(one.to_ask().unwrap().len(), 1);
        let none = names("unqualified-search-registries=[]", "deadbeef");
        assert_eq!(none.to_ask().unwrap_err().code(), "image.refused");
    }

    #[test]
    fn what_the_store_has_is_what_is_meant() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let two = names(&format!("{TWO}short-name-mode = 'enforcing'"), "box");
        assert_eq!(two.stored(&store).unwrap_err().code(), "image.not-found");
        assert_eq!(two.to_fetch(&store).unwrap_err().code(), "image.ambiguous");
        let one = names("", "box");
        assert_eq!(one.stored(&store).unwrap().to_string(), "docker.io/library/box:latest");
        assert_eq!(one.given().unwrap(), one.only().unwrap());
    }
}
