//! Leases: what a running operation uses, so that gc beside it keeps its hands off.
//!
//! A lease is a file of digests that is locked for as long as its process lives. Whoever crashes
//! releases it by that alone; gc ignores and removes leases that nobody holds.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use pod_abi::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::files;
use super::handle::Store;
use crate::error::Error;

/// The most a lease may hold: several images of four hundred layers.
const MAX_LEASE: usize = 4 << 20;

/// Keeps from gc what was resolved or pulled under it. Dropping it lets go; by then whoever wants
/// to go on using an image has written a pin.
#[derive(Debug)]
pub struct Lease {
    store: OwnedFd,
    path: String,
    file: File,
}

impl Store {
    /// Takes a lease that holds nothing yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) or
    /// [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace); no lease is left.
    pub fn lease(&self) -> Result<Lease, Error> {
        let failed = |source| self.failed("take a lease", source);
        loop {
            let path = files::unique("leases/");
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
            let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = match rustix::fs::openat(self.dir(), &path, flags, Mode::from(0o600)) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(other) => return Err(failed(other.into())),
            };
            // gc may come between: it locks the file, sees that nobody holds it, and removes it.
            let ours = files::try_lock(&file)
                .and_then(|locked| Ok(locked && files::is_still(self.dir(), &path, &file)?));
            if ours.map_err(failed)? {
                let store = self.dir().try_clone_to_owned().map_err(failed)?;
                return Ok(Lease { store, path, file });
            }
        }
    }

    /// Lets `lease` hold `digests`, whether they exist yet or not: what is seen to exist from here
    /// on stays, and what does not will be left alone once it is there.
    pub(crate) fn hold<'a>(
        &self,
        lease: &Lease,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<(), Error> {
        let _lock = self.lock_shared()?;
        lease.hold(digests)
    }

    /// Returns what living leases hold, and removes dead ones unless `keep_dead` says otherwise.
    /// The lock must be held exclusively.
    pub(super) fn leased(&self, dead: DeadLeases) -> Result<BTreeSet<Digest>, Error> {
        let failed = |source| self.failed("read `leases`", source);
        let mut held = BTreeSet::new();
        for name in files::list(self.dir(), "leases").map_err(failed)? {
            let path = format!("leases/{name}");
            let file = match files::open(self.dir(), &path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if files::try_lock(&file).map_err(failed)? {
                if dead == DeadLeases::Remove {
                    // Gone already is as good.
                    let _ = rustix::fs::unlinkat(self.dir(), &path, AtFlags::empty());
                }
                continue;
            }
            let text = files::read_all(&file, MAX_LEASE).map_err(failed)?;
            // A line that is being written is no digest yet, and its writer holds no lock on the
            // store, so it has not decided anything by it.
            held.extend(
                String::from_utf8_lossy(&text).lines().filter_map(|l| Digest::parse(l).ok()),
            );
        }
        Ok(held)
    }
}

/// What becomes of leases that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadLeases {
    Remove,
    Keep,
}

impl Lease {
    /// Adds `digests`. The store's lock must be held, shared: a gc that did not see this yet would
    /// take away what the caller believes to exist.
    pub(super) fn hold<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<(), Error> {
        let text: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
        io::Write::write_all(&mut &self.file, text.as_bytes())
            .map_err(|source| Error::storage(format!("cannot write lease `{}`", self.path), source))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // An unlocked lease holds nothing, so a file that stays harms nobody.
        let _ = rustix::fs::unlinkat(&self.store, &self.path, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_as_long_as_it_lives() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::from_hash(&[3; 32]).unwrap();
        let lease = store.lease().unwrap();
        lease.hold([&digest]).unwrap();
        let held = store.leased(DeadLeases::Remove).unwrap();
        assert_eq!(held, BTreeSet::from([digest]));
        drop(lease);
        assert!(store.leased(DeadLeases::Remove).unwrap().is_empty());
    }

    #[test]
    fn a_lease_nobody_holds_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let dead = root.path().join("images/leases/dead");
        std::fs::write(&dead, format!("sha256:{}\n", "a".repeat(64))).unwrap();
        assert!(store.leased(DeadLeases::Keep).unwrap().is_empty());
        assert!(dead.exists());
        assert!(store.leased(DeadLeases::Remove).unwrap().is_empty());
        assert!(!dead.exists());
    }
}
