//! Layers: trees under the digest of what they were unpacked from.
//!
//! Most layers are complete in themselves and named by their diffID. A layer that names a
//! directory or a hard link's target only by its path depends on the layers below; it is finished
//! after them and named by its chain id, so that it is never used above other ones. Which of the
//! two a layer is depends on its content alone, so both names never exist for one diffID.

use std::os::fd::OwnedFd;

use pod_abi::Digest;
use serde::{Deserialize, Serialize};

use super::handle::Store;
use super::staging::TREE;
use super::{Merged, files};
use crate::error::{Error, ErrorKind};
use crate::hash;

/// What is known of a layer, beside its tree.
pub(super) const META: &str = "meta.json";
/// The version of that document.
pub(super) const META_VERSION: u32 = 1;
/// Its largest size.
pub(super) const MAX_META: usize = 64 << 10;

/// `meta.json` of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LayerMeta {
    pub(super) version: u32,
    /// The digest of the uncompressed archive.
    pub(super) diff_id: Digest,
    /// The chain it was finished for, if it depends on one.
    pub(super) chain: Option<Digest>,
    /// The blob it came as.
    pub(super) blob: Digest,
    /// Bytes of file contents.
    pub(super) bytes: u64,
    /// Entries of the archive.
    pub(super) entries: u64,
    /// Device nodes that were left out.
    pub(super) skipped_devices: u64,
}

impl LayerMeta {
    pub(crate) fn new(diff_id: &Digest, blob: &Digest, size: LayerSize) -> Self {
        Self {
            version: META_VERSION,
            diff_id: diff_id.clone(),
            chain: None,
            blob: blob.clone(),
            bytes: size.bytes,
            entries: size.entries,
            skipped_devices: size.skipped_devices,
        }
    }

    /// Says that the layer depends on the chain `chain`.
    #[must_use]
    pub(crate) fn in_chain(mut self, chain: &Digest) -> Self {
        self.chain = Some(chain.clone());
        self
    }

    /// Returns the name of the layer's directory.
    pub(crate) fn name(&self) -> String {
        match &self.chain {
            None => self_name(&self.diff_id),
            Some(chain) => chain_name(chain),
        }
    }
}

/// A layer as it lies in the store.
#[derive(Clone, Debug)]
pub(crate) struct LayerOnDisk {
    /// Its directory beneath `layers`.
    pub(crate) name: String,
    /// The digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// The chain it was finished for, if it depends on one.
    pub(crate) chain: Option<Digest>,
    /// The blob it came as.
    pub(crate) blob: Digest,
}

impl LayerOnDisk {
    /// Returns its path beneath the store.
    pub(crate) fn path(&self) -> String {
        format!("layers/{}", self.name)
    }
}

/// How much a layer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSize {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) skipped_devices: u64,
}

/// Returns the name of a layer that is complete in itself.
pub(super) fn self_name(diff_id: &Digest) -> String {
    diff_id.hex().to_owned()
}

/// Returns the name of a layer that depends on those below it.
pub(super) fn chain_name(chain: &Digest) -> String {
    format!("c-{}", chain.hex())
}

impl Store {
    /// Returns the directories of `layers`, lowest first, or `None` for each that is missing.
    pub(crate) fn find_layers(&self, layers: &[Digest]) -> Result<Vec<Option<String>>, Error> {
        let present = |name: String| match files::exists(self.dir(), &format!("layers/{name}")) {
            Ok(true) => Ok(Some(name)),
            Ok(false) => Ok(None),
            Err(source) => Err(self.failed(&format!("find layer `{name}`"), source)),
        };
        layers
            .iter()
            .zip(hash::chain(layers))
            .map(|(layer, chain)| match present(self_name(layer))? {
                Some(name) => Ok(Some(name)),
                None => present(chain_name(&chain)),
            })
            .collect()
    }

    /// Tells whether the layer `diff_id` is there as one that is complete in itself.
    pub(crate) fn has_self_contained(&self, diff_id: &Digest) -> Result<bool, Error> {
        let name = self_name(diff_id);
        files::exists(self.dir(), &format!("layers/{name}"))
            .map_err(|source| self.failed(&format!("find layer `{name}`"), source))
    }

    /// Returns where the trees of `layers` lie beneath [`Store::layers_dir`], lowest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if a layer is missing.
    pub fn layer_paths(&self, layers: &[Digest]) -> Result<Vec<String>, Error> {
        let names = self.layer_names(layers)?;
        Ok(names.into_iter().map(|name| format!("{name}/{TREE}")).collect())
    }

    /// Returns the directories of `layers`, lowest first, all of which must be there.
    pub(crate) fn layer_names(&self, layers: &[Digest]) -> Result<Vec<String>, Error> {
        let missing =
            |layer| Error::new(ErrorKind::NotFound, format!("layer `{layer}` is not in the store"));
        let found = self.find_layers(layers)?.into_iter().zip(layers);
        found.map(|(name, layer)| name.ok_or_else(|| missing(layer))).collect()
    }

    /// Lists the layers that have a readable description.
    pub(crate) fn layers_on_disk(&self) -> Result<Vec<LayerOnDisk>, Error> {
        let names = files::list(self.dir(), "layers")
            .map_err(|source| self.failed("list `layers`", source))?;
        Ok(names.iter().filter_map(|name| self.layer_on_disk(name).ok()).collect())
    }

    /// Reads what is known of the layer in the directory `name`.
    pub(crate) fn layer_on_disk(&self, name: &str) -> std::io::Result<LayerOnDisk> {
        let LayerMeta { diff_id, chain, blob, .. } = self.layer_meta(name)?;
        Ok(LayerOnDisk { name: name.to_owned(), diff_id, chain, blob })
    }

    /// Opens the tree of a layer.
    pub(crate) fn open_tree(&self, layer: &LayerOnDisk) -> std::io::Result<OwnedFd> {
        files::open_dir(self.dir(), &format!("layers/{}/{TREE}", layer.name))
    }

    /// Opens the trees of `layers`, given lowest first, as one.
    pub(crate) fn merged(&self, layers: &[Digest]) -> Result<Merged, Error> {
        let paths = self.layer_paths(layers)?;
        let trees = paths.iter().rev().map(|path| {
            files::open_dir(self.dir(), &format!("layers/{path}"))
                .map_err(|source| self.failed(&format!("open layer `{path}`"), source))
        });
        trees.collect::<Result<_, _>>().map(Merged::new)
    }

    /// Reads what is known of the layer in the directory `name`.
    pub(super) fn layer_meta(&self, name: &str) -> std::io::Result<LayerMeta> {
        let bytes = files::read(self.dir(), &format!("layers/{name}/{META}"), MAX_META)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
