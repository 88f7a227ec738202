//! Paths as an app sees them: absolute, and never to be resolved on the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest path the kernel takes, less its terminating NUL (`PATH_MAX`).
const MAX_PATH: usize = 4095;

/// An absolute path inside an app's root, without `.`, `..`, doubled or trailing slashes.
///
/// It is a different type from a host's path on purpose: the only thing to do with it is to
/// resolve it beneath a descriptor of the app's root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodPath(String);

/// Why a word is no path of an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path inside an app: it must be absolute, without `..`, of at most {MAX_PATH} bytes"
)]
pub struct PodPathError(String);

impl PodPath {
    /// Returns the root.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses an absolute path; doubled and trailing slashes and `.` are dropped.
    ///
    /// # Errors
    ///
    /// [`PodPathError`] for relative paths, `..`, NUL bytes, and paths or components that are too
    /// long for the kernel.
    pub fn parse(word: &str) -> Result<Self, PodPathError> {
        let refused = || PodPathError(word.chars().take(200).collect());
        if !word.starts_with('/') || word.len() > MAX_PATH || word.contains('\0') {
            return Err(refused());
        }
        let mut clean = String::with_capacity(word.len());
        for component in word.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if component == ".." || component.len() > 255 {
                return Err(refused());
            }
            clean.push('/');
            clean.push_str(component);
        }
        if clean.is_empty() {
            clean.push('/');
        }
        Ok(Self(clean))
    }

    /// Returns the path as text, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path without its leading slash, as look-ups beneath a descriptor want it; the
    /// root is `.`.
    #[must_use]
    pub fn relative(&self) -> &str {
        match &self.0[1..] {
            "" => ".",
            rest => rest,
        }
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// Tells whether this path is `outer` or lies beneath it.
    #[must_use]
    pub fn is_beneath(&self, outer: &Self) -> bool {
        let mut mine = self.components();
        outer.components().all(|part| mine.next() == Some(part))
    }
}

impl fmt::Display for PodPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PodPath {
    type Error = PodPathError;

    fn try_from(word: String) -> Result<Self, PodPathError> {
        Self::parse(&word)
    }
}

impl From<PodPath> for String {
    fn from(path: PodPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_but_never_climbs() {
        let clean = |word| PodPath::parse(word).map(String::from).ok();
        assert_eq!(clean("//a/./b//").as_deref(), Some("/a/b"));
        assert_eq!(clean("/").as_deref(), Some("/"));
        for bad in ["", "a", "/a/../b", "..", "/a\0b"] {
            assert_eq!(clean(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn beneath_goes_by_components_not_by_letters() {
        let path = |word| PodPath::parse(word).unwrap();
        assert!(path("/data/wal").is_beneath(&path("/data")));
        assert!(path("/data").is_beneath(&path("/")));
        assert!(!path("/database").is_beneath(&path("/data")));
    }
}
