//! `containers-registries.d(5)`: where signatures are kept that lie beside a registry.
//!
//! Of all scopes an image is in, the narrowest holds alone, as the manual has it: where it names no
//! URL, none is taken from a wider one. What is found there is no more than a claim, for
//! [`trust`](crate::trust) to judge.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Fault, RegistriesError};
use super::files;
use super::prefix::Prefix;
use super::sections::{self, Section};
use crate::reference::Reference;

/// Where signatures are kept beside registries.
#[derive(Clone, Debug, Default)]
pub struct Lookasides {
    default: Option<Found>,
    scopes: BTreeMap<String, Found>,
}

/// A section, and the file it is from.
#[derive(Clone, Debug)]
struct Found {
    section: Section,
    origin: String,
}

impl Lookasides {
    /// Reads `*.yaml` in `directory`, if that is there. The order does not matter, as no two files may
    /// speak of the same scope.
    ///
    /// # Errors
    ///
    /// [`RegistriesError`] for the first file that cannot be read, breaks a rule or speaks of what
    /// another one has.
    pub fn load(directory: &Path) -> Result<Self, RegistriesError> {
        let mut all = Self::default();
        for path in files::listing(directory, "yaml")? {
            let origin = path.display().to_string();
            let text = files::text(&path)?;
            all.add(&text, &origin).map_err(|fault| fault.found_in(&origin))?;
        }
        Ok(all)
    }

    /// Returns the base URL (`file:///`, `http://` or `https://`) under which the signatures of an
    /// image lie; `None` if nothing is said of it.
    ///
    /// `repository` is `HOST[:PORT]/PATH` as [`Reference`] has it.
    #[must_use]
    pub fn lookaside(&self, repository: &str, tag: Option<&str>) -> Option<&str> {
        let narrowest = scopes(repository, tag).find_map(|scope| self.scopes.get(&scope));
        narrowest.or(self.default.as_ref())?.section.lookaside.as_deref()
    }

    /// Tells whether nothing at all is said of an image, not even where its signatures are written.
    #[must_use]
    pub fn is_silent_of(&self, repository: &str, tag: Option<&str>) -> bool {
        let mut scopes = scopes(repository, tag);
        self.default.is_none() && !scopes.any(|scope| self.scopes.contains_key(&scope))
    }

    fn add(&mut self, text: &str, origin: &str) -> Result<(), Fault> {
        let document = sections::read(text)?;
        let found = |section| Found { section, origin: origin.to_owned() };
        let twice = |at: &str, other: &Found| {
            Err(Fault::of(at, format!("it stands in `{}`, too", other.origin)))
        };
        if let Some(section) = document.default {
            if let Some(other) = &self.default {
                return twice("default-docker", other);
            }
            self.default = Some(found(section));
        }
        for (written, section) in document.scopes {
            let at = format!("docker.{written}");
            let scope = scope(&written).map_err(|why| Fault::of(&at, why))?;
            if let Some(other) = self.scopes.get(&scope) {
                return twice(&at, other);
            }
            self.scopes.insert(scope, found(section));
        }
        Ok(())
    }
}

/// Returns where signature number `index`, from 1, of an image lies below a base URL:
/// `BASE/PATH@ALGORITHM=HEX/signature-INDEX`.
///
/// `repository` is `HOST[:PORT]/PATH`, of which the host is left out; `digest` is that of the
/// manifest, as `ALGORITHM:HEX`. Source: containers/image, `docs/signature-protocols.md`.
#[must_use]
pub fn signature_url(base: &str, repository: &str, digest: &str, index: usize) -> String {
    let base = base.trim_end_matches('/');
    let path = repository.split_once('/').map_or(repository, |(_, path)| path);
    let digest = digest.replacen(':', "=", 1);
    format!("{base}/{path}@{digest}/signature-{index}")
}

/// Reads a scope into the form in which [`scopes`] has it.
fn scope(text: &str) -> Result<String, String> {
    let (untagged, tag) = match text.rsplit_once(':') {
        Some((untagged, tag)) if untagged.contains('/') && !tag.contains('/') => {
            (untagged, Some(tag))
        }
        _ => (text, None),
    };
    let name = match Prefix::parse(untagged)? {
        Prefix::Below(domain) => format!("*{domain}"),
        Prefix::In(name) => name,
    };
    let Some(tag) = tag else { return Ok(name) };
    let whole = format!("{name}:{tag}");
    let image = Reference::parse(&format!("docker://{whole}"));
    if name.contains('/') && image.is_ok_and(|image| image.to_string() == whole) {
        return Ok(whole);
    }
    Err(format!("`{text}` is no image in full, such as `docker.io/library/busybox:latest`"))
}

/// Returns the scopes that an image is in, the narrowest first.
fn scopes(repository: &str, tag: Option<&str>) -> impl Iterator<Item = String> {
    let host = repository.split(['/', ':']).next().unwrap_or(repository);
    let domains = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
    let mut scopes: Vec<String> =
        tag.map(|tag| format!("{repository}:{tag}")).into_iter().collect();
    let mut directory = Some(repository);
    while let Some(scope) = directory {
        scopes.push(scope.to_owned());
        directory = scope.rsplit_once('/').map(|(above, _)| above);
    }
    scopes.extend(domains.map(|domain| format!("*{domain}")));
    scopes.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lookasides(text: &str) -> Result<Lookasides, String> {
        let mut all = Lookasides::default();
        let added = all.add(text, "f").map_err(|fault| fault.found_in("f").to_string());
        added.map(|()| all)
    }

    #[test]
    fn the_narrowest_scope_holds_alone() {
        let text = "default-docker: {lookaside: 'file:///default'}\n\
            docker:\n\
            \x20 r.a.org: {lookaside: 'https://host'}\n\
            \x20 R.a.org:5000: {lookaside: 'https://port'}\n\
            \x20 r.a.org/team: {lookaside: 'https://team'}\n\
            \x20 r.a.org/team/app:v1: {lookaside: 'https://v1'}\n\
            \x20 r.a.org/quiet: {use-sigstore-attachments: true}\n\
            \x20 '*.a.org': {lookaside: 'https://domain'}\n";
        let all = lookasides(text).unwrap();
        for (repository, tag, url) in [
            ("r.a.org/team/app", Some("v1"), Some("https://v1")),
            ("r.a.org/team/app", Some("v2"), Some("https://team")),
            ("r.a.org/team/app", None, Some("https://team")),
            ("r.a.org/teams/app", None, Some("https://host")),
            ("r.a.org:5000/team/app", None, Some("https://port")),
            ("r.a.org:6000/team/app", None, Some("https://domain")),
            ("a.org/x", None, Some("file:///default")),
            ("r.a.org/quiet/x", None, None),
        ] {
            assert_eq!(all.lookaside(repository, tag), url, "{repository} {tag:?}");
        }
        assert_eq!(Lookasides::default().lookaside("a.org/x", None), None);
    }

    #[test]
    fn no_two_files_speak_of_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let load = || Lookasides::load(directory.path()).map_err(|error| error.to_string());
        assert!(Lookasides::load(&directory.path().join("none")).is_ok());
        write("a.yaml", "docker: {a.org: {lookaside: 'https://a'}}");
        write("b.yaml", "docker: {b.org: {lookaside: 'https://b'}}\ndefault-docker: {}");
        write("c.yml", "no");
        assert_eq!(load().unwrap().lookaside("b.org/x", None), Some("https://b"));
        let place = |name: &str| directory.path().join(name).display().to_string();
        for (text, key, other) in [
            ("docker: {A.org/: {}}", "docker.A.org/", "a.yaml"),
            ("default-docker: {}", "default-docker", "b.yaml"),
        ] {
            write("d.yaml", text);
            let (file, other) = (place("d.yaml"), place(other));
            let why = format!("`{key}` in `{file}` cannot stand: it stands in `{other}`, too");
            assert_eq!(load().unwrap_err(), why);
        }
    }

    #[test]
    fn a_scope_that_could_never_match_is_refused() {
        for scope in [
            "busybox",
            "docker.io/busybox:latest",
            "a.org/x@sha256:00",
            "a.org/X",
            "a.org/x:-",
            "*.a.org/x",
            "'*'",
            "https://a.org",
        ] {
            let why = lookasides(&format!("docker: {{'{}': {{}}}}", scope.trim_matches('\'')));
            assert!(why.is_err(), "{scope}");
        }
        assert_eq!(scope("docker.io/library/a:1").unwrap(), "docker.io/library/a:1");
        assert_eq!(scope("[::1]:5000").unwrap(), "[::1]:5000");
    }

    #[test]
    fn a_signature_lies_where_others_put_it() {
        let url = |base, repository| signature_url(base, repository, "sha256:ab", 2);
        assert_eq!(
            url("https://s.org/x/", "r.org:5000/team/app"),
            "https://s.org/x/team/app@sha256=ab/signature-2"
        );
        assert_eq!(
            url("file:///var/lib/s", "docker.io/library/box"),
            "file:///var/lib/s/library/box@sha256=ab/signature-2"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_name_is_too_odd(name in ".{0,60}", tag in ".{0,9}") {
            let all = lookasides("default-docker: {lookaside: 'https://x'}").unwrap();
            proptest::prop_assert_eq!(all.lookaside(&name, Some(&tag)), Some("https://x"));
            let _ = scope(&name);
            let _ = signature_url(&name, &name, &tag, 1);
        }
    }
}
