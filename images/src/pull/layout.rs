//! An OCI layout on this host as a source: `oci-layout`, `index.json`, `blobs/`, in a directory
//! or in an archive.
//!
//! It may come from anywhere: digests decide as they do for a registry. Source: image-spec
//! `image-layout.md`.

use std::io::Read;

use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use serde::Deserialize;

use super::files::Files;
use super::source::{Document, Source};
use crate::document::{Blob, Entry, Index, MAX_DOCUMENT, Top};
use crate::error::{Error, ErrorKind};
use crate::hash;

#[derive(Debug)]
pub(super) struct Layout {
    files: Files,
    top: Document,
}

/// `oci-layout`.
#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    /// Finds the image that `tag` or `digest` names in a layout.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such an image, [`ErrorKind::Invalid`] for what is no layout.
    pub(super) fn open(
        files: Files,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<Self, Error> {
        let index = Document { digest: nothing(), bytes: Vec::new(), media_type: String::new() };
        let mut layout = Self { files, top: index };
        layout.check_marker()?;
        layout.top = match digest {
            Some(digest) => layout.document(digest)?,
            None => layout.named(tag)?,
        };
        Ok(layout)
    }

    fn check_marker(&self) -> Result<(), Error> {
        let bytes = self.files.read("oci-layout", 4096)?;
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
        let bytes = self.files.read("index.json", MAX_DOCUMENT)?;
        let top = Top::parse(&bytes, "").map_err(|source| {
            let sentence = format!("cannot read `{}/index.json`", self.files.path().display());
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
        let path = self.files.path().display();
        Error::new(
            ErrorKind::NotFound,
            format!("layout `{path}` has no image `{wanted}`; it has `{there}`"),
        )
    }

    fn invalid(&self, why: &str) -> Error {
        Error::invalid(format!("`{}` is no OCI layout: {why}", self.files.path().display()))
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
        let bytes = self.files.read(&blob_name(digest), MAX_DOCUMENT)?;
        if hash::of(digest.algorithm(), &bytes) != *digest {
            return Err(self.invalid(&format!("blob `{digest}` has other content")));
        }
        Ok(Document { digest: digest.clone(), bytes, media_type: String::new() })
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        self.files.open(&blob_name(&blob.digest), offset)
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        Ok(Some(self.top.digest.clone()))
    }

    fn verified(&self) -> Verified {
        Verified::LocalFile
    }
}
