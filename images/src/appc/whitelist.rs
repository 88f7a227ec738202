//! Which paths of an image are there in the end.
//!
//! A list is exact: a directory in it stands for itself and for nothing beneath, and what is above
//! a path in the list is there so that it can be. Source: appc spec 0.8.11, `pathWhitelist`.

use std::collections::BTreeSet;

use crate::layer::clean;

/// The paths of a list, relative to the root and clean.
#[derive(Debug)]
pub(super) struct Whitelist(BTreeSet<Vec<u8>>);

impl Whitelist {
    /// Reads a list; an empty one is none. Paths that no file system takes allow nothing.
    pub(super) fn new(paths: &[String]) -> Option<Self> {
        let clean = paths.iter().filter_map(|path| clean(path.as_bytes()).ok());
        (!paths.is_empty()).then(|| Self(clean.collect()))
    }

    /// Tells whether `path`, relative and clean, is there.
    pub(super) fn allows(&self, path: &[u8], directory: bool) -> bool {
        path.is_empty() || self.0.contains(path) || (directory && self.is_above(path))
    }

    /// Tells whether `path` is above one in the list: the first behind `path/` shows it.
    fn is_above(&self, path: &[u8]) -> bool {
        let beneath = [path, b"/"].concat();
        let first = self.0.range(beneath.clone()..).next();
        first.is_some_and(|first| first.starts_with(&beneath))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_exact_and_keeps_what_is_above() {
        let paths = ["/etc/systemd/", "/usr/bin/app", "/usr-x"].map(str::to_owned);
        let list = Whitelist::new(&paths).unwrap();
        for (path, directory, allowed) in [
            ("", true, true),
            ("etc", true, true),
            ("etc", false, false),
            ("etc/systemd", true, true),
            ("etc/systemd/unit", false, false),
            ("usr", true, true),
            ("us", true, false),
            ("usr/bin", true, true),
            ("usr/bin/app", false, true),
            ("usr/bin/other", false, false),
            ("usr/lib", true, false),
        ] {
            assert_eq!(list.allows(path.as_bytes(), directory), allowed, "{path}");
        }
        assert!(Whitelist::new(&[]).is_none());
    }
}
