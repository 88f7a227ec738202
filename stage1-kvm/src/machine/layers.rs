//! Layers as files: opened beneath the one directory they lie in, and put onto the disk of images.

use std::os::fd::{BorrowedFd, OwnedFd};

use namespaces::{LayerImage, open_image};
use pod_abi::app::MountSource;
use pod_abi::guest::Extent;
use pod_abi::stage::AppOrder;
use supervisor::Failure;

use super::Machine;
use crate::plan::Refusal;

impl Machine<'_> {
    /// Opens layers and places them on the disk, each of which is new to it.
    pub(super) fn open_layers(
        &mut self,
        directory: BorrowedFd<'_>,
        layers: &[LayerImage],
    ) -> Result<Vec<(Extent, OwnedFd)>, Failure> {
        let mut opened = Vec::new();
        for layer in layers {
            let (file, length) = open_image(directory, layer)?;
            opened.push((self.disk.place(&layer.path, length)?, file));
        }
        Ok(opened)
    }

    /// Puts those layers onto the disk of a living machine that are not there yet. One that has
    /// been put there stays, whatever becomes of its app.
    pub(super) fn map_layers(
        &mut self,
        directory: BorrowedFd<'_>,
        layers: &[LayerImage],
    ) -> Result<(), Failure> {
        for layer in layers {
            let path = &layer.path;
            if self.disk.find(path).is_some() {
                continue;
            }
            let (file, length) = open_image(directory, layer)?;
            let extent = self.disk.place(path, length)?;
            let line = self.line.borrow();
            let told = match line.as_ref() {
                Some(line) => line.helm.map(extent, &file),
                None => Err(Failure::new("the pod has no machine any more")),
            };
            if told.is_err() {
                self.disk.take_back(path);
            }
            told?;
        }
        Ok(())
    }

    /// Refuses an app that comes later and writes a volume that was shared read-only.
    pub(super) fn check_writing(&self, app: &AppOrder) -> Result<(), Failure> {
        let writes = app.spec.mounts.iter().filter(|mount| !mount.read_only);
        let mut volumes = writes.filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => self.shared.get(name),
            MountSource::Tmpfs { .. } => None,
        });
        if volumes.any(|read_only| *read_only) {
            return Err(Refusal::LateWriting.failure(&format!("app `{}`", app.spec.name)));
        }
        Ok(())
    }
}
