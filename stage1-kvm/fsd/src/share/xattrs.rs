//! Extended attributes: those of users, and reading which capabilities a file gives.
//!
//! What a guest calls `trusted` or `security` would be so on the host, too; a capability written
//! there would be the host's. So only `user.*` is written.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

use crate::reply::Reply;

use super::Share;

/// Attributes of users begin so.
const USER: &[u8] = b"user.";

/// Which capabilities a file gives to who executes it.
const CAPABILITY: &[u8] = b"security.capability";

/// The longest value, the longest list, and the longest name. Source: `linux/limits.h`,
/// `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`, `XATTR_NAME_MAX`.
const MAX_SIZE: usize = 64 << 10;
/// See [`MAX_SIZE`].
const MAX_NAME: usize = 255;

impl Share {
    /// Sets an attribute.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for one that is not a user's, `EPERM` for capabilities, those of
    /// `fsetxattr(2)`.
    pub fn set_xattr(&self, node: u64, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.may_write(name)?;
        if value.len() > MAX_SIZE {
            return Err(Errno::TOOBIG);
        }
        fsetxattr(
            self.with_xattrs(node, Errno::PERM)?,
            name,
            value,
            XattrFlags::from_bits_retain(flags),
        )
    }

    /// Replies with an attribute, or with how long it is if `size` is 0.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for one that is not shown, `ERANGE` if it is longer, `ENODATA`.
    pub fn xattr(&self, node: u64, name: &CStr, size: u32, reply: &mut Reply) -> Result<(), Errno> {
        if !shown(name.to_bytes()) {
            return Err(Errno::OPNOTSUPP);
        }
        if name.count_bytes() > MAX_NAME {
            return Err(Errno::RANGE);
        }
        let file = self.with_xattrs(node, Errno::NODATA)?;
        let mut value = vec![0; MAX_SIZE];
        let length = fgetxattr(file, name, &mut *value)?;
        answer(value.get(..length).unwrap_or_default(), size, reply)
    }

    /// Replies with the names of all attributes that are shown, or with how long that list is if
    /// `size` is 0.
    ///
    /// # Errors
    ///
    /// `ERANGE` if it is longer, those of `flistxattr(2)`.
    pub fn xattr_names(&self, node: u64, size: u32, reply: &mut Reply) -> Result<(), Errno> {
        let file = match self.with_xattrs(node, Errno::NODATA) {
            Err(Errno::NODATA) => return answer(&[], size, reply),
            file => file?,
        };
        let mut all = vec![0; MAX_SIZE];
        let length = flistxattr(file, &mut *all)?;
        all.truncate(length);
        let names: Vec<u8> = all
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| shown(name.strip_suffix(b"\0").unwrap_or(name)))
            .flatten()
            .copied()
            .collect();
        answer(&names, size, reply)
    }

    /// Takes an attribute away.
    ///
    /// # Errors
    ///
    /// As [`Share::set_xattr`].
    pub fn remove_xattr(&self, node: u64, name: &CStr) -> Result<(), Errno> {
        self.may_write(name)?;
        fremovexattr(self.with_xattrs(node, Errno::PERM)?, name)
    }

    fn may_write(&self, name: &CStr) -> Result<(), Errno> {
        self.writable()?;
        match name.to_bytes() {
            CAPABILITY => Err(Errno::PERM),
            name if !name.starts_with(USER) => Err(Errno::OPNOTSUPP),
            name if name.len() > MAX_NAME => Err(Errno::RANGE),
            _ => Ok(()),
        }
    }

    /// Opens a node to reach its attributes; `other` if it is of a kind that has none of a user's.
    fn with_xattrs(&self, node: u64, other: Errno) -> Result<OwnedFd, Errno> {
        match self.nodes.find(node)?.1 {
            FileType::RegularFile | FileType::Directory => self.reopen(node, OFlags::RDONLY),
            _ => Err(other),
        }
    }
}

fn shown(name: &[u8]) -> bool {
    name.starts_with(USER) || name == CAPABILITY
}

/// Replies with a value, or with its length: `struct fuse_getxattr_out`.
fn answer(value: &[u8], size: u32, reply: &mut Reply) -> Result<(), Errno> {
    let length = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    if size == 0 {
        reply.u32(length);
        reply.u32(0);
    } else if length > size {
        return Err(Errno::RANGE);
    } else {
        reply.bytes(value);
    }
    Ok(())
}
