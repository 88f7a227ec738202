//! Where each layer lies on the disk of images. Pure.
//!
//! The disk is as large as any could ever be, and nearly all of it is not there: a layer that comes
//! later is put behind those before it, and stays there until the machine ends.

use std::collections::BTreeMap;

use pod_abi::guest::Extent;
use supervisor::Failure;
use vmm::description::IMAGES_CAPACITY;

use crate::plan::{MAX_LAYERS, Refusal};

/// Layers begin at multiples of this, in bytes: far more than any block, and cheap on a disk that
/// is mostly not there.
const ALIGNMENT: u64 = 1 << 20;
/// Sizes of layers are multiples of this, in bytes: a block of EROFS.
const BLOCK: u64 = 4096;

/// The disk of images.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    layers: BTreeMap<String, Extent>,
    end: u64,
}

impl Disk {
    /// Returns where a layer lies, if it does.
    pub(crate) fn find(&self, layer: &str) -> Option<Extent> {
        self.layers.get(layer).copied()
    }

    /// Puts a layer of so many bytes behind the others.
    ///
    /// # Errors
    ///
    /// [`Failure`] for a size no image has; if it does not fit behind the others; or if it is one too
    /// many, which happens to those that come later alone: plans have no more.
    pub(crate) fn place(&mut self, layer: &str, length: u64) -> Result<Extent, Failure> {
        if length == 0 || !length.is_multiple_of(BLOCK) {
            let what = format!("layer `{layer}` is no image: it has {length} bytes");
            return Err(Failure::new(what).code("image.file"));
        }
        let offset = self.end.next_multiple_of(ALIGNMENT);
        if self.layers.len() >= MAX_LAYERS {
            return Err(Refusal::LateLayers.failure("the pod"));
        }
        let end = offset.checked_add(length).filter(|end| *end <= IMAGES_CAPACITY);
        let end = end.ok_or_else(|| Refusal::LargeLayers.failure("the pod"))?;
        let extent = Extent { offset, length };
        self.end = end;
        self.layers.insert(layer.to_owned(), extent);
        Ok(extent)
    }

    /// Takes back the layer that was placed last.
    pub(crate) fn take_back(&mut self, layer: &str) {
        if let Some(extent) = self.layers.remove(layer) {
            self.end = self.end.min(extent.offset);
        }
    }

    /// Returns where these layers lie.
    pub(crate) fn map_of(&self, layers: &[String]) -> BTreeMap<String, Extent> {
        layers.iter().filter_map(|layer| Some((layer.clone(), self.find(layer)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_lie_apart_and_each_lies_once() {
        let mut disk = Disk::default();
        let first = disk.place("a", 4096).unwrap();
        let second = disk.place("b", 3 << 20).unwrap();
        let third = disk.place("c", 8192).unwrap();
        assert_eq!(first, Extent { offset: 0, length: 4096 });
        assert_eq!(second, Extent { offset: 1 << 20, length: 3 << 20 });
        assert_eq!(third, Extent { offset: 4 << 20, length: 8192 });
        assert_eq!(disk.find("b"), Some(second));
        let names = ["a", "c", "x"].map(str::to_owned);
        assert_eq!(disk.map_of(&names).into_values().collect::<Vec<_>>(), [first, third]);
        disk.take_back("c");
        assert_eq!(disk.place("d", 4096).unwrap().offset, 4 << 20);
    }

    #[test]
    fn what_has_no_room_or_is_no_image_is_refused() {
        let mut disk = Disk::default();
        for length in [0, 1, 4097] {
            assert!(disk.place("a", length).is_err(), "{length}");
        }
        let refused = |refused: Result<Extent, Failure>| refused.unwrap_err().report().hints;
        let large = refused(disk.place("a", IMAGES_CAPACITY + 4096));
        assert_eq!(large, [Refusal::LargeLayers.row().way_out]);
        for number in 0..MAX_LAYERS {
            disk.place(&number.to_string(), 4096).unwrap();
        }
        assert_eq!(refused(disk.place("one more", 4096)), [Refusal::LateLayers.row().way_out]);
    }
}
