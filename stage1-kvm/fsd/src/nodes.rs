//! The table of nodes: what a guest has looked up and not forgotten.
//!
//! A node is a descriptor opened with `O_PATH`, so it stays the same file whatever happens to the
//! names on the way to it, and nothing about it is ever found by a path again. The descriptor also
//! keeps the number of its inode from being given to another file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};
use rustix::io::Errno;

use crate::wire::ROOT;

/// What one file is known by: its mount, its device, its inode.
///
/// The mount is part of it, so that a mount within the share that cannot be written stays so for
/// whoever looked its files up another way before.
type Identity = (u64, u32, u32, u64);

/// A file that a guest knows.
#[derive(Debug)]
struct Node {
    file: OwnedFd,
    kind: FileType,
    identity: Identity,
    /// How often it was looked up, less how often it was forgotten.
    lookups: u64,
}

/// All nodes of a share; [`ROOT`] is always one.
#[derive(Debug)]
pub struct Nodes {
    nodes: BTreeMap<u64, Node>,
    numbers: BTreeMap<Identity, u64>,
    /// The next number: none is given twice.
    next: u64,
    /// The most nodes.
    most: usize,
}

/// The attributes of a file that is open, in whatever way.
///
/// # Errors
///
/// Those of `statx(2)`.
pub fn attributes(file: impl AsFd) -> Result<Statx, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    statx(file, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// What kind of file has these attributes.
#[must_use]
pub fn kind(attributes: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(attributes.stx_mode))
}

impl Nodes {
    /// A table with the share's root, of at most `most` nodes.
    ///
    /// # Errors
    ///
    /// Those of `statx(2)` for the root.
    pub fn new(root: OwnedFd, most: usize) -> Result<Self, Errno> {
        let found = attributes(&root)?;
        let node = Node { file: root, kind: kind(&found), identity: identity(&found), lookups: 1 };
        Ok(Self {
            numbers: BTreeMap::from([(node.identity, ROOT)]),
            nodes: BTreeMap::from([(ROOT, node)]),
            next: ROOT + 1,
            most,
        })
    }

    /// The file a node is, and its kind.
    ///
    /// # Errors
    ///
    /// `ESTALE` for a number that is no node's.
    pub fn find(&self, number: u64) -> Result<(BorrowedFd<'_>, FileType), Errno> {
        self.nodes.get(&number).map(|node| (node.file.as_fd(), node.kind)).ok_or(Errno::STALE)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is room for one more.
    ///
    /// # Errors
    ///
    /// `ENFILE` if there is not.
    pub fn room(&self) -> Result<(), Errno> {
        if self.nodes.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// Counts one more lookup of `file`, whose attributes are `found`, and returns its number.
    ///
    /// # Errors
    ///
    /// `ENFILE` if there are too many.
    pub fn look_up(&mut self, file: OwnedFd, found: &Statx) -> Result<u64, Errno> {
        let room = self.room();
        match self.numbers.entry(identity(found)) {
            Entry::Occupied(known) => {
                let number = *known.get();
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.lookups = node.lookups.saturating_add(1);
                }
                Ok(number)
            }
            Entry::Vacant(place) => {
                room?;
                let number = self.next;
                self.next += 1;
                place.insert(number);
                let node = Node { file, kind: kind(found), identity: identity(found), lookups: 1 };
                self.nodes.insert(number, node);
                Ok(number)
            }
        }
    }

    /// Takes `count` lookups of a node back; without any left it is gone, but for the root.
    pub fn forget(&mut self, number: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0 && number != ROOT {
            self.numbers.remove(&node.identity);
            self.nodes.remove(&number);
        }
    }

    /// Forgets all but the root.
    pub fn forget_all(&mut self) {
        self.nodes.retain(|number, _| *number == ROOT);
        self.numbers.retain(|_, number| *number == ROOT);
    }
}

fn identity(found: &Statx) -> Identity {
    (found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor, found.stx_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags, openat};

    fn open(path: &std::path::Path) -> (OwnedFd, Statx) {
        let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let found = attributes(&file).unwrap();
        (file, found)
    }

    #[test]
    fn a_node_is_known_by_its_inode_and_gone_when_all_lookups_are_forgotten() {
        let home = tempfile::TempDir::new().unwrap();
        std::fs::write(home.path().join("a"), "").unwrap();
        std::fs::hard_link(home.path().join("a"), home.path().join("b")).unwrap();
        let mut nodes = Nodes::new(open(home.path()).0, 2).unwrap();
        let (file, found) = open(&home.path().join("a"));
        let a = nodes.look_up(file, &found).unwrap();
        let (file, found) = open(&home.path().join("b"));
        assert_eq!(nodes.look_up(file, &found), Ok(a));
        nodes.forget(a, 1);
        assert!(nodes.find(a).is_ok());
        nodes.forget(a, u64::MAX);
        assert_eq!(nodes.find(a).unwrap_err(), Errno::STALE);
        nodes.forget(ROOT, u64::MAX);
        assert!(nodes.find(ROOT).is_ok());
    }

    #[test]
    fn a_full_table_takes_no_new_node_but_knows_the_old_ones() {
        let home = tempfile::TempDir::new().unwrap();
        for name in ["a", "b"] {
            std::fs::write(home.path().join(name), "").unwrap();
        }
        let mut nodes = Nodes::new(open(home.path()).0, 2).unwrap();
        let (file, found) = open(&home.path().join("a"));
        let a = nodes.look_up(file, &found).unwrap();
        let (file, found) = open(&home.path().join("b"));
        assert_eq!(nodes.look_up(file, &found), Err(Errno::NFILE));
        let (file, found) = open(&home.path().join("a"));
        assert_eq!(nodes.look_up(file, &found), Ok(a));
        nodes.forget(a, 2);
        let (file, found) = open(&home.path().join("b"));
        assert_ne!(nodes.look_up(file, &found), Ok(a));
    }
}
