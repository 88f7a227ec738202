//! A table of TOML that is emptied key by key, so that what is left over is what nobody knows.
//!
//! Every fault names the key with the tables it stands in, such as `registry[2].mirror[1].insecure`;
//! tables of an array count from 1.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::error::Fault;

/// A table, without what was taken.
#[derive(Debug)]
pub(super) struct Table<'t> {
    path: String,
    left: BTreeMap<&'t str, &'t DeValue<'t>>,
}

impl<'t> Table<'t> {
    pub(super) fn of(path: String, table: &'t DeTable<'t>) -> Self {
        let left = table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()));
        Self { path, left: left.collect() }
    }

    /// Returns the whole path of a key.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a key whose value does not matter; tells whether it was there.
    pub(super) fn pass(&mut self, key: &str) -> bool {
        self.left.remove(key).is_some()
    }

    fn take<T>(
        &mut self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(Fault::of(self.at(key), format!("it takes {what}"))),
        }
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Fault> {
        self.take(key, "`true` or `false`", DeValue::as_bool)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<&'t str>, Fault> {
        self.take(key, "a string", DeValue::as_str)
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<&'t str>>, Fault> {
        self.take(key, "an array of strings", |value| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect()
        })
    }

    /// Takes a table of strings.
    pub(super) fn map(&mut self, key: &str) -> Result<Vec<(&'t str, &'t str)>, Fault> {
        let map = self.take(key, "a table of strings", |value| {
            let table = value.as_table()?.iter();
            table
                .map(|(key, value)| Some((key.get_ref().as_ref(), value.get_ref().as_str()?)))
                .collect()
        })?;
        Ok(map.unwrap_or_default())
    }

    /// Takes an array of tables.
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<Self>, Fault> {
        let path = self.at(key);
        let tables = self.take(key, "an array of tables, written as `[[…]]`", |value| {
            let array = value.as_array()?.iter().zip(1_usize..);
            array
                .map(|(item, number)| {
                    Some(Self::of(format!("{path}[{number}]"), item.get_ref().as_table()?))
                })
                .collect()
        })?;
        Ok(tables.unwrap_or_default())
    }

    /// Ends the reading of this table.
    ///
    /// # Errors
    ///
    /// For a key that nobody has taken.
    pub(super) fn done(self) -> Result<(), Fault> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => Err(Fault::of(self.at(key), "there is no such key here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_named() {
        let parsed = DeTable::parse("a = 1\nb = ['x']\n[[c]]\nd = true\ne = 'z'").unwrap();
        let mut table = Table::of(String::new(), parsed.get_ref());
        assert_eq!(table.texts("b").unwrap(), Some(vec!["x"]));
        assert_eq!(table.texts("b").unwrap(), None);
        assert_eq!(table.text("a").unwrap_err(), Fault::of("a", "it takes a string"));
        let mut inner = table.tables("c").unwrap();
        assert_eq!(inner[0].flag("d").unwrap(), Some(true));
        let fault = Fault::of("c[1].e", "there is no such key here");
        assert_eq!(inner.remove(0).done().unwrap_err(), fault);
        table.done().unwrap();
    }
}
