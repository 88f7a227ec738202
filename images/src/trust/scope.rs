//! Which scopes of a policy an image is in, the narrowest first.
//!
//! | transport | scopes of an image |
//! |---|---|
//! | `docker` | `HOST/REPO@DIGEST` or `HOST/REPO:TAG`, `HOST/REPO`, every directory of it, `HOST:PORT`, `*.DOMAIN`… |
//! | `oci`, `oci-archive` | `PATH:TAG`, `PATH`, every directory above it but the root |
//! | `dir` | `PATH`, every directory above it but the root |
//! | `docker-archive` | none: only the default of its transport |
//! | `tarball` | none: the root of an image, in an archive |
//!
//! A name with a tag and a digest means the digest: the tag says nothing of what it is. Paths are
//! compared as they are given; who asks has followed links and `..` before.
//!
//! Then follow the default of the transport, whose scope is empty, and that of the policy. Source:
//! `containers-policy.json(5)`, "Supported transports and their scopes".

use std::path::Path;

use crate::reference::{ArchiveKind, Place, Reference};

use super::named::Named;

/// What a file is that is taken into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// An OCI layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// The root of an image, or an image of rkt.
    Root,
}

/// An image, as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The transport, by its word in a policy.
    pub transport: &'static str,
    /// The scopes, the narrowest first; without the transport's default.
    pub scopes: Vec<String>,
}

impl Subject {
    /// Returns how a policy sees an image of a host by its name there, whatever it is fetched with.
    pub(crate) fn named(named: &Named) -> Self {
        Self { transport: "docker", scopes: of_registry(named) }
    }

    /// Returns how a policy sees the only image of the file `file`, or all of them.
    pub(crate) fn of_file(kind: FileKind, file: &Path) -> Self {
        match kind {
            FileKind::OciArchive => Self { transport: "oci-archive", scopes: of_path(file, None) },
            FileKind::DockerArchive => Self { transport: "docker-archive", scopes: Vec::new() },
            FileKind::Root => Self { transport: "tarball", scopes: Vec::new() },
        }
    }

    /// Returns how a policy sees the image of this name; `None` for one of the store, which was
    /// judged when it came.
    #[must_use]
    pub fn of(reference: &Reference) -> Option<Self> {
        match reference.place() {
            Place::Registry { .. } => {
                let named = Named::of(reference)?;
                Some(Self::named(&named))
            }
            Place::Layout { directory, tag, .. } => {
                Some(Self { transport: "oci", scopes: of_path(directory, tag.as_deref()) })
            }
            Place::Archive { kind: ArchiveKind::Oci, file, name, .. } => {
                Some(Self { transport: "oci-archive", scopes: of_path(file, name.as_deref()) })
            }
            Place::Archive { kind: ArchiveKind::Docker, .. } => {
                Some(Self { transport: "docker-archive", scopes: Vec::new() })
            }
            Place::Directory { directory, .. } => {
                Some(Self { transport: "dir", scopes: of_path(directory, None) })
            }
            Place::Id { .. } => None,
        }
    }
}

/// The transports a policy may speak of. Those that no image comes by here are those of other tools
/// which read the same file.
const TRANSPORTS: &[&str] = &[
    "atomic",
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];

/// Checks that the scopes a policy names for a transport could be an image's: one that never is
/// would let in, or keep out, what nobody expects.
///
/// # Errors
///
/// Which one is wrong, and why, as a sentence.
pub(super) fn check<'s>(
    transport: &str,
    scopes: impl Iterator<Item = &'s String>,
) -> Result<(), String> {
    if !TRANSPORTS.contains(&transport) {
        return Err(format!("there is no transport `{transport}`"));
    }
    for scope in scopes {
        let why = match transport {
            "docker" => wrong_with_name(scope),
            "dir" | "oci" | "oci-archive" => wrong_with_path(scope),
            "docker-archive" | "tarball" => Some("nothing of it has a scope but the empty one"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(format!("no image is in scope `{scope}` of `{transport}`: {why}"));
        }
    }
    Ok(())
}

fn wrong_with_name(scope: &str) -> Option<&'static str> {
    let (host, rest) =
        scope.split_once('/').map_or((scope, None), |(host, rest)| (host, Some(rest)));
    let domain = host.strip_prefix("*.");
    if host.bytes().any(|letter| letter.is_ascii_uppercase()) {
        return Some("hosts are written in small letters");
    }
    if scope.contains("//") || scope.ends_with('/') || scope.starts_with('/') {
        return Some("a slash stands between two words");
    }
    if domain.is_some() && rest.is_some() {
        return Some("`*.` stands for hosts alone");
    }
    if scope.strip_prefix("*.").unwrap_or(scope).contains('*') {
        return Some("`*` stands for a host only, as `*.DOMAIN`");
    }
    None
}

fn wrong_with_path(scope: &str) -> Option<&'static str> {
    let Some(rest) = scope.strip_prefix('/') else { return Some("a path begins with `/`") };
    let odd = rest.split('/').any(|part| matches!(part, "" | "." | ".."));
    odd.then_some("its path is not written in full, without `//`, `.`, `..` and a `/` at its end")
}

fn of_registry(named: &Named) -> Vec<String> {
    let repository = &named.repository;
    let mut scopes = Vec::new();
    match (&named.digest, &named.tag) {
        (Some(digest), _) => scopes.push(format!("{repository}@{digest}")),
        (None, Some(tag)) => scopes.push(format!("{repository}:{tag}")),
        (None, None) => {}
    }
    let mut directory = repository.as_str();
    scopes.push(directory.to_owned());
    while let Some((above, _)) = directory.rsplit_once('/') {
        scopes.push(above.to_owned());
        directory = above;
    }
    let host = directory.split(':').next().unwrap_or(directory);
    let domains = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
    scopes.extend(domains);
    scopes
}

fn of_path(path: &Path, name: Option<&str>) -> Vec<String> {
    let text = path.to_string_lossy();
    let mut scopes: Vec<String> = name.iter().map(|name| format!("{text}:{name}")).collect();
    let root = Path::new("/");
    let directories = path.ancestors().take_while(|path| *path != root && path.is_absolute());
    scopes.extend(directories.map(|path| path.to_string_lossy().into_owned()));
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(word: &str) -> Vec<String> {
        Subject::of(&Reference::parse(word).unwrap()).unwrap().scopes
    }

    #[test]
    fn the_narrowest_scope_comes_first() {
        assert_eq!(
            scopes("r.example.com:5000/team/app:v1"),
            [
                "r.example.com:5000/team/app:v1",
                "r.example.com:5000/team/app",
                "r.example.com:5000/team",
                "r.example.com:5000",
                "*.example.com",
                "*.com",
            ]
        );
        assert_eq!(
            scopes("busybox")[..2],
            ["docker.io/library/busybox:latest", "docker.io/library/busybox"]
        );
        let digest = format!("sha256:{}", "b".repeat(64));
        let both = scopes(&format!("localhost/x:1@{digest}"));
        assert_eq!(both, [format!("localhost/x@{digest}").as_str(), "localhost/x", "localhost"]);
        assert_eq!(
            scopes("oci:/srv/images/box:v1"),
            ["/srv/images/box:v1", "/srv/images/box", "/srv/images", "/srv"]
        );
        assert_eq!(scopes("dir:/srv/images/box"), ["/srv/images/box", "/srv/images", "/srv"]);
        assert_eq!(scopes("docker-archive:/srv/x.tar"), [""; 0]);
    }

    #[test]
    fn a_scope_no_image_is_in_is_refused() {
        let right = [
            ("docker", "registry.example.org:5000/team/app:1"),
            ("docker", "*.example.org"),
            ("docker", "example.org"),
            ("oci", "/srv/images:v1"),
            ("docker-daemon", "anything/at:all"),
        ];
        for (transport, scope) in right {
            assert_eq!(check(transport, [scope.to_owned()].iter()), Ok(()), "{scope}");
        }
        let wrong = [
            ("dokcer", "example.org"),
            ("docker", "Registry.Example.org/team"),
            ("docker", "example.org/team/"),
            ("docker", "*.example.org/team"),
            ("docker", "registry.*.org"),
            ("oci", "/srv/x/"),
            ("oci", "srv/x"),
            ("dir", "/srv/../x"),
            ("docker-archive", "/srv/x.tar"),
        ];
        for (transport, scope) in wrong {
            let error = check(transport, [scope.to_owned()].iter()).unwrap_err();
            assert!(error.contains(transport), "{error}");
        }
    }
}
