//! What of an image leaves the store, whichever way: its manifest as it came, and its blobs, each
//! checked against its digest on the way out.
//!
//! Never: a blob that was unpacked and packed again. What an image came as is what goes.

use std::fs::File;
use std::io::{self, Read, Take};

use pod_abi::Digest;
use serde_json::Value;

use super::handle::Store;
use super::lease::Lease;
use super::refs::RefRecord;
use crate::document::{Blob, MANIFEST, MAX_DOCUMENT, Manifest, Top};
use crate::error::{Error, ErrorKind};
use crate::hash::Hasher;
use crate::image::ImageRecord;
use crate::reference::Reference;

/// An image that leaves.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What the store says of it.
    pub(crate) line: ImageRecord,
    pub(super) record: RefRecord,
    /// The manifest, byte for byte.
    pub(crate) bytes: Vec<u8>,
    /// What the manifest says it is.
    pub(crate) media_type: String,
    /// The same, read.
    pub(crate) manifest: Manifest,
}

impl Outgoing {
    /// Returns the digest of the manifest.
    pub(crate) const fn digest(&self) -> &Digest {
        &self.record.manifest
    }
}

impl Store {
    /// Finds the image `reference` means, and keeps all of it from gc while `lease` lives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such an image; [`ErrorKind::Invalid`] if it is damaged.
    pub(crate) fn outgoing(&self, reference: &Reference, lease: &Lease) -> Result<Outgoing, Error> {
        let _lock = self.lock_shared()?;
        let stored = self.stored(reference)?;
        let bytes = self.read_blob(&stored.record.manifest, MAX_DOCUMENT)?;
        let manifest = manifest(&stored.record.manifest, &bytes)?;
        lease.hold(stored.record.digests())?;
        lease.hold(manifest.layers.iter().map(|layer| &layer.digest))?;
        let said = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
        let media_type = said.get("mediaType").and_then(Value::as_str).unwrap_or(MANIFEST);
        let media_type = media_type.to_owned();
        let line = stored.line();
        Ok(Outgoing { line, record: stored.record, bytes, media_type, manifest })
    }

    /// Opens a blob to be read once, to its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is gone.
    pub(crate) fn outgoing_blob<'b>(&self, blob: &'b Blob) -> Result<Checked<'b>, Error> {
        let Some(file) = self.open_blob(&blob.digest)? else {
            let sentence = format!("blob `{}` is not in the store any more", blob.digest);
            return Err(Error::new(ErrorKind::NotFound, sentence));
        };
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Ok(Checked { from: file.take(blob.size), digest: &blob.digest, hasher })
    }
}

fn manifest(digest: &Digest, bytes: &[u8]) -> Result<Manifest, Error> {
    match Top::parse(bytes, "") {
        Ok(Top::Manifest(manifest)) => Ok(manifest),
        Ok(Top::Index(_)) => Err(Error::invalid(format!("`{digest}` is no manifest"))),
        Err(source) => {
            let sentence = format!("cannot read manifest `{digest}`");
            Err(Error::caused(ErrorKind::Invalid, sentence, source))
        }
    }
}

/// A blob on its way out. Its last bytes come only if all of them were the right ones; else the
/// error is `InvalidData`.
#[derive(Debug)]
pub(crate) struct Checked<'b> {
    from: Take<File>,
    digest: &'b Digest,
    /// `None` once the end was seen.
    hasher: Option<Hasher>,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        // Who knows the size need not ask for what comes after it.
        if (length == 0 && !buffer.is_empty() || self.from.limit() == 0)
            && self.hasher.take().is_some_and(|hasher| hasher.finish() != *self.digest)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(length)
    }
}

/// Makes the error of a blob whose reading, or sending, has failed.
pub(crate) fn unsent(digest: &Digest, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            Error::invalid(format!("blob `{digest}` in the store has other content"))
        }
        _ => Error::storage(format!("cannot write out blob `{digest}`"), error),
    }
}
