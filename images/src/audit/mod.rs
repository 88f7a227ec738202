//! Auditing layers: is each tree still what its blob unpacks to?
//!
//! ```text
//! blob of the layer ─▶ worker ─▶ a fresh tree, beside ─▶ compared with the layer's ─▶ findings
//! ```
//!
//! Also before a start, for pods that ask for it ([`vouched`]).
//!
//! Nothing is kept for this when a layer is made: what it came as is in the store, and says it all.
//! It takes the space of one layer at a time.
//!
//! Never: a repair. Whoever knows what is damaged fetches it again.

mod compare;
mod vouched;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use pod_abi::Digest;

use crate::error::{Error, ErrorKind};
use crate::layer::{LayerFacts, Limits, Unpack, WorkerProgram};
use crate::progress::{Event, Progress};
use crate::pull::unpack_error;
use crate::store::{FsckReport, LayerOnDisk, Store};
use compare::compare;

impl Store {
    /// Does what [`Store::fsck`] does, and compares every layer's tree with what it came as.
    ///
    /// # Errors
    ///
    /// Those of [`Store::fsck`], and [`ErrorKind::NoSpace`] where a layer cannot be unpacked beside
    /// the store's; nothing is left. What is wrong with a layer is a finding.
    pub fn fsck_with_trees(
        &self,
        worker: &WorkerProgram,
        progress: &dyn Progress,
    ) -> Result<FsckReport, Error> {
        let mut report = self.fsck()?;
        let lease = self.lease()?;
        for layer in self.layers_on_disk()? {
            self.hold(&lease, [&layer.diff_id, &layer.blob].into_iter().chain(&layer.chain))?;
            let changed = self.image_change(&layer.name).map_err(|source| {
                Error::storage(format!("cannot check the image of `{}`", layer.path()), source)
            })?;
            if let Some(problem) = changed {
                report.add(&layer.path(), problem);
            }
            match self.audit(&layer, worker, progress)? {
                Audit::Unknown => report.unchecked += 1,
                Audit::Sound => report.trees += 1,
                Audit::Damaged(problem) => {
                    report.trees += 1;
                    report.add(&layer.path(), problem);
                }
                Audit::Gone => {}
            }
        }
        Ok(report)
    }

    fn audit(
        &self,
        layer: &LayerOnDisk,
        worker: &WorkerProgram,
        progress: &dyn Progress,
    ) -> Result<Audit, Error> {
        let failed = |source| Error::storage(format!("cannot check `{}`", layer.path()), source);
        let tree = match self.open_tree(layer) {
            Ok(tree) => tree,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Audit::Gone),
            Err(error) => return Err(failed(error)),
        };
        let Some(mut blob) = self.open_blob(&layer.blob)? else { return Ok(Audit::Unknown) };
        let digest = &layer.blob;
        let size = blob.metadata().map_err(failed)?.len();
        progress.event(Event::CheckStarted { layer: digest.clone(), size });
        let staging = self.staging()?;
        let facts = match unpack_again(&mut blob, digest, worker, staging.tree()) {
            Err(error) if error.kind() == ErrorKind::Invalid => {
                return Ok(Audit::Damaged("what it came as cannot be unpacked".to_owned()));
            }
            result => result?,
        };
        let found = match facts.diff_id == layer.diff_id {
            false => Some(format!("what it came as unpacks to `{}`", facts.diff_id)),
            true => compare(&tree, staging.tree(), &facts).map_err(failed)?,
        };
        progress.event(Event::CheckDone { layer: digest.clone() });
        Ok(found.map_or(Audit::Sound, Audit::Damaged))
    }
}

/// Unpacks what a layer came as once more.
fn unpack_again(
    blob: &mut File,
    digest: &Digest,
    worker: &WorkerProgram,
    into: BorrowedFd<'_>,
) -> Result<LayerFacts, Error> {
    let told = |source| unpack_error(&format!("layer `{digest}`"), source);
    let mut unpack = Unpack::start(worker, into, &Limits::default()).map_err(told)?;
    match io::copy(blob, &mut unpack) {
        // The worker gave up, and tells why itself.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Error::storage(format!("cannot read layer `{digest}`"), error)),
        Ok(_) => {}
    }
    unpack.finish().map_err(told)
}

/// What came of one layer.
enum Audit {
    Sound,
    Damaged(String),
    /// What it came as is not in the store.
    Unknown,
    /// Somebody has removed it meanwhile.
    Gone,
}
