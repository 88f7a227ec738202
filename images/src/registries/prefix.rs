//! Which repositories a table is about, and where they go instead.
//!
//! A location is `HOST[:PORT]` or `HOST[:PORT]/PATH`, a prefix that or `*.DOMAIN`. Both are brought
//! into the form that references have (host in lower case, `docker.io` by its one name), as what is
//! written otherwise would never match, and a blocked registry would not be. For the same reason a
//! tag or a digest is refused.

use crate::reference::Reference;

/// What makes any location a repository that could be there; two, as a single component would be
/// moved into `library` on `docker.io`.
const BELOW: &str = "/x/x";

/// Which repositories are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Prefix {
    /// Those on every host below this domain, which begins with a dot.
    Below(String),
    /// This one, and those in it.
    In(String),
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(domain) = text.strip_prefix('*') else { return location(text).map(Self::In) };
        let stands = domain.starts_with('.') && !domain.contains(['/', ':']);
        match location(&format!("x{domain}")) {
            Ok(_) if stands => Ok(Self::Below(domain.to_ascii_lowercase())),
            _ => Err(format!("`{text}` is none: `*` stands for hosts only, as in `*.example.com`")),
        }
    }

    /// Returns what of a repository follows the prefix, empty or with its slash; `None` if another
    /// one is meant.
    pub(super) fn rest<'r>(&self, repository: &'r str) -> Option<&'r str> {
        match self {
            Self::In(prefix) => {
                let rest = repository.strip_prefix(prefix.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then_some(rest)
            }
            Self::Below(domain) => {
                let (authority, _) = repository.split_once('/').unwrap_or((repository, ""));
                let (host, _) = authority.split_once(':').unwrap_or((authority, ""));
                let below = host.strip_suffix(domain.as_str()).is_some_and(|name| !name.is_empty());
                repository.strip_prefix(authority).filter(|_| below)
            }
        }
    }

    /// Returns what the narrower of two prefixes has more of: whatever is written out is narrower
    /// than a wildcard.
    pub(super) fn narrowness(&self) -> (bool, usize) {
        match self {
            Self::In(prefix) => (true, prefix.len()),
            Self::Below(domain) => (false, domain.len()),
        }
    }
}

/// Reads a location.
pub(super) fn location(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let none = |why: &str| format!("`{text}` is none: {why}");
    if text.contains("://") {
        return Err(none("it is written without `https://`"));
    }
    let host = text.split('/').next().unwrap_or(text);
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(none("it begins with a host, such as `example.com` or `localhost`"));
    }
    let path = text.strip_prefix(host).unwrap_or_default();
    if path.contains(':') || text.contains('@') {
        return Err(none("a tag or a digest cannot stand here"));
    }
    let host = host.to_ascii_lowercase();
    let repository = Reference::parse(&format!("docker://{host}{path}{BELOW}"))
        .map_err(|_| none("it takes a host, perhaps a port, and perhaps a path in lower case"))?
        .to_string();
    let (repository, _) = repository.rsplit_once(':').unwrap_or((&repository, ""));
    Ok(repository.strip_suffix(BELOW).unwrap_or(repository).to_owned())
}

/// Reads a registry: a location that is a host.
pub(super) fn registry(text: &str) -> Result<String, String> {
    let registry = location(text)?;
    if registry.contains('/') {
        return Err(format!("`{text}` is no registry: it takes a host and perhaps a port"));
    }
    Ok(registry)
}

/// Returns the repository that lies at `rest` of a location; `None` if a host alone is left.
pub(super) fn repository_at(location: &str, rest: &str) -> Option<String> {
    let repository = format!("{location}{rest}");
    let (host, path) = repository.split_once('/')?;
    if host == "docker.io" && !path.contains('/') {
        return Some(format!("{host}/library/{path}"));
    }
    Some(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_component_does() {
        for (prefix, repository, rest) in [
            ("example.com", "example.com/a/b", Some("/a/b")),
            ("example.com", "example.com.evil.org/a", None),
            ("example.com", "example.com:5000/a", None),
            ("example.com:5000", "example.com:5000/a", Some("/a")),
            ("example.com/a/", "example.com/a/b", Some("/b")),
            ("example.com/a", "example.com/a", Some("")),
            ("example.com/a", "example.com/ab", None),
            ("EXAMPLE.com/a", "example.com/a", Some("")),
            ("index.docker.io", "docker.io/library/a", Some("/library/a")),
            ("*.example.com", "a.b.example.com/x", Some("/x")),
            ("*.Example.com", "b.example.com:5000/x", Some("/x")),
            ("*.example.com", "example.com/x", None),
            ("*.example.com", "other.org/b.example.com/x", None),
            ("*.example.com", "b.example.com.evil.org/x", None),
            ("*.example.com", "[::1]:5000/x", None),
        ] {
            let read = Prefix::parse(prefix).unwrap();
            assert_eq!(read.rest(repository), rest, "{prefix} {repository}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for text in [
            "",
            "/",
            "busybox",
            "a/b",
            "https://example.com",
            "example.com/A",
            "example.com//a",
            "example.com/a:v1",
            "example.com/a@sha256:00",
            "example.com:port",
            "exa mple.com",
            "oci:/x",
            "*",
            "*.",
            "*example.com",
            "a.*.com",
            "*.*.com",
            "*.example.com/a",
            "*.example.com:5000",
        ] {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
        assert!(registry("example.com/a").is_err());
        assert_eq!(registry("[::1]:5000").unwrap(), "[::1]:5000");
    }

    #[test]
    fn what_is_rewritten_is_a_repository() {
        let at = |location, rest| repository_at(location, rest);
        assert_eq!(at("m.org/a", "/b").as_deref(), Some("m.org/a/b"));
        assert_eq!(at("docker.io", "/b").as_deref(), Some("docker.io/library/b"));
        assert_eq!(at("m.org", ""), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_read_is_in_itself(text in "[a-zA-Z0-9:/@._*\\[\\]-]{0,40}|.*") {
            if let Ok(location) = location(&text) {
                proptest::prop_assert_eq!(super::location(&location), Ok(location.clone()));
                let whole = format!("{location}/a/b");
                proptest::prop_assert!(Reference::parse(&whole).unwrap().to_string().starts_with(&location));
                proptest::prop_assert_eq!(Prefix::In(location).rest(&whole), Some("/a/b"));
            }
            let _ = Prefix::parse(&text);
        }
    }
}
