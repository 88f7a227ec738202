//! One entry of a layer, decoded and checked, and what takes such entries in.
//!
//! This is the border between reading archives and writing trees: a reader knows nothing of file
//! systems, a [`Sink`] nothing of archives. Names and link targets are bytes; none of them is ever
//! to be used on the host other than beneath a descriptor.

use super::fault::Fault;

/// One entry, ready to be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where, relative to the layer's root: no empty, `.` or `..` component; empty is the root.
    pub(crate) path: Vec<u8>,
    /// What.
    pub(crate) kind: Kind,
    /// Owner, mode, times. Those of hard links, whiteouts and opaque marks mean nothing.
    pub(crate) attributes: Attributes,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory; it merges with one that is there already.
    Directory,
    /// A regular file; its content follows as data and holes.
    File {
        /// Its length, holes included.
        size: u64,
    },
    /// A symbolic link, with its target as it stands in the archive: 1…4095 bytes, no NUL.
    Symlink(Vec<u8>),
    /// A hard link to the path of another entry, cleaned like [`Entry::path`], never the root.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
    /// The path does not exist, whatever lower layers say.
    Whiteout,
    /// Nothing of lower layers shows in the directory at this path.
    Opaque,
}

/// Who owns an entry and what may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits, set-id and sticky bits: at most 0o7777.
    pub(crate) mode: u32,
    /// The owner, at most 2³²−2.
    pub(crate) uid: u32,
    /// The group, at most 2³²−2.
    pub(crate) gid: u32,
    /// The time of last modification.
    pub(crate) modified: Moment,
    /// Extended attributes, each name once.
    pub(crate) xattrs: Vec<Xattr>,
}

/// A point in time, as `utimensat(2)` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970; negative before.
    pub(crate) seconds: i64,
    /// 0…999 999 999, counted forward.
    pub(crate) nanos: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xattr {
    /// Its full name, such as `user.note`.
    pub(crate) name: Vec<u8>,
    /// Any bytes.
    pub(crate) value: Vec<u8>,
}

/// What takes in a layer, entry by entry, in the order of the archive.
///
/// For a [`Kind::File`], `begin` is followed by any number of `data` and `hole` that add up to its
/// size, then by `end`; for every other kind by `end` at once. After an error the sink is of no
/// further use and what it has written stays as it is.
pub(crate) trait Sink {
    /// What the sink knows when it is done.
    type Facts;

    /// Takes the next entry.
    fn begin(&mut self, entry: Entry) -> Result<(), Fault>;
    /// Appends content to the file begun last.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    /// Appends zeros that need no space to the file begun last.
    fn hole(&mut self, length: u64) -> Result<(), Fault>;
    /// Completes the entry begun last.
    fn end(&mut self) -> Result<(), Fault>;
    /// Completes the layer.
    fn finish(self) -> Result<Self::Facts, Fault>;
}
