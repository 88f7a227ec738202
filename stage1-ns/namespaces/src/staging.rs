//! What apps of a pod share, laid out in a mount namespace of the supervisor's own.
//!
//! ```text
//!   ./                 memory, over the pod's run directory
//!     layers/          the store's layers, or images ┐ mapped to the pod's ids
//!     app-NAME/        the writable layer of an app  │
//!     volumes/         the pod's own volumes         │
//!     volume-NAME      a file or directory of hosts  ┘
//!     memory-NAME/     a volume in memory
//!     lower-NAME/0…    links to the app's layers, topmost first: short names for overlayfs
//!     fill-NAME/       the layers again, unmapped, while a volume is filled from them
//!     etc-FILE         a file of ours
//!     shm/             the pod's shared memory, or the host's
//!     root/            where each app's tree is mounted, in a namespace of its own
//! ```
//!
//! The host's table of mounts never shows any of it. Trees are cloned before the namespace is
//! entered, because a mount can be cloned only where it is, and attached afterwards, because
//! kernels before 6.15 take no detached mount for a layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags as Namespaces, setns};
use pod_abi::stage::IdRange;
use pod_abi::{AppName, VolumeName, layout};
use pod_sys::{CloneFlags, MountFlags, unshare};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, mkdirat, openat,
};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{chroot, fchdir};
use supervisor::{During, Failure};

use crate::fill;
use crate::images;
use crate::mounts::{self, DATA, Depth, INERT};
use crate::plan::{EmptyVolume, EtcFile, HostVolume, Lowers, Memory, Shared, StagingStep};
use crate::submounts;

/// Bytes of the memory that holds the files of ours: the longest texts of an order fit.
const SIZE: &str = "8m";

/// Where the supervisor came from, to go back to.
#[derive(Debug)]
pub(crate) struct Home {
    mounts: OwnedFd,
    root: OwnedFd,
}

impl Home {
    fn remember() -> Result<Self, Failure> {
        let mounts =
            openat(CWD, "/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .during(|| "cannot open `/proc/self/ns/mnt`")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, "/", flags, Mode::empty()).during(|| "cannot open `/`")?;
        Ok(Self { mounts, root })
    }

    /// Goes back, to the root that was seen before.
    pub(crate) fn go_back(&self) -> Result<(), Failure> {
        setns(&self.mounts, Namespaces::CLONE_NEWNS).during(|| "setns(CLONE_NEWNS)")?;
        fchdir(&self.root).during(|| "cannot enter `/`, fchdir()")?;
        chroot(".").during(|| "cannot go back to `/`, chroot()")
    }
}

/// The pod's memory, as detached mounts by the places they have in a staging area: an area goes
/// with the mount namespace it is in, and an app that comes later must find the same memory. One
/// that was lost on the way is `None`.
#[derive(Debug, Default)]
pub(crate) struct Memories(BTreeMap<String, Option<OwnedFd>>);

impl Memories {
    /// Lets go of the volume `name`, which no app mounts any more.
    pub(crate) fn forget(&mut self, name: &VolumeName) {
        self.0.remove(&memory_path(name));
    }

    /// Mounts the memory kept for `path`, if there is some; otherwise `make` does. Keeps it.
    fn place(
        &mut self,
        path: &str,
        make: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<(), Failure> {
        let making = || format!("cannot make the pod's memory `{path}`, mount(tmpfs)");
        match self.0.insert(path.to_owned(), None) {
            None => make().during(making)?,
            Some(Some(kept)) => mounts::attach_at(&kept, CWD, path).during(making)?,
            Some(None) => return Err(Failure::new(format!("the pod's memory `{path}` is lost"))),
        }
        let kept = mounts::clone(CWD, path, Depth::One)
            .during(|| format!("cannot keep the pod's memory `{path}`, open_tree()"))?;
        self.0.insert(path.to_owned(), Some(kept));
        Ok(())
    }
}

/// What staging stands on.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    /// The pod's directory.
    pub(crate) pod: &'a OwnedFd,
    /// The run directory.
    pub(crate) run: &'a OwnedFd,
    /// The directory of layers.
    pub(crate) layers: BorrowedFd<'a>,
    /// Whether layers are mounted beneath it, or are directories of it.
    pub(crate) layers_depth: Depth,
    /// The pod's ids and user namespace, if it has its own.
    pub(crate) ids: Option<(IdRange, &'a OwnedFd)>,
}

/// A tree that was cloned, and where it goes.
struct Cloned {
    tree: OwnedFd,
    depth: Depth,
    place: String,
    kind: FileType,
    what: String,
    ids: Ids,
    /// Its path, if it is a volume of the host.
    host: Option<String>,
}

/// Whose ids a tree shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// The pod's, if it has its own.
    Pods,
    /// Those on the disk.
    Disks,
}

/// Performs the steps. The working directory is the staging area afterwards.
///
/// # Errors
///
/// What could not be staged. The way back is in `home` as soon as it is needed.
pub(crate) fn stage(
    ground: &Ground<'_>,
    steps: &[StagingStep],
    memories: &mut Memories,
    home: &mut Option<Home>,
) -> Result<(), Failure> {
    let mut cloned = Vec::new();
    for step in steps {
        cloned.append(&mut clone(ground, step)?);
    }
    enter(ground, home)?;
    make_directory(ROOT)?;
    for tree in cloned {
        attach(ground, &tree)?;
    }
    steps.iter().try_for_each(|step| make(ground, step, memories))
}

fn clone(ground: &Ground<'_>, step: &StagingStep) -> Result<Vec<Cloned>, Failure> {
    let directory = |tree, place: String, what: String, ids| Cloned {
        tree,
        depth: Depth::One,
        place,
        kind: FileType::Directory,
        what,
        ids,
        host: None,
    };
    let depth = ground.layers_depth;
    let layers = |lowers: &Lowers, place: &str, what: &str, ids| {
        let images = match lowers {
            Lowers::Images(images) => images,
            Lowers::Trees => {
                let tree = mounts::clone(ground.layers, "", depth)
                    .during(|| "cannot clone the directory of layers, open_tree()")?;
                let cloned = directory(tree, place.to_owned(), what.to_owned(), ids);
                return Ok(vec![Cloned { depth, ..cloned }]);
            }
        };
        let staged = images.iter().map(|image| {
            let (place, what) =
                (format!("{place}/{}", image.path), format!("layer `{}`", image.path));
            Ok(directory(images::mount(ground.layers, image)?, place, what, ids))
        });
        staged.collect::<Result<Vec<_>, Failure>>()
    };
    Ok(vec![match step {
        StagingStep::Layers(lowers) => return layers(lowers, LAYERS, "the layers", Ids::Pods),
        StagingStep::AppDirectory(name) => {
            let path = layout::app(name);
            for (made, mode) in [(layout::UPPER, 0o755), (layout::WORK, 0o700)] {
                make_beneath(ground.pod, &format!("{path}/{made}"), mode)?;
            }
            let tree = mounts::clone(ground.pod.as_fd(), &path, Depth::One)
                .during(|| format!("cannot clone `{path}`, open_tree()"))?;
            let what = format!("the writable layer of app `{name}`");
            directory(tree, app_path(name), what, Ids::Pods)
        }
        StagingStep::EmptyVolumes(volumes) => {
            let tree = empty_volumes(ground.pod, volumes)?;
            let what = "the pod's volumes".to_owned();
            directory(tree, EMPTY_VOLUMES.to_owned(), what, Ids::Pods)
        }
        StagingStep::HostVolume(volume) => host_volume(volume)?,
        StagingStep::Fill(filling) => {
            let what = format!("the layers for volume `{}`", filling.volume);
            return layers(&filling.lowers, &fill::layers_path(filling), &what, Ids::Disks);
        }
        StagingStep::HostShm => {
            let tree = mounts::clone(CWD, "/dev/shm", Depth::One)
                .during(|| "cannot open the host's `/dev/shm`, open_tree()")?;
            let what = "the host's `/dev/shm`".to_owned();
            directory(tree, SHM.to_owned(), what, Ids::Disks)
        }
        StagingStep::Memory(_) | StagingStep::File(..) => return Ok(Vec::new()),
    }])
}

fn empty_volumes(pod: &OwnedFd, volumes: &[EmptyVolume]) -> Result<OwnedFd, Failure> {
    make_beneath(pod, layout::VOLUMES, 0o755)?;
    for EmptyVolume { name, mode, owner: (uid, gid) } in volumes {
        let path = layout::volume(name);
        if make_beneath(pod, &path, *mode)? && (*uid, *gid) != (0, 0) {
            let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
            chownat(pod, &path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                .during(|| format!("cannot give `{path}` of the pod to {uid}:{gid}, fchownat()"))?;
        }
    }
    mounts::clone(pod.as_fd(), layout::VOLUMES, Depth::One)
        .during(|| "cannot clone the pod's volumes, open_tree()")
}

fn host_volume(volume: &HostVolume) -> Result<Cloned, Failure> {
    let HostVolume { name, path, depth } = volume;
    let what = format!("volume `{name}`, which is `{path}`");
    let tree = mounts::clone(CWD, path, *depth)
        .during(|| format!("cannot open {what}, open_tree()"))
        .map_err(|failure| failure.code("volume.not-found"))?;
    let stat = fstat(&tree).during(|| format!("cannot look at {what}"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if matches!(kind, FileType::BlockDevice | FileType::CharacterDevice) {
        // What may be done with a device is not decided by how a mount is flagged.
        return Err(Failure::new(format!("{what} is a device, and no device works in a volume"))
            .code("volume.device")
            .hint("give the device to the app by `--device`"));
    }
    let (depth, host) = (*depth, Some(path.clone()));
    Ok(Cloned { tree, depth, place: host_volume_path(name), kind, what, ids: Ids::Pods, host })
}

/// Enters a mount namespace of our own and mounts the staging area there.
fn enter(ground: &Ground<'_>, home: &mut Option<Home>) -> Result<(), Failure> {
    let before = Home::remember()?;
    // The working directory is what leads over: descriptors of before refer to other mounts.
    fchdir(ground.run).during(|| "cannot enter the run directory, fchdir()")?;
    unshare(CloneFlags::NEWNS).during(|| "unshare(CLONE_NEWNS)")?;
    *home = Some(before);
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .during(|| "mount(/, MS_REC|MS_SLAVE)")?;
    let options = [("mode", "0700"), ("size", SIZE)];
    let area = mounts::new("tmpfs", &options, INERT)
        .during(|| "cannot mount the staging area, fsmount(tmpfs)")?;
    mounts::attach_at(&area, CWD, ".").during(|| "cannot mount the staging area, move_mount()")?;
    fchdir(&area).during(|| "cannot enter the staging area, fchdir()")
}

fn attach(ground: &Ground<'_>, cloned: &Cloned) -> Result<(), Failure> {
    let Cloned { tree, depth, place, kind, what, ids, host } = cloned;
    let nosuid = if host.is_some() { MountFlags::NOSUID } else { MountFlags::NONE };
    let mapped = match ids {
        Ids::Pods => ground.ids.map(|(_, user_namespace)| user_namespace),
        Ids::Disks => None,
    };
    mounts::make_own(tree, MountFlags::NODEV | nosuid, mapped, *depth)
        .map_err(|error| unmapped(cloned, mapped, error))?;
    match kind {
        FileType::Directory => make_directories(place)?,
        _ => drop(make_file(place, "")?),
    }
    mounts::attach_at(tree, CWD, place).during(|| format!("cannot stage {what}, move_mount()"))
}

/// Says what cannot be mapped to the pod's ids, and what helps against it.
fn unmapped(cloned: &Cloned, mapped: Option<&OwnedFd>, error: std::io::Error) -> Failure {
    let what = &cloned.what;
    let beneath = match (&cloned.host, mapped, cloned.depth) {
        (Some(path), Some(user_namespace), Depth::All) => {
            submounts::first_unmappable(path, user_namespace)
        }
        _ => None,
    };
    let beneath = beneath.map(|mount| format!(", because of what is mounted at {mount}"));
    let (hint, because) = match beneath {
        Some(because) => ("leave out what is mounted beneath: `recursive=false`", because),
        None => ("its file system may not be able to; `--userns host` does without", String::new()),
    };
    Failure::of(format!("cannot map the ids of {what}{because}, mount_setattr(IDMAP)"), error)
        .code("pod.idmap")
        .hint(hint)
}

fn make(ground: &Ground<'_>, step: &StagingStep, memories: &mut Memories) -> Result<(), Failure> {
    let owner = ground.ids.map_or(0, |(ids, _)| ids.base);
    match step {
        StagingStep::Memory(memory) => make_memory(memory, owner, memories),
        StagingStep::File(file, text) => {
            let path = etc_path(*file);
            make_file(&path, text)?;
            let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
            chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .during(|| format!("cannot give `{path}` to the pod"))
        }
        StagingStep::Fill(filling) => fill::fill(ground.pod, filling),
        _ => Ok(()),
    }
}

fn make_memory(memory: &Memory, owner: u32, memories: &mut Memories) -> Result<(), Failure> {
    let Memory { what, size, mode } = memory;
    let (path, ban) = match what {
        Shared::Shm => (SHM.to_owned(), INERT),
        Shared::Volume(name) => (memory_path(name), DATA),
    };
    make_directory(&path)?;
    let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
    let options = format!("mode={mode:o},uid={owner},gid={owner}{size}");
    memories.place(&path, || mounts::mount_at(&path, "tmpfs", &options, ban))
}

/// Where each app's tree is mounted.
pub(crate) const ROOT: &str = "root";

/// Where the pod's shared memory is staged.
pub(crate) const SHM: &str = "shm";

/// Where the layers are staged.
pub(crate) const LAYERS: &str = "layers";

/// Where the pod's own volumes are staged, each beneath by its name.
pub(crate) const EMPTY_VOLUMES: &str = "volumes";

/// Returns where an app's writable layer is staged.
pub(crate) fn app_path(name: &AppName) -> String {
    format!("app-{name}")
}

/// Returns where an app finds its layers under short names.
pub(crate) fn lower_path(name: &AppName) -> String {
    format!("lower-{name}")
}

/// Returns where a volume of the host is staged.
pub(crate) fn host_volume_path(name: &VolumeName) -> String {
    format!("volume-{name}")
}

/// Returns where a volume in memory is staged.
pub(crate) fn memory_path(name: &VolumeName) -> String {
    format!("memory-{name}")
}

/// Returns where a file of ours is staged.
pub(crate) fn etc_path(file: EtcFile) -> String {
    format!("etc-{}", file.as_str())
}

fn make_directory(path: &str) -> Result<(), Failure> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o700)).during(|| format!("cannot make `{path}`"))
}

/// Makes a directory and those above it that are not there.
fn make_directories(path: &str) -> Result<(), Failure> {
    let above = path.match_indices('/').map(|(at, _)| &path[..at]);
    for directory in above.chain([path]) {
        match mkdirat(CWD, directory, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| format!("cannot make `{directory}`")),
        }
    }
    Ok(())
}

fn make_file(path: &str, text: &str) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644))
        .during(|| format!("cannot make `{path}`"))?;
    File::from(file).write_all(text.as_bytes()).during(|| format!("cannot write `{path}`"))
}

/// Makes a directory beneath the pod's, unless it is there; tells whether it was made.
fn make_beneath(pod: &OwnedFd, path: &str, mode: u32) -> Result<bool, Failure> {
    let making = || format!("cannot make `{path}` of the pod");
    match mkdirat(pod, path, Mode::from_raw_mode(mode)) {
        Ok(()) if mode & !0o755 == 0 => Ok(true),
        Ok(()) => {
            // What the umask has taken away.
            chmodat(pod, path, Mode::from_raw_mode(mode), AtFlags::empty()).during(making)?;
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error).during(making),
    }
}
