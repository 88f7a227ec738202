//! A reader of EROFS images from the format's description alone, for images that may be hostile:
//! it checks every offset, visits every directory once, and holds no more than a bound.
//!
//! Source: `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h` of Linux. It reads what
//! has neither compression nor chunks nor shared attributes, and refuses the rest.

use std::collections::{BTreeMap, BTreeSet};

/// Names in all directories.
pub(crate) const MAX_NAMES: usize = 100_000;
/// Bytes of all contents.
pub(crate) const MAX_CONTENT: u64 = 1 << 28;
const BLOCK: u64 = 4096;

type Result<T> = std::result::Result<T, &'static str>;

/// What is known of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) time: (i64, i64),
    pub(crate) links: u64,
    /// Major and minor number, of a device.
    pub(crate) device: (u32, u32),
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a file or a link.
    pub(crate) content: Vec<u8>,
    /// The first path that is the same inode.
    pub(crate) same_as: Vec<u8>,
}

/// Reads a whole image: all that is in it, by path.
pub(crate) fn read(bytes: &[u8]) -> Result<BTreeMap<Vec<u8>, Facts>> {
    let image = Image::open(bytes)?;
    let mut tree = BTreeMap::new();
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut seen = BTreeSet::from([image.root]);
    let mut todo = vec![(Vec::new(), image.root, image.root)];
    let (mut names, mut content) = (0, 0);
    while let Some((path, number, above)) = todo.pop() {
        let inode = image.inode(number)?;
        if !inode.is(0o04) {
            return Err("a directory is none");
        }
        for (name, below, kind) in image.entries(&inode)? {
            names += 1;
            if names > MAX_NAMES {
                return Err("too many names");
            }
            let expected = match name {
                b"." => Some(number),
                b".." => Some(above),
                _ => None,
            };
            if let Some(expected) = expected {
                if below != expected {
                    return Err("a directory is not where it says");
                }
                continue;
            }
            let path = match path.as_slice() {
                [] => name.to_vec(),
                path => [path, b"/", name].concat(),
            };
            let child = image.inode(below)?;
            if child.mode >> 12 != [0, 0o10, 0o04, 0o02, 0o06, 0o01, 0o14, 0o12][kind] {
                return Err("an entry has another type than its inode");
            }
            if child.is(0o04) {
                if !seen.insert(below) {
                    return Err("a directory has two names");
                }
                todo.push((path, below, number));
                continue;
            }
            content += child.size;
            if content > MAX_CONTENT {
                return Err("too much content");
            }
            first
                .entry(below)
                .and_modify(|known| *known = path.clone().min(known.clone()))
                .or_insert_with(|| path.clone());
            tree.insert(path, (image.facts(&child)?, below));
        }
        tree.insert(path.clone(), (image.facts(&inode)?, number));
        first.insert(number, path);
    }
    if image.inodes != first.len() as u64 {
        return Err("the number of inodes is another");
    }
    Ok(tree
        .into_iter()
        .map(|(path, (facts, number))| (path, Facts { same_as: first[&number].clone(), ..facts }))
        .collect())
}

struct Image<'i> {
    bytes: &'i [u8],
    inodes: u64,
    root: u64,
    metadata: u64,
    epoch: (i64, i64),
}

struct Inode {
    inline: bool,
    mode: u32,
    links: u64,
    size: u64,
    owner: (u32, u32),
    time: (i64, i64),
    /// Blocks or a device.
    place: u32,
    /// Where its attributes begin and end.
    attributes: (u64, u64),
}

impl Inode {
    fn is(&self, kind: u32) -> bool {
        self.mode >> 12 == kind
    }
}

impl<'i> Image<'i> {
    fn open(bytes: &'i [u8]) -> Result<Self> {
        let mut image = Self { bytes, inodes: 0, root: 0, metadata: 0, epoch: (0, 0) };
        if image.number::<4>(1024)? != 0xe0f5_e1e2 || image.number::<1>(1036)? != 12 {
            return Err("it has no superblock of 4 KiB blocks");
        }
        if image.number::<4>(1024 + 80)? != 0 {
            return Err("it needs what this reader does not know");
        }
        if image.number::<4>(1024 + 36)? * BLOCK > bytes.len() as u64 {
            return Err("it is cut off");
        }
        image.root = image.number::<2>(1024 + 14)?;
        image.inodes = image.number::<8>(1024 + 16)?;
        let seconds = image.number::<8>(1024 + 24)?.cast_signed();
        image.epoch = (seconds, image.number::<4>(1024 + 32)?.cast_signed());
        image.metadata = image.number::<4>(1024 + 40)? * BLOCK;
        Ok(image)
    }

    fn slice(&self, at: u64, length: u64) -> Result<&'i [u8]> {
        let begin = usize::try_from(at).map_err(|_| "an offset is too large")?;
        let length = usize::try_from(length).map_err(|_| "a length is too large")?;
        let end = begin.checked_add(length).ok_or("an offset is too large")?;
        self.bytes.get(begin..end).ok_or("it points outside of itself")
    }

    /// Returns the number of `N` bytes at `at`.
    fn number<const N: usize>(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.slice(at, N as u64)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn word(&self, at: u64) -> Result<u32> {
        u32::try_from(self.number::<4>(at)?).map_err(|_| "never")
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let at = number.checked_mul(32).and_then(|at| at.checked_add(self.metadata));
        let at = at.filter(|at| *at < 1 << 44).ok_or("an inode is too far away")?;
        let format = self.number::<2>(at)?;
        let mode = u32::try_from(self.number::<2>(at + 4)?).map_err(|_| "never")?;
        let inline = match format >> 1 {
            0 => false,
            2 => true,
            _ => return Err("an inode has a layout this reader does not know"),
        };
        let extended = format & 1 == 1;
        let place = self.word(at + 16)?;
        let (links, size, owner, time, head) = if extended {
            let time = (self.number::<8>(at + 32)?.cast_signed(), i64::from(self.word(at + 40)?));
            let owner = (self.word(at + 24)?, self.word(at + 28)?);
            (self.number::<4>(at + 44)?, self.number::<8>(at + 8)?, owner, time, 64)
        } else {
            let half =
                |at| self.number::<2>(at).and_then(|n| u32::try_from(n).map_err(|_| "never"));
            let owner = (half(at + 24)?, half(at + 26)?);
            (self.number::<2>(at + 6)?, self.number::<4>(at + 8)?, owner, self.epoch, 32)
        };
        let words = self.number::<2>(at + 2)?;
        let length = if words == 0 { 0 } else { 12 + 4 * (words - 1) };
        let attributes = (at + head, at + head + length);
        Ok(Inode { inline, mode, links, size, owner, time, place, attributes })
    }

    fn content(&self, inode: &Inode) -> Result<Vec<u8>> {
        if !(inode.is(0o04) || inode.is(0o10) || inode.is(0o12)) {
            return Ok(Vec::new());
        }
        let tail = if inode.inline { inode.size % BLOCK } else { 0 };
        if inode.inline && tail == 0 {
            return Err("there is no tail behind an inode that should have one");
        }
        let mut bytes = match inode.size - tail {
            0 => Vec::new(),
            whole => self.slice(u64::from(inode.place) * BLOCK, whole)?.to_vec(),
        };
        let at = inode.attributes.1;
        if tail > 0 && at % BLOCK + tail > BLOCK {
            return Err("a tail crosses the border of a block");
        }
        bytes.extend(self.slice(at, tail)?);
        Ok(bytes)
    }

    /// Returns names, inodes and types in a directory.
    fn entries(&self, directory: &Inode) -> Result<Vec<(&'i [u8], u64, usize)>> {
        let mut entries: Vec<(&[u8], u64, usize)> = Vec::new();
        if directory.size > MAX_CONTENT {
            return Err("a directory is too large");
        }
        // Leaves no copy behind: blocks are found again in the image.
        let whole = if directory.inline { directory.size / BLOCK * BLOCK } else { directory.size };
        let mut blocks: Vec<&[u8]> = if whole == 0 {
            Vec::new()
        } else {
            self.slice(u64::from(directory.place) * BLOCK, whole)?.chunks(4096).collect()
        };
        if whole < directory.size {
            let at = directory.attributes.1;
            if at % BLOCK + (directory.size - whole) > BLOCK {
                return Err("a tail crosses the border of a block");
            }
            blocks.push(self.slice(at, directory.size - whole)?);
        }
        for block in blocks {
            let name_at = |at: usize| -> Result<usize> {
                let bytes = block.get(at * 12 + 8..at * 12 + 10).ok_or("an entry is cut off")?;
                Ok(usize::from(bytes[0]) | usize::from(bytes[1]) << 8)
            };
            let names = name_at(0)?;
            if names == 0 || names % 12 != 0 || names >= block.len() {
                return Err("a block of a directory has no entries");
            }
            let count = names / 12;
            for at in 0..count {
                let begin = name_at(at)?;
                let end = if at + 1 < count { name_at(at + 1)? } else { block.len() };
                let name = block.get(begin..end).ok_or("a name is cut off")?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if name.is_empty() || name.len() > 255 || name.contains(&b'/') {
                    return Err("a name is none");
                }
                if entries.last().is_some_and(|(last, ..)| *last >= name) {
                    return Err("names are not sorted");
                }
                let kind = usize::from(block[at * 12 + 10]);
                if !(1..=7).contains(&kind) {
                    return Err("an entry has no type");
                }
                let number = block[at * 12..at * 12 + 8].try_into().map_err(|_| "never")?;
                entries.push((name, u64::from_le_bytes(number), kind));
            }
            if entries.len() > MAX_NAMES {
                return Err("too many names");
            }
        }
        Ok(entries)
    }

    fn attributes(&self, (begin, end): (u64, u64)) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut attributes = BTreeMap::new();
        if begin == end {
            return Ok(attributes);
        }
        if self.number::<1>(begin + 4)? != 0 {
            return Err("attributes are shared");
        }
        let mut at = begin + 12;
        while at < end {
            let (length, index) = (self.number::<1>(at)?, self.number::<1>(at + 1)?);
            let value = self.number::<2>(at + 2)?;
            let prefix: &[u8] = match index {
                1 => b"user.",
                2 => b"system.posix_acl_access",
                3 => b"system.posix_acl_default",
                4 => b"trusted.",
                6 => b"security.",
                _ => return Err("an attribute has an unknown prefix"),
            };
            let name = [prefix, self.slice(at + 4, length)?].concat();
            attributes.insert(name, self.slice(at + 4 + length, value)?.to_vec());
            at += (4 + length + value).next_multiple_of(4);
        }
        if at == end { Ok(attributes) } else { Err("attributes are longer than they say") }
    }

    fn facts(&self, inode: &Inode) -> Result<Facts> {
        let is_device = inode.is(0o02) || inode.is(0o06);
        let place = if is_device { inode.place } else { 0 };
        Ok(Facts {
            mode: inode.mode,
            owner: inode.owner,
            time: inode.time,
            links: inode.links,
            device: (place >> 8 & 0xfff, place & 0xff | place >> 12 & 0xf_ff00),
            attributes: self.attributes(inode.attributes)?,
            content: if inode.is(0o04) { Vec::new() } else { self.content(inode)? },
            same_as: Vec::new(),
        })
    }
}
