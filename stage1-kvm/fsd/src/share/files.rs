//! Contents of files.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use pod_abi::share::MAX_DATA;
use rustix::fs::{
    FallocateFlags, FileType, OFlags, SeekFrom, fallocate, fdatasync, fsync, ftruncate, seek,
};
use rustix::io::{Errno, ReadWriteFlags, pread, pwrite, pwritev2};

use crate::handles::{Handle, Use};
use crate::reply::Reply;
use crate::wire::{FSYNC_FDATASYNC, WRITE_CACHE, WRITE_KILL_SUIDGID};

use super::Share;
use super::names::use_of;

/// Flags of an open file that mean something on this side. Reading past the cache does not: the
/// memory it goes to is not the guest's.
const MEANT: OFlags = OFlags::SYNC.union(OFlags::DSYNC).union(OFlags::NOATIME);

/// `SEEK_DATA` and `SEEK_HOLE`.
const SEEK_DATA: u32 = 3;
/// See [`SEEK_DATA`].
const SEEK_HOLE: u32 = 4;

impl Share {
    /// Opens a regular file.
    ///
    /// # Errors
    ///
    /// `EROFS` for writing where nothing may be, `EISDIR`, `ENXIO` for what is neither file nor
    /// directory, `ENFILE` with too many open; those of `open(2)`.
    pub fn open(&mut self, node: u64, flags: u32, reply: &mut Reply) -> Result<(), Errno> {
        self.handles.room()?;
        let flags = OFlags::from_bits_retain(flags);
        // The guest sets the length itself: this request does not say whether set-user-id goes.
        let file = self.open_existing(node, flags.difference(OFlags::TRUNC), false)?;
        let handle = self.handles.keep(file, use_of(flags))?;
        opened(handle, reply);
        Ok(())
    }

    /// Opens a regular file that is there, and empties it if the flags say so.
    pub(super) fn open_existing(
        &self,
        node: u64,
        flags: OFlags,
        kill_suid: bool,
    ) -> Result<OwnedFd, Errno> {
        let usable = usable(flags)?;
        if usable & OFlags::RWMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC) {
            self.writable()?;
        }
        if self.nodes.find(node)?.1 == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        let file = self.reopen(node, usable)?;
        if flags.contains(OFlags::TRUNC) {
            self.cut(&file, 0, kill_suid)?;
        }
        Ok(file)
    }

    /// Sets the length of an open file.
    pub(super) fn cut(&self, file: &OwnedFd, size: u64, kill_suid: bool) -> Result<(), Errno> {
        if i64::try_from(size).is_err() {
            return Err(Errno::FBIG);
        }
        if kill_suid {
            self.own.without_set_id(|| ftruncate(file, size))
        } else {
            ftruncate(file, size)
        }
    }

    /// Replies with bytes of a file.
    ///
    /// # Errors
    ///
    /// `EBADF`, those of `pread(2)`.
    pub fn read(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let file = &self.contents(handle)?.file;
        reply.filled(bounded(size), |buffer| pread(file, buffer, offset))
    }

    /// Writes to a file and replies with how much.
    ///
    /// # Errors
    ///
    /// `EBADF`, those of `pwrite(2)`.
    pub fn write(
        &self,
        handle: u64,
        offset: u64,
        data: &[u8],
        fuse_flags: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.writable()?;
        let Handle { file, use_of } = self.contents(handle)?;
        // Pages of a mapping go where they belong, whatever the file was opened for.
        let append = *use_of == Use::Appending && fuse_flags & WRITE_CACHE == 0;
        let write = || match append {
            true => pwritev2(file, &[IoSlice::new(data)], offset, ReadWriteFlags::APPEND),
            false => pwrite(file, data, offset),
        };
        let written = match fuse_flags & WRITE_KILL_SUIDGID {
            0 => write()?,
            _ => self.own.without_set_id(write)?,
        };
        reply.u32(u32::try_from(written).map_err(|_| Errno::INVAL)?);
        reply.u32(0);
        Ok(())
    }

    /// Closes a file or directory.
    pub fn release(&mut self, handle: u64) {
        self.handles.close(handle);
    }

    /// Has what was written to a file or directory reach the disk.
    ///
    /// # Errors
    ///
    /// `EBADF`, those of `fsync(2)`.
    pub fn sync(&self, handle: u64, flags: u32) -> Result<(), Errno> {
        let file = &self.handles.find(handle)?.file;
        if flags & FSYNC_FDATASYNC != 0 { fdatasync(file) } else { fsync(file) }
    }

    /// Reserves or gives back room.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for what would move bytes about, `EBADF`, those of `fallocate(2)`.
    pub fn allocate(&self, handle: u64, offset: u64, length: u64, mode: u32) -> Result<(), Errno> {
        const DONE: FallocateFlags = FallocateFlags::KEEP_SIZE
            .union(FallocateFlags::PUNCH_HOLE)
            .union(FallocateFlags::ZERO_RANGE);
        self.writable()?;
        let mode = FallocateFlags::from_bits_retain(mode);
        if !DONE.contains(mode) {
            return Err(Errno::OPNOTSUPP);
        }
        fallocate(&self.contents(handle)?.file, mode, offset, length)
    }

    /// Replies with where the next data or the next hole is.
    ///
    /// # Errors
    ///
    /// `EINVAL` for other questions, `EBADF`, `ENXIO`.
    pub fn seek(
        &self,
        handle: u64,
        offset: u64,
        whence: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let from = match whence {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        reply.u64(seek(&self.contents(handle)?.file, from)?);
        Ok(())
    }

    /// A handle of a file, not of a directory.
    pub(super) fn contents(&self, handle: u64) -> Result<&Handle, Errno> {
        let found = self.handles.find(handle)?;
        if found.use_of == Use::Entries { Err(Errno::BADF) } else { Ok(found) }
    }
}

/// The flags to open a file with when these are asked for.
///
/// # Errors
///
/// `EINVAL` for the access mode that is none.
pub(super) fn usable(flags: OFlags) -> Result<OFlags, Errno> {
    let mode = flags & OFlags::RWMODE;
    if mode == OFlags::RWMODE {
        return Err(Errno::INVAL);
    }
    Ok(mode | flags & MEANT)
}

/// Replies that something is open: `struct fuse_open_out`.
pub(super) fn opened(handle: u64, reply: &mut Reply) {
    reply.u64(handle);
    reply.u64(0);
}

/// Bytes to read at most when so many are asked for.
pub(super) fn bounded(size: u32) -> usize {
    usize::try_from(size).map_or(MAX_DATA, |size| size.min(MAX_DATA))
}
