//! One file of `containers-registries.conf(5)`, version 2: TOML, read into tables, and what a later
//! file replaces of an earlier one.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::DeTable;

use super::aliases::{self, Aliases, ShortNameMode};
use super::entry::Entry;
use super::error::Fault;
use super::files;
use super::prefix::{Prefix, registry};
use super::table::Table;

/// What a file of version 1 is told.
const VERSION_1: &str = "it is of version 1 of the format, which is not read: write \
     `unqualified-search-registries` and `[[registry]]` tables with `insecure` and `blocked` instead";

/// What a file says, or several together; `None` where nothing is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) entries: BTreeMap<Prefix, Entry>,
    /// The `unqualified-search-registries`.
    pub(super) search: Option<Vec<String>>,
    pub(super) mode: Option<ShortNameMode>,
    /// The `credential-helpers`.
    pub(super) helpers: Option<Vec<String>>,
    pub(super) aliases: Aliases,
}

impl Document {
    pub(super) fn override_with(&mut self, later: Self) {
        let Self { entries, search, mode, helpers, aliases } = later;
        self.entries.extend(entries);
        self.search = search.or(self.search.take());
        self.mode = mode.or(self.mode);
        self.helpers = helpers.or(self.helpers.take());
        self.aliases.extend(aliases);
    }
}

/// Reads a file of aliases and nothing else.
pub(super) fn read_aliases(text: &str) -> Result<Aliases, Fault> {
    let parsed = parsed(text)?;
    let mut table = Table::of(String::new(), parsed.get_ref());
    let read = aliases::read(&table.map("aliases")?)?;
    table.done()?;
    Ok(read)
}

fn parsed(text: &str) -> Result<Spanned<DeTable<'_>>, Fault> {
    DeTable::parse(files::bounded(text)?).map_err(|error| {
        let until = error.span().map_or(0, |span| span.start);
        let lines = text.bytes().take(until).filter(|byte| *byte == b'\n').count();
        Fault::of_format(lines + 1, error.message())
    })
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Document, Fault> {
    let parsed = parsed(text)?;
    let mut table = Table::of(String::new(), parsed.get_ref());
    if table.pass("registries") {
        return Err(Fault::of("registries", VERSION_1));
    }
    // Only storage of layers by others has a use for it.
    table.pass("additional-layer-store-auth-helper");
    let mode = table.text("short-name-mode")?.unwrap_or_default();
    let read = Document {
        search: list(&mut table, "unqualified-search-registries", registry)?,
        mode: ShortNameMode::read(mode)?,
        helpers: list(&mut table, "credential-helpers", helper)?,
        aliases: aliases::read(&table.map("aliases")?)?,
        entries: entries(&mut table)?,
    };
    table.done()?;
    Ok(read)
}

fn list(
    table: &mut Table<'_>,
    key: &str,
    each: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<Vec<String>>, Fault> {
    let texts = table.texts(key)?.map(|texts| texts.into_iter().map(each).collect());
    texts.transpose().map_err(|why| Fault::of(key, why))
}

/// Reads the name of a helper, which becomes that of a program: it must not lead elsewhere.
fn helper(name: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(letter) {
        return Err(format!("`{name}` is no name of a helper"));
    }
    Ok(name.to_owned())
}

fn entries(table: &mut Table<'_>) -> Result<BTreeMap<Prefix, Entry>, Fault> {
    let mut entries = BTreeMap::new();
    let mut said_before = BTreeMap::new();
    for table in table.tables("registry")? {
        let [at_prefix, at_table] = [table.at("prefix"), table.at("")];
        let entry = Entry::read(table)?;
        if let Some((location, said)) = entry.said_of_location() {
            let before = said_before.entry(location.to_owned()).or_insert(said);
            let differs = said.iter().zip(before).find(|(now, before)| *now != *before);
            if let Some(((key, _), _)) = differs {
                let why = "another table says otherwise of the same location";
                return Err(Fault::of(format!("{at_table}{key}"), why));
            }
        }
        if entries.insert(entry.prefix.clone(), entry).is_some() {
            return Err(Fault::of(at_prefix, "another table of this file has the same"));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, String> {
        read(text).map_err(|fault| fault.found_in("f").to_string())
    }

    #[test]
    fn whatever_breaks_a_rule_refuses_the_file() {
        for (text, start) in [
            ("\n\nx", "`f` says nothing of registries: line 3: "),
            (
                "[registries.search]\nregistries=['a.org']",
                "`registries` in `f` cannot stand: it is",
            ),
            ("registry=1", "`registry` in"),
            ("[registry]\nlocation='a.org'", "`registry` in"),
            ("[[registry]]\nlocation='a.org'\nx=1", "`registry[1].x` in"),
            ("unqualified-search-registries=['a.org/b']", "`unqualified-search-registries` in"),
            ("unqualified-search-registries='a.org'", "`unqualified-search-registries` in"),
            ("short-name-mode='lax'", "`short-name-mode` in"),
            ("credential-helpers=['../x']", "`credential-helpers` in"),
            ("aliases={x=1}", "`aliases` in"),
            ("[aliases]\nx='y'", "`aliases.x` in"),
            (
                "[[registry]]\nlocation='a.org'\n[[registry]]\nlocation='a.org'",
                "`registry[2].prefix` in",
            ),
            (
                "[[registry]]\nlocation='a.org'\n[[registry]]\nprefix='b.org'\nlocation='a.org'\n\
                 blocked=true",
                "`registry[2].blocked` in",
            ),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.starts_with(start) && !why.contains('\n'), "{text}: {why}");
        }
        assert!(parse(&" ".repeat(files::MAX_FILE + 1)).is_err());
        assert!(parse(&format!("x={}", "[".repeat(files::MAX_FILE - 2))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_table_of_spoilt_bytes_is_read_or_refused(at in 0_usize..200, byte in 0_u8..128) {
            const WHOLE: &str = "[[registry]]\nlocation = 'a.org'\nblocked = true\n[aliases]\nx=''\n";
            let mut bytes = WHOLE.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let spoilt = String::from_utf8(bytes).unwrap();
            if let Ok(read) = read(&spoilt) {
                proptest::prop_assert!(read.entries.len() <= 1);
            }
        }
    }
}
