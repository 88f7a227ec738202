//! What skopeo writes as `dir:`: the files of one image in one directory, each blob by its digest's
//! digits.
//!
//! ```text
//! version  manifest.json  HEX…             an image
//!          manifest.json  HEX.manifest.json…  HEX…   an index, and the manifests it names
//!          signature-1…   HEX.signature-1…           OpenPGP signatures of both
//! ```
//!
//! It may come from anywhere: digests decide as they do for a registry. There is no specification;
//! the writer of this form is containers/image, whose version 1 it is.

use std::io::Read;

use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;

use super::apart::{MAX_SIGNATURE, MAX_SIGNATURES};
use super::files::Files;
use super::source::{Document, Source};
use crate::document::{Blob, MAX_DOCUMENT};
use crate::error::{Error, ErrorKind};
use crate::hash;

/// What the file `version` begins with.
const VERSION: &[u8] = b"Directory Transport Version: 1.";
/// The longest such file.
const MAX_VERSION: usize = 4096;

#[derive(Debug)]
pub(super) struct Flat {
    files: Files,
    top: Document,
}

impl Flat {
    /// Finds the image in a directory, which must be the one `digest` names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is another one, [`ErrorKind::Invalid`] for what is no such
    /// directory.
    pub(super) fn open(files: Files, digest: Option<&Digest>) -> Result<Self, Error> {
        if !files.read("version", MAX_VERSION)?.starts_with(VERSION) {
            let path = files.path().display();
            let sentence = format!("`{path}` is no directory of an image: its `version` is not 1");
            return Err(Error::invalid(sentence));
        }
        let bytes = files.read("manifest.json", MAX_DOCUMENT)?;
        let algorithm = digest.map_or(Algorithm::Sha256, Digest::algorithm);
        let found = hash::of(algorithm, &bytes);
        if let Some(digest) = digest.filter(|digest| **digest != found) {
            let path = files.path().display();
            let sentence = format!("`{path}` has no image `{digest}`; it has `{found}`");
            return Err(Error::new(ErrorKind::NotFound, sentence));
        }
        let top = Document { digest: found, bytes, media_type: String::new() };
        Ok(Self { files, top })
    }
}

impl Source for Flat {
    fn top(&self) -> Result<Document, Error> {
        Ok(self.top.clone())
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        Ok(Some(self.top.digest.clone()))
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        let name = format!("{}.manifest.json", digest.hex());
        let bytes = self.files.read(&name, MAX_DOCUMENT)?;
        if hash::of(digest.algorithm(), &bytes) != *digest {
            let path = self.files.path().display();
            return Err(Error::invalid(format!("`{path}/{name}` has other content")));
        }
        Ok(Document { digest: digest.clone(), bytes, media_type: String::new() })
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        self.files.open(blob.digest.hex(), offset)
    }

    fn messages(&self, of: &Digest, _: Option<&str>) -> Result<Vec<Vec<u8>>, Error> {
        let of_top = *of == self.top.digest;
        let prefix = if of_top { String::new() } else { format!("{}.", of.hex()) };
        let mut messages = Vec::new();
        for number in 1..=MAX_SIGNATURES {
            let name = format!("{prefix}signature-{number}");
            if !self.files.has(&name)? {
                break;
            }
            messages.push(self.files.read(&name, MAX_SIGNATURE)?);
        }
        Ok(messages)
    }

    fn verified(&self) -> Verified {
        Verified::LocalFile
    }
}
