//! What `docker save`, `podman save` and skopeo write as a source: one tar file with
//! `manifest.json`, a configuration, and layers as archives within.
//!
//! The file has no manifest of OCI's kind, so one is made, the same for the same content. Layers
//! are checked by the digests the configuration gives; one that is compressed is named after its
//! bytes as well. Newer files are an OCI layout besides, which makes no difference here.
//! Source: moby `image/spec/spec.md`, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use serde::Deserialize;

use super::source::{Document, Source};
use crate::archive::{Archive, packer};
use crate::document::{Blob, Config, MANIFEST, MAX_DOCUMENT, MAX_LAYERS, write_manifest};
use crate::error::{Error, ErrorKind};
use crate::hash::{self, Hasher};
use crate::reference::Reference;

/// How much is hashed at once.
const CHUNK: usize = 256 << 10;

/// One image of an archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    archive: Archive,
    top: Document,
    config: Document,
    /// The members that hold the layers, by digest.
    layers: BTreeMap<Digest, String>,
}

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Item {
    config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl DockerArchive {
    /// Finds the image called `name` in `archive`; without a name the only one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such an image, [`ErrorKind::Invalid`] for what is none.
    pub(super) fn open(archive: Archive, name: Option<&str>) -> Result<Self, Error> {
        let items = items(&archive)?;
        match find(&items, name) {
            Some(item) => Self::of(archive, item),
            None => Err(absent(&archive, &items, name)),
        }
    }

    /// Takes the image `item` of `archive`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if it is none.
    pub(super) fn of(archive: Archive, item: &Item) -> Result<Self, Error> {
        let bytes = read(&archive, &item.config)?;
        let digest = hash::of(Algorithm::Sha256, &bytes);
        if item.layers.len() > MAX_LAYERS {
            return Err(archive.invalid(&format!("it has more than {MAX_LAYERS} layers")));
        }
        let parsed = Config::parse(&bytes, item.layers.len()).map_err(|source| {
            let sentence = format!("cannot use configuration `{digest}`");
            Error::caused(ErrorKind::Invalid, sentence, source)
        })?;
        let (mut blobs, mut layers) = (Vec::new(), BTreeMap::new());
        for (name, diff_id) in item.layers.iter().zip(&parsed.layers) {
            let (blob, head) = layer(&archive, name, diff_id)?;
            layers.insert(blob.digest.clone(), name.clone());
            blobs.push((blob, head));
        }
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let top = write_manifest(&Blob { digest: digest.clone(), size }, &blobs);
        let top = Document {
            digest: hash::of(Algorithm::Sha256, &top),
            bytes: top,
            media_type: MANIFEST.to_owned(),
        };
        let config = Document { digest, bytes, media_type: String::new() };
        Ok(Self { archive, top, config, layers })
    }
}

/// Reads the list of images.
pub(super) fn items(archive: &Archive) -> Result<Vec<Item>, Error> {
    let bytes = read(archive, "manifest.json")?;
    serde_json::from_slice(&bytes).map_err(|source| {
        let sentence = format!("cannot read `manifest.json` of `{}`", archive.path().display());
        Error::caused(ErrorKind::Invalid, sentence, source)
    })
}

fn read(archive: &Archive, name: &str) -> Result<Vec<u8>, Error> {
    let content = archive.content(name, 0)?;
    if content.len() > u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX) {
        return Err(archive.invalid(&format!("`{name}` is larger than {MAX_DOCUMENT} bytes")));
    }
    let mut bytes = Vec::new();
    { content }.read_to_end(&mut bytes).map_err(|source| unread(archive, source))?;
    Ok(bytes)
}

fn unread(archive: &Archive, source: io::Error) -> Error {
    Error::storage(format!("cannot read `{}`", archive.path().display()), source)
}

/// Two words for one name are the same name: `busybox` and `docker.io/library/busybox:latest`.
fn find<'i>(items: &'i [Item], name: Option<&str>) -> Option<&'i Item> {
    let Some(name) = name else {
        return match items {
            [only] => Some(only),
            _ => None,
        };
    };
    let meant = Reference::parse(name).ok();
    let is = |tag: &String| {
        tag == name
            || meant.as_ref().is_some_and(|meant| Reference::parse(tag).as_ref() == Ok(meant))
    };
    items.iter().find(|item| item.repo_tags.iter().flatten().any(is))
}

fn absent(archive: &Archive, items: &[Item], name: Option<&str>) -> Error {
    let tags: Vec<&str> = items
        .iter()
        .flat_map(|item| item.repo_tags.iter().flatten())
        .map(String::as_str)
        .filter(|tag| !tag.contains(char::is_control))
        .take(16)
        .collect();
    let there =
        if tags.is_empty() { "no names".to_owned() } else { format!("`{}`", tags.join("`, `")) };
    let wanted = name.map_or_else(
        || format!("{} images, so one must be named", items.len()),
        |name| format!("no image `{name}`"),
    );
    let path = archive.path().display();
    Error::new(ErrorKind::NotFound, format!("archive `{path}` has {wanted}; it has {there}"))
}

/// Returns a layer as a blob, and what it begins with.
fn layer(archive: &Archive, name: &str, diff_id: &Digest) -> Result<(Blob, Vec<u8>), Error> {
    let content = archive.content(name, 0)?;
    let size = content.len();
    let head = content.head().map_err(|source| unread(archive, source))?;
    let digest = match packer(&head) {
        None => diff_id.clone(),
        Some(_) => hashed(content).map_err(|source| unread(archive, source))?,
    };
    Ok((Blob { digest, size }, head))
}

fn hashed(mut content: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; CHUNK];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

impl Source for DockerArchive {
    fn top(&self) -> Result<Document, Error> {
        Ok(self.top.clone())
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        Ok(Some(self.top.digest.clone()))
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        Err(self.archive.invalid(&format!("it has no document `{digest}`")))
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        if blob.digest == self.config.digest {
            let mut bytes = Cursor::new(self.config.bytes.as_slice());
            bytes.set_position(offset);
            return Ok(Box::new(bytes));
        }
        match self.layers.get(&blob.digest) {
            Some(name) => Ok(Box::new(self.archive.content(name, offset)?)),
            None => Err(self.archive.invalid(&format!("it has no layer `{}`", blob.digest))),
        }
    }

    fn verified(&self) -> Verified {
        Verified::LocalFile
    }
}
