//! What a file was when it was read: whether it is the same still is told without reading it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of its last change of content. That of its state is left out: a
    /// further link to a program is no other program.
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path, found: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }

    /// Tells whether the file is what it was.
    pub(super) fn holds(&self) -> bool {
        self.path.metadata().is_ok_and(|found| Self::of(&self.path, &found) == *self)
    }

    /// Tells whether this is of the file at `path`.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.path == path
    }
}

/// Reads a file of at most `most` bytes, and what it is.
pub(super) fn read(path: &Path, most: u64) -> io::Result<(Vec<u8>, Stamp)> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    // Room for all of it at once, if it tells the truth.
    bytes.reserve_exact(usize::try_from(found.size().min(most)).unwrap_or(0));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok((bytes, Stamp::of(path, &found)))
}
