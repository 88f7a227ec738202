//! Which names are forgotten for a store to have no more than so many bytes.
//!
//! The names that were used last are kept, as many as there is room for; the first that there is none
//! for goes, and all that were used before it. What pods or running commands need stays, however
//! large: their names are no burden, for nothing would be freed by forgetting them.

use std::collections::{BTreeMap, BTreeSet};

use pod_abi::Digest;
use rustix::fs::AtFlags;

use super::files;
use super::gc::Marked;
use super::handle::Store;
use super::refs::StoredRef;
use crate::error::Error;
use crate::hash;

/// How many bytes lie under each name.
struct Sizes {
    blobs: BTreeMap<String, u64>,
    layers: BTreeMap<String, u64>,
}

impl Sizes {
    fn of(store: &Store) -> Result<Self, Error> {
        let list = |dir: &str| {
            let listed = files::list(store.dir(), dir);
            listed.map_err(|source| store.failed(&format!("list `{dir}`"), source))
        };
        let mut blobs = BTreeMap::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = format!("blobs/{algorithm}");
            for name in list(&dir)? {
                let path = format!("{dir}/{name}");
                let stat = rustix::fs::statat(store.dir(), path, AtFlags::SYMLINK_NOFOLLOW);
                let size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
                blobs.insert(format!("{algorithm}:{name}"), size);
            }
        }
        let layers = list("layers")?.into_iter().map(|name| {
            let content = store.layer_meta(&name).map_or(0, |meta| meta.bytes);
            let bytes = content.saturating_add(store.image_bytes(&name));
            (name, bytes)
        });
        Ok(Self { blobs, layers: layers.collect() })
    }

    /// Adds up what is marked.
    fn sum(&self, marked: &Marked) -> u64 {
        let blobs = marked.blobs.iter().filter_map(|digest| self.blobs.get(&digest.to_string()));
        let layers = marked.layers.iter().filter_map(|name| self.layers.get(name));
        blobs.chain(layers).fold(0, |sum, size| sum.saturating_add(*size))
    }
}

impl Store {
    /// Takes out of `refs` those that go for what is marked from them and `held` to have no more than
    /// `most` bytes.
    pub(super) fn beyond(
        &self,
        most: u64,
        held: &BTreeSet<Digest>,
        refs: &mut Vec<StoredRef>,
    ) -> Result<Vec<StoredRef>, Error> {
        let sizes = Sizes::of(self)?;
        refs.sort_by_key(|stored| std::cmp::Reverse(stored.last_used));
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let mut marked = self.mark(held.iter().cloned());
        let mut total = sizes.sum(&marked);
        for stored in refs.drain(..) {
            if held.contains(&stored.record.manifest) {
                kept.push(stored);
                continue;
            }
            let more = self.mark_beyond(&marked, roots_of(&stored));
            let with = total.saturating_add(sizes.sum(&more));
            if gone.is_empty() && with <= most {
                total = with;
                marked.extend(more);
                kept.push(stored);
            } else {
                gone.push(stored);
            }
        }
        *refs = kept;
        Ok(gone)
    }
}

/// Returns what a name keeps.
pub(super) fn roots_of(stored: &StoredRef) -> impl Iterator<Item = Digest> {
    let digests: Vec<Digest> = stored.record.digests().cloned().collect();
    digests.into_iter().chain(hash::chain(&stored.record.layers))
}
