//! One `[[registry]]` table: whom it is about, whether it is blocked, and where its images lie.

use super::error::Fault;
use super::prefix::{Prefix, location, repository_at};
use super::table::Table;

/// By what an image is asked for: some mirrors are trusted with one of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By a tag, which a mirror may have at another image.
    Tag,
    /// By a digest, beside which a tag does not count.
    Digest,
}

/// Where an image may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The repository, as `HOST[:PORT]/PATH`.
    pub repository: String,
    /// Whether plain HTTP and certificates of anybody are good enough there.
    pub insecure: bool,
    /// Whether it is a mirror of the registry, and not itself.
    pub is_mirror: bool,
}

/// Why a repository has no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The administrator does not want it.
    #[error("`{repository}` is blocked, as all of `{prefix}` is")]
    Forbidden {
        /// Which repository.
        repository: String,
        /// The prefix of the table that blocks it.
        prefix: String,
    },
    /// A table moves it to where it has no name.
    #[error("`{repository}` is moved to `{location}`, where it has no name left")]
    Nameless {
        /// Which repository.
        repository: String,
        /// Where to.
        location: String,
    },
}

/// What is said of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The prefix, as it is written.
    written: String,
    pub(super) prefix: Prefix,
    /// Where it lies; under its own name if nothing is said, which only a wildcard may.
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    /// What it is asked by, if not by all.
    only: Option<By>,
}

impl Entry {
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Fault> {
        let [at_location, at_prefix] = ["location", "prefix"].map(|key| table.at(key));
        let own = table.text("location")?.filter(|text| !text.is_empty());
        let written = table.text("prefix")?.filter(|text| !text.is_empty()).or(own);
        let Some(written) = written else {
            return Err(Fault::of(at_location, "it is missing, and so is `prefix`"));
        };
        let prefix = Prefix::parse(written).map_err(|why| Fault::of(at_prefix, why))?;
        if own.is_none() && matches!(prefix, Prefix::In(_)) {
            return Err(Fault::of(
                at_location,
                "only a prefix such as `*.example.com` goes without",
            ));
        }
        let entry = Self {
            written: written.to_owned(),
            prefix,
            location: own.map(location).transpose().map_err(|why| Fault::of(at_location, why))?,
            insecure: table.flag("insecure")?.unwrap_or_default(),
            blocked: table.flag("blocked")?.unwrap_or_default(),
            mirrors: mirrors(&mut table)?,
        };
        table.done()?;
        Ok(entry)
    }

    /// Returns where it lies and what is said of that place, which no two tables of one file may say
    /// differently.
    pub(super) fn said_of_location(&self) -> Option<(&str, [(&'static str, bool); 2])> {
        let said = [("blocked", self.blocked), ("insecure", self.insecure)];
        Some((self.location.as_deref()?, said))
    }

    /// Returns the places of a repository that the prefix meant, the mirrors first.
    pub(super) fn places(
        &self,
        repository: &str,
        rest: &str,
        which: By,
    ) -> Result<Vec<Place>, Blocked> {
        let whole = || repository.to_owned();
        if self.blocked {
            return Err(Blocked::Forbidden { repository: whole(), prefix: self.written.clone() });
        }
        let at = |location: &str, insecure, is_mirror| match repository_at(location, rest) {
            Some(repository) => Ok(Place { repository, insecure, is_mirror }),
            None => Err(Blocked::Nameless { repository: whole(), location: location.to_owned() }),
        };
        let asked = self.mirrors.iter().filter(|mirror| mirror.only.is_none_or(|by| by == which));
        let mut places = asked
            .map(|mirror| at(&mirror.location, mirror.insecure, true))
            .collect::<Result<Vec<_>, _>>()?;
        places.push(match &self.location {
            Some(location) => at(location, self.insecure, false)?,
            None => Place { repository: whole(), insecure: self.insecure, is_mirror: false },
        });
        Ok(places)
    }
}

fn mirrors(table: &mut Table<'_>) -> Result<Vec<Mirror>, Fault> {
    let by_digest_only = table.flag("mirror-by-digest-only")?.unwrap_or_default();
    let all = by_digest_only.then_some(By::Digest);
    table.tables("mirror")?.into_iter().map(|table| mirror(table, all)).collect()
}

fn mirror(mut table: Table<'_>, all: Option<By>) -> Result<Mirror, Fault> {
    let [at_location, at_pull] = ["location", "pull-from-mirror"].map(|key| table.at(key));
    let Some(text) = table.text("location")? else {
        return Err(Fault::of(at_location, "it is missing"));
    };
    let location = location(text).map_err(|why| Fault::of(at_location, why))?;
    let insecure = table.flag("insecure")?.unwrap_or_default();
    let only = match (table.text("pull-from-mirror")?.unwrap_or_default(), all) {
        ("", all) => all,
        (_, Some(_)) => {
            return Err(Fault::of(at_pull, "its registry has `mirror-by-digest-only` already"));
        }
        ("all", None) => None,
        ("digest-only", None) => Some(By::Digest),
        ("tag-only", None) => Some(By::Tag),
        _ => return Err(Fault::of(at_pull, "it takes `all`, `digest-only` or `tag-only`")),
    };
    table.done()?;
    Ok(Mirror { location, insecure, only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn entry(text: &str) -> Result<Entry, String> {
        let parsed = DeTable::parse(text).unwrap();
        let read = Entry::read(Table::of("registry[1]".to_owned(), parsed.get_ref()));
        read.map_err(|fault| fault.found_in("f").to_string())
    }

    fn places(text: &str, repository: &str, which: By) -> Result<Vec<(String, bool)>, Blocked> {
        let entry = entry(text).unwrap();
        let places = entry.places(repository, entry.prefix.rest(repository).unwrap(), which)?;
        assert!(places.iter().rev().skip(1).all(|place| place.is_mirror));
        assert!(!places.last().unwrap().is_mirror);
        Ok(places.into_iter().map(|place| (place.repository, place.insecure)).collect())
    }

    #[test]
    fn mirrors_come_first_and_each_only_for_what_it_is_trusted_with() {
        let text = "prefix='example.com/foo'\nlocation='in.net/bar'\ninsecure=true\n\
            [[mirror]]\nlocation='m0.local/x'\n\
            [[mirror]]\nlocation='m1.local'\npull-from-mirror='digest-only'\ninsecure=true\n\
            [[mirror]]\nlocation='m2.local'\npull-from-mirror='tag-only'\n\
            [[mirror]]\nlocation='docker.io'\npull-from-mirror='all'\n";
        let of = |which| places(text, "example.com/foo/image", which).unwrap();
        let place = |name: &str, insecure| (name.to_owned(), insecure);
        let m0 = place("m0.local/x/image", false);
        let hub = place("docker.io/library/image", false);
        let own = place("in.net/bar/image", true);
        assert_eq!(
            of(By::Tag),
            [m0.clone(), place("m2.local/image", false), hub.clone(), own.clone()]
        );
        assert_eq!(of(By::Digest), [m0, place("m1.local/image", true), hub, own]);
        let nameless = places(text, "example.com/foo", By::Tag).unwrap_err();
        assert!(matches!(nameless, Blocked::Nameless { location, .. } if location == "m2.local"));

        let text = "location='a.org'\nmirror-by-digest-only=true\nmirror=[{location='m.org'}]";
        assert_eq!(places(text, "a.org/b", By::Tag).unwrap(), [place("a.org/b", false)]);
        assert_eq!(places(text, "a.org/b", By::Digest).unwrap().len(), 2);
    }

    #[test]
    fn a_wildcard_needs_no_location() {
        let text = "prefix='*.example.com'\ninsecure=true\n";
        let same = [("a.example.com:5000/x".to_owned(), true)];
        assert_eq!(places(text, "a.example.com:5000/x", By::Tag).unwrap(), same);
        let moved = places(&format!("{text}location='m.org/y'"), "a.example.com/x", By::Tag);
        assert_eq!(moved.unwrap(), [("m.org/y/x".to_owned(), true)]);
        let blocked = places("prefix='*.a.org'\nblocked=true", "x.a.org/y", By::Tag).unwrap_err();
        assert_eq!(blocked.to_string(), "`x.a.org/y` is blocked, as all of `*.a.org` is");
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_key() {
        for (text, key) in [
            ("", "location"),
            ("prefix='a.org'", "location"),
            ("location='a'", "prefix"),
            ("prefix='a.org'\nlocation='*.b.org'", "location"),
            ("location='*.b.org'", "location"),
            ("location='a.org'\nblocked='yes'", "blocked"),
            ("location='a.org'\nblokced=true", "blokced"),
            ("location='a.org'\nmirror='m.org'", "mirror"),
            ("location='a.org'\nmirror=[{}]", "mirror[1].location"),
            ("location='a.org'\nmirror=[{location=''}]", "mirror[1].location"),
            ("location='a.org'\nmirror=[{location='m.org',x=1}]", "mirror[1].x"),
            (
                "location='a.org'\nmirror=[{location='m.org',pull-from-mirror='never'}]",
                "mirror[1].pull-from-mirror",
            ),
            (
                "location='a.org'\nmirror-by-digest-only=true\n\
                 mirror=[{location='m.org',pull-from-mirror='all'}]",
                "mirror[1].pull-from-mirror",
            ),
        ] {
            let why = entry(text).unwrap_err();
            assert!(why.starts_with(&format!("`registry[1].{key}` in `f` ")), "{text}: {why}");
        }
    }
}
