//! For which name a signature must be: the `signedIdentity` of a requirement.
//!
//! A signature says what it is for. One for `app:v1` must not let `app:v2` pass where tags mean
//! something, and one for a repository's original should let its mirror pass where the administrator
//! says so.

use serde::Deserialize;

use super::named::Named;

/// What the name in a signature must be, given the name of the image that is to run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Identity {
    /// The same, tag and all.
    MatchExact {},
    /// The same; of an image that is named by its digest alone, the same repository.
    MatchRepoDigestOrExact {},
    /// The same repository, whatever the tag.
    MatchRepository {},
    /// This one, whatever the image is called.
    ExactReference {
        /// The name.
        docker_reference: String,
    },
    /// One of this repository, whatever the image is called.
    ExactRepository {
        /// The repository.
        docker_repository: String,
    },
    /// As [`Identity::MatchRepoDigestOrExact`], once the beginning of the image's name is replaced.
    RemapIdentity {
        /// What is replaced: a host, a directory of repositories or a repository.
        prefix: String,
        /// By what.
        signed_prefix: String,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

impl Identity {
    /// Tells whether a signature for the name `signed` is one for the image `intended`. An image of
    /// no registry has no name: only the exact ones can be for it.
    #[must_use]
    pub fn accepts(&self, intended: Option<&Named>, signed: &Named) -> bool {
        let like = |test: fn(&Named, &Named) -> bool| {
            intended.is_some_and(|intended| test(intended, signed))
        };
        match self {
            Self::MatchExact {} => like(is_exact),
            Self::MatchRepoDigestOrExact {} => like(is_exact_or_by_digest),
            Self::MatchRepository {} => {
                like(|intended, signed| intended.repository == signed.repository)
            }
            Self::ExactReference { docker_reference } => {
                Named::parse(docker_reference).is_ok_and(|exact| exact == *signed)
            }
            Self::ExactRepository { docker_repository } => Named::parse(docker_repository)
                .is_ok_and(|exact| exact.repository == signed.repository),
            Self::RemapIdentity { prefix, signed_prefix } => intended
                .is_some_and(|it| is_exact_or_by_digest(&remap(it, prefix, signed_prefix), signed)),
        }
    }
}

/// A name without a tag is no exact one: it could be anything.
fn is_exact(intended: &Named, signed: &Named) -> bool {
    let is_of_tag = intended.tag.is_some() && intended.tag == signed.tag;
    let is_of_digest =
        intended.tag.is_none() && intended.digest.is_some() && intended.digest == signed.digest;
    intended.repository == signed.repository && (is_of_tag || is_of_digest)
}

fn is_exact_or_by_digest(intended: &Named, signed: &Named) -> bool {
    match (&intended.tag, &intended.digest) {
        (None, Some(_)) => intended.repository == signed.repository,
        _ => is_exact(intended, signed),
    }
}

/// Replaces whole components of a name only: `example.com/a` is no beginning of `example.com/ab`.
fn remap(intended: &Named, prefix: &str, signed_prefix: &str) -> Named {
    let rest = intended.repository.strip_prefix(prefix);
    match rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        Some(rest) => Named { repository: format!("{signed_prefix}{rest}"), ..intended.clone() },
        None => intended.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    fn intended(word: &str) -> Option<Named> {
        Named::of(&Reference::parse(word).unwrap())
    }

    #[test]
    fn a_signature_is_for_what_it_says() {
        let digest = format!("sha256:{}", "c".repeat(64));
        let by_digest = format!("r.io/app@{digest}");
        let exact = Identity::MatchExact {};
        let usual = Identity::default();
        let repository = Identity::MatchRepository {};
        let reference = Identity::ExactReference { docker_reference: "r.io/app:v1".into() };
        let any_tag = Identity::ExactRepository { docker_repository: "r.io/app".into() };
        let remap =
            Identity::RemapIdentity { prefix: "mirror.io/r".into(), signed_prefix: "r.io".into() };
        for (identity, image, signed, accepted) in [
            (&exact, "r.io/app:v1", "r.io/app:v1", true),
            (&exact, "r.io/app:v1", "r.io/app:v2", false),
            (&exact, "r.io/app:v1", "r.io/app", false),
            (&exact, "r.io/app:v1", "s.io/app:v1", false),
            (&exact, &by_digest, "r.io/app:v1", false),
            (&exact, &by_digest, &by_digest, true),
            (&usual, "r.io/app:v1", "r.io/app:v1", true),
            (&usual, "r.io/app:v1", "r.io/app:v2", false),
            (&usual, &by_digest, "r.io/app:v1", true),
            (&usual, &by_digest, "r.io/other:v1", false),
            (&repository, "r.io/app:v1", "r.io/app:v2", true),
            (&repository, "r.io/app:v1", "r.io/app", true),
            (&repository, "r.io/app:v1", "r.io/app2", false),
            (&reference, "s.io/x:1", "r.io/app:v1", true),
            (&reference, "s.io/x:1", "r.io/app:v2", false),
            (&any_tag, "s.io/x:1", "r.io/app:v2", true),
            (&any_tag, "s.io/x:1", "r.io/appendix:v2", false),
            (&remap, "mirror.io/r/app:v1", "r.io/app:v1", true),
            (&remap, "mirror.io/r/app:v1", "mirror.io/r/app:v1", false),
            (&remap, "mirror.io/rest/app:v1", "r.io/est/app:v1", false),
            (&remap, "r.io/app:v1", "r.io/app:v1", true),
        ] {
            let signed = Named::parse(signed).unwrap();
            assert_eq!(
                identity.accepts(intended(image).as_ref(), &signed),
                accepted,
                "{identity:?} {image} {signed}"
            );
        }
    }

    #[test]
    fn an_image_without_a_name_takes_only_what_is_named_in_full() {
        let signed = Named::parse("r.io/app:v1").unwrap();
        assert!(!Identity::default().accepts(None, &signed));
        let exact = Identity::ExactReference { docker_reference: "r.io/app:v1".into() };
        assert!(exact.accepts(None, &signed));
    }
}
