//! `containers-registries.conf(5)`, version 2: the files together, and the questions they answer.

use std::path::Path;

use super::aliases::{self, ShortName};
use super::document::{self, Document};
use super::entry::{Blocked, By, Place};
use super::error::RegistriesError;
use super::files;

/// What the administrator says of registries.
///
/// By default nothing: every repository lies where its name says, and a short name is one of Docker
/// Hub.
#[derive(Clone, Debug, Default)]
pub struct Registries(Document);

impl Registries {
    /// Reads `file`, if it is there, and then `*.conf` in `directory` in order of their names.
    ///
    /// What a later file says of a prefix replaces the whole table of an earlier one; aliases are
    /// replaced one by one, an empty one takes away; everything else is replaced if it is given.
    ///
    /// # Errors
    ///
    /// [`RegistriesError`] for the first file that cannot be read or breaks a rule: the others alone
    /// might block less.
    pub fn load(file: &Path, directory: &Path) -> Result<Self, RegistriesError> {
        let origin = file.display().to_string();
        let first = files::optional(file)?.map(|text| Self::parse(&text, &origin)).transpose()?;
        let mut all = first.unwrap_or_default();
        for path in files::listing(directory, "conf")? {
            let later = Self::parse(&files::text(&path)?, &path.display().to_string())?;
            all.0.override_with(later.0);
        }
        Ok(all)
    }

    /// Reads `file` and what lies beside it in the directory of the same name and `.d`, as
    /// [`Self::load`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Self::load`].
    pub fn load_with_drop_ins(file: &Path) -> Result<Self, RegistriesError> {
        let mut directory = file.as_os_str().to_owned();
        directory.push(".d");
        Self::load(file, Path::new(&directory))
    }

    /// Reads the aliases that other tools have noted when a person chose, if `file` is there: what
    /// it says of a short name comes before what the administrator does. It is never written.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], also for a file that says anything else.
    pub fn load_noted_aliases(&mut self, file: &Path) -> Result<(), RegistriesError> {
        let Some(text) = files::optional(file)? else { return Ok(()) };
        let origin = file.display().to_string();
        let noted = document::read_aliases(&text).map_err(|fault| fault.found_in(&origin))?;
        self.0.aliases.extend(noted);
        Ok(())
    }

    /// Reads one file; `origin` is its name, for people.
    ///
    /// # Errors
    ///
    /// [`RegistriesError::Format`], [`RegistriesError::Key`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, RegistriesError> {
        document::read(text).map(Self).map_err(|fault| fault.found_in(origin))
    }

    /// Returns where to look for the images of `repository`, in order: mirrors first, the registry
    /// itself last. The name of the image stays what it was, whichever place has it.
    ///
    /// `repository` is `HOST[:PORT]/PATH` as [`Reference`](crate::Reference) has it. Of the tables the
    /// one of the longest prefix holds alone.
    ///
    /// # Errors
    ///
    /// [`Blocked`]: it must not be asked for anywhere.
    pub fn places(&self, repository: &str, which: By) -> Result<Vec<Place>, Blocked> {
        let meant = self.0.entries.values();
        let meant = meant.filter_map(|entry| Some((entry, entry.prefix.rest(repository)?)));
        match meant.max_by_key(|(entry, _)| entry.prefix.narrowness()) {
            Some((entry, rest)) => entry.places(repository, rest, which),
            None => {
                let repository = repository.to_owned();
                Ok(vec![Place { repository, insecure: false, is_mirror: false }])
            }
        }
    }

    /// Returns what a short name stands for: its alias, else a candidate on each of the
    /// `unqualified-search-registries`; of Docker Hub alone where nothing is said of them.
    ///
    /// A tag and a digest of `name` do not count; they belong to what it stands for, too.
    #[must_use]
    pub fn short_name(&self, name: &str) -> ShortName {
        if let Some(Some(repository)) = self.0.aliases.get(aliases::untagged(name)) {
            return ShortName::Alias(repository.clone());
        }
        let hub = || vec!["docker.io".to_owned()];
        let registries = self.0.search.clone().unwrap_or_else(hub);
        ShortName::Candidates { registries, mode: self.0.mode.unwrap_or_default() }
    }

    /// Returns where credentials are looked for, in order, if anything is said of it: names of
    /// helpers, `containers-auth.json` for the file of that name.
    #[must_use]
    pub fn credential_helpers(&self) -> Option<&[String]> {
        self.0.helpers.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::aliases::ShortNameMode;
    use super::*;
    use std::fs;

    const MANUAL: &str = r#"
        unqualified-search-registries = ["example.com", "localhost:5000"]
        short-name-mode = "enforcing"
        credential-helpers = ["containers-auth.json", "secretservice"]
        additional-layer-store-auth-helper = "x"

        [[registry]]
        prefix = "example.com/foo"
        insecure = false
        blocked = false
        location = "internal-registry-for-example.com/bar"

        [[registry.mirror]]
        location = "example-mirror-0.local/mirror-for-foo"

        [[registry.mirror]]
        location = "example-mirror-1.local/mirrors/foo"
        insecure = true

        [[registry]]
        location = "bad.org"
        blocked = true

        [aliases]
        fedora = "registry.fedoraproject.org/fedora"
    "#;

    fn parse(text: &str) -> Result<Registries, String> {
        Registries::parse(text, "f").map_err(|error| error.to_string())
    }

    fn names(registries: &Registries, repository: &str) -> Vec<String> {
        let places = registries.places(repository, By::Tag).unwrap();
        places.into_iter().map(|place| place.repository).collect()
    }

    #[test]
    fn the_example_of_the_manual_is_read() {
        let read = parse(MANUAL).unwrap();
        assert_eq!(
            names(&read, "example.com/foo/image"),
            [
                "example-mirror-0.local/mirror-for-foo/image",
                "example-mirror-1.local/mirrors/foo/image",
                "internal-registry-for-example.com/bar/image",
            ]
        );
        assert_eq!(names(&read, "example.com/food"), ["example.com/food"]);
        assert!(read.places("bad.org/x", By::Digest).is_err());
        let fedora = ShortName::Alias("registry.fedoraproject.org/fedora".to_owned());
        assert_eq!(read.short_name("fedora:40"), fedora);
        let registries = vec!["example.com".to_owned(), "localhost:5000".to_owned()];
        let candidates = ShortName::Candidates { registries, mode: ShortNameMode::Enforcing };
        assert_eq!(read.short_name("box"), candidates);
        assert_eq!(read.credential_helpers().unwrap().len(), 2);
        assert_eq!(names(&Registries::default(), "a.org/x"), ["a.org/x"]);
    }

    #[test]
    fn the_longest_prefix_holds_alone() {
        let text = "[[registry]]\nprefix='*.org'\nlocation='wide.net'\n\
            [[registry]]\nprefix='*.b.org'\nlocation='narrow.net'\n\
            [[registry]]\nprefix='a.b.org'\nlocation='host.net'\n\
            [[registry]]\nprefix='a.b.org/t'\nlocation='team.net'\n";
        let read = parse(text).unwrap();
        for (repository, place) in [
            ("x.org/t/i", "wide.net/t/i"),
            ("x.b.org/t/i", "narrow.net/t/i"),
            ("a.b.org/i", "host.net/i"),
            ("a.b.org/t/i", "team.net/i"),
            ("b.net/i", "b.net/i"),
        ] {
            assert_eq!(names(&read, repository), [place]);
        }
    }

    #[test]
    fn a_later_file_replaces_what_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registries.conf");
        let drop_ins = directory.path().join("registries.conf.d");
        assert!(Registries::load(&file, &drop_ins).unwrap().0.entries.is_empty());
        fs::create_dir(&drop_ins).unwrap();
        fs::write(&file, MANUAL).unwrap();
        let write = |name: &str, text: &str| fs::write(drop_ins.join(name), text).unwrap();
        write("2.conf", "[aliases]\nfedora=''\nbox='b.org/box'\n[[registry]]\nlocation='bad.org'");
        write("1.conf", "unqualified-search-registries=[]\n[aliases]\nbox='a.org/box'");
        write("3.txt", "no");
        let read = Registries::load(&file, &drop_ins).unwrap();
        assert_eq!(names(&read, "bad.org/x"), ["bad.org/x"]);
        assert_eq!(names(&read, "example.com/foo/x").len(), 3);
        assert_eq!(read.short_name("box"), ShortName::Alias("b.org/box".to_owned()));
        let none = ShortName::Candidates { registries: vec![], mode: ShortNameMode::Enforcing };
        assert_eq!(read.short_name("fedora"), none);
        write("4.conf", "blocked=true");
        let error = Registries::load(&file, &drop_ins).unwrap_err().to_string();
        let path = drop_ins.join("4.conf").display().to_string();
        assert_eq!(error, format!("`blocked` in `{path}` cannot stand: there is no such key here"));
    }

    #[test]
    fn what_was_noted_comes_first_and_says_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("short-name-aliases.conf");
        let mut read = parse(MANUAL).unwrap();
        read.load_noted_aliases(&file).unwrap();
        fs::write(&file, "[aliases]\nfedora = 'r.org/fedora'\nbox = 'r.org/box'\n").unwrap();
        read.load_noted_aliases(&file).unwrap();
        for name in ["fedora", "box"] {
            assert_eq!(read.short_name(name), ShortName::Alias(format!("r.org/{name}")));
        }
        fs::write(&file, "[aliases]\nfedora = ''\n").unwrap();
        read.load_noted_aliases(&file).unwrap();
        assert!(matches!(read.short_name("fedora"), ShortName::Candidates { .. }));
        for text in ["short-name-mode = 'disabled'", "[aliases]\nfedora = 'fedora'", "x"] {
            fs::write(&file, text).unwrap();
            assert!(read.load_noted_aliases(&file).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_file_is_read_or_refused(at in 0_usize..2000, byte in 0_u8..128) {
            let mut bytes = MANUAL.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let spoilt = String::from_utf8(bytes).unwrap();
            if let Ok(read) = Registries::parse(&spoilt, "f") {
                let _ = read.places("example.com/foo/x", By::Digest);
                let _ = read.short_name("fedora");
            }
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,80}", repository in ".{0,40}") {
            let _ = Registries::parse(&text, "f");
            let _ = parse(MANUAL).unwrap().places(&repository, By::Tag);
            let _ = parse(MANUAL).unwrap().short_name(&repository);
        }
    }
}
