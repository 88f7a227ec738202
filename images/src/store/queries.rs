//! Questions to the store, none of which needs the network: what a name means, what there is.

use std::collections::BTreeSet;

use pod_abi::Digest;
use serde_json::Value;

use super::files;
use super::handle::Store;
use super::lease::Lease;
use super::refs::{RefRecord, StoredRef};
use super::trash;
use crate::document::{Config, MAX_DOCUMENT};
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::image::{Image, ImageDetails, ImageRecord, ImageSettings};
use crate::platform::Platform;
use crate::reference::Reference;

impl Store {
    /// Returns the image `reference` means for `platform`, if all of it is in the store, and keeps
    /// it from gc while `lease` lives. A digest decides alone; a word may also be the beginning
    /// of an image's id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if the store cannot be read, [`ErrorKind::Invalid`] if an id is
    /// ambiguous.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        lease: &Lease,
    ) -> Result<Option<Image>, Error> {
        let _lock = self.lock_shared()?;
        let Some(stored) = self.look_up(reference, Some(platform))? else { return Ok(None) };
        if !self.is_whole(&stored.record)? {
            return Ok(None);
        }
        lease.hold(stored.record.digests())?;
        lease.hold(&hash::chain(&stored.record.layers))?;
        self.touch(&stored);
        match self.image(reference, stored.record) {
            // A damaged configuration is none: a pull brings it anew.
            Err(error) if error.kind() == ErrorKind::Invalid => Ok(None),
            image => image.map(Some),
        }
    }

    /// Lists what there is, by reference.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if the store cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>, Error> {
        Ok(self.all_refs()?.iter().map(StoredRef::line).collect())
    }

    /// Returns all that is known of the image `reference` means, on this host's platform if there
    /// are several.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn inspect(&self, reference: &Reference) -> Result<ImageDetails, Error> {
        let _lock = self.lock_shared()?;
        let stored = match self.look_up(reference, Some(&Platform::host()))? {
            Some(stored) => stored,
            None => self.look_up(reference, None)?.ok_or_else(|| not_here(reference))?,
        };
        let record = &stored.record;
        Ok(ImageDetails {
            record: stored.line(),
            config: record.config.clone(),
            layers: record.layers.clone(),
            settings: self.settings(record)?,
            manifest_document: self.document(&record.manifest)?,
            config_document: self.document(&record.config)?,
        })
    }

    /// Makes a name mean nothing, on any platform, and returns what it meant. Content goes with
    /// the next gc, unless something else holds it; pods that use it are not disturbed. Never
    /// needs the content, so that a damaged image can be removed too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it meant nothing.
    pub fn remove(&self, reference: &Reference) -> Result<Vec<ImageRecord>, Error> {
        let name = reference.to_string();
        let mut named: Vec<StoredRef> =
            self.all_refs()?.into_iter().filter(|stored| stored.record.reference == name).collect();
        if named.is_empty() {
            named.extend(self.look_up(reference, None)?);
        }
        if named.is_empty() {
            return Err(not_here(reference));
        }
        for stored in &named {
            let failed = |source| self.failed(&format!("remove `{name}`"), source);
            trash::discard(self, &stored.path).map_err(failed)?;
        }
        files::sync_dir(self.dir(), "refs").map_err(|e| self.failed("sync `refs`", e))?;
        Ok(named.iter().map(StoredRef::line).collect())
    }

    /// Returns the record that `reference` leads to, for `platform` or for any.
    fn look_up(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Option<StoredRef>, Error> {
        if let Some(platform) = platform
            && let Some(stored) = self.ref_of(&reference.to_string(), platform)?
        {
            return Ok(Some(stored));
        }
        let by_digest = reference.digest();
        let id = reference.id_prefix();
        if platform.is_some() && by_digest.is_none() && id.is_none() {
            return Ok(None);
        }
        let mut all = self.all_refs()?;
        all.retain(|stored| {
            platform.is_none_or(|platform| stored.record.platform == platform.to_string())
        });
        let name = reference.to_string();
        if let Some(at) = all.iter().position(|stored| stored.record.reference == name) {
            return Ok(Some(all.swap_remove(at)));
        }
        if let Some(digest) = by_digest {
            let at = all.iter().position(|stored| means(&stored.record, reference, digest));
            return Ok(at.map(|at| all.swap_remove(at)));
        }
        let Some(id) = id else { return Ok(None) };
        all.retain(|stored| stored.record.manifest.hex().starts_with(id));
        let meant: BTreeSet<&Digest> = all.iter().map(|stored| &stored.record.manifest).collect();
        if meant.len() > 1 {
            let sentence = format!("`{id}` is the beginning of the ids of {} images", meant.len());
            return Err(Error::invalid(sentence));
        }
        Ok(all.pop())
    }

    /// Tells whether everything a record names is there.
    fn is_whole(&self, record: &RefRecord) -> Result<bool, Error> {
        let layers = self.find_layers(&record.layers)?;
        Ok(layers.iter().all(Option::is_some)
            && self.has_blob(&record.manifest)?
            && self.has_blob(&record.config)?)
    }

    /// Makes an image of a record whose content is there.
    pub(crate) fn image(&self, reference: &Reference, record: RefRecord) -> Result<Image, Error> {
        let settings = self.settings(&record)?;
        Ok(Image {
            reference: reference.to_string(),
            manifest: record.manifest,
            config: record.config,
            layers: record.layers,
            verified: record.verified,
            settings,
            size: record.size,
        })
    }

    fn settings(&self, record: &RefRecord) -> Result<ImageSettings, Error> {
        let bytes = self.read_blob(&record.config, MAX_DOCUMENT)?;
        let config = Config::parse(&bytes, record.layers.len()).map_err(|source| {
            let sentence = format!("cannot read configuration `{}`", record.config);
            Error::caused(ErrorKind::Invalid, sentence, source)
        })?;
        Ok(config.settings)
    }

    fn document(&self, digest: &Digest) -> Result<Value, Error> {
        let bytes = self.read_blob(digest, MAX_DOCUMENT)?;
        serde_json::from_slice(&bytes).map_err(|source| {
            Error::caused(ErrorKind::Invalid, format!("cannot read document `{digest}`"), source)
        })
    }
}

impl RefRecord {
    /// Returns every digest a record names.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        [&self.manifest, &self.config].into_iter().chain(&self.index).chain(&self.layers)
    }
}

/// A record serves a digest of its own repository, be it the manifest's or the index's.
fn means(record: &RefRecord, reference: &Reference, digest: &Digest) -> bool {
    (record.manifest == *digest || record.index.as_ref() == Some(digest))
        && Reference::parse(&record.reference).is_ok_and(|other| other.same_repository(reference))
}

fn not_here(reference: &Reference) -> Error {
    Error::new(ErrorKind::NotFound, format!("image `{reference}` is not in the store"))
}
