//! Questions to the store, none of which needs the network: what a name means, what there is.

use std::collections::BTreeSet;

use pod_abi::Digest;
use serde_json::Value;

use super::files;
use super::handle::Store;
use super::lease::Lease;
use super::refs::{self, RefRecord, StoredRef};
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
    /// [`ErrorKind::Storage`] if the store cannot be read, [`ErrorKind::Ambiguous`] if an id is.
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

    /// Tells whether `reference` means an image, on whichever platform. Whether all of it is there
    /// is for [`Self::resolve`] to say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if the store cannot be read, [`ErrorKind::Ambiguous`] if an id is.
    pub fn knows(&self, reference: &Reference) -> Result<bool, Error> {
        match self.stored(reference) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
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
        let stored = self.stored(reference)?;
        let record = &stored.record;
        Ok(ImageDetails {
            record: stored.line(),
            layers: record.layers.clone(),
            settings: self.settings(record)?,
            manifest_document: self.document(&record.manifest)?,
            config_document: self.document(&record.config)?,
        })
    }

    /// Gives the image `reference` means the further name `name`, and returns its line. What `name`
    /// meant before on that platform it means no longer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such image, [`ErrorKind::Refused`] if `name` is no
    /// name that a registry could have.
    pub fn tag(&self, reference: &Reference, name: &Reference) -> Result<ImageRecord, Error> {
        if !name.is_nameable() {
            let sentence = format!("`{name}` is no further name: it takes `REPOSITORY[:TAG]`");
            return Err(Error::new(ErrorKind::Refused, sentence));
        }
        // Nothing is collected until the new name holds it.
        let _lock = self.lock_shared()?;
        let mut record = self.stored(reference)?.record;
        if !self.is_whole(&record)? {
            return Err(not_here(reference));
        }
        record.reference = name.to_string();
        record.pulled = refs::now();
        self.write_ref(&record)?;
        Ok(StoredRef { path: record.path(), last_used: record.pulled, record }.line())
    }

    /// Returns the record `reference` leads to, of this host's platform if there are several.
    pub(super) fn stored(&self, reference: &Reference) -> Result<StoredRef, Error> {
        match self.look_up(reference, Some(&Platform::host()))? {
            Some(stored) => Ok(stored),
            None => self.look_up(reference, None)?.ok_or_else(|| not_here(reference)),
        }
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
        // An id is no name of its own: with it go all names of the image.
        if named.is_empty()
            && let Some(meant) = self.look_up(reference, None)?
        {
            let same = |stored: &StoredRef| stored.record.manifest == meant.record.manifest;
            named = match reference.id_prefix() {
                Some(_) => self.all_refs()?.into_iter().filter(same).collect(),
                None => vec![meant],
            };
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
        all.retain(|stored| {
            let RefRecord { manifest, config, index, .. } = &stored.record;
            [Some(manifest), Some(config), index.as_ref()]
                .into_iter()
                .flatten()
                .any(|digest| digest.hex().starts_with(id))
        });
        let meant: BTreeSet<&Digest> = all.iter().map(|stored| &stored.record.manifest).collect();
        if meant.len() > 1 {
            let ids: Vec<&str> = meant.iter().take(16).map(|digest| digest.short()).collect();
            let ids = ids.join("`, `");
            let sentence = format!("id `{id}` is ambiguous: it begins those of `{ids}`");
            return Err(Error::new(ErrorKind::Ambiguous, sentence));
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
            index: record.index,
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

#[cfg(test)]
mod tests {
    use pod_abi::app::Verified;

    use super::super::refs::ImageParts;
    use super::*;

    fn store(images: &[(&str, &str, &str)]) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for (name, manifest, config) in images {
            let digest = |begin: &str| Digest::parse(&format!("sha256:{begin:0<64}")).unwrap();
            let parts = ImageParts {
                manifest: digest(manifest),
                index: None,
                config: digest(config),
                layers: Vec::new(),
                size: 0,
                verified: Verified::Digest,
            };
            let name = Reference::parse(name).unwrap();
            store.write_ref(&RefRecord::now(&name, &Platform::host(), &parts)).unwrap();
        }
        (root, store)
    }

    #[test]
    fn the_beginning_of_an_id_means_one_image_or_none() {
        let (_root, store) = store(&[
            ("one", "aaaa1111", "cccc1"),
            ("two", "aaaa2222", "cccc2"),
            ("also-two", "aaaa2222", "cccc2"),
            ("aaaa1111", "bbbb", "dddd"),
        ]);
        let found = |word: &str| {
            let reference = Reference::parse(word).unwrap();
            store.stored(&reference).map(|stored| stored.record.manifest.hex()[..8].to_owned())
        };
        assert_eq!(found("sha256:aaaa1").unwrap(), "aaaa1111");
        assert_eq!(found("sha256:cccc2").unwrap(), "aaaa2222", "by the configuration");
        assert_eq!(found("aaaa2222").unwrap(), "aaaa2222");
        assert_eq!(found("aaaa1111").unwrap(), "bbbb0000", "a name comes before an id");
        assert_eq!(found("sha256:aaaa").unwrap_err().kind(), ErrorKind::Ambiguous);
        assert_eq!(found("sha256:eeee").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(found("cafecafe").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn with_an_id_go_all_names_of_its_image() {
        let (_root, store) =
            store(&[("one", "aaaa1", "c"), ("two", "aaaa2", "d"), ("also-two", "aaaa2", "d")]);
        let gone = store.remove(&Reference::parse("sha256:aaaa2").unwrap()).unwrap();
        assert_eq!(gone.len(), 2);
        assert!(
            gone.iter().all(|image| image.is_meant_by(&Reference::parse("sha256:aaaa2").unwrap()))
        );
        assert_eq!(store.images().unwrap().len(), 1);
    }
}
