//! Names of images as signatures have them: those of a registry, in full.

use std::fmt;

use pod_abi::Digest;

use super::error::TrustError;
use crate::reference::{Place, Reference};

/// A name in full: `docker.io/library/busybox:1.36`, not `busybox:1.36`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// The registry and the repository in it, such as `docker.io/library/busybox`.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest of the manifest, or of the index.
    pub digest: Option<Digest>,
}

impl Named {
    /// Reads a name that somebody has signed, or written into a policy. Without a tag none is meant:
    /// cosign signs repositories.
    ///
    /// # Errors
    ///
    /// [`TrustError::Name`].
    pub fn parse(word: &str) -> Result<Self, TrustError> {
        let none = || TrustError::Name(word.chars().take(256).collect());
        // Anything else that a reference can be is no name of a registry.
        let reference = Reference::parse(&format!("docker://{word}")).map_err(|_| none())?;
        let mut named = Self::of(&reference).ok_or_else(none)?;
        let behind_host = word.split('@').next().unwrap_or_default().rsplit('/').next();
        if !behind_host.unwrap_or_default().contains(':') {
            named.tag = None;
        }
        Ok(named)
    }

    /// Returns the name of an image that is to run, unless it is of no registry.
    #[must_use]
    pub fn of(reference: &Reference) -> Option<Self> {
        match reference.place() {
            Place::Registry { host, repository, tag, digest } => Some(Self {
                repository: format!("{host}/{repository}"),
                tag: tag.clone(),
                digest: digest.clone(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_a_tag_only_if_it_says_so() {
        for (word, full) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("example.com:5000/a/b", "example.com:5000/a/b"),
            ("example.com:5000/a/b:v1", "example.com:5000/a/b:v1"),
        ] {
            assert_eq!(Named::parse(word).unwrap().to_string(), full);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let named = Named::parse(&format!("example.com/a@{digest}")).unwrap();
        assert_eq!((named.tag, named.digest), (None, Some(Digest::parse(&digest).unwrap())));
        for word in ["", "oci:/x", "a b", "UPPER/case", "example.com/a:"] {
            assert!(Named::parse(word).is_err(), "{word}");
        }
    }
}
