//! One file of `registries.d`: YAML, taken apart event by event.
//!
//! The shape is known, so nothing is read that it has no room for: no tree is built, nothing nests,
//! and a file of anchors and aliases, which might unfold into anything, ends at the first of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use super::error::Fault;
use super::files;

/// What is said of an image in a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    /// Where its signatures lie.
    pub(super) lookaside: Option<String>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Document {
    /// `default-docker`.
    pub(super) default: Option<Section>,
    /// `docker`, by scopes as they are written.
    pub(super) scopes: BTreeMap<String, Section>,
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Document, Fault> {
    let mut events = Events { parser: Parser::new_from_str(files::bounded(text)?) };
    let mut document = Document::default();
    events.next("")?;
    if matches!(events.next("")?, Event::StreamEnd) {
        return Ok(document);
    }
    events.mapping("", |events, key| match key {
        "default-docker" => section(events, key).map(|section| document.default = section),
        "docker" => scopes(events, key).map(|scopes| document.scopes = scopes),
        _ => Err(unknown(key)),
    })?;
    events.next("")?;
    match events.next("")? {
        Event::StreamEnd => Ok(document),
        _ => Err(Fault::of("", "it holds more than one document")),
    }
}

fn scopes(events: &mut Events<'_>, at: &str) -> Result<BTreeMap<String, Section>, Fault> {
    let mut scopes = BTreeMap::new();
    events.mapping(at, |events, scope| {
        let section = section(events, &format!("{at}.{scope}"))?.unwrap_or_default();
        scopes.insert(scope.to_owned(), section);
        Ok(())
    })?;
    Ok(scopes)
}

/// Reads a section; `None` if nothing at all is said.
fn section(events: &mut Events<'_>, at: &str) -> Result<Option<Section>, Fault> {
    let [mut new, mut old] = [None, None];
    let given = events.mapping(at, |events, key| {
        let at = format!("{at}.{key}");
        match key {
            "lookaside" => new = events.url(&at)?,
            "sigstore" => old = events.url(&at)?,
            // Where signatures are put is no matter of reading them.
            "lookaside-staging" | "sigstore-staging" => drop(events.url(&at)?),
            "use-sigstore-attachments" => events.flag(&at)?,
            _ => return Err(unknown(&at)),
        }
        Ok(())
    })?;
    Ok(given.then_some(Section { lookaside: new.or(old) }))
}

fn unknown(at: &str) -> Fault {
    Fault::of(at, "there is no such key here")
}

struct Events<'t> {
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Events<'t> {
    /// Returns the next event, which is no alias and has neither anchor nor tag.
    fn next(&mut self, at: &str) -> Result<Event<'t>, Fault> {
        let event = match self.parser.next_event() {
            Some(Ok((event, _))) => event,
            Some(Err(error)) => {
                return Err(Fault::of_format(error.marker().line(), error.info()));
            }
            None => return Err(Fault::of(at, "it ends too soon")),
        };
        match event {
            Event::Alias(_)
            | Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => Err(Fault::of(at, "anchors and aliases are not read")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(Fault::of(at, "tags are not read")),
            event => Ok(event),
        }
    }

    /// Reads a mapping, of whose keys `each` reads the value; tells whether there is one, as nothing
    /// at all may stand in its place.
    fn mapping(
        &mut self,
        at: &str,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        match self.next(at)? {
            Event::MappingStart(..) => {}
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => return Ok(false),
            _ => return Err(Fault::of(at, "it takes a mapping")),
        }
        let mut seen = BTreeSet::new();
        loop {
            let key = match self.next(at)? {
                Event::MappingEnd => return Ok(true),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(Fault::of(at, "a key of it is no string")),
            };
            if seen.contains(&key) {
                return Err(Fault::of(at, format!("`{key}` stands twice")));
            }
            each(self, &key)?;
            seen.insert(key);
        }
    }

    fn scalar(&mut self, at: &str) -> Result<Option<Cow<'t, str>>, Fault> {
        match self.next(at)? {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Ok(None),
            Event::Scalar(text, ..) => Ok(Some(text).filter(|text| !text.is_empty())),
            _ => Err(Fault::of(at, "it takes one value")),
        }
    }

    fn flag(&mut self, at: &str) -> Result<(), Fault> {
        match self.scalar(at)?.as_deref() {
            None | Some("true" | "false") => Ok(()),
            Some(_) => Err(Fault::of(at, "it takes `true` or `false`")),
        }
    }

    fn url(&mut self, at: &str) -> Result<Option<String>, Fault> {
        const SCHEMES: [&str; 3] = ["https://", "http://", "file:///"];
        let Some(url) = self.scalar(at)? else { return Ok(None) };
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '?' || c == '#';
        let known = SCHEMES
            .iter()
            .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        if !known || url.contains(odd) {
            let why = format!("`{url}` is no URL of `https`, `http` or `file:///`");
            return Err(Fault::of(at, why));
        }
        Ok(Some(url.into_owned()))
    }
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "# c\ndefault-docker:\n  lookaside-staging: file:///var/lib/s\n\
        docker:\n  r.org:\n    sigstore: https://old.org\n    lookaside: 'https://new.org:1/x'\n\
        \x20   use-sigstore-attachments: true\n  \"r.org/a:v1\": {sigstore: http://localhost:4242/s}\n";

    #[test]
    fn sections_are_read_by_scope() {
        let section = |url: &str| Section { lookaside: Some(url.to_owned()) };
        let scopes = [
            ("r.org".to_owned(), section("https://new.org:1/x")),
            ("r.org/a:v1".to_owned(), section("http://localhost:4242/s")),
        ];
        let expected = Document { default: Some(Section::default()), scopes: scopes.into() };
        assert_eq!(read(WHOLE).unwrap(), expected);
        for text in ["", "# only\n", "---\n", "docker:\n", "{}", "default-docker: ~\ndocker: {}"] {
            assert_eq!(read(text).unwrap(), Document::default(), "{text}");
        }
    }

    #[test]
    fn whatever_breaks_a_rule_is_refused_by_its_key() {
        for (text, start) in [
            ("docker", "`f` says nothing of registries: it takes a mapping"),
            ("a: [", "`a` in `f` cannot stand: there is no such key here"),
            ("docker: {a.org: {lookasde: x}}", "`docker.a.org.lookasde` in"),
            ("docker: {a.org: {lookaside: x}}", "`docker.a.org.lookaside` in"),
            ("docker: {a.org: {lookaside: 'https://x y'}}", "`docker.a.org.lookaside` in"),
            ("docker: {a.org: {lookaside: [x]}}", "`docker.a.org.lookaside` in"),
            ("docker: {a.org: {lookaside: !x y}}", "`docker.a.org.lookaside` in"),
            ("docker: {a.org: {sigstore: 'file://'}}", "`docker.a.org.sigstore` in"),
            ("docker: {a.org: {use-sigstore-attachments: perhaps}}", "`docker.a.org.use-"),
            (
                "docker: {a.org: {}, a.org: {}}",
                "`docker` in `f` cannot stand: `a.org` stands twice",
            ),
            ("docker: {a.org: &x {}, b.org: *x}", "`docker.a.org` in"),
            (
                "docker: {<<: {}}\ndocker: {}",
                "`f` says nothing of registries: `docker` stands twice",
            ),
            ("docker: {? [x] : y}", "`docker` in"),
            ("docker: {}\n---\ndocker: {}", "`f` says nothing of registries: it holds more"),
            ("docker: {", "`f` says nothing of registries: line "),
            ("docker: x", "`docker` in `f` cannot stand: it takes a mapping"),
        ] {
            let why = read(text).unwrap_err().found_in("f").to_string();
            assert!(why.starts_with(start) && !why.contains('\n'), "{text}: {why}");
        }
        for part in ["[", "{", "- ", "? ", "a: ", "&a ", "\"", "\n", "!", "{a: "] {
            let text = part.repeat(files::MAX_FILE / part.len());
            assert!(read(&text).is_err() || part == "\n", "{part}");
        }
        assert!(read(&" ".repeat(files::MAX_FILE + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_file_is_read_or_refused(at in 0_usize..400, byte in 0_u8..128) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read(&String::from_utf8(bytes).unwrap());
        }

        #[test]
        fn no_text_is_too_odd(text in "[a:{}&*!?\\[\\]|>#'\"%\\-., \\n\\t]{0,60}|.{0,60}") {
            let _ = read(&text);
            let _ = read(&format!("docker:\n  a.org: {text}"));
        }
    }
}
