//! Hard links: within the layer, and out of it to a layer below.
//!
//! The last component of a target is never followed, so a link to a symbolic link links that. What
//! a layer's links find only in lower layers is told to whoever knows those.

use rustix::fs::{AtFlags, FileType, linkat};
use rustix::io::Errno;

use super::inode::{entry_fault, is_whiteout, look};
use super::remove::remove;
use super::sink::{LowerLink, TreeSink};
use crate::layer::fault::Fault;
use crate::layer::whiteout::split;

/// Bytes that hard links into lower layers may take together.
const MAX_LOWER_LINKS: usize = 1 << 20;

impl TreeSink {
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        let (above, target_name) = split(target);
        let found = match self.root.pass(above) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            result => {
                let holder = result.map_err(Fault::storage(target, "openat2"))?;
                let stat = look(&holder, target_name).map_err(Fault::storage(target, "fstatat"))?;
                stat.filter(|stat| !is_whiteout(stat)).map(|stat| (holder, stat))
            }
        };
        let Some((holder, stat)) = found else { return self.missing_link(path, target) };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(entry_fault(path, "is a hard link to a directory"));
        }
        let (above, name) = split(path);
        let parent = self.parent(above)?;
        let existing = look(&parent, name).map_err(Fault::storage(path, "fstatat"))?;
        if let Some(existing) = existing {
            if (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            remove(&self.root, &parent, name).map_err(Fault::storage(path, "unlinkat"))?;
        }
        self.forget(path);
        match linkat(&holder, target_name, &parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(entry_fault(path, "is a hard link to what it replaces")),
            result => result.map_err(Fault::storage(path, "linkat")),
        }
    }

    /// Notes a link whose target this layer does not have.
    fn missing_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        if self.devices.contains(target) {
            return self.device(path.to_vec());
        }
        if path == target {
            return Err(entry_fault(path, "is a hard link to itself"));
        }
        let target = self.lower_links.get(target).cloned().unwrap_or_else(|| target.to_vec());
        // The link needs its parents; so does everything else that may come to them.
        self.parent(split(path).0)?;
        self.clear(path)?;
        self.lower_links_bytes += path.len() + target.len();
        if self.lower_links_bytes > MAX_LOWER_LINKS {
            let limit = MAX_LOWER_LINKS as u64;
            return Err(Fault::Limit { what: "bytes of hard links to lower layers", limit });
        }
        self.lower_links.insert(path.to_vec(), target);
        Ok(())
    }

    /// Returns the links whose targets lower layers must have. One whose target came later in
    /// this layer is an error: no two unpackers agree on it.
    pub(super) fn settle_lower_links(&self) -> Result<Vec<LowerLink>, Fault> {
        let mut settled = Vec::new();
        for (path, target) in &self.lower_links {
            if self.has(target)? {
                return Err(entry_fault(path, "is a hard link that stands before its target"));
            }
            // Something took its place by another name for it.
            if !self.has(path)? {
                settled.push((path.clone(), target.clone()));
            }
        }
        Ok(settled)
    }

    fn has(&self, path: &[u8]) -> Result<bool, Fault> {
        let (above, name) = split(path);
        match self.root.pass(above) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            result => {
                let parent = result.map_err(Fault::storage(path, "openat2"))?;
                let stat = look(&parent, name).map_err(Fault::storage(path, "fstatat"))?;
                Ok(stat.is_some_and(|stat| !is_whiteout(&stat)))
            }
        }
    }
}
