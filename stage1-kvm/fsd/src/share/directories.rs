//! Entries of directories.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, RawDir, RawDirEntry, SeekFrom, seek};
use rustix::io::Errno;

use crate::handles::{Handle, Use};
use crate::nodes::{Nodes, attributes};
use crate::reply::{ENTRY, Reply};
use crate::request::Name;

use super::files::{bounded, opened};
use super::{Share, find};

/// Bytes of `struct fuse_dirent` without the name; all of it is a multiple of 8.
const DIRENT: usize = 24;

/// Bytes for entries as the kernel gives them: at least this many, so that one fits; at most as
/// many as [`MOST_SCRATCH`].
const LEAST_SCRATCH: usize = 1024;
/// See [`LEAST_SCRATCH`].
const MOST_SCRATCH: usize = 32 << 10;

/// What is said of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Its name and kind.
    Names,
    /// Its attributes as well, and that is a lookup.
    Attributes,
}

impl Share {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`, `ENFILE`, those of `open(2)`.
    pub fn open_directory(&mut self, node: u64, reply: &mut Reply) -> Result<(), Errno> {
        self.handles.room()?;
        self.directory(node)?;
        let file = self.reopen(node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let handle = self.handles.keep(file, Use::Entries)?;
        opened(handle, reply);
        Ok(())
    }

    /// Replies with the entries behind `offset`, as many as fit into `size` bytes.
    ///
    /// # Errors
    ///
    /// `EBADF`, those of `getdents64(2)`. An error behind the first entry is left for the next
    /// request: what was looked up is to be told, or the guest could not forget it.
    pub fn read_directory(
        &mut self,
        handle: u64,
        offset: u64,
        size: u32,
        detail: Detail,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let Self { nodes, handles, scratch, .. } = self;
        let Handle { file, use_of: Use::Entries } = handles.find(handle)? else {
            return Err(Errno::BADF);
        };
        // Where a guest says: it may read the same entries twice, or begin in the middle. Some file
        // systems call a place by a number that is below zero here.
        seek(file, SeekFrom::Start(offset))?;
        let size = bounded(size);
        scratch.reserve(size.clamp(LEAST_SCRATCH, MOST_SCRATCH));
        let mut entries = RawDir::new(file, scratch.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let written = entry.and_then(|entry| {
                let attributes = (detail == Detail::Attributes).then_some(&mut *nodes);
                write_entry(file, &entry, size, attributes, reply)
            });
            match written {
                Ok(Fits::Yes) => {}
                Ok(Fits::No) => break,
                Err(errno) if reply.is_empty() => return Err(errno),
                Err(_) => break, // met again by the next request
            }
        }
        Ok(())
    }
}

/// Writes one entry, with what `nodes` says of it if they are given.
fn write_entry(
    directory: &OwnedFd,
    entry: &RawDirEntry<'_>,
    size: usize,
    nodes: Option<&mut Nodes>,
    reply: &mut Reply,
) -> Result<Fits, Errno> {
    let name = entry.file_name();
    let length = (DIRENT + name.count_bytes()).next_multiple_of(8);
    let front = if nodes.is_some() { ENTRY } else { 0 };
    if reply.len() + front + length > size {
        return Ok(Fits::No);
    }
    if let Some(nodes) = nodes {
        enter_listed(nodes, directory, name, reply);
    }
    reply.u64(entry.ino());
    reply.u64(entry.next_entry_cookie());
    reply.u32(u32::try_from(name.count_bytes()).map_err(|_| Errno::INVAL)?);
    reply.u32(kind_number(entry.file_type()));
    reply.bytes(name.to_bytes());
    for _ in DIRENT + name.count_bytes()..length {
        reply.bytes(&[0]);
    }
    Ok(Fits::Yes)
}

/// Looks an entry up that is being listed. Nothing is said of one that cannot be, or not any more;
/// a guest that wants to know looks it up itself.
fn enter_listed(nodes: &mut Nodes, directory: &OwnedFd, name: &CStr, reply: &mut Reply) {
    let found = Name::try_from(name).and_then(|name| find(directory, name)).and_then(|file| {
        let found = attributes(&file)?;
        Ok((nodes.look_up(file, &found)?, found))
    });
    match found {
        Ok((number, found)) => reply.entry(number, &found),
        Err(_) => reply.no_entry(),
    }
}

/// Whether one more entry had room.
enum Fits {
    Yes,
    No,
}

/// A kind of file in the numbers of `getdents64(2)`.
fn kind_number(kind: FileType) -> u32 {
    match kind {
        FileType::Unknown => 0,
        kind => kind.as_raw_mode() >> 12,
    }
}
