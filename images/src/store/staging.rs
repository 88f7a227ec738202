//! Places where a layer's tree grows before it has a name.
//!
//! A staging directory is locked while its process lives; what a killed process leaves is told by
//! the free lock and swept by gc. Its modes and owner are those a committed layer has.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, RenameFlags};
use rustix::io::Errno;

use super::handle::Store;
use super::layers::{self, LayerMeta};
use super::{files, trash};
use crate::error::Error;

/// How the names of staging directories begin, in `tmp/`.
pub(super) const STAGING: &str = "u-";
/// The tree of a layer within its directory.
pub(super) const TREE: &str = "tree";

/// A tree being unpacked. Dropping it throws the tree away, unless it was committed.
#[derive(Debug)]
pub(crate) struct Staging<'s> {
    store: &'s Store,
    path: String,
    /// Holds the lock.
    dir: File,
    tree: OwnedFd,
    committed: bool,
}

impl Store {
    /// Makes an empty tree.
    pub(crate) fn staging(&self) -> Result<Staging<'_>, Error> {
        let failed = |source| self.failed("make a place to unpack", source);
        loop {
            let path = files::unique(&format!("tmp/{STAGING}"));
            match rustix::fs::mkdirat(self.dir(), &path, Mode::from(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(other) => return Err(failed(other.into())),
            }
            let dir = match files::open_dir(self.dir(), &path) {
                Ok(dir) => File::from(dir),
                // gc took it before it was locked.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let ours = files::try_lock(&dir)
                .and_then(|locked| Ok(locked && files::is_still(self.dir(), &path, &dir)?));
            if !ours.map_err(failed)? {
                continue;
            }
            let tree = make_tree(&dir).map_err(failed)?;
            return Ok(Staging { store: self, path, dir, tree, committed: false });
        }
    }

    /// Writes everything the file system holds back to the disk: what makes a group of finished
    /// layers durable at once.
    pub(crate) fn sync_all(&self) -> Result<(), Error> {
        rustix::fs::syncfs(self.dir()).map_err(|source| self.failed("sync everything", source))
    }

    /// Makes the names of layers durable.
    pub(crate) fn sync_layers(&self) -> Result<(), Error> {
        files::sync_dir(self.dir(), "layers").map_err(|source| self.failed("sync `layers`", source))
    }
}

/// The root of a layer is 0755 until an entry of the archive says otherwise.
fn make_tree(dir: &File) -> std::io::Result<OwnedFd> {
    rustix::fs::mkdirat(dir, TREE, Mode::from(0o755))?;
    let tree = files::open_dir(dir, TREE)?;
    rustix::fs::fchmod(&tree, Mode::from(0o755))?;
    Ok(tree)
}

impl Staging<'_> {
    /// Returns the directory to unpack into.
    pub(crate) fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Writes down what is known of the layer; it must be synced before the commit.
    pub(crate) fn describe(&self, meta: &LayerMeta) -> Result<(), Error> {
        let failed = |source| self.store.failed("describe a layer", source);
        let bytes = serde_json::to_vec_pretty(meta).map_err(|error| failed(error.into()))?;
        files::write_new(&self.dir, layers::META, &bytes).map(drop).map_err(failed)
    }

    /// Gives the tree its name, which is what makes it a layer of the store. It must have been
    /// synced; the directory `layers` is not yet. If somebody was faster, theirs stays.
    pub(crate) fn commit(mut self, name: &str) -> Result<(), Error> {
        let (dir, to) = (self.store.dir(), format!("layers/{name}"));
        match rustix::fs::renameat_with(dir, &self.path, dir, &to, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.committed = true;
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(source) => Err(self.store.failed(&format!("commit layer `{name}`"), source)),
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is residue, and gc comes by.
            let _ = trash::discard(self.store, &self.path);
        }
    }
}
