//! An image that was made here, as a source: its own documents, one layer of its own on top, and below
//! it layers that the store has.
//!
//! So what is made here comes in as everything does: unpacked by the worker, checked against the
//! digests that its documents have, named last.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;

use super::source::{Document, Source};
use crate::document::{Blob, MANIFEST};
use crate::error::{Error, ErrorKind};
use crate::hash::{self, Hasher};
use crate::store::Store;

/// The image.
#[derive(Debug)]
pub(super) struct Made {
    manifest: Document,
    config: Document,
    layer: Layer,
    verified: Verified,
}

impl Made {
    /// Makes one of its documents and its layer; `verified` is what vouches for what it is made of.
    pub(super) fn new(
        manifest: Vec<u8>,
        config: Vec<u8>,
        layer: Layer,
        verified: Verified,
    ) -> Self {
        let mut manifest = document(manifest);
        MANIFEST.clone_into(&mut manifest.media_type);
        Self { manifest, config: document(config), layer, verified }
    }
}

/// Its own layer, packed.
#[derive(Debug)]
pub(super) struct Layer {
    file: File,
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

impl Layer {
    /// Has `write` write an archive, which is packed into a file without a name beneath the store;
    /// returns what `write` returned, too.
    ///
    /// # Errors
    ///
    /// Those of `write`; [`ErrorKind::Storage`] if the store cannot be written.
    pub(super) fn pack<T>(
        store: &Store,
        write: impl FnOnce(&mut dyn Write) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let (writer, file) = store.unnamed()?;
        let counted = Counted { to: writer, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let mut packed = Counted {
            to: GzEncoder::new(counted, Compression::default()),
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        };
        let written = write(&mut packed)?;
        let diff_id = packed.hasher.finish();
        let packed = packed.to.finish().map_err(|error| Error::storage("cannot pack it", error))?;
        let blob = Blob { digest: packed.hasher.finish(), size: packed.size };
        Ok((Self { file, blob, diff_id }, written))
    }
}

/// Returns how other documents name a document.
pub(super) fn blob_of(bytes: &[u8]) -> Blob {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Blob { digest: hash::of(Algorithm::Sha256, bytes), size }
}

/// Hashes and counts what goes by.
struct Counted<W> {
    to: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Source for Made {
    fn top(&self) -> Result<Document, Error> {
        Ok(self.manifest.clone())
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        Ok(Some(self.manifest.digest.clone()))
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        Err(gone(digest))
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        if blob.digest == self.config.digest {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(Box::new(self.config.bytes.get(from..).unwrap_or_default()));
        }
        if blob.digest == self.layer.blob.digest {
            return Ok(Box::new(At { file: &self.layer.file, offset }));
        }
        Err(gone(&blob.digest))
    }

    fn verified(&self) -> Verified {
        self.verified
    }
}

/// What is below is in the store, or was removed from it by force.
fn gone(digest: &Digest) -> Error {
    let sentence = format!("`{digest}` of the image it is made from is not in the store any more");
    Error::new(ErrorKind::NotFound, sentence)
}

/// A file read from a place of its own.
struct At<'f> {
    file: &'f File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(length)
    }
}

fn document(bytes: Vec<u8>) -> Document {
    let digest = hash::of(Algorithm::Sha256, &bytes);
    Document { digest, bytes, media_type: String::new() }
}
