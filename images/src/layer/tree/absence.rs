//! Whiteouts and opaque directories, in the terms of overlayfs.
//!
//! They hide lower layers only, whatever their order among the entries of their own layer. Source:
//! Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, fstat, mknodat, utimensat};
use rustix::io::Errno;

use super::directories::timestamps;
use super::remove::remove_whiteouts;
use super::sink::TreeSink;
use crate::layer::entry::Moment;
use crate::layer::fault::Fault;
use crate::layer::whiteout::split;

impl TreeSink {
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<(), Fault> {
        let (above, name) = split(path);
        if self.lower_links.contains_key(path) || self.hides_everything(above)? {
            return Ok(());
        }
        let parent = self.parent(above)?;
        match mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.whiteouts = true;
                let epoch = timestamps(Moment::default());
                utimensat(&parent, name, &epoch, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(Fault::storage(path, "utimensat"))
            }
            // It hides what lower layers have; what this layer has stays, and if that is a
            // directory, the two do not merge.
            Err(Errno::EXIST) => match self.root.directory(path) {
                Ok(directory) => self.make_opaque(&directory, path),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(()),
                Err(errno) => Err(Fault::storage(path, "openat2")(errno)),
            },
            Err(errno) => Err(Fault::storage(path, "mknodat")(errno)),
        }
    }

    /// Tells whether the directory `path` or one above it is opaque already.
    fn hides_everything(&self, path: &[u8]) -> Result<bool, Fault> {
        if !self.directories.any_opaque() {
            return Ok(false);
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(0).chain(ends).chain([path.len()]) {
            let directory = match self.root.pass(&path[..end]) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                result => result.map_err(Fault::storage(path, "openat2"))?,
            };
            let stat = fstat(&directory).map_err(Fault::storage(path, "fstat"))?;
            if self.directories.is_opaque(stat.st_ino) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn opaque(&mut self, path: &[u8]) -> Result<(), Fault> {
        let directory = self.parent(path)?;
        self.make_opaque(&directory, path)
    }

    fn make_opaque(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<(), Fault> {
        let stat = fstat(directory).map_err(Fault::storage(path, "fstat"))?;
        // Beneath an opaque directory no whiteouts are made.
        let clean = !self.whiteouts || self.hides_everything(path)?;
        self.directories.make_opaque(stat.st_ino);
        if !clean {
            remove_whiteouts(&self.root, path).map_err(Fault::storage(path, "unlinkat"))?;
        }
        Ok(())
    }
}
