//! Layers as files: opened beneath the one directory they lie in, and put onto the disk of images.

use std::os::fd::{BorrowedFd, OwnedFd};

use pod_abi::app::MountSource;
use pod_abi::guest::Extent;
use pod_abi::stage::AppOrder;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use supervisor::{During, Failure};

use super::Machine;
use crate::plan::Refusal;

impl Machine<'_> {
    /// Opens layers and places them on the disk, each of which is new to it.
    pub(super) fn open_layers(
        &mut self,
        directory: BorrowedFd<'_>,
        layers: &[String],
    ) -> Result<Vec<(Extent, OwnedFd)>, Failure> {
        let mut opened = Vec::new();
        for layer in layers {
            let (file, length) = open(directory, layer)?;
            opened.push((self.disk.place(layer, length)?, file));
        }
        Ok(opened)
    }

    /// Puts those layers onto the disk of a living machine that are not there yet. One that has
    /// been put there stays, whatever becomes of its app.
    pub(super) fn map_layers(
        &mut self,
        directory: BorrowedFd<'_>,
        layers: &[String],
    ) -> Result<(), Failure> {
        for layer in layers {
            if self.disk.find(layer).is_some() {
                continue;
            }
            let (file, length) = open(directory, layer)?;
            let extent = self.disk.place(layer, length)?;
            let line = self.line.borrow();
            let told = match line.as_ref() {
                Some(line) => line.helm.map(extent, &file),
                None => Err(Failure::new("the pod has no machine any more")),
            };
            if told.is_err() {
                self.disk.take_back(layer);
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

/// Opens a layer, and returns it with its length.
fn open(directory: BorrowedFd<'_>, layer: &str) -> Result<(OwnedFd, u64), Failure> {
    let opening = || format!("cannot open layer `{layer}`");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(directory, layer, flags, Mode::empty(), beneath).during(opening)?;
    let stat = fstat(&file).during(opening)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        // SECURITY: never anything else, least of all a device of the host (CVE-2026-24054).
        return Err(Failure::new(format!("layer `{layer}` is no file")).code("vm.layer"));
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}
