//! A tree into a file, with two cursors: inodes with their tails, and whole blocks of content.
//!
//! Contents never pass through memory but for tails: the kernel copies, or shares where the file
//! system can. Each file is opened once, beneath its directory, and only if it is a regular one
//! still.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::dirents;
use super::fault::{Fault, shown};
use super::format::{BLOCK, BLOCK_BYTES, Content, Inode, METADATA, Superblock};
use super::layout::{Layout, Place};
use super::scan::{self, Entry, Kind, Node, Tree};
use crate::room::{RESERVE, Room};

/// How much is copied before anybody is told, in bytes.
const STRIDE: u64 = 16 << 20;
/// How much metadata is gathered before it is written, in bytes.
const GATHERED: usize = 1 << 20;

/// An image that can be written: everything is known but the contents of files.
#[derive(Debug)]
pub(crate) struct Image<'t> {
    root: BorrowedFd<'t>,
    tree: Tree,
    layout: Layout,
}

impl<'t> Image<'t> {
    /// Looks at all of the tree `root`.
    ///
    /// # Errors
    ///
    /// [`Fault`] if it cannot be read, or has no form in an image.
    pub(crate) fn of(root: BorrowedFd<'t>) -> Result<Self, Fault> {
        let tree = Tree::scan(root)?;
        let layout = Layout::of(&tree)?;
        Ok(Self { root, tree, layout })
    }

    /// Returns how long the image will be, in bytes.
    pub(crate) fn length(&self) -> u64 {
        u64::from(self.layout.blocks) * BLOCK
    }

    /// Writes it into the empty file `image`, telling now and then how many bytes of its length
    /// are dealt with. Some of the file system it is on stays free ([`RESERVE`]).
    ///
    /// # Errors
    ///
    /// [`Fault`]; the file holds a part then, and has no superblock.
    pub(crate) fn write(
        &self,
        image: &File,
        uuid: [u8; 16],
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), Fault> {
        image.set_len(self.length()).map_err(Fault::writing)?;
        let mut writing = Writing {
            image: self,
            file: image,
            gathered: Vec::with_capacity(GATHERED + (64 << 10)),
            gathered_at: 0,
            told: 0,
            tell,
            room: Room::new(RESERVE),
        };
        writing.room.look(image).map_err(Fault::full)?;
        writing.everything()?;
        // Between two looks it may have gone below what is to stay free; a file that goes away
        // again is the last that may.
        writing.room.look(image).map_err(Fault::full)?;
        let superblock = Superblock {
            inodes: self.tree.nodes.len() as u64,
            blocks: self.layout.blocks,
            epoch: self.layout.epoch,
            uuid,
        };
        image.write_all_at(&superblock.to_block(), 0).map_err(Fault::writing)
    }

    fn place(&self, node: usize) -> (&Node, &Place) {
        (&self.tree.nodes[node], &self.layout.places[node])
    }
}

/// An image being written.
struct Writing<'w> {
    image: &'w Image<'w>,
    file: &'w File,
    /// Metadata not yet written.
    gathered: Vec<u8>,
    /// Where it goes, from the beginning of the metadata.
    gathered_at: u64,
    told: u64,
    tell: &'w mut dyn FnMut(u64),
    room: Room,
}

impl Writing<'_> {
    /// Writes all but the superblock, in the order of nodes.
    fn everything(&mut self) -> Result<(), Fault> {
        let tree = &self.image.tree;
        self.put_directory(0)?;
        for (number, directory) in tree.directories.iter().enumerate() {
            let mut opened = None;
            for entry in directory.entries.iter().filter(|entry| entry.first) {
                match tree.nodes[entry.node].kind {
                    Kind::File { size: 1.. } => {
                        let dir = match &mut opened {
                            Some(dir) => dir,
                            none => {
                                let path = tree.path(number);
                                none.insert((scan::open_dir(self.image.root, &path)?, path))
                            }
                        };
                        self.put_file(dir, entry)?;
                    }
                    Kind::Directory(_) => self.put_directory(entry.node)?,
                    _ => self.put_small(entry.node)?,
                }
            }
        }
        self.flush()
    }

    /// Writes what has no content, or only a link's.
    fn put_small(&mut self, node: usize) -> Result<(), Fault> {
        let tail: &[u8] = match &self.image.tree.nodes[node].kind {
            Kind::Link(target) => target,
            _ => &[],
        };
        let place = self.image.layout.places[node];
        match place.content {
            Content::Inline => self.put_inode(node, tail),
            Content::Plain => {
                self.put_inode(node, &[])?;
                self.put_block(place.block, tail)
            }
        }
    }

    fn put_directory(&mut self, node: usize) -> Result<(), Fault> {
        let image = self.image;
        let (Node { kind: Kind::Directory(number), .. }, place) = image.place(node) else {
            return self.put_small(node);
        };
        let entries = &image.tree.directories[*number].entries;
        let blocks = dirents::blocks(entries);
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        for (at, block) in (place.block..).zip(&blocks) {
            bytes.clear();
            dirents::put(&mut bytes, &entries[block.clone()], |entry| {
                let (node, place) = image.place(entry.node);
                (place.inode(), node.mode)
            });
            let is_last = block.end == entries.len();
            if !is_last || place.content == Content::Plain {
                self.put_block(at, &bytes)?;
            }
        }
        let tail: &[u8] = if place.content == Content::Inline { &bytes } else { &[] };
        self.put_inode(node, tail)
    }

    fn put_file(&mut self, dir: &(OwnedFd, Vec<u8>), entry: &Entry) -> Result<(), Fault> {
        let (node, place) = self.image.place(entry.node);
        let Kind::File { size } = node.kind else { return self.put_small(entry.node) };
        let source = Source::open(dir, &entry.name, size)?;
        let whole = match place.content {
            Content::Plain => size,
            Content::Inline => size - size % BLOCK,
        };
        self.copy(&source, u64::from(place.block) * BLOCK, whole)?;
        let mut tail = vec![0; usize::try_from(size - whole).map_err(|_| Fault::TooLarge)?];
        source.file.read_exact_at(&mut tail, whole).map_err(|error| source.failed(error))?;
        self.put_inode(entry.node, &tail)
    }

    /// Copies the first `length` bytes of a file to `to`, leaving holes.
    fn copy(&mut self, source: &Source<'_>, to: u64, length: u64) -> Result<(), Fault> {
        let mut at = 0;
        while let Some((begin, end)) = source.data(at, length)? {
            at = begin;
            while at < end {
                let (mut from, mut onto) = (at, to + at);
                let stride = usize::try_from(STRIDE.min(end - at)).unwrap_or(usize::MAX);
                let copied = copy_range(&source.file, &mut from, self.file, &mut onto, stride)
                    .map_err(|error| source.failed(error))?;
                if copied == 0 {
                    return Err(source.changed());
                }
                at += copied as u64;
                self.room.spend(self.file, 0, copied as u64).map_err(Fault::full)?;
                self.told += copied as u64;
                if self.told >= STRIDE {
                    self.told = 0;
                    (self.tell)(to + at);
                }
            }
        }
        Ok(())
    }

    /// Appends an inode, its attributes, and `tail`.
    fn put_inode(&mut self, node: usize, tail: &[u8]) -> Result<(), Fault> {
        let (Node { kind, mode, owner, group, time, links, attributes }, place) =
            self.image.place(node);
        let tree = &self.image.tree;
        let attributes = &tree.attributes[*attributes];
        let at = usize::try_from(place.at - self.gathered_at).map_err(|_| Fault::TooLarge)?;
        self.gathered.resize(at, 0);
        let inode = Inode {
            mode: *mode,
            links: *links,
            size: tree.size(&tree.nodes[node]),
            owner: *owner,
            group: *group,
            time: (!place.compact).then_some(*time),
            serial: u32::try_from(node).unwrap_or(u32::MAX),
            content: place.content,
            place: match kind {
                Kind::Special { device } => *device,
                _ => place.block,
            },
            attributes: attributes.len(),
        };
        inode.put(&mut self.gathered);
        self.gathered.extend(attributes.iter());
        self.gathered.extend(tail);
        if self.gathered.len() >= GATHERED { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let at = u64::from(METADATA) * BLOCK + self.gathered_at;
        self.file.write_all_at(&self.gathered, at).map_err(Fault::writing)?;
        let written = self.gathered.len() as u64;
        self.room.spend(self.file, 0, written).map_err(Fault::full)?;
        self.gathered_at += written;
        self.gathered.clear();
        Ok(())
    }

    /// Writes the beginning of a block; the rest is zero.
    fn put_block(&mut self, block: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all_at(bytes, u64::from(block) * BLOCK).map_err(Fault::writing)?;
        self.room.spend(self.file, 0, BLOCK).map_err(Fault::full)
    }
}

/// A file that is being read.
struct Source<'s> {
    file: File,
    path: (&'s [u8], &'s [u8]),
    /// Whether there may be holes in it.
    sparse: bool,
}

impl<'s> Source<'s> {
    /// Opens the regular file `name`, which is to have `size` bytes.
    fn open(dir: &'s (OwnedFd, Vec<u8>), name: &'s [u8], size: u64) -> Result<Self, Fault> {
        let path = (dir.1.as_slice(), name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = rustix::fs::openat2(&dir.0, name, flags, Mode::empty(), resolve);
        let file = File::from(opened.map_err(Fault::reading("open", &full(path)))?);
        let stat = rustix::fs::fstat(&file).map_err(Fault::reading("look at", &full(path)))?;
        // `st_blocks` counts 512 bytes (stat(2)).
        let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let source = Self { file, path, sparse: on_disk < size };
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        if is_file && u64::try_from(stat.st_size) == Ok(size) {
            Ok(source)
        } else {
            Err(source.changed())
        }
    }

    /// Returns the next range of data from `at` on that ends before `length`, if there is one.
    fn data(&self, at: u64, length: u64) -> Result<Option<(u64, u64)>, Fault> {
        if at >= length {
            return Ok(None);
        }
        if !self.sparse {
            return Ok(Some((at, length)));
        }
        let seek = |to| rustix::fs::seek(&self.file, to);
        let begin = match seek(SeekFrom::Data(at)) {
            Ok(begin) if begin < length => begin,
            Ok(_) | Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(self.failed(error.into())),
        };
        let end = seek(SeekFrom::Hole(begin)).map_err(|error| self.failed(error.into()))?;
        Ok(Some((begin, end.min(length))))
    }

    fn failed(&self, error: io::Error) -> Fault {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.changed();
        }
        Fault::reading("copy", &full(self.path))(error)
    }

    fn changed(&self) -> Fault {
        Fault::Changed { path: shown(&full(self.path)) }
    }
}

fn full((directory, name): (&[u8], &[u8])) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// How much is copied at once where the kernel cannot do it alone, in bytes.
const BUFFER: usize = 256 << 10;

/// Copies up to `length` bytes and returns how many; 0 is the end. The kernel does it where it can,
/// which is within one file system, and since Linux 5.19 not between two.
fn copy_range(
    source: &File,
    from: &mut u64,
    target: &File,
    onto: &mut u64,
    length: usize,
) -> io::Result<usize> {
    let (begin, to) = (*from, *onto);
    match rustix::fs::copy_file_range(
        source.as_fd(),
        Some(from),
        target.as_fd(),
        Some(onto),
        length,
    ) {
        Ok(copied) if copied > 0 => return Ok(copied),
        Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = vec![0; length.min(BUFFER)];
    let copied = source.read_at(&mut buffer, begin)?;
    target.write_all_at(&buffer[..copied], to)?;
    Ok(copied)
}
