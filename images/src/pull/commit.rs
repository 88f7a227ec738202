//! Committing: what an app has changed becomes a layer, and its image with that layer another image.
//!
//! The layer is packed into a file without a name, and the new image then comes in as any other does:
//! unpacked by the worker, checked against the digests its own documents have, named last. So what a
//! hostile app has left in its tree is met by the same checks as what a hostile registry sends.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use pod_abi::app::{ImagePin, Verified};
use pod_abi::digest::Algorithm;
use pod_abi::{Digest, Timestamp};

use super::source::{Document, Source};
use super::{Fetch, PullOptions};
use crate::document::{
    Amendment, Blob, Config, DocumentError, MANIFEST, MAX_DOCUMENT, amend_config, amend_manifest,
};
use crate::error::{Error, ErrorKind};
use crate::hash::{self, Hasher};
use crate::image::{Image, ImageSettings};
use crate::layer::{PackError, pack};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Lease, Store};

/// An image to be made from another and what an app has changed.
#[derive(Clone, Copy)]
pub struct Commit<'c> {
    /// The image the app was made of; its documents and layers are in the store.
    pub base: &'c ImagePin,
    /// The directory overlayfs has put the changes in.
    pub upper: BorrowedFd<'c>,
    /// What the image is to be called.
    pub reference: &'c Reference,
    /// What it is to run instead; what is empty stays as it was.
    pub settings: &'c ImageSettings,
    /// When it is made.
    pub created: Timestamp,
    /// Who makes it, and what they say of it.
    pub author: Option<&'c str>,
    /// See `author`.
    pub comment: Option<&'c str>,
    /// How to unpack it.
    pub options: &'c PullOptions,
    /// What keeps it from gc.
    pub lease: &'c Lease,
    /// Who is told.
    pub progress: &'c dyn Progress,
}

impl fmt::Debug for Commit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("reference", self.reference).finish_non_exhaustive()
    }
}

impl Store {
    /// Makes an image of another one and a layer of changes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] for a tree no layer can say, or that changed while it was read; those
    /// of a pull. The name means what it meant before.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<Image, Error> {
        let made = || {
            let source = self.amended(commit)?;
            // Nobody asks a policy for what was made here.
            let (platform, policies) = (source.platform.clone(), Vec::new());
            let options = PullOptions { platform, policies, ..commit.options.clone() };
            let (lease, progress) = (commit.lease, commit.progress);
            self.take(commit.reference, &source, &Fetch { options: &options, lease, progress })
        };
        made().map_err(|error: Error| {
            error.within(format!("cannot make image `{}`", commit.reference))
        })
    }

    fn amended(&self, commit: &Commit<'_>) -> Result<Amended, Error> {
        let ImagePin { manifest: base, config: of_base, layers, .. } = commit.base;
        self.hold(commit.lease, [base, of_base].into_iter().chain(layers))?;
        let manifest = self.read_blob(base, MAX_DOCUMENT)?;
        let config = self.read_blob(of_base, MAX_DOCUMENT)?;
        let unreadable = |digest: &Digest, source: DocumentError| {
            Error::caused(ErrorKind::Invalid, format!("cannot use `{digest}`"), source)
        };
        let known = Config::parse(&config, layers.len());
        let known = known.map_err(|source| unreadable(of_base, source))?;
        let layer = self.packed(commit.upper)?;
        let amendment = Amendment {
            diff_id: &layer.diff_id,
            settings: commit.settings,
            created: &commit.created.to_string(),
            created_by: "pod commit",
            comment: commit.comment,
            author: commit.author,
        };
        let config = amend_config(&config, &amendment);
        let config = document(config.map_err(|source| unreadable(of_base, source))?);
        let blob = Blob { digest: config.digest.clone(), size: length(&config.bytes) };
        let manifest = amend_manifest(&manifest, &blob, &layer.blob);
        let mut manifest = document(manifest.map_err(|source| unreadable(base, source))?);
        MANIFEST.clone_into(&mut manifest.media_type);
        let platform = known.platform.unwrap_or_else(|| commit.options.platform.clone());
        Ok(Amended { manifest, config, layer, platform })
    }

    /// Packs a tree into a file without a name beneath the store.
    fn packed(&self, upper: BorrowedFd<'_>) -> Result<Layer, Error> {
        let (writer, file) = self.unnamed()?;
        let counted = Counted { to: writer, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let mut packed = Counted {
            to: GzEncoder::new(counted, Compression::default()),
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        };
        pack(upper, &mut packed).map_err(|error| match error {
            PackError::Read(..) => Error::caused(ErrorKind::Storage, "cannot pack it", error),
            PackError::Write(source) => Error::storage("cannot pack it", source),
            _ => Error::caused(ErrorKind::Refused, "cannot pack it", error),
        })?;
        let diff_id = packed.hasher.finish();
        let packed = packed.to.finish().map_err(|error| Error::storage("cannot pack it", error))?;
        let blob = Blob { digest: packed.hasher.finish(), size: packed.size };
        Ok(Layer { file, blob, diff_id })
    }
}

/// A layer on its way in.
#[derive(Debug)]
struct Layer {
    file: File,
    blob: Blob,
    diff_id: Digest,
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

/// The new image, as a source.
#[derive(Debug)]
struct Amended {
    manifest: Document,
    config: Document,
    layer: Layer,
    platform: Platform,
}

impl Source for Amended {
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
        Verified::LocalFile
    }
}

/// What the other image has is in the store, or was removed from it by force.
fn gone(digest: &Digest) -> Error {
    let sentence = format!("`{digest}` of the image it was made from is not in the store any more");
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

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
