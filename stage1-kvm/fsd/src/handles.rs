//! The table of handles: files and directories that a guest has opened.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Something open.
#[derive(Debug)]
pub struct Handle {
    /// The open file.
    pub file: OwnedFd,
    /// What it is open for.
    pub use_of: Use,
}

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reading and writing where a request says.
    Anywhere,
    /// The same, but what an app writes goes to the end.
    Appending,
    /// The entries of a directory.
    Entries,
}

/// All handles of a share.
#[derive(Debug)]
pub struct Handles {
    open: BTreeMap<u64, Handle>,
    /// The next number: none is given twice.
    next: u64,
    /// The most handles.
    most: usize,
}

impl Handles {
    /// An empty table of at most `most` handles.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { open: BTreeMap::new(), next: 1, most }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Whether there is room for one more.
    ///
    /// # Errors
    ///
    /// `ENFILE` if there is not.
    pub fn room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// Keeps an open file and returns its number.
    ///
    /// # Errors
    ///
    /// `ENFILE` without room; the file is closed.
    pub fn keep(&mut self, file: OwnedFd, use_of: Use) -> Result<u64, Errno> {
        self.room()?;
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Handle { file, use_of });
        Ok(number)
    }

    /// The handle with this number.
    ///
    /// # Errors
    ///
    /// `EBADF` without such a handle.
    pub fn find(&self, number: u64) -> Result<&Handle, Errno> {
        self.open.get(&number).ok_or(Errno::BADF)
    }

    /// Closes a handle, if there is one.
    pub fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Closes all.
    pub fn close_all(&mut self) {
        self.open.clear();
    }
}
