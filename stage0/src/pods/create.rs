//! Making a pod: embryo → prepare → prepared or run.
//!
//! 1. `embryo/UUID` is made and locked; until the lock is held, nobody takes it for anything.
//! 2. It moves to `prepare/`: "somebody is laying this pod out", by its lock.
//! 3. Records are written, the name is claimed.
//! 4. It moves to `prepared/` (and the lock goes with us), or straight to `run/`.
//!
//! A death anywhere leaves a directory without a holder, which `pod gc` knows to remove.

use std::os::fd::{AsFd, BorrowedFd};

use pod_abi::app::AppSpec;
use pod_abi::manifest::PodManifest;
use pod_abi::phase::Home;
use pod_abi::volume::VolumeSource;
use pod_abi::{Digest, PodId, layout};
use rustix::fs::{AtFlags, Gid, Mode, Uid, chownat, mkdirat, openat, syncfs};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::lock::{Lock, try_take};
use super::record::write_file;
use super::{DIRECTORY, Pod, Pods, make_homes};
use crate::error::{CommandError, Context as _, Result};

/// How often a new pod may be taken away by a concurrent `pod gc` before we give up. The window
/// is two system calls wide; twice in a row is next to impossible.
const ATTEMPTS: usize = 8;

/// Whether a pod must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is to be started some other day.
    Durable,
    /// It is started at once; a power cut ends it anyway.
    Volatile,
}

/// A pod being laid out, locked by us. Dropped, it becomes garbage.
#[derive(Debug)]
pub(crate) struct Draft<'p> {
    pods: &'p Pods,
    pod: Option<Pod>,
}

impl Pods {
    /// Makes the directory of a new pod, locked.
    ///
    /// # Errors
    ///
    /// `storage`; nothing is left behind that `pod gc` does not know.
    pub(crate) fn draft(&self) -> Result<Draft<'_>> {
        for _ in 0..ATTEMPTS {
            let id = random_id()?;
            let path = format!("{}/{id}", Home::Embryo.directory());
            let make = || mkdirat(&self.pods, &path, Mode::from_raw_mode(0o700));
            let made = match make() {
                Err(Errno::NOENT) => {
                    make_homes(&self.root)?; // whoever made the root died before it was whole
                    make()
                }
                made => made,
            };
            made.context(|| format!("cannot make pod directory `{path}`"))?;
            let Ok(dir) = openat(&self.pods, &path, DIRECTORY, Mode::empty()) else { continue };
            if try_take(dir.as_fd()) == Lock::Theirs {
                continue; // `pod gc` was faster
            }
            let mut pod = Pod::adopt(id, Home::Embryo, dir);
            match self.rename(&mut pod, Home::Prepare) {
                Ok(()) => return Ok(Draft { pods: self, pod: Some(pod) }),
                Err(error) if error.code() == "pod.vanished" => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommandError::new("storage.busy", "new pods are removed as fast as they are made"))
    }
}

impl Draft<'_> {
    fn pod(&self) -> &Pod {
        self.pod.as_ref().expect("taken only by what consumes the draft")
    }

    /// Returns the new pod's id.
    pub(crate) fn id(&self) -> &PodId {
        &self.pod().id
    }

    /// Returns the new pod's directory, the descriptor that holds its lock.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.pod().dir()
    }

    /// Writes the pod's records and directories, and claims its name.
    ///
    /// # Errors
    ///
    /// `pod.name-taken` if a living pod bears the name, `storage` otherwise. The draft is of no
    /// use afterwards.
    pub(crate) fn lay_out(&self, manifest: &PodManifest, apps: &[AppSpec]) -> Result<()> {
        let dir = self.pod().dir();
        write_json(dir, layout::MANIFEST, manifest)?;
        make_directory(self.pod(), layout::APPS)?;
        for app in apps {
            make_directory(self.pod(), &layout::app(&app.name))?;
            write_json(dir, &layout::app_spec(&app.name, 0), app)?;
            for part in [layout::UPPER, layout::WORK, layout::LOG] {
                make_directory(self.pod(), &format!("{}/{part}", layout::app(&app.name)))?;
            }
            // The root of an app is its upper directory's mode; images expect it to be passable.
            self.open_up(&format!("{}/{}", layout::app(&app.name), layout::UPPER), 0o755)?;
        }
        let empty = manifest.sandbox.volumes.iter().filter_map(|volume| match volume.source {
            VolumeSource::Empty { mode, uid, gid } => {
                Some((layout::volume(&volume.name), mode, (uid, gid)))
            }
            VolumeSource::Host { .. } | VolumeSource::Tmpfs { .. } => None,
        });
        for (index, (path, mode, owner)) in empty.enumerate() {
            if index == 0 {
                make_directory(self.pod(), layout::VOLUMES)?;
            }
            make_directory(self.pod(), &path)?;
            self.give(&path, owner)?;
            self.open_up(&path, mode & 0o7777)?;
        }
        write_file(dir, layout::PINS, pins(apps).as_bytes())?;
        self.pods.claim_name(&manifest.name, self.id())
    }

    /// Gives what was made to ids of the pod, which are those on the disk.
    fn give(&self, path: &str, (uid, gid): (u32, u32)) -> Result<()> {
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(self.pod().dir(), path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("cannot give `{path}` of pod `{}` to {uid}:{gid}", self.id()))
    }

    fn open_up(&self, path: &str, mode: u32) -> Result<()> {
        rustix::fs::chmodat(self.pod().dir(), path, Mode::from_raw_mode(mode), AtFlags::empty())
            .context(|| format!("cannot change the mode of `{path}` of pod `{}`", self.id()))
    }

    /// Moves the pod on, to `prepared` or to `run`. Its lock is held by the descriptor returned.
    ///
    /// # Errors
    ///
    /// `storage`; the pod is garbage then.
    pub(crate) fn into(mut self, home: Home, durability: Durability) -> Result<Pod> {
        let mut pod = self.pod.take().expect("taken only by what consumes the draft");
        let synced = match durability {
            Durability::Durable => {
                syncfs(pod.dir()).context(|| format!("cannot make pod `{}` durable", pod.id))
            }
            Durability::Volatile => Ok(()),
        };
        match synced.and_then(|()| self.pods.rename(&mut pod, home)) {
            Ok(()) => Ok(pod),
            Err(error) => {
                self.pod = Some(pod);
                Err(error)
            }
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(mut pod) = self.pod.take()
            && self.pods.rename(&mut pod, Home::Garbage).is_ok()
        {
            let _ = self.pods.sweep(&pod); // what is left is garbage by its place
        }
    }
}

fn random_id() -> Result<PodId> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .context(|| "cannot make a random id".to_owned())?;
    Ok(PodId::from_random(bytes))
}

fn make_directory(pod: &Pod, path: &str) -> Result<()> {
    mkdirat(pod.dir(), path, Mode::from_raw_mode(0o700))
        .context(|| format!("cannot make directory `{path}` of pod `{}`", pod.id))
}

fn write_json<T: serde::Serialize>(dir: BorrowedFd<'_>, path: &str, value: &T) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| CommandError::of("internal.json", &error))?;
    write_file(dir, path, &bytes)
}

/// Lists the digests that keep the apps' images: manifests, configurations and layers.
pub(super) fn pins(apps: &[AppSpec]) -> String {
    let mut digests: Vec<&Digest> = apps
        .iter()
        .flat_map(|app| {
            [&app.image.manifest, &app.image.config].into_iter().chain(&app.image.layers)
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    digests.iter().map(|digest| format!("{digest}\n")).collect()
}
