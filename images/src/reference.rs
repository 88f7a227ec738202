//! Names of images: what a person types, parsed once.
//!
//! ```text
//! [docker://][HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]      an image of a registry
//! oci:DIRECTORY[:TAG][@DIGEST]                            an image of an OCI layout on this host
//! oci-archive:FILE[:TAG][@DIGEST]                         the same in one tar file
//! docker-archive:FILE[:REFERENCE][@DIGEST]                what `docker save` writes
//! dir:DIRECTORY[@DIGEST]                                  what skopeo writes with that word
//! sha256:HEX                                              an image of the store, by its id's beginning
//! ```
//!
//! Without a host `docker.io` is meant, without a tag `latest`; nothing else is ever guessed, and
//! no file of the working directory beats a name. Nothing here touches the network or the disk: what
//! an administrator has a name without a host mean is the business of `registries`.
//! Source: distribution-spec "Pulling manifests" and the grammar of distribution/reference.

use std::fmt;
use std::path::{Path, PathBuf};

use pod_abi::Digest;

/// The registry that is meant when none is named.
const DEFAULT_HOST: &str = "docker.io";
/// The one other name of that registry. `registry-1.docker.io`, where its API is, is none: images
/// of that host are asked for as they are written.
const DEFAULT_ALIAS: &str = "index.docker.io";
/// The tag that is meant when neither tag nor digest is named.
const DEFAULT_TAG: &str = "latest";
/// The longest repository with its host, as registries have it.
const MAX_REPOSITORY: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;
/// The longest name within an archive: a whole reference.
const MAX_NAME: usize = MAX_REPOSITORY + 1 + MAX_TAG;
/// The fewest digits that are taken for the beginning of an id.
const MIN_ID: usize = 4;
/// The fewest digits of an id where nothing says that it is one.
const MIN_BARE_ID: usize = 8;

/// Where an image is to be had, and under which name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(Place);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// A repository of a registry; at least one of tag and digest is there.
    Registry { host: String, repository: String, tag: Option<String>, digest: Option<Digest> },
    /// An OCI layout; without tag and digest it must hold one image only.
    Layout { directory: PathBuf, tag: Option<String>, digest: Option<Digest> },
    /// An archive; without name and digest it must hold one image only.
    Archive { kind: ArchiveKind, file: PathBuf, name: Option<String>, digest: Option<Digest> },
    /// A directory of one image's files.
    Directory { directory: PathBuf, digest: Option<Digest> },
    /// What is in the store, by the first digits of a digest.
    Id { hex: String },
}

/// How an archive is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ArchiveKind {
    Oci,
    Docker,
}

impl ArchiveKind {
    const ALL: [Self; 2] = [Self::Oci, Self::Docker];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Oci => "oci-archive:",
            Self::Docker => "docker-archive:",
        }
    }
}

/// Why a word names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` names no image: {why}")]
pub struct ReferenceError {
    word: String,
    why: &'static str,
}

impl Reference {
    /// Parses a reference; a relative directory of `oci:` is completed by the working directory.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] says which part cannot stand.
    pub fn parse(word: &str) -> Result<Self, ReferenceError> {
        let parsed = if word.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err("it holds white space or control characters")
        } else if let Some(rest) = word.strip_prefix("oci:") {
            parse_layout(rest)
        } else if let Some(rest) = word.strip_prefix("dir:") {
            parse_directory(rest)
        } else if let Some((kind, rest)) = ArchiveKind::ALL
            .iter()
            .find_map(|kind| Some((*kind, word.strip_prefix(kind.prefix())?)))
        {
            parse_archive(kind, rest)
        } else if let Some(hex) = word.strip_prefix("sha256:").filter(|hex| is_hex(hex)) {
            parse_id(hex)
        } else {
            parse_registry(word.strip_prefix("docker://").unwrap_or(word))
        };
        parsed
            .map(Self)
            .map_err(|why| ReferenceError { word: word.chars().take(200).collect(), why })
    }

    /// Tells whether `word` is the name of an image without a registry, such as `busybox` or
    /// `team/app:1`: which one is meant is then for somebody to say. `docker://` before it says
    /// that it is Docker Hub.
    #[must_use]
    pub fn is_short(word: &str) -> bool {
        let name = word.split('@').next().unwrap_or(word);
        match Self::parse(word) {
            Ok(Self(Place::Registry { .. })) => {
                !word.starts_with("docker://") && split_host(name).1 == name
            }
            _ => false,
        }
    }

    /// Returns the last component of the repository or directory: what to call an app by.
    #[must_use]
    pub fn repository_name(&self) -> &str {
        match &self.0 {
            Place::Registry { repository, .. } => {
                repository.rsplit('/').next().unwrap_or(repository)
            }
            Place::Layout { directory, .. } | Place::Directory { directory, .. } => {
                directory.file_name().and_then(|name| name.to_str()).unwrap_or("image")
            }
            Place::Archive { file, .. } => {
                file.file_stem().and_then(|name| name.to_str()).unwrap_or("image")
            }
            Place::Id { .. } => "image",
        }
    }

    /// Returns the registry, if it is one that is asked.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        match &self.0 {
            Place::Registry { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Tells whether the place lies on this host, so that looking costs next to nothing.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.0, Place::Layout { .. } | Place::Archive { .. } | Place::Directory { .. })
    }

    /// Returns the reference with the path in it, if there is one, as it is behind all links and
    /// `..`; as it is where nothing lies there.
    pub(crate) fn really(&self) -> Self {
        let mut place = self.0.clone();
        match &mut place {
            Place::Layout { directory: path, .. }
            | Place::Directory { directory: path, .. }
            | Place::Archive { file: path, .. } => {
                if let Ok(real) = path.canonicalize() {
                    *path = real;
                }
            }
            Place::Registry { .. } | Place::Id { .. } => {}
        }
        Self(place)
    }

    /// Makes the reference of a local image that came without one: `localhost/NAME:TAG`, of those
    /// letters of `name` that a repository takes.
    #[must_use]
    pub fn local(name: &str, tag: Option<&str>) -> Self {
        let mut repository = String::new();
        for letter in name.chars().map(|letter| letter.to_ascii_lowercase()).take(MAX_TAG) {
            if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
                repository.push(letter);
            } else if !repository.is_empty() && !repository.ends_with('-') {
                repository.push('-');
            }
        }
        let repository = repository.trim_end_matches('-');
        let repository = if repository.is_empty() { "image" } else { repository };
        let tag = tag.filter(|tag| is_tag(tag)).unwrap_or(DEFAULT_TAG);
        Self(Place::Registry {
            host: "localhost".to_owned(),
            repository: repository.to_owned(),
            tag: Some(tag.to_owned()),
            digest: None,
        })
    }

    /// Returns the tag of a reference to a registry, and of a layout.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match &self.0 {
            Place::Registry { tag, .. } | Place::Layout { tag, .. } => tag.as_deref(),
            Place::Archive { .. } | Place::Directory { .. } | Place::Id { .. } => None,
        }
    }

    /// Tells whether this is a name of a registry with a tag and no digest: what an image of the
    /// store can be given as a further name.
    #[must_use]
    pub fn is_nameable(&self) -> bool {
        matches!(&self.0, Place::Registry { tag: Some(_), digest: None, .. })
    }

    /// Returns the digest that was named, if one was.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        match &self.0 {
            Place::Registry { digest, .. }
            | Place::Layout { digest, .. }
            | Place::Archive { digest, .. }
            | Place::Directory { digest, .. } => digest.as_ref(),
            Place::Id { .. } => None,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// Tells whether both name the same repository or the same directory.
    pub(crate) fn same_repository(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Place::Registry { host, repository, .. },
                Place::Registry { host: other_host, repository: other_repository, .. },
            ) => host == other_host && repository == other_repository,
            (Place::Layout { directory, .. }, Place::Layout { directory: other_directory, .. }) => {
                directory == other_directory
            }
            (
                Place::Archive { kind, file, .. },
                Place::Archive { kind: other_kind, file: other_file, .. },
            ) => kind == other_kind && file == other_file,
            (
                Place::Directory { directory, .. },
                Place::Directory { directory: other_directory, .. },
            ) => directory == other_directory,
            _ => false,
        }
    }

    /// Returns the hexadecimal digits that this means, or may mean, as the beginning of an image's
    /// id: those behind `sha256:`, or a bare word of at least eight of them.
    pub(crate) fn id_prefix(&self) -> Option<&str> {
        let (host, repository, tag) = match &self.0 {
            Place::Id { hex } => return Some(hex),
            Place::Registry { host, repository, tag: Some(tag), digest: None } => {
                (host, repository, tag)
            }
            _ => return None,
        };
        let word = repository.strip_prefix("library/").filter(|_| host == DEFAULT_HOST)?;
        let may_be = tag == DEFAULT_TAG && (MIN_BARE_ID..=64).contains(&word.len());
        (may_be && is_hex(word)).then_some(word)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tag, digest) = match &self.0 {
            Place::Registry { host, repository, tag, digest } => {
                write!(f, "{host}/{repository}")?;
                (tag, digest)
            }
            Place::Layout { directory, tag, digest } => {
                write!(f, "oci:{}", directory.display())?;
                (tag, digest)
            }
            Place::Archive { kind, file, name, digest } => {
                write!(f, "{}{}", kind.prefix(), file.display())?;
                (name, digest)
            }
            Place::Directory { directory, digest } => {
                write!(f, "dir:{}", directory.display())?;
                (&None, digest)
            }
            Place::Id { hex } => return write!(f, "sha256:{hex}"),
        };
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        match digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Splits `@DIGEST` off the end.
fn split_digest(word: &str) -> Result<(&str, Option<Digest>), &'static str> {
    match word.split_once('@') {
        None => Ok((word, None)),
        Some((name, digest)) => Digest::parse(digest).map(|digest| (name, Some(digest))).map_err(
            |_| "what follows `@` is no digest, such as `sha256:` and 64 hexadecimal digits",
        ),
    }
}

/// Splits `:TAG` off the end; a colon before the last slash belongs to a port.
fn split_tag(name: &str) -> Result<(&str, Option<String>), &'static str> {
    let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = name[path_start..].find(':').map(|at| path_start + at) else {
        return Ok((name, None));
    };
    let tag = &name[colon + 1..];
    if !is_tag(tag) {
        return Err(
            "a tag takes 1 to 128 letters, digits, `_`, `.` and `-`, the last two not first",
        );
    }
    Ok((&name[..colon], Some(tag.to_owned())))
}

fn is_tag(tag: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let further = |b: u8| first(b) || b == b'.' || b == b'-';
    tag.len() <= MAX_TAG && tag.bytes().next().is_some_and(first) && tag.bytes().all(further)
}

fn is_hex(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn parse_id(hex: &str) -> Result<Place, &'static str> {
    if (MIN_ID..=64).contains(&hex.len()) {
        Ok(Place::Id { hex: hex.to_owned() })
    } else {
        Err("an id takes `sha256:` and 4 to 64 of its first digits")
    }
}

/// A name within an archive may hold slashes and colons, so a path cannot hold a colon.
fn parse_archive(kind: ArchiveKind, rest: &str) -> Result<Place, &'static str> {
    let (rest, digest) = split_digest(rest)?;
    let (file, name) = match rest.split_once(':') {
        Some((file, name)) => (file, Some(name)),
        None => (rest, None),
    };
    if file.is_empty() {
        return Err("an archive takes a file");
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-/:+".contains(&b);
    if name
        .is_some_and(|name| name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(letter))
    {
        return Err("an image in an archive is named by a tag or a reference");
    }
    let file = std::path::absolute(Path::new(file))
        .map_err(|_| "the working directory is gone, so a relative file means nothing")?;
    if file.to_string_lossy().contains(':') {
        return Err("the path of an archive cannot hold a colon: a name follows it");
    }
    Ok(Place::Archive { kind, file, name: name.map(str::to_owned), digest })
}

fn parse_layout(rest: &str) -> Result<Place, &'static str> {
    let (name, digest) = split_digest(rest)?;
    let (directory, tag) = split_tag(name)?;
    if directory.is_empty() {
        return Err("`oci:` takes a directory");
    }
    let directory = std::path::absolute(Path::new(directory))
        .map_err(|_| "the working directory is gone, so a relative directory means nothing")?;
    Ok(Place::Layout { directory, tag, digest })
}

fn parse_directory(rest: &str) -> Result<Place, &'static str> {
    let (directory, digest) = split_digest(rest)?;
    if directory.is_empty() {
        return Err("`dir:` takes a directory");
    }
    let directory = std::path::absolute(Path::new(directory))
        .map_err(|_| "the working directory is gone, so a relative directory means nothing")?;
    Ok(Place::Directory { directory, digest })
}

fn parse_registry(rest: &str) -> Result<Place, &'static str> {
    if rest.contains("://") {
        return Err(
            "the only transports are `docker://`, `oci:`, `oci-archive:`, `docker-archive:` and `dir:`",
        );
    }
    let (name, digest) = split_digest(rest)?;
    let (host, path) = split_host(name);
    let (repository, tag) = split_tag(path)?;
    check_host(host)?;
    check_repository(repository)?;
    // Host names know no case: whatever depends on one comes after this.
    let host = host.to_ascii_lowercase();
    let host = if host == DEFAULT_ALIAS { DEFAULT_HOST.to_owned() } else { host };
    let repository = if host == DEFAULT_HOST && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    if host.len() + 1 + repository.len() > MAX_REPOSITORY {
        return Err("host and repository are longer than 255 characters");
    }
    let tag = match (&tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        _ => tag,
    };
    Ok(Place::Registry { host, repository, tag, digest })
}

/// The first component is a host if it could not be part of a repository: it holds a dot or a
/// colon, is in brackets, or is `localhost`.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first.starts_with('[') || first == "localhost" =>
        {
            (first, rest)
        }
        _ => (DEFAULT_HOST, name),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    const WHY: &str = "the registry is no host name or address with an optional port";
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(WHY)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| WHY)?;
            match after {
                "" => (None, None),
                _ => (None, Some(after.strip_prefix(':').ok_or(WHY)?)),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name_stands = name.is_none_or(|name| name.split('.').all(label));
    let port_stands = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if name_stands && port_stands { Ok(()) } else { Err(WHY) }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository is written in lower case");
    }
    if repository.split('/').all(is_component) {
        Ok(())
    } else {
        Err("a repository takes words of a-z and 0-9, joined by `/`, `.`, `_`, `__` or dashes")
    }
}

fn is_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(*first) || !word(*last) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_short_form_has_one_long_form() {
        let digest = format!("sha256:{HEX}");
        for (word, canonical) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("docker://busybox:1.36", "docker.io/library/busybox:1.36"),
            ("a/b", "docker.io/a/b:latest"),
            ("index.docker.io/a", "docker.io/library/a:latest"),
            ("Docker.io/busybox", "docker.io/library/busybox:latest"),
            ("INDEX.docker.IO/busybox:1", "docker.io/library/busybox:1"),
            ("Docker.io/a/b", "docker.io/a/b:latest"),
            ("registry-1.docker.io/a", "registry-1.docker.io/a:latest"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("localhost/app:v1", "localhost/app:v1"),
            ("[::1]:5000/x/y:t", "[::1]:5000/x/y:t"),
            ("Quay.IO/a/b__c-d.e:T_1", "quay.io/a/b__c-d.e:T_1"),
            ("oci:/srv/img", "oci:/srv/img"),
            ("oci:/srv/img:1", "oci:/srv/img:1"),
            ("oci:/a:b/img", "oci:/a:b/img"),
            ("oci-archive:/a/b.tar", "oci-archive:/a/b.tar"),
            ("oci-archive:/a/b.tar:v1", "oci-archive:/a/b.tar:v1"),
            ("docker-archive:/a.tar:r.io:5000/x/y:1", "docker-archive:/a.tar:r.io:5000/x/y:1"),
            ("sha256:beef", "sha256:beef"),
            (&format!("r.io/a@{digest}"), &format!("r.io/a@{digest}")),
            (&format!("r.io/a:t@{digest}"), &format!("r.io/a:t@{digest}")),
        ] {
            let reference = Reference::parse(word).expect(word);
            assert_eq!(reference.to_string(), canonical, "{word}");
            assert_eq!(Reference::parse(canonical).as_ref(), Ok(&reference), "{canonical}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "Busybox",
            "r.io/A",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "r.io/",
            "r.io:0/a",
            "r.io:99999/a",
            "[::1/a",
            "[x]/a",
            "r..io/a",
            "http://r.io/a",
            "docker-archive:",
            "docker-archive::x",
            "oci-archive:/x:",
            "oci-archive:/x:a@b",
            "docker-daemon:x:y",
            "sha256:",
            "sha256:abc",
            "oci:",
            "oci::tag",
            "a/../b",
            "a:b:c",
            "../a",
            "r.io:+1/a",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Reference::parse(&format!("r.io/{}", "a".repeat(300))).is_err());
    }

    #[test]
    fn a_name_is_short_without_a_registry() {
        let digest = format!("a/b:1@sha256:{HEX}");
        for short in ["busybox", "busybox:1.36", "a/b", "deadbeef", &digest] {
            assert!(Reference::is_short(short), "{short}");
        }
        for word in
            ["docker://a", "r.io/a", "localhost/a", "r:5000/a", "oci:/a", "sha256:beef", "A"]
        {
            assert!(!Reference::is_short(word), "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_parses_has_one_canonical_form(word in "[a-zA-Z0-9:/@._ \\[\\]-]{0,60}|oci:.{0,40}|(oci|docker)-archive:.{0,40}|.*") {
            if let Ok(reference) = Reference::parse(&word) {
                let canonical = reference.to_string();
                proptest::prop_assert_eq!(Reference::parse(&canonical), Ok(reference));
            }
        }
    }

    #[test]
    fn an_app_is_called_after_the_last_component() {
        for (word, name) in [
            ("busybox", "busybox"),
            ("r.io/a/web:1", "web"),
            ("oci:/srv/img:1", "img"),
            ("oci-archive:/srv/web.tar:1", "web"),
            ("sha256:beef", "image"),
        ] {
            assert_eq!(Reference::parse(word).expect(word).repository_name(), name);
        }
    }

    #[test]
    fn what_came_without_a_name_gets_one_that_parses() {
        for (name, tag, whole) in [
            ("My Root_fs", None, "localhost/my-root-fs:latest"),
            ("--", Some("v1"), "localhost/image:v1"),
            ("a.b", Some("not a tag"), "localhost/a-b:latest"),
        ] {
            let reference = Reference::local(name, tag);
            assert_eq!(reference.to_string(), whole);
            assert_eq!(Reference::parse(whole).as_ref(), Ok(&reference));
            assert!(reference.is_nameable());
        }
    }

    #[test]
    fn only_bare_hexadecimal_words_may_be_ids() {
        let id = |word: &str| Reference::parse(word).expect(word).id_prefix().map(str::to_owned);
        assert_eq!(id("deadbeef").as_deref(), Some("deadbeef"));
        assert_eq!(id(&format!("sha256:{HEX}")).as_deref(), Some(HEX));
        assert_eq!(id("sha256:beef").as_deref(), Some("beef"));
        for other in ["dead", "busybox", "deadbeef:1", "r.io/deadbeef", "a/deadbeef"] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
