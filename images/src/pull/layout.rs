//! An OCI layout on this host as a source: `oci-layout`, `index.json`, `blobs/`.
//!
//! The directory may come from anywhere: nothing is read from outside it, only regular files are
//! read, and digests decide as they do for a registry. Source: image-spec `image-layout.md`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use super::source::{Document, Source};
use crate::document::{Blob, Entry, Index, MAX_DOCUMENT, Top};
use crate::error::{Error, ErrorKind};
use crate::hash;

#[derive(Debug)]
pub(super) struct Layout {
    dir: OwnedFd,
    path: PathBuf,
    top: Document,
}

/// `oci-layout`.
#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    /// Opens a layout and finds the image that `tag` or `digest` names in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such an image, [`ErrorKind::Invalid`] for what is no layout.
    pub(super) fn open(
        path: &Path,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|source| {
            let kind = match source {
                rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ErrorKind::NotFound,
                _ => ErrorKind::Storage,
            };
            let sentence = format!("cannot open layout `{}`", path.display());
            Error::caused(kind, sentence, io::Error::from(source))
        })?;
        let index = Document { digest: nothing(), bytes: Vec::new(), media_type: String::new() };
        let mut layout = Self { dir, path: path.to_owned(), top: index };
        layout.check_marker()?;
        layout.top = match digest {
            Some(digest) => layout.document(digest)?,
            None => layout.named(tag)?,
        };
        Ok(layout)
    }

    fn check_marker(&self) -> Result<(), Error> {
        let bytes = self.read("oci-layout", 4096)?;
        match serde_json::from_slice::<Marker>(&bytes) {
            Ok(marker) if marker.version == "1.0.0" => Ok(()),
            Ok(marker) => {
                let version: String = marker.version.chars().take(40).collect();
                Err(self.invalid(&format!("its version `{version}` is not known")))
            }
            Err(_) => Err(self.invalid("its `oci-layout` is not as it must be")),
        }
    }

    /// Finds the image called `tag`; without a tag the only one, or the one called `latest`.
    fn named(&self, tag: Option<&str>) -> Result<Document, Error> {
        let bytes = self.read("index.json", MAX_DOCUMENT)?;
        let top = Top::parse(&bytes, "").map_err(|source| {
            let sentence = format!("cannot read `{}/index.json`", self.path.display());
            Error::caused(ErrorKind::Invalid, sentence, source)
        })?;
        let Top::Index(index) = top else {
            return Err(self.invalid("its `index.json` is no index"));
        };
        let all: Vec<&Entry> = index.images().collect();
        let called = |name: &str| all.iter().find(|entry| entry.name.as_deref() == Some(name));
        let entry = match (tag, &all[..]) {
            (Some(tag), _) => called(tag),
            (None, [only]) => Some(only),
            (None, []) => None,
            // Several platforms of one image without names: the index is the image.
            (None, [..]) if all.iter().all(|entry| entry.name.is_none()) => {
                let digest = hash::of(Algorithm::Sha256, &bytes);
                return Ok(Document { digest, bytes, media_type: String::new() });
            }
            (None, [..]) => called("latest"),
        };
        match entry {
            Some(entry) => {
                let media_type = entry.media_type.clone();
                Ok(Document { media_type, ..self.document(&entry.blob.digest)? })
            }
            None => Err(self.absent(tag, &index)),
        }
    }

    fn absent(&self, tag: Option<&str>, index: &Index) -> Error {
        let names: Vec<&str> =
            index.images().filter_map(|entry| entry.name.as_deref()).take(16).collect();
        let there = if names.is_empty() { "no names".to_owned() } else { names.join("`, `") };
        let wanted = tag.unwrap_or("latest");
        let path = self.path.display();
        Error::new(
            ErrorKind::NotFound,
            format!("layout `{path}` has no image `{wanted}`; it has `{there}`"),
        )
    }

    fn invalid(&self, why: &str) -> Error {
        Error::invalid(format!("`{}` is no OCI layout: {why}", self.path.display()))
    }

    /// Opens a regular file of the layout; links may not lead out of it.
    fn file(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), resolve);
        let sentence = || format!("cannot open `{}/{name}`", self.path.display());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(source @ (rustix::io::Errno::NOENT | rustix::io::Errno::XDEV)) => {
                return Err(Error::caused(ErrorKind::Invalid, sentence(), io::Error::from(source)));
            }
            Err(source) => return Err(Error::storage(sentence(), source)),
        };
        match file.metadata() {
            Ok(all) if all.is_file() => Ok(file),
            Ok(_) => Err(self.invalid(&format!("`{name}` is no regular file"))),
            Err(source) => Err(Error::storage(sentence(), source)),
        }
    }

    fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let bound = u64::try_from(limit).unwrap_or(u64::MAX);
        self.file(name)?.take(bound + 1).read_to_end(&mut bytes).map_err(|source| {
            Error::storage(format!("cannot read `{}/{name}`", self.path.display()), source)
        })?;
        if bytes.len() > limit {
            return Err(self.invalid(&format!("`{name}` is larger than {limit} bytes")));
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest of nothing.
fn nothing() -> Digest {
    hash::of(Algorithm::Sha256, b"")
}

impl Source for Layout {
    fn top(&self) -> Result<Document, Error> {
        Ok(self.top.clone())
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        let bytes = self.read(&blob_name(digest), MAX_DOCUMENT)?;
        if hash::of(digest.algorithm(), &bytes) != *digest {
            return Err(self.invalid(&format!("blob `{digest}` has other content")));
        }
        Ok(Document { digest: digest.clone(), bytes, media_type: String::new() })
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        let name = blob_name(&blob.digest);
        let mut file = self.file(&name)?;
        file.seek(SeekFrom::Start(offset)).map_err(|source| {
            Error::storage(format!("cannot read `{}/{name}`", self.path.display()), source)
        })?;
        Ok(Box::new(file))
    }

    fn verified(&self) -> Verified {
        Verified::LocalFile
    }
}
