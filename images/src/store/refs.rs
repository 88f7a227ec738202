//! What names mean: one small file for each pair of reference and platform.
//!
//! A file is called after the hash of the pair, so that no reference is too long or strange for a
//! file name; the reference itself stands inside. Its mtime is the last use.

use std::fs::FileTimes;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use pod_abi::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::files;
use super::handle::Store;
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::image::ImageRecord;
use crate::platform::Platform;
use crate::reference::Reference;

/// The version of a record.
const VERSION: u32 = 1;
/// The largest record: four hundred digests and a reference.
const MAX_RECORD: usize = 256 << 10;

/// What a reference means on one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RefRecord {
    pub(crate) version: u32,
    pub(crate) reference: String,
    pub(crate) platform: String,
    pub(crate) manifest: Digest,
    pub(crate) index: Option<Digest>,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) size: u64,
    pub(crate) verified: Verified,
    pub(crate) pulled: Timestamp,
}

/// A record with its place and its last use.
#[derive(Clone, Debug)]
pub(super) struct StoredRef {
    pub(super) path: String,
    pub(super) record: RefRecord,
    pub(super) last_used: Timestamp,
}

/// A record as it lies on disk.
struct RefFile {
    bytes: Vec<u8>,
    modified: Timestamp,
}

/// Returns the time of day.
pub(super) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn path(reference: &str, platform: &str) -> String {
    let key = hash::of(Algorithm::Sha256, format!("{reference}\n{platform}").as_bytes());
    format!("refs/{}.json", key.hex())
}

impl RefRecord {
    /// Makes the record of what a reference means from now on.
    pub(crate) fn now(reference: &Reference, platform: &Platform, image: &ImageParts) -> Self {
        Self {
            version: VERSION,
            reference: reference.to_string(),
            platform: platform.to_string(),
            manifest: image.manifest.clone(),
            index: image.index.clone(),
            config: image.config.clone(),
            layers: image.layers.clone(),
            size: image.size,
            verified: image.verified,
            pulled: now(),
        }
    }

    pub(super) fn path(&self) -> String {
        path(&self.reference, &self.platform)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.version == VERSION {
            Ok(record)
        } else {
            Err(format!("version {} is not known", record.version))
        }
    }
}

/// The content a reference is to mean.
#[derive(Clone, Debug)]
pub(crate) struct ImageParts {
    pub(crate) manifest: Digest,
    pub(crate) index: Option<Digest>,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) size: u64,
    pub(crate) verified: Verified,
}

impl StoredRef {
    pub(super) fn line(&self) -> ImageRecord {
        let record = self.record.clone();
        ImageRecord {
            reference: record.reference,
            platform: record.platform,
            manifest: record.manifest,
            config: record.config,
            index: record.index,
            verified: record.verified,
            size: record.size,
            pulled: record.pulled,
            last_used: self.last_used.max(self.record.pulled),
        }
    }
}

impl Store {
    /// Makes a reference mean what `record` says: the last step of a pull, for everything it names
    /// must be durable before.
    pub(crate) fn write_ref(&self, record: &RefRecord) -> Result<(), Error> {
        let name = &record.reference;
        let failed = |source| self.failed(&format!("record `{name}`"), source);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| failed(error.into()))?;
        // Somebody else may have named what this one found, a moment ago.
        self.sync_blobs()?;
        self.sync_layers()?;
        let aside = files::unique("tmp/ref-");
        files::replace(self.dir(), &aside, &record.path(), "refs", &bytes).map_err(failed)
    }

    /// Returns the record of `reference` for `platform`. A damaged one means nothing, so that a pull
    /// writes it anew; fsck tells.
    pub(super) fn ref_of(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<Option<StoredRef>, Error> {
        let path = path(reference, &platform.to_string());
        let Some(RefFile { bytes, modified }) = self.read_ref(&path)? else { return Ok(None) };
        let record = RefRecord::parse(&bytes).ok();
        Ok(record.map(|record| StoredRef { path, record, last_used: modified }))
    }

    /// Returns the record in the file `path`, if the file is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if it is no record of ours.
    pub(super) fn ref_at(&self, path: &str) -> Result<Option<StoredRef>, Error> {
        let Some(file) = self.read_ref(path)? else { return Ok(None) };
        let record = RefRecord::parse(&file.bytes).map_err(|why| {
            Error::new(ErrorKind::Storage, format!("`{path}` in the store is no record: {why}"))
        })?;
        Ok(Some(StoredRef { path: path.to_owned(), record, last_used: file.modified }))
    }

    fn read_ref(&self, path: &str) -> Result<Option<RefFile>, Error> {
        let failed = |source| self.failed(&format!("read `{path}`"), source);
        let file = match files::open(self.dir(), path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let modified = file.metadata().and_then(|all| all.modified()).map_err(failed)?;
        let bytes = files::read_all(&file, MAX_RECORD).map_err(failed)?;
        Ok(Some(RefFile { bytes, modified: timestamp(modified) }))
    }

    /// Returns all records, sorted by reference. What is no record is left to fsck; what cannot be
    /// read is an error, for gc must not take a failing disk for an absent name.
    pub(super) fn all_refs(&self) -> Result<Vec<StoredRef>, Error> {
        let names = files::list(self.dir(), "refs").map_err(|e| self.failed("list `refs`", e))?;
        let mut refs: Vec<StoredRef> = Vec::with_capacity(names.len());
        for name in names {
            let path = format!("refs/{name}");
            let Some(file) = self.read_ref(&path)? else { continue };
            if let Ok(record) = RefRecord::parse(&file.bytes) {
                refs.push(StoredRef { path, record, last_used: file.modified });
            }
        }
        refs.sort_by(|a, b| {
            (&a.record.reference, &a.record.platform)
                .cmp(&(&b.record.reference, &b.record.platform))
        });
        Ok(refs)
    }

    /// Refuses names whose records cannot be understood: a newer `pod` has written them, or nobody.
    pub(super) fn refuse_strangers(&self) -> Result<(), Error> {
        let names = files::list(self.dir(), "refs").map_err(|e| self.failed("list `refs`", e))?;
        for name in names {
            self.ref_at(&format!("refs/{name}")).map_err(|error| {
                error.within(
                    "nothing is collected: what a name keeps cannot be known (fetching its image \
                         again mends it; if nobody wants it, remove the file)",
                )
            })?;
        }
        Ok(())
    }

    /// Notes that a reference was used just now. That it cannot be noted on a full or read-only
    /// disk is no reason to fail.
    pub(super) fn touch(&self, stored: &StoredRef) {
        if let Ok(file) = files::open(self.dir(), &stored.path) {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }
}
