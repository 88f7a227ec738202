//! From the document a name leads to, to the one manifest and configuration for a platform.

use std::io::Read;

use pod_abi::Digest;

use super::source::{Document, Source, read_error};
use crate::document::{Blob, Config, DocumentError, Index, MAX_DOCUMENT, Manifest, Top};
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::platform::Platform;
use crate::reference::Reference;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 3;
/// How many manifests of one index are looked at; more than the first is needed only where the
/// index does not name platforms.
const MAX_CANDIDATES: usize = 16;

/// An image of one platform, chosen and understood; its layers are still to be had.
#[derive(Debug)]
pub(super) struct Chosen {
    /// From what the name leads to down to manifest and configuration, as they came.
    pub(super) documents: Vec<Document>,
    pub(super) manifest: Manifest,
    pub(super) config: Config,
}

impl Chosen {
    /// Returns the digest of the manifest.
    pub(super) fn manifest_digest(&self) -> &Digest {
        &self.documents[self.documents.len() - 2].digest
    }

    /// Returns the digest of the outermost index, if there is one.
    pub(super) fn index_digest(&self) -> Option<&Digest> {
        (self.documents.len() > 2).then(|| &self.documents[0].digest)
    }

    /// Returns every digest this image needs.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        let documents = self.documents.iter().map(|document| &document.digest);
        let blobs = self.manifest.layers.iter().map(|layer| &layer.digest);
        documents.chain(blobs).chain(&self.config.layers)
    }
}

/// Finds the image that `reference` means for `platform`.
///
/// # Errors
///
/// [`ErrorKind::Platform`] if there is none for it; [`ErrorKind::Invalid`] for documents that are
/// not as they must be.
pub(super) fn choose(
    source: &dyn Source,
    reference: &Reference,
    platform: &Platform,
) -> Result<Chosen, Error> {
    let top = source.top()?;
    if let Some(asked) = reference.digest()
        && top.digest != *asked
    {
        return Err(Error::invalid(format!("`{asked}` was asked for, `{}` came", top.digest)));
    }
    Choice { source, platform }.descend(top, 0)
}

struct Choice<'s> {
    source: &'s dyn Source,
    platform: &'s Platform,
}

impl Choice<'_> {
    fn descend(&self, document: Document, depth: usize) -> Result<Chosen, Error> {
        let top = Top::parse(&document.bytes, &document.media_type)
            .map_err(|source| unreadable("manifest", &document.digest, source))?;
        match top {
            Top::Manifest(manifest) => self.accept(document, manifest),
            Top::Index(_) if depth >= MAX_DEPTH => {
                let sentence = format!("indexes are nested more than {MAX_DEPTH} deep");
                Err(Error::invalid(sentence))
            }
            Top::Index(index) => {
                let mut chosen = self.among(&index, depth)?;
                chosen.documents.insert(0, document);
                Ok(chosen)
            }
        }
    }

    /// Takes the first candidate that is for the platform after all.
    fn among(&self, index: &Index, depth: usize) -> Result<Chosen, Error> {
        for entry in index.candidates(self.platform).into_iter().take(MAX_CANDIDATES) {
            let document = self.source.document(&entry.blob.digest)?;
            check_size(&entry.blob, document.bytes.len())?;
            if document.media_type.is_empty() || document.media_type == entry.media_type {
                let document = Document { media_type: entry.media_type.clone(), ..document };
                match self.descend(document, depth + 1) {
                    Err(error) if error.kind() == ErrorKind::Platform => {}
                    other => return other,
                }
            } else {
                let sentence = format!("`{}` is served as another kind", entry.blob.digest);
                return Err(Error::invalid(sentence));
            }
        }
        let sentence =
            format!("there is no variant for `{}`, only: {}", self.platform, index.platforms());
        Err(Error::new(ErrorKind::Platform, sentence))
    }

    fn accept(&self, document: Document, manifest: Manifest) -> Result<Chosen, Error> {
        let bytes = self.config_bytes(&manifest.config)?;
        let digest = manifest.config.digest.clone();
        let config = Config::parse(&bytes, manifest.layers.len())
            .map_err(|source| unreadable("configuration", &digest, source))?;
        if let Some(offered) = &config.platform
            && self.platform.rank(offered).is_none()
        {
            let sentence = format!("it is for `{offered}`, not for `{}`", self.platform);
            return Err(Error::new(ErrorKind::Platform, sentence));
        }
        let config_document = Document { digest, bytes, media_type: String::new() };
        Ok(Chosen { documents: vec![document, config_document], manifest, config })
    }

    fn config_bytes(&self, blob: &Blob) -> Result<Vec<u8>, Error> {
        let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX);
        if blob.size > limit {
            let source = DocumentError::TooLarge;
            return Err(unreadable("configuration", &blob.digest, source));
        }
        let mut bytes = Vec::new();
        let reader = self.source.blob(blob, 0)?;
        reader.take(limit + 1).read_to_end(&mut bytes).map_err(|source| {
            read_error(format!("cannot read configuration `{}`", blob.digest), source)
        })?;
        check_size(blob, bytes.len())?;
        if hash::of(blob.digest.algorithm(), &bytes) == blob.digest {
            Ok(bytes)
        } else {
            Err(Error::invalid(format!("what came for `{}` has another digest", blob.digest)))
        }
    }
}

fn check_size(blob: &Blob, length: usize) -> Result<(), Error> {
    if u64::try_from(length).is_ok_and(|length| length == blob.size) {
        Ok(())
    } else {
        let (digest, size) = (&blob.digest, blob.size);
        Err(Error::invalid(format!("`{digest}` should have {size} bytes but has {length}")))
    }
}

fn unreadable(what: &str, digest: &Digest, source: DocumentError) -> Error {
    Error::caused(ErrorKind::Invalid, format!("cannot use {what} `{digest}`"), source)
}
