//! Layers that are what they came as when a pod starts: compared then, or sealed since.
//!
//! | what a pod is given | how it is known |
//! |---|---|
//! | trees, checked | each is compared with what it came as |
//! | images, checked | each is hashed; it was made of a tree that was compared |
//! | images, sealed | the kernel checks each byte as it is read (fs-verity); made as above |
//!
//! It finds what a disk, a mistake or another program has done. Whoever is root of this host can
//! have a record say anything, and is not held up by it.

use pod_abi::Digest;

use super::Audit;
use crate::error::{Error, ErrorKind};
use crate::layer::WorkerProgram;
use crate::progress::Progress;
use crate::store::Store;

impl Store {
    /// Returns where the trees of `layers` lie beneath [`Store::layers_dir`], lowest first, once
    /// each was compared with what it came as.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if one is something else, [`ErrorKind::Refused`] if what it came as
    /// is not in the store, or those of [`Store::layer_paths`].
    pub fn checked_layer_paths(
        &self,
        layers: &[Digest],
        worker: &WorkerProgram,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        for name in self.layer_names(layers)? {
            self.vouch(&name, worker, progress)?;
        }
        self.layer_paths(layers)
    }

    /// Returns where EROFS images of `layers` lie beneath [`Store::layers_dir`], lowest first,
    /// each with its digest (`fsverity digest`). Each was made of a tree that was compared with
    /// what it came as, and is what it was then. With `sealed` the kernel sees to it that they
    /// stay so: whoever opens one compares the digest it is sealed with.
    ///
    /// # Errors
    ///
    /// Those of [`Store::layer_images`] and [`Store::checked_layer_paths`], and
    /// [`ErrorKind::Unsupported`] if the file system of the store cannot seal files.
    pub fn vouched_layer_images(
        &self,
        layers: &[Digest],
        sealed: bool,
        worker: &WorkerProgram,
        progress: &dyn Progress,
    ) -> Result<Vec<(String, Digest)>, Error> {
        let compare = |name: &str| self.vouch(name, worker, progress);
        let images = self.demanded_images(layers, sealed, Some(&compare), progress)?;
        let vouched = |(path, digest): (_, Option<_>)| {
            let missing = || Error::new(ErrorKind::Damaged, format!("`{path}` has no digest"));
            digest.ok_or_else(missing).map(|digest| (path, digest))
        };
        images.into_iter().map(vouched).collect()
    }

    /// Compares the tree in the directory `name` with what it came as.
    fn vouch(
        &self,
        name: &str,
        worker: &WorkerProgram,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let layer = self
            .layer_on_disk(name)
            .map_err(|source| Error::storage(format!("cannot read layer `{name}`"), source))?;
        let lease = self.lease()?;
        self.hold(&lease, [&layer.diff_id, &layer.blob].into_iter().chain(&layer.chain))?;
        let digest = &layer.diff_id;
        match self.audit(&layer, worker, progress)? {
            Audit::Sound => Ok(()),
            Audit::Damaged(problem) => Err(Error::caused(
                ErrorKind::Damaged,
                format!("layer `{digest}` is not what it came as"),
                problem,
            )),
            Audit::Unknown => Err(Error::new(
                ErrorKind::Refused,
                format!("layer `{digest}` cannot be compared: what it came as is not in the store"),
            )),
            Audit::Gone => Err(Error::new(
                ErrorKind::NotFound,
                format!("layer `{digest}` is not in the store"),
            )),
        }
    }
}
