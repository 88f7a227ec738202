//! Replies as a guest reads them.

use pod_abi::share::{LENGTH_SIZE, MAX_MESSAGE, REPLY_HEADER};
use rustix::fs::Statx;
use rustix::io::Errno;

/// How long a guest may believe what it was told, in seconds: others write to the share as well.
const VALID: u64 = 1;

/// Bytes in front of a reply's body: the frame's length, and the reply's header.
const FRONT: usize = LENGTH_SIZE + REPLY_HEADER;

/// One frame with one reply, being written.
#[derive(Debug)]
pub struct Reply(Vec<u8>);

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

impl Reply {
    /// An empty reply, with room for the longest.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(LENGTH_SIZE + MAX_MESSAGE))
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.0.clear();
        self.0.resize(FRONT, 0);
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(FRONT)
    }

    /// Whether there is no body so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back what was written behind the first `length` bytes of the body.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(FRONT.saturating_add(length));
    }

    /// Writes a number.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a number.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes what `fill` puts into a buffer of `size` bytes, as many as it says.
    ///
    /// # Errors
    ///
    /// Those of `fill`; nothing is written.
    pub fn filled(
        &mut self,
        size: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let before = self.0.len();
        self.0.resize(before + size, 0);
        let filled = self.0.get_mut(before..).map_or(Err(Errno::INVAL), fill);
        self.0.truncate(before + filled.unwrap_or(0).min(size));
        filled.map(drop)
    }

    /// Writes attributes: `struct fuse_attr`.
    pub fn attributes(&mut self, of: &Statx) {
        self.u64(of.stx_ino);
        self.u64(of.stx_size);
        self.u64(of.stx_blocks);
        for time in [&of.stx_atime, &of.stx_mtime, &of.stx_ctime] {
            self.u64(time.tv_sec.cast_unsigned());
        }
        for time in [&of.stx_atime, &of.stx_mtime, &of.stx_ctime] {
            self.u32(time.tv_nsec);
        }
        self.u32(u32::from(of.stx_mode));
        self.u32(of.stx_nlink);
        self.u32(of.stx_uid);
        self.u32(of.stx_gid);
        self.u32(device(of.stx_rdev_major, of.stx_rdev_minor));
        self.u32(of.stx_blksize);
        self.u32(0);
    }

    /// Writes attributes and how long they hold: `struct fuse_attr_out`.
    pub fn attributes_for_a_while(&mut self, of: &Statx) {
        self.u64(VALID);
        self.u64(0);
        self.attributes(of);
    }

    /// Writes a node: `struct fuse_entry_out`.
    pub fn entry(&mut self, node: u64, of: &Statx) {
        self.u64(node);
        self.u64(0); // numbers of nodes are never used again, so there is one generation
        self.u64(VALID);
        self.u64(VALID);
        self.u64(0);
        self.attributes(of);
    }

    /// Writes that there is nothing to know about a node: an entry of zeroes.
    pub fn no_entry(&mut self) {
        self.0.resize(self.0.len() + ENTRY, 0);
    }

    /// Fills in the lengths, and returns the frame.
    ///
    /// An error takes the place of whatever was written.
    #[must_use]
    pub fn finish(&mut self, unique: u64, done: Result<(), Errno>) -> &[u8] {
        let errno = done.err().map_or(0, Errno::raw_os_error);
        if errno != 0 {
            self.truncate(0);
        }
        // At most `MAX_MESSAGE`: every body is bounded by who writes it.
        let length = u32::try_from(self.len() + REPLY_HEADER).unwrap_or(u32::MAX);
        let mut front = Vec::with_capacity(FRONT);
        front.extend_from_slice(&length.to_le_bytes());
        front.extend_from_slice(&length.to_le_bytes());
        front.extend_from_slice(&(-errno).to_le_bytes());
        front.extend_from_slice(&unique.to_le_bytes());
        if let Some(place) = self.0.get_mut(..FRONT) {
            place.copy_from_slice(&front);
        }
        &self.0
    }
}

/// Bytes of `struct fuse_entry_out`.
pub const ENTRY: usize = 128;

/// The number of a device as the kernel packs it into 32 bits (`new_encode_dev`).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
