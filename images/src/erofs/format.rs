//! The records of an EROFS file system and their bytes.
//!
//! Source: `fs/erofs/erofs_fs.h` of Linux 6.1, which later versions read the same; names in
//! parentheses are its own. All numbers are little-endian. Only what we write is here.

use super::checksum::crc32c;

/// Bytes of a block: the only size every kernel on x86 takes (`blkszbits`).
pub(super) const BLOCK: u64 = 4096;
/// The same, for lengths in memory.
pub(super) const BLOCK_BYTES: usize = 4096;
const BLOCK_BITS: u8 = 12;
/// Inodes lie at multiples of this, which is what their numbers count (`EROFS_ISLOTBITS`).
pub(super) const SLOT: u64 = 32;
/// The block that metadata begins in: the one behind the superblock, so that the checksum, which
/// covers all of the superblock's block, can be had without reading anything back.
pub(super) const METADATA: u32 = 1;
/// The number of the root: the second slot, for an inode 0 is none to many programs.
pub(super) const ROOT: u16 = 1;

/// Where the superblock lies in its block (`EROFS_SUPER_OFFSET`).
const SUPERBLOCK_AT: usize = 1024;
/// `EROFS_SUPER_MAGIC_V1`.
const MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`, and `EROFS_FEATURE_COMPAT_MTIME`: times are of contents.
const COMPATIBLE: u32 = 0x1 | 0x2;

/// A moment, as inodes have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    /// Seconds since 1970, possibly before.
    pub(super) seconds: i64,
    /// Nanoseconds, below 10^9.
    pub(super) nanoseconds: u32,
}

/// `struct erofs_super_block`, what differs from image to image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Superblock {
    /// How many inodes there are.
    pub(super) inodes: u64,
    /// How many blocks.
    pub(super) blocks: u32,
    /// The time of all compact inodes.
    pub(super) epoch: Time,
    /// The name of the file system.
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    /// Returns the block it lies in.
    pub(super) fn to_block(self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            block[SUPERBLOCK_AT + at..][..bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPATIBLE.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &ROOT.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(24, &self.epoch.seconds.to_le_bytes());
        put(32, &self.epoch.nanoseconds.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &METADATA.to_le_bytes());
        put(48, &self.uuid);
        let checksum = crc32c(!0, &block[SUPERBLOCK_AT..]);
        block[SUPERBLOCK_AT + 4..][..4].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Checks the superblock in the first block of an image and returns how many blocks it says
    /// there are; an error is what is wrong, as a sentence.
    pub(super) fn check(block: &[u8]) -> Result<u32, &'static str> {
        let word = |at: usize| {
            let bytes = block.get(SUPERBLOCK_AT + at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        if word(0) != Some(MAGIC) {
            return Err("its image is no EROFS file system");
        }
        let mut cleared = block.to_vec();
        if let Some(checksum) = cleared.get_mut(SUPERBLOCK_AT + 4..SUPERBLOCK_AT + 8) {
            checksum.fill(0);
        }
        if word(4) != cleared.get(SUPERBLOCK_AT..).map(|rest| crc32c(!0, rest)) {
            return Err("the superblock of its image has another checksum");
        }
        word(36).ok_or("its image is cut off")
    }
}

/// Where the content of an inode lies (`EROFS_INODE_FLAT_PLAIN`, `EROFS_INODE_FLAT_INLINE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// In consecutive blocks.
    Plain,
    /// In consecutive blocks, but for the last part, which follows the inode and its attributes
    /// and crosses no border of a block.
    Inline,
}

/// `struct erofs_inode_compact` or `struct erofs_inode_extended`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    /// Type and permissions, as `st_mode`.
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// `None` for a compact inode, whose time is the superblock's.
    pub(super) time: Option<Time>,
    /// A small number for programs of 32 bits.
    pub(super) serial: u32,
    pub(super) content: Content,
    /// The first block, or the number of a device as [`device_number`] makes it (`i_u`).
    pub(super) place: u32,
    /// Bytes of attributes that follow it.
    pub(super) attributes: usize,
}

/// The most a compact inode says of size, links and ids.
pub(super) fn fits_compact(size: u64, links: u32, owner: u32, group: u32) -> bool {
    u32::try_from(size).is_ok() && [links, owner, group].iter().all(|n| u16::try_from(*n).is_ok())
}

/// Bytes of an inode.
pub(super) const fn inode_size(compact: bool) -> u64 {
    if compact { 32 } else { 64 }
}

impl Inode {
    /// Appends it to `out`. Of a compact one the values must fit ([`fits_compact`]).
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let layout: u16 = match self.content {
            Content::Plain => 0,
            Content::Inline => 2,
        };
        let format = u16::from(self.time.is_some()) | layout << 1;
        out.extend(format.to_le_bytes());
        out.extend(attribute_count(self.attributes).to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        match self.time {
            None => {
                out.extend(low16(self.links));
                out.extend(low32(self.size));
                out.extend([0; 4]);
                out.extend(self.place.to_le_bytes());
                out.extend(self.serial.to_le_bytes());
                out.extend(low16(self.owner));
                out.extend(low16(self.group));
                out.extend([0; 4]);
            }
            Some(time) => {
                out.extend([0; 2]);
                out.extend(self.size.to_le_bytes());
                out.extend(self.place.to_le_bytes());
                out.extend(self.serial.to_le_bytes());
                out.extend(self.owner.to_le_bytes());
                out.extend(self.group.to_le_bytes());
                out.extend(time.seconds.to_le_bytes());
                out.extend(time.nanoseconds.to_le_bytes());
                out.extend(self.links.to_le_bytes());
                out.extend([0; 16]);
            }
        }
    }
}

fn low16(value: u32) -> [u8; 2] {
    let [a, b, ..] = value.to_le_bytes();
    [a, b]
}

fn low32(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

/// Returns the number of a device as the kernel writes it down (`new_encode_dev`).
pub(super) const fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

/// Bytes of the header of an inode's attributes (`struct erofs_xattr_ibody_header`).
const ATTRIBUTES_HEADER: usize = 12;
/// The most bytes of attributes an inode can have (`i_xattr_icount`).
pub(super) const MAX_ATTRIBUTES: usize = ATTRIBUTES_HEADER + 4 * (u16::MAX as usize - 1);

/// `i_xattr_icount`: words of attributes behind the header, and one if there is any.
fn attribute_count(bytes: usize) -> u16 {
    match bytes.checked_sub(ATTRIBUTES_HEADER) {
        None => 0,
        // At most MAX_ATTRIBUTES, which is what makes it fit.
        Some(rest) => u16::try_from(rest / 4 + 1).unwrap_or(u16::MAX),
    }
}

/// Beginnings of attributes' names, and the numbers that stand for them.
#[rustfmt::skip]
pub(super) const PREFIXES: &[(&[u8], u8)] = &[
    (b"security.",                6),
    (b"system.posix_acl_access",  2),
    (b"system.posix_acl_default", 3),
    (b"trusted.",                 4),
    (b"user.",                    1),
];

/// One attribute, its name cut at its prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attribute {
    pub(super) prefix: u8,
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Returns the attributes of an inode as they follow it, each in itself rather than shared: few
/// layers have any. `None` if they are too long.
pub(super) fn attributes(list: &[Attribute]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if list.is_empty() {
        return Some(bytes);
    }
    bytes.resize(ATTRIBUTES_HEADER, 0);
    for Attribute { prefix, name, value } in list {
        bytes.push(u8::try_from(name.len()).ok()?);
        bytes.push(*prefix);
        bytes.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(name);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    (bytes.len() <= MAX_ATTRIBUTES).then_some(bytes)
}

/// Bytes of a directory's entry without its name (`struct erofs_dirent`).
pub(super) const ENTRY: usize = 12;

/// Returns an entry without its name. `kind` is the type bits of a mode.
pub(super) fn entry(inode: u64, name_at: u16, kind: u16) -> [u8; ENTRY] {
    // `EROFS_FT_*`, which are `FT_*` of linux/fs_types.h.
    let kind = match kind >> 12 {
        0o10 => 1,
        0o04 => 2,
        0o02 => 3,
        0o06 => 4,
        0o01 => 5,
        0o14 => 6,
        0o12 => 7,
        _ => 0,
    };
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&inode.to_le_bytes());
    bytes[8..10].copy_from_slice(&name_at.to_le_bytes());
    bytes[10] = kind;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(time: Option<Time>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let inode = Inode {
            mode: 0o100_644,
            links: 3,
            size: 0x1234,
            owner: 1000,
            group: 1001,
            time,
            serial: 7,
            content: Content::Inline,
            place: 9,
            attributes: 24,
        };
        inode.put(&mut bytes);
        bytes
    }

    #[test]
    fn inodes_have_the_bytes_of_the_kernel_s_structures() {
        let mode = 0o100_644_u16.to_le_bytes();
        #[rustfmt::skip]
        assert_eq!(inode(None), [
            4, 0,  4, 0,  mode[0], mode[1],  3, 0,  0x34, 0x12, 0, 0,  0, 0, 0, 0,
            9, 0, 0, 0,  7, 0, 0, 0,  0xe8, 3,  0xe9, 3,  0, 0, 0, 0,
        ]);
        let time = Time { seconds: -1, nanoseconds: 5 };
        #[rustfmt::skip]
        assert_eq!(inode(Some(time)), [
            5, 0,  4, 0,  mode[0], mode[1],  0, 0,  0x34, 0x12, 0, 0, 0, 0, 0, 0,
            9, 0, 0, 0,  7, 0, 0, 0,  0xe8, 3, 0, 0,  0xe9, 3, 0, 0,
            255, 255, 255, 255, 255, 255, 255, 255,  5, 0, 0, 0,  3, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }

    #[test]
    fn attributes_are_padded_and_bounded() {
        let one = |value: usize| Attribute { prefix: 1, name: b"n".into(), value: vec![7; value] };
        assert_eq!(attributes(&[]), Some(Vec::new()));
        let bytes = attributes(&[one(2)]).unwrap();
        assert_eq!(bytes[12..], [1, 1, 2, 0, b'n', 7, 7, 0]);
        assert_eq!(attribute_count(bytes.len()), 3);
        assert!(attributes(&[one(65_535)]).is_some());
        assert_eq!(attributes(&[one(65_536)]), None);
        let many = vec![one(65_535); 4];
        assert_eq!(attributes(&many), None);
    }

    #[test]
    fn devices_have_the_numbers_of_the_kernel() {
        assert_eq!(device_number(0, 0), 0);
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(0xabc, 0x12345), 0x123a_bc45);
    }

    #[test]
    fn a_damaged_superblock_is_noticed() {
        let superblock = Superblock { inodes: 1, blocks: 5, epoch: Time::default(), uuid: [3; 16] };
        let mut block = superblock.to_block();
        assert_eq!(Superblock::check(&block), Ok(5));
        block[1060] ^= 1;
        assert!(Superblock::check(&block).is_err());
        assert!(Superblock::check(&block[..1000]).is_err());
        assert!(Superblock::check(&[]).is_err());
    }
}
