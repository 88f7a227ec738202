//! Which scopes of a policy an image is in, the narrowest first.
//!
//! | transport | scopes of an image |
//! |---|---|
//! | `docker` | `HOST/REPO@DIGEST`, `HOST/REPO:TAG`, `HOST/REPO`, every directory of it, `HOST:PORT`, `*.DOMAIN`… |
//! | `oci`, `oci-archive` | `PATH:TAG`, `PATH`, every directory above it but the root |
//! | `dir` | `PATH`, every directory above it but the root |
//! | `docker-archive` | none: only the default of its transport |
//!
//! Then follow the default of the transport, whose scope is empty, and that of the policy. Source:
//! `containers-policy.json(5)`, "Supported transports and their scopes".

use std::path::Path;

use crate::reference::{ArchiveKind, Place, Reference};

use super::named::Named;

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

fn of_registry(named: &Named) -> Vec<String> {
    let repository = &named.repository;
    let mut scopes = Vec::new();
    scopes.extend(named.digest.iter().map(|digest| format!("{repository}@{digest}")));
    scopes.extend(named.tag.iter().map(|tag| format!("{repository}:{tag}")));
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
        assert_eq!(scopes(&format!("localhost/x:1@{digest}"))[0], format!("localhost/x@{digest}"));
        assert_eq!(
            scopes("oci:/srv/images/box:v1"),
            ["/srv/images/box:v1", "/srv/images/box", "/srv/images", "/srv"]
        );
        assert_eq!(scopes("dir:/srv/images/box"), ["/srv/images/box", "/srv/images", "/srv"]);
        assert_eq!(scopes("docker-archive:/srv/x.tar"), [""; 0]);
    }
}
