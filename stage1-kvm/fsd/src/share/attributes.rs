//! Attributes of files and of the file system.

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fstatvfs,
    utimensat,
};
use rustix::io::Errno;

use crate::nodes::attributes;
use crate::reply::Reply;
use crate::request::{NewAttributes, NewTime};

use super::Share;

/// `UTIME_NOW` and `UTIME_OMIT` of `utimensat(2)`, in place of nanoseconds.
const NOW: i64 = (1 << 30) - 1;
/// See [`NOW`].
const OMIT: i64 = (1 << 30) - 2;

/// `W_OK` of `access(2)`.
const TO_WRITE: u32 = 2;

/// An id that is none: `chown(2)` would leave the owner as it is.
const NO_ID: u32 = u32::MAX;

impl Share {
    /// Replies with the attributes of a node, or of a handle.
    ///
    /// # Errors
    ///
    /// `ESTALE`, `EBADF`, those of `statx(2)`.
    pub fn attributes(
        &self,
        node: u64,
        handle: Option<u64>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let found = match handle {
            Some(handle) => attributes(&self.handles.find(handle)?.file)?,
            None => attributes(self.node(node)?)?,
        };
        reply.attributes_for_a_while(&found);
        Ok(())
    }

    /// Sets attributes and replies with all of them: the owner first, because that takes
    /// set-user-id away, the times last, because a new length changes them.
    ///
    /// # Errors
    ///
    /// `EPERM` for owner or mode of a device; those of `chown(2)`, `chmod(2)`, `ftruncate(2)` and
    /// `utimensat(2)`; what was set before the one that failed stays set.
    pub fn set_attributes(
        &self,
        node: u64,
        new: &NewAttributes,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.writable()?;
        if new.mode.is_some() || new.uid.is_some() || new.gid.is_some() {
            self.no_device(node)?;
        }
        self.set_owner(node, new)?;
        if let Some(mode) = new.mode {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            self.through_number(self.node(node)?, |number| {
                chmodat(&self.descriptors, number, mode, AtFlags::empty())
            })?;
        }
        if let Some(size) = new.size {
            self.set_size(node, size, new)?;
        }
        if new.atime.is_some() || new.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(new.atime)?,
                last_modification: timespec(new.mtime)?,
            };
            utimensat(self.node(node)?, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        self.attributes(node, None, reply)
    }

    fn set_owner(&self, node: u64, new: &NewAttributes) -> Result<(), Errno> {
        if new.uid == Some(NO_ID) || new.gid == Some(NO_ID) {
            return Err(Errno::INVAL);
        }
        if new.uid.is_none() && new.gid.is_none() {
            return Ok(());
        }
        let (user, group) = (new.uid.map(Uid::from_raw), new.gid.map(Gid::from_raw));
        chownat(self.node(node)?, c"", user, group, AtFlags::EMPTY_PATH)
    }

    fn set_size(&self, node: u64, size: u64, new: &NewAttributes) -> Result<(), Errno> {
        match new.handle {
            Some(handle) => self.cut(&self.contents(handle)?.file, size, new.kill_suid),
            None => match self.nodes.find(node)?.1 {
                FileType::RegularFile => {
                    self.cut(&self.reopen(node, OFlags::WRONLY)?, size, new.kill_suid)
                }
                FileType::Directory => Err(Errno::ISDIR),
                _ => Err(Errno::INVAL),
            },
        }
    }

    /// Whether a node may be used so. The guest has looked at its permissions.
    ///
    /// # Errors
    ///
    /// `EROFS`, `ESTALE`.
    pub fn check_access(&self, node: u64, mask: u32) -> Result<(), Errno> {
        self.node(node)?;
        if mask & TO_WRITE != 0 { self.writable() } else { Ok(()) }
    }

    /// Replies with the room on the node's file system: `struct fuse_statfs_out`.
    ///
    /// # Errors
    ///
    /// Those of `statfs(2)`.
    pub fn room_on_disk(&self, node: u64, reply: &mut Reply) -> Result<(), Errno> {
        let found = fstatvfs(self.node(node)?)?;
        for count in [found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree] {
            reply.u64(count);
        }
        for size in [found.f_bsize, found.f_namemax, found.f_frsize] {
            reply.u32(u32::try_from(size).unwrap_or(u32::MAX));
        }
        for _ in 0..7 {
            reply.u32(0);
        }
        Ok(())
    }
}

fn timespec(new: Option<NewTime>) -> Result<Timespec, Errno> {
    match new {
        None => Ok(Timespec { tv_sec: 0, tv_nsec: OMIT }),
        Some(NewTime::Now) => Ok(Timespec { tv_sec: 0, tv_nsec: NOW }),
        // Larger ones mean something else, see above.
        Some(NewTime::At(_, nanoseconds)) if nanoseconds >= 1_000_000_000 => Err(Errno::INVAL),
        Some(NewTime::At(tv_sec, nanoseconds)) => {
            Ok(Timespec { tv_sec, tv_nsec: i64::from(nanoseconds) })
        }
    }
}
