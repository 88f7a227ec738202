//! What `pod cp` is told: which side is an app, and what of a path is meant.
//!
//! docker's grammar: `POD:PATH`, `POD/APP:PATH`, a path of the host otherwise, and `-`. What would
//! be taken for a pod is a path if it begins with `/` or `.`.

use pod_abi::PodPath;

use crate::error::{CommandError, Result};

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path of the host, or `-`.
    Host(String),
    /// A path in an app.
    App {
        /// Which pod.
        pod: String,
        /// Which app; the only one, if not given.
        app: Option<String>,
        /// Which path.
        path: Told,
    },
}

/// A path in an app, and what its ending says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The path.
    pub(crate) path: PodPath,
    /// Whether it must be a directory: it ends in a slash.
    pub(crate) is_directory: bool,
    /// Whether what it holds is meant, and not itself: it ends in `/.`.
    pub(crate) contents: bool,
}

impl Told {
    fn read(word: &str) -> Result<Self> {
        let absolute = if word.starts_with('/') { word.to_owned() } else { format!("/{word}") };
        let path =
            PodPath::parse(&absolute).map_err(|error| CommandError::usage(error.to_string()))?;
        let contents = absolute.ends_with("/.");
        Ok(Self { path, is_directory: contents || absolute.ends_with('/'), contents })
    }

    /// Returns the directory it is in, and its name there.
    ///
    /// # Errors
    ///
    /// `copy.destination` for the root.
    pub(crate) fn split(&self) -> Result<(PodPath, &str)> {
        let root = || CommandError::new("copy.destination", "`/` is a directory");
        let (parent, name) = self.path.as_str().rsplit_once('/').ok_or_else(root)?;
        if name.is_empty() {
            return Err(root());
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let parent =
            PodPath::parse(parent).map_err(|error| CommandError::usage(error.to_string()))?;
        Ok((parent, name))
    }
}

/// Reads one side of a copy.
///
/// # Errors
///
/// A usage error for a path no app can have.
pub(crate) fn place(word: &str) -> Result<Place> {
    let split = word.split_once(':').filter(|_| !word.starts_with(['/', '.']));
    let Some((target, path)) = split else { return Ok(Place::Host(word.to_owned())) };
    let (pod, app) = match target.split_once('/') {
        Some((pod, app)) => (pod, Some(app.to_owned())),
        None => (target, None),
    };
    if pod.is_empty() || path.is_empty() || app.as_deref() == Some("") {
        return Err(CommandError::usage(format!("`{word}` is no path in an app")).hint(
            "it takes POD:PATH or POD/APP:PATH; a path of the host with a colon begins with `./`",
        ));
    }
    Ok(Place::App { pod: pod.to_owned(), app, path: Told::read(path)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_is_an_app_if_a_colon_comes_before_any_sign_of_a_path() {
        let app = |word: &str| match place(word) {
            Ok(Place::App { pod, app, path }) => {
                let ending = (path.is_directory, path.contents);
                Some((pod, app.unwrap_or_default(), path.path.to_string(), ending))
            }
            _ => None,
        };
        let is = |pod: &str, name: &str, path: &str, ending| {
            Some((pod.to_owned(), name.to_owned(), path.to_owned(), ending))
        };
        assert_eq!(app("web:/a/b"), is("web", "", "/a/b", (false, false)));
        assert_eq!(app("web/db:a/"), is("web", "db", "/a", (true, false)));
        assert_eq!(app("web:/a/."), is("web", "", "/a", (true, true)));
        assert_eq!(app("web:/"), is("web", "", "/", (true, false)));
        for host in ["a", "-", "./a:b", "/a:b", "../a:b", "."] {
            assert_eq!(place(host).unwrap(), Place::Host(host.to_owned()));
        }
        for bad in [":a", "web:", "web/:a", "web:/a/../b"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_has_a_parent_unless_it_is_the_root() {
        let split = |word: &str| {
            let told = Told::read(word).unwrap();
            told.split().ok().map(|(parent, name)| (parent.to_string(), name.to_owned()))
        };
        assert_eq!(split("/a"), Some(("/".to_owned(), "a".to_owned())));
        assert_eq!(split("/a/b/"), Some(("/a".to_owned(), "b".to_owned())));
        assert_eq!(split("/"), None);
    }
}
