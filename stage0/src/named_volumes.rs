//! Volumes that outlive pods: `ROOT/volumes/NAME`, made by who first mounts one, removed by name.
//!
//! No record says who uses a volume: the manifests of pods do. So whoever lays out a pod holds the
//! directory's lock, shared, from finding its volumes until its manifest can be read, and whoever
//! removes a volume holds it alone while it looks who needs what. What is removed leaves its name
//! at once, by rename, and the disk later; it is never a name again, whoever dies on the way.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pod_abi::phase::{Home, Phase};
use pod_abi::volume::{Volume, VolumeSource};
use pod_abi::{PodId, PodName, VolumeName, layout};
use rustix::fs::{
    Dir, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, open, renameat_with, stat,
};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::{Context as _, Result};
use crate::pods::{Entry, Pod, Pods, remove_tree};

/// What a removed volume is called until it is gone; no name of a volume begins like this.
const REMOVED: &str = ".removed-";

/// What is done while the directory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Volumes are made, looked at and used.
    Use,
    /// Volumes are removed.
    Remove,
}

/// Whether a volume was there before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was not.
    New,
    /// It was.
    Known,
}

/// A pod that mounts a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    pub(crate) uuid: PodId,
    pub(crate) name: PodName,
    pub(crate) phase: Phase,
}

/// Removes what is left of volumes whose remover died.
///
/// # Errors
///
/// `storage`, naming what is left.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    // Where no volume was ever made, no directory is made to look for one.
    if !root.join(layout::VOLUMES).is_dir() {
        return Ok(());
    }
    NamedVolumes::hold(root, Hold::Use)?.sweep()
}

/// The directory of named volumes, held.
#[derive(Debug)]
pub(crate) struct NamedVolumes {
    dir: OwnedFd,
    path: PathBuf,
}

impl NamedVolumes {
    /// Opens and holds the directory beneath `root`, making it if it is missing.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn hold(root: &Path, hold: Hold) -> Result<Self> {
        let path = root.join(layout::VOLUMES);
        let tell = || format!("cannot open directory `{}`", path.display());
        fs::create_dir_all(&path).context(tell)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(&path, flags, Mode::empty()).context(tell)?;
        let operation = match hold {
            Hold::Use => FlockOperation::LockShared,
            Hold::Remove => FlockOperation::LockExclusive,
        };
        while let Err(error) = flock(&dir, operation) {
            if error != Errno::INTR {
                return Err(error).context(tell);
            }
        }
        Ok(Self { dir, path })
    }

    /// Returns the path of volume `name`, whether it is there or not.
    pub(crate) fn path(&self, name: &VolumeName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Returns the name of the volume at `path`, if one can be there. The root may have been
    /// reached by another path when a pod wrote this one down, as through a link: what counts is
    /// that both lead to the same directory.
    pub(crate) fn name_of(&self, path: &Path) -> Option<VolumeName> {
        let name = VolumeName::parse(path.file_name()?.to_str()?).ok()?;
        let parent = path.parent()?;
        let same = || {
            let (theirs, ours) = (stat(parent).ok()?, fstat(&self.dir).ok()?);
            Some((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
        };
        (parent == self.path || same() == Some(true)).then_some(name)
    }

    /// Tells whether volume `name` is there.
    pub(crate) fn has(&self, name: &VolumeName) -> bool {
        self.path(name).is_dir()
    }

    /// Makes the directory of a volume, for every user of a pod to pass, whatever our mask.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn make(&self, name: &VolumeName) -> Result<Made> {
        let path = self.path(name);
        let made = match fs::create_dir(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map(|()| Made::New)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Known),
            Err(error) => Err(error),
        };
        made.context(|| format!("cannot make volume `{name}`"))
    }

    /// Lists the volumes by name.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn names(&self) -> Result<Vec<VolumeName>> {
        let mut names: Vec<VolumeName> =
            self.entries()?.iter().filter_map(|entry| VolumeName::parse(entry).ok()).collect();
        names.sort();
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let tell = || format!("cannot list `{}`", self.path.display());
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.dir).context(tell)? {
            let entry = entry.context(tell)?;
            entries.extend(entry.file_name().to_str().map(str::to_owned));
        }
        Ok(entries)
    }

    /// Takes a volume's name away. What it holds is removed by [`NamedVolumes::sweep`].
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn discard(&self, name: &VolumeName) -> Result<()> {
        for number in 0_u32.. {
            let gone = format!("{REMOVED}{number}");
            let (dir, flags) = (&self.dir, RenameFlags::NOREPLACE);
            match renameat_with(dir, name.as_str(), dir, &gone, flags) {
                Err(Errno::EXIST) => {}
                done => return done.context(|| format!("cannot remove volume `{name}`")),
            }
        }
        Ok(())
    }

    /// Lets go of the directory, and removes what was discarded, by this call or by one that died.
    ///
    /// # Errors
    ///
    /// `storage`, naming what is left.
    pub(crate) fn sweep(self) -> Result<()> {
        let entries = self.entries()?;
        flock(&self.dir, FlockOperation::Unlock)
            .context(|| format!("cannot let go of `{}`", self.path.display()))?;
        for entry in entries.iter().filter(|entry| entry.starts_with(REMOVED)) {
            remove_tree(self.dir.as_fd(), entry)
                .context(|| format!("cannot remove `{}`", self.path.join(entry).display()))?;
        }
        Ok(())
    }

    /// Finds out which pods mount which volumes: every pod that could be started once more.
    ///
    /// # Errors
    ///
    /// Those of a pod that cannot be read: it may need what it does not tell.
    pub(crate) fn users(&self, pods: &Pods) -> Result<BTreeMap<VolumeName, Vec<User>>> {
        let mut users: BTreeMap<VolumeName, Vec<User>> = BTreeMap::new();
        for home in Home::ALL.into_iter().filter(|home| *home != Home::Garbage) {
            for entry in pods.list(home)? {
                let Entry::Pod(pod) = entry? else { continue };
                for name in self.used_by(&pod)? {
                    let (uuid, phase) = (pod.id.clone(), pod.phase());
                    let user = User { uuid, name: pod.manifest()?.name, phase };
                    let list = users.entry(name).or_default();
                    // One that moved on while we looked is met twice.
                    list.retain(|other| other.uuid != user.uuid);
                    list.push(user);
                }
            }
        }
        Ok(users)
    }

    fn used_by(&self, pod: &Pod) -> Result<Vec<VolumeName>> {
        let manifest = match pod.manifest() {
            Ok(manifest) => manifest,
            // Whoever lays out a pod that needs volumes holds the directory until it can be read.
            Err(_) if matches!(pod.phase(), Phase::Embryo | Phase::Preparing) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let apps = match pod.apps(&manifest) {
            Err(_) if pod.phase() == Phase::Preparing => Vec::new(),
            apps => apps?,
        };
        let all = manifest.sandbox.volumes.iter().chain(apps.iter().flat_map(|app| &app.volumes));
        Ok(all.filter_map(|volume| self.named(volume)).collect())
    }

    fn named(&self, volume: &Volume) -> Option<VolumeName> {
        match &volume.source {
            VolumeSource::Host { path, .. } => self.name_of(Path::new(path)),
            _ => None,
        }
    }
}
