//! Committing: what an app has changed becomes a layer, and its image with that layer another image.
//!
//! The layer is packed into a file without a name, and the new image then comes in as any other does:
//! unpacked by the worker, checked against the digests its own documents have, named last. So what a
//! hostile app has left in its tree is met by the same checks as what a hostile registry sends.

use std::fmt;
use std::os::fd::BorrowedFd;

use pod_abi::app::{ImagePin, Verified};
use pod_abi::{Digest, Timestamp};

use super::made::{Layer, Made, blob_of};
use super::{Fetch, PullOptions};
use crate::document::{
    Amendment, Config, DocumentError, MAX_DOCUMENT, amend_config, amend_manifest,
};
use crate::error::{Error, ErrorKind};
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
            let (source, platform) = self.amended(commit)?;
            // Nobody asks a policy for what was made here.
            let policies = Vec::new();
            let options = PullOptions { platform, policies, ..commit.options.clone() };
            let (lease, progress) = (commit.lease, commit.progress);
            self.take(commit.reference, &[], &source, &Fetch { options: &options, lease, progress })
        };
        made().map_err(|error: Error| {
            error.within(format!("cannot make image `{}`", commit.reference))
        })
    }

    fn amended(&self, commit: &Commit<'_>) -> Result<(Made, Platform), Error> {
        let ImagePin { manifest: base, config: of_base, layers, .. } = commit.base;
        self.hold(commit.lease, [base, of_base].into_iter().chain(layers))?;
        let manifest = self.read_blob(base, MAX_DOCUMENT)?;
        let config = self.read_blob(of_base, MAX_DOCUMENT)?;
        let unreadable = |digest: &Digest, source: DocumentError| {
            Error::caused(ErrorKind::Invalid, format!("cannot use `{digest}`"), source)
        };
        let known = Config::parse(&config, layers.len());
        let known = known.map_err(|source| unreadable(of_base, source))?;
        let (layer, ()) = Layer::pack(self, |to| pack(commit.upper, to).map_err(unpacked))?;
        let amendment = Amendment {
            diff_id: &layer.diff_id,
            settings: commit.settings,
            created: &commit.created.to_string(),
            created_by: "pod commit",
            comment: commit.comment,
            author: commit.author,
        };
        let config = amend_config(&config, &amendment);
        let config = config.map_err(|source| unreadable(of_base, source))?;
        let manifest = amend_manifest(&manifest, &blob_of(&config), &layer.blob);
        let manifest = manifest.map_err(|source| unreadable(base, source))?;
        let platform = known.platform.unwrap_or_else(|| commit.options.platform.clone());
        Ok((Made::new(manifest, config, layer, Verified::LocalFile), platform))
    }
}

fn unpacked(error: PackError) -> Error {
    match error {
        PackError::Read(..) => Error::caused(ErrorKind::Storage, "cannot pack it", error),
        PackError::Write(source) => Error::storage("cannot pack it", source),
        _ => Error::caused(ErrorKind::Refused, "cannot pack it", error),
    }
}
