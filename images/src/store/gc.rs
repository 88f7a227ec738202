//! Garbage: what no name, no living operation and no pod needs.
//!
//! Mark under the exclusive lock, rename into the trash, let go of the lock, delete. A kill at any
//! moment leaves things where they were or in the trash, and the next gc goes on. Leases are read
//! before pins, pins before names: whoever hands over from one to the next writes the next first.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use pod_abi::Digest;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::Serialize;

use super::disk_images::GROWING;
use super::handle::Store;
use super::lease::DeadLeases;
use super::quota::roots_of;
use super::refs::StoredRef;
use super::staging::STAGING;
use super::{files, layers, trash};
use crate::document::{Config, MAX_DOCUMENT, Top};
use crate::error::Error;
use crate::hash;

/// How a collection is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// What is younger is kept, needed or not.
    pub grace: Duration,
    /// Whether something is deleted at all.
    pub mode: GcMode,
    /// The most bytes the store is to have: the names used longest ago are forgotten for it.
    pub most: Option<u64>,
}

/// Whether a collection deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GcMode {
    /// It does.
    #[default]
    Delete,
    /// It only tells what it would delete.
    DryRun,
}

/// What a collection deleted, or would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GcReport {
    /// Names that were forgotten because the store had too much.
    pub images: Vec<String>,
    /// Blobs, by digest.
    pub blobs: Vec<String>,
    /// Layers, by the name of their directory.
    pub layers: Vec<String>,
    /// Interrupted downloads and what nobody finishes.
    pub residue: Vec<String>,
    /// Bytes of blobs, of layers' file contents and disk images, and of downloads.
    pub bytes: u64,
}

/// What must stay.
#[derive(Debug, Default)]
pub(super) struct Marked {
    pub(super) blobs: BTreeSet<Digest>,
    /// Names of directories in `layers/`.
    pub(super) layers: BTreeSet<String>,
}

impl Marked {
    /// Adds a digest, for a blob and for a layer; `false` if it was there, or is `known`.
    fn add(&mut self, digest: &Digest, known: &Self) -> bool {
        if known.blobs.contains(digest) {
            return false;
        }
        self.layers.insert(layers::self_name(digest));
        self.layers.insert(layers::chain_name(digest));
        self.blobs.insert(digest.clone())
    }

    /// Adds all of `more`.
    pub(super) fn extend(&mut self, more: Self) {
        self.blobs.extend(more.blobs);
        self.layers.extend(more.layers);
    }
}

impl Store {
    /// Deletes what is neither named, nor leased, nor pinned, and older than the grace. `pins` is
    /// asked once, while nothing new can be resolved, for the digests pods have pinned.
    ///
    /// # Errors
    ///
    /// What `pins` says, or [`ErrorKind::Storage`](crate::ErrorKind::Storage), also for a name
    /// whose record cannot be understood: what it keeps cannot be known. What is not deleted by
    /// then is whole.
    pub fn gc(
        &self,
        pins: impl FnOnce() -> Result<BTreeSet<Digest>, Error>,
        options: &GcOptions,
    ) -> Result<GcReport, Error> {
        let mut report = GcReport::default();
        {
            let _lock = self.lock_exclusive()?;
            let dead = match options.mode {
                GcMode::Delete => DeadLeases::Remove,
                GcMode::DryRun => DeadLeases::Keep,
            };
            let mut roots = self.leased(dead)?;
            roots.extend(pins()?);
            self.refuse_strangers()?;
            let mut refs = self.all_refs()?;
            if let Some(most) = options.most {
                for stored in self.beyond(most, &roots, &mut refs)? {
                    self.forget(&stored, options.mode)?;
                    report.images.push(stored.record.reference);
                }
            }
            roots.extend(refs.iter().flat_map(roots_of));
            let marked = self.mark(roots);
            let sweep = Sweep { store: self, options: *options, now: SystemTime::now() };
            sweep.blobs(&marked, &mut report)?;
            sweep.layers(&marked, &mut report)?;
            sweep.residue(&mut report)?;
        }
        if options.mode == GcMode::Delete {
            trash::empty(self)?;
        }
        Ok(report)
    }

    /// Takes a name away.
    fn forget(&self, stored: &StoredRef, mode: GcMode) -> Result<(), Error> {
        if mode == GcMode::DryRun {
            return Ok(());
        }
        let name = &stored.record.reference;
        trash::discard(self, &stored.path)
            .and_then(|()| files::sync_dir(self.dir(), "refs"))
            .map_err(|source| self.failed(&format!("forget `{name}`"), source))
    }

    /// Removes what processes that were killed have left and nobody can go on with: leases, trees
    /// half unpacked, things on their way out. Interrupted downloads stay, for the next pull goes
    /// on from there; [`Store::gc`] takes those too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage); what is left is tried again next time.
    pub fn tidy(&self) -> Result<(), Error> {
        {
            let _lock = self.lock_exclusive()?;
            self.leased(DeadLeases::Remove)?;
        }
        for name in files::list(self.dir(), "tmp").unwrap_or_default() {
            if !name.ends_with(".part") {
                self.sweep_abandoned(&name);
            }
        }
        trash::empty(self)
    }

    /// Deletes trees whose makers were killed, so that repeated kills do not fill the disk. Whoever
    /// is about to make such trees calls this; it is no reason to fail.
    pub(crate) fn sweep_abandoned_trees(&self) {
        for name in files::list(self.dir(), "tmp").unwrap_or_default() {
            if name.starts_with(STAGING) {
                self.sweep_abandoned(&name);
            }
        }
    }

    /// Deletes images of layers whose makers were killed, as [`Store::sweep_abandoned_trees`] does.
    pub(super) fn sweep_abandoned_images(&self) {
        for name in files::list(self.dir(), "tmp").unwrap_or_default() {
            if name.starts_with(GROWING) {
                self.sweep_abandoned(&name);
            }
        }
    }

    /// Deletes `tmp/NAME` if its maker is gone; what cannot be deleted now is for the next.
    fn sweep_abandoned(&self, name: &str) {
        let path = format!("tmp/{name}");
        // The lock is held until the name is gone, so that nobody begins to use it meanwhile.
        if let Ok(Some(_locked)) = abandoned(self, &path) {
            let _ = trash::discard(self, &path);
        }
    }

    /// Follows documents from the roots to all they name. A digest is taken for a layer as well as
    /// for a blob, for pins and leases do not tell. A document that cannot be read leads nowhere.
    pub(super) fn mark(&self, roots: impl IntoIterator<Item = Digest>) -> Marked {
        self.mark_beyond(&Marked::default(), roots)
    }

    /// Marks what is not `known` yet.
    pub(super) fn mark_beyond(
        &self,
        known: &Marked,
        roots: impl IntoIterator<Item = Digest>,
    ) -> Marked {
        let mut marked = Marked::default();
        let mut todo: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = todo.pop() {
            if !marked.add(&digest, known) {
                continue;
            }
            let Some(bytes) = self.read_document(&digest) else { continue };
            let Ok(Top::Manifest(manifest)) = Top::parse(&bytes, "") else { continue };
            // Layers lead nowhere, and are large.
            for layer in &manifest.layers {
                marked.add(&layer.digest, known);
            }
            todo.push(manifest.config.digest.clone());
            let config = self.read_blob(&manifest.config.digest, MAX_DOCUMENT).ok();
            let config = config.and_then(|b| Config::parse(&b, manifest.layers.len()).ok());
            if let Some(config) = config {
                todo.extend(hash::chain(&config.layers));
                todo.extend(config.layers);
            }
        }
        marked
    }

    /// Reads a blob, unless it is larger than any document.
    fn read_document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let length = self.open_blob(digest).ok()??.metadata().ok()?.len();
        let fits = length <= u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX);
        fits.then(|| self.read_blob(digest, MAX_DOCUMENT).ok())?
    }
}

/// Opens what lies at `path` in `tmp/` if its maker is gone: all makers lock what they make.
fn abandoned(store: &Store, path: &str) -> io::Result<Option<OwnedFd>> {
    if path.trim_start_matches("tmp/").starts_with(STAGING) {
        return locked(files::open_dir(store.dir(), path)?);
    }
    locked(files::open(store.dir(), path)?.into())
}

/// Returns what nobody else has locked, locked.
fn locked(file: OwnedFd) -> io::Result<Option<OwnedFd>> {
    Ok(files::try_lock(&file)?.then_some(file))
}

struct Sweep<'s> {
    store: &'s Store,
    options: GcOptions,
    now: SystemTime,
}

impl Sweep<'_> {
    fn blobs(&self, marked: &Marked, report: &mut GcReport) -> Result<(), Error> {
        for algorithm in ["sha256", "sha512"] {
            let dir = format!("blobs/{algorithm}");
            for name in self.list(&dir)? {
                let word = format!("{algorithm}:{name}");
                if Digest::parse(&word).is_ok_and(|digest| marked.blobs.contains(&digest)) {
                    continue;
                }
                if let Some(size) = self.take(&format!("{dir}/{name}"))? {
                    report.bytes += size;
                    report.blobs.push(word);
                }
            }
        }
        Ok(())
    }

    fn layers(&self, marked: &Marked, report: &mut GcReport) -> Result<(), Error> {
        for name in self.list("layers")? {
            if marked.layers.contains(&name) {
                continue;
            }
            let content = self.store.layer_meta(&name).map_or(0, |meta| meta.bytes);
            let bytes = content.saturating_add(self.store.image_bytes(&name));
            if self.take(&format!("layers/{name}"))?.is_some() {
                report.bytes += bytes;
                report.layers.push(name);
            }
        }
        Ok(())
    }

    /// Takes what lies in `tmp/` and is locked by nobody.
    fn residue(&self, report: &mut GcReport) -> Result<(), Error> {
        for name in self.list("tmp")? {
            let path = format!("tmp/{name}");
            let abandoned = match abandoned(self.store, &path) {
                Ok(abandoned) => abandoned,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(self.store.failed(&format!("look at `{path}`"), error)),
            };
            // The lock is held until the name is gone, so that nobody begins to use it meanwhile.
            if let Some(_locked) = abandoned
                && let Some(size) = self.take(&path)?
            {
                report.bytes += size;
                report.residue.push(name);
            }
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        files::list(self.store.dir(), dir)
            .map_err(|source| self.store.failed(&format!("list `{dir}`"), source))
    }

    /// Moves away what is old enough and returns its own size; `None` if it stays or is gone.
    fn take(&self, path: &str) -> Result<Option<u64>, Error> {
        let failed = |source| self.store.failed(&format!("sweep `{path}`"), source);
        let stat = match rustix::fs::statat(self.store.dir(), path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(other) => return Err(failed(other.into())),
        };
        let modified = u64::try_from(stat.st_mtime).unwrap_or(0);
        let age = self
            .now
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(modified))
            .unwrap_or_default();
        if age < self.options.grace {
            return Ok(None);
        }
        if self.options.mode == GcMode::Delete {
            let moved = trash::move_away(self.store, path).map_err(failed)?;
            if moved.is_none() {
                return Ok(None);
            }
        }
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        Ok(Some(if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 }))
    }
}

#[cfg(test)]
mod tests {
    use pod_abi::digest::Algorithm;

    use super::*;

    fn no_pins() -> Result<BTreeSet<Digest>, Error> {
        Ok(BTreeSet::new())
    }

    fn store_with(contents: &[&[u8]]) -> (tempfile::TempDir, Store, Vec<Digest>) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digests: Vec<Digest> =
            contents.iter().map(|bytes| hash::of(Algorithm::Sha256, bytes)).collect();
        for (digest, bytes) in digests.iter().zip(contents) {
            store.write_blob(digest, bytes).unwrap();
        }
        (root, store, digests)
    }

    #[test]
    fn what_is_leased_or_pinned_stays_and_the_rest_goes() {
        let (_root, store, digests) = store_with(&[b"leased", b"pinned", b"garbage"]);
        let lease = store.lease().unwrap();
        lease.hold([&digests[0]]).unwrap();
        let pins = || Ok(BTreeSet::from([digests[1].clone()]));
        let report = store.gc(pins, &GcOptions::default()).unwrap();
        assert_eq!(report.blobs, [digests[2].to_string()]);
        assert_eq!(report.bytes, 7);
        drop(lease);
        let report = store.gc(no_pins, &GcOptions::default()).unwrap();
        assert_eq!(report.blobs.len(), 2);
    }

    #[test]
    fn nothing_goes_while_a_name_cannot_be_understood() {
        let (root, store, digests) = store_with(&[b"of a newer pod"]);
        let record = root.path().join("images/refs/odd.json");
        for text in [r#"{"version":99,"reference":"x"}"#, "half a rec"] {
            std::fs::write(&record, text).unwrap();
            let error = store.gc(no_pins, &GcOptions::default()).unwrap_err();
            assert!(error.to_string().contains("nothing is collected"), "{error}");
            assert!(store.has_blob(&digests[0]).unwrap());
        }
        std::fs::remove_file(record).unwrap();
        assert_eq!(store.gc(no_pins, &GcOptions::default()).unwrap().blobs.len(), 1);
    }

    #[test]
    fn young_garbage_and_dry_runs_delete_nothing() {
        let (_root, store, digests) = store_with(&[b"garbage"]);
        let young = GcOptions { grace: Duration::from_secs(3600), ..GcOptions::default() };
        assert_eq!(store.gc(no_pins, &young).unwrap(), GcReport::default());
        let dry = GcOptions { mode: GcMode::DryRun, ..GcOptions::default() };
        assert_eq!(store.gc(no_pins, &dry).unwrap().blobs.len(), 1);
        assert!(store.has_blob(&digests[0]).unwrap());
    }

    #[test]
    fn tidying_takes_what_the_dead_left_but_no_content() {
        let (root, store, digests) = store_with(&[b"x"]);
        std::fs::write(root.path().join("images/leases/1-2-3"), "").unwrap();
        std::fs::write(root.path().join("images/tmp/ref-1-2-3"), "half").unwrap();
        rustix::fs::mkdirat(store.dir(), "tmp/u-dead", rustix::fs::Mode::from(0o700)).unwrap();
        store.tidy().unwrap();
        for empty in ["images/leases", "images/tmp", "images/trash"] {
            assert_eq!(std::fs::read_dir(root.path().join(empty)).unwrap().count(), 0, "{empty}");
        }
        assert!(store.has_blob(&digests[0]).unwrap());
    }

    #[test]
    fn residue_goes_when_its_maker_is_gone() {
        let (_root, store, digests) = store_with(&[b"x"]);
        let part = store.part(&digests[0]).unwrap().unwrap();
        let staging = store.staging().unwrap();
        rustix::fs::mkdirat(store.dir(), "tmp/u-dead", rustix::fs::Mode::from(0o700)).unwrap();
        let report = store.gc(no_pins, &GcOptions::default()).unwrap();
        assert_eq!(report.residue, ["u-dead"]);
        drop((part, staging));
        let report = store.gc(no_pins, &GcOptions::default()).unwrap();
        assert_eq!(report.residue.len(), 1, "the download; the tree went with its owner");
    }
}
