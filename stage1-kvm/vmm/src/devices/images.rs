//! The medium of images: files that lie on one large disk, none of which can be written.
//!
//! There is no request that writes, no hole that is filled in, and no look at what a file holds: a
//! request is for bytes of one file, or it fails.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use pod_abi::guest::Extent;

use super::disk::{Media, READ_ONLY, Refusal, kind, read_all};
use crate::counters::Tally;
use crate::description::IMAGES_CAPACITY;

/// What lies on the disk, which can be added to while it is read.
#[derive(Clone, Debug, Default)]
pub struct Map(Arc<RwLock<Files>>);

/// By where each begins: its length, and the file.
type Files = BTreeMap<u64, (u64, Arc<OwnedFd>)>;

/// A place on the disk that a file cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes {0} to {1} of the disk of images are taken or not there")]
pub struct Taken(u64, u64);

/// Where an extent begins and ends: on pages, as guests read.
const PAGE: u64 = 4096;

impl Map {
    /// Puts a file somewhere.
    ///
    /// # Errors
    ///
    /// [`Taken`]: something lies there, or the place is no place.
    pub fn add(&self, extent: Extent, file: OwnedFd) -> Result<(), Taken> {
        let Extent { offset, length } = extent;
        let end = offset.checked_add(length).filter(|&end| end <= IMAGES_CAPACITY);
        let taken = Taken(offset, offset.saturating_add(length));
        let end = end.ok_or(taken)?;
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = map.range(..end).next_back();
        let overlaps = before.is_some_and(|(&start, (length, _))| start + length > offset);
        if length == 0 || overlaps || offset % PAGE != 0 || length % PAGE != 0 {
            return Err(taken);
        }
        map.insert(offset, (length, Arc::new(file)));
        Ok(())
    }

    /// The file that holds all of these bytes, and where in it they begin.
    fn find(&self, offset: u64, length: u64) -> Option<(Arc<OwnedFd>, u64)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (&start, (extent, file)) = map.range(..=offset).next_back()?;
        let within = offset - start;
        let end = within.checked_add(length)?;
        (end <= *extent).then(|| (Arc::clone(file), within))
    }
}

/// The disk of images.
#[derive(Debug)]
pub struct Images {
    map: Map,
    tally: Arc<Tally>,
}

impl Images {
    /// A disk on which lies what the map says.
    #[must_use]
    pub fn new(map: Map, tally: Arc<Tally>) -> Self {
        Self { map, tally }
    }
}

impl Media for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    fn capacity(&self) -> u64 {
        IMAGES_CAPACITY
    }

    fn features(&self) -> u64 {
        READ_ONLY
    }

    fn serve(
        &self,
        kind: u32,
        offset: u64,
        chain: &mut crate::virtio::Chain<'_>,
    ) -> Result<usize, Refusal> {
        if kind != kind::IN {
            return Err(Refusal::Unsupported);
        }
        let length = chain.writable();
        let found = self.map.find(offset, length as u64);
        let read = found
            .ok_or(Refusal::Failed)
            .and_then(|(file, within)| read_all(file.as_fd(), within, chain.take_writable(length)));
        self.tally.disk_request(read.map_or(0, |bytes| bytes as u64));
        read
    }
}
