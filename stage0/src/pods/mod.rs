//! Pods on disk: finding them, holding them, and the renames that are their life.
//!
//! A pod is a directory that moves between homes (`pod_abi::phase`), and its lock. All work goes
//! through descriptors: a rename under a reader does no harm, and no path of a pod is ever
//! resolved twice. Nothing here knows what a pod runs or how.

mod awaited;
mod changes;
mod create;
mod lock;
mod names;
mod record;
mod scan;
mod tree;
mod watch;

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::manifest::PodManifest;
use pod_abi::phase::{Home, Phase};
use pod_abi::{PodId, layout};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, renameat};
use rustix::io::Errno;

use crate::error::{CommandError, Context as _, Result};

pub(crate) use awaited::{Note, Waiting};
pub(crate) use create::{Draft, Durability};
pub(crate) use lock::Lock;
pub(crate) use names::generated_name;
pub(crate) use record::log_directory;
pub(crate) use scan::{Entry, Query};
pub(crate) use tree::remove_tree;
pub(crate) use watch::Watch;

/// The pods of one root.
#[derive(Debug)]
pub(crate) struct Pods {
    root: OwnedFd,
    pods: OwnedFd,
}

/// One pod, held by its directory wherever that moves.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its id.
    pub(crate) id: PodId,
    /// Where it was found; it may have moved on.
    pub(crate) home: Home,
    dir: OwnedFd,
    /// Once written it never changes but for the list of apps, of which one look is enough for a
    /// command.
    manifest: OnceCell<Box<PodManifest>>,
}

impl Pod {
    /// Returns what people call it: its name, or its id where the name cannot be read.
    pub(crate) fn called(&self) -> String {
        self.manifest().map_or_else(|_| self.id.to_string(), |manifest| manifest.name.to_string())
    }
}

/// How directories are opened that we read from and lock.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Pods {
    /// Opens the pods of `root`, making what is missing.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn open(root: OwnedFd) -> Result<Self> {
        let pods = match openat(&root, layout::PODS, DIRECTORY, Mode::empty()) {
            Ok(pods) => pods,
            Err(Errno::NOENT) => make_homes(&root)?,
            Err(error) => {
                return Err(error)
                    .context(|| format!("cannot open directory `{}` of the root", layout::PODS));
            }
        };
        Ok(Self { root, pods })
    }

    /// Opens the pod `id` in `home`; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn open_in(&self, home: Home, id: &PodId) -> Result<Option<Pod>> {
        match self.open_entry(home, id) {
            Ok(dir) => Ok(Some(Pod::adopt(id.clone(), home, dir))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error)
                .context(|| format!("cannot open pod directory `{}/{id}`", home.directory())),
        }
    }

    fn open_entry(&self, home: Home, id: &PodId) -> std::result::Result<OwnedFd, Errno> {
        openat(&self.pods, format!("{}/{id}", home.directory()), DIRECTORY, Mode::empty())
    }

    /// Moves a pod from where it was found to `to`.
    ///
    /// # Errors
    ///
    /// `pod.vanished` if somebody was faster, `storage` otherwise; the pod has not moved.
    pub(crate) fn rename(&self, pod: &mut Pod, to: Home) -> Result<()> {
        let from = format!("{}/{}", pod.home.directory(), pod.id);
        let target = format!("{}/{}", to.directory(), pod.id);
        match renameat(&self.pods, &from, &self.pods, &target) {
            Ok(()) => {
                pod.home = to;
                Ok(())
            }
            Err(Errno::NOENT) => Err(vanished(&pod.id)),
            Err(error) => Err(error).context(|| format!("cannot move pod `{from}` to `{target}`")),
        }
    }

    /// Checks that a pod is where it was found, which may have changed until its lock was ours.
    ///
    /// # Errors
    ///
    /// `pod.vanished`.
    pub(crate) fn check_in_place(&self, pod: &Pod) -> Result<()> {
        let there = self.open_in(pod.home, &pod.id)?;
        let inode = |pod: &Pod| fstat(pod.dir()).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        match there {
            Some(there) if inode(&there) == inode(pod) => Ok(()),
            _ => Err(vanished(&pod.id)),
        }
    }

    /// Removes a pod that lies in a garbage home, and its name if it still bears it.
    ///
    /// # Errors
    ///
    /// `storage`: parts of it may be left, in the same place.
    pub(crate) fn sweep(&self, pod: &Pod) -> Result<()> {
        if let Ok(manifest) = pod.manifest() {
            self.release_name(&manifest.name, &pod.id)?;
        }
        let home = openat(&self.pods, pod.home.directory(), DIRECTORY, Mode::empty())
            .context(|| format!("cannot open directory `{}`", pod.home.directory()))?;
        remove_tree(home.as_fd(), pod.id.as_str())
            .context(|| format!("cannot remove pod `{}`", pod.id))
    }

    /// Returns the root's descriptor.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Pod {
    /// Makes a pod of a descriptor that was handed over.
    pub(crate) fn adopt(id: PodId, home: Home, dir: OwnedFd) -> Self {
        Self { id, home, dir, manifest: OnceCell::new() }
    }

    /// Returns its directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads off its phase, by a shared probe of its lock.
    pub(crate) fn phase(&self) -> Phase {
        // Only two homes care who holds the lock; a probe less is a start undisturbed.
        let locked = matches!(self.home, Home::Prepare | Home::Run) && lock::is_held(self.dir());
        Phase::of(self.home, locked)
    }

    /// Opens a file or directory beneath it, following no link.
    ///
    /// # Errors
    ///
    /// The kernel's own.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

fn vanished(id: &PodId) -> CommandError {
    CommandError::new("pod.vanished", format!("pod `{id}` has just gone"))
}

fn make_homes(root: &OwnedFd) -> Result<OwnedFd> {
    let make = |path: &str| match mkdirat(root, path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).context(|| format!("cannot make directory `{path}` of the root")),
    };
    make(layout::NAMES)?;
    make(layout::PODS)?;
    // The home of the unborn comes last: where it is, all are, whoever died on the way.
    for home in Home::ALL.into_iter().rev() {
        make(&format!("{}/{}", layout::PODS, home.directory()))?;
    }
    openat(root, layout::PODS, DIRECTORY, Mode::empty())
        .context(|| format!("cannot open directory `{}` of the root", layout::PODS))
}

#[cfg(test)]
mod tests;
