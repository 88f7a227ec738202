//! What apps of a pod share, laid out in a mount namespace of the supervisor's own.
//!
//! ```text
//!   ./                 memory, over the pod's run directory
//!     layers/          the store's layers            ┐ mapped to the pod's ids
//!     app-NAME/        the writable layer of an app  │
//!     volumes/         the pod's own volumes         │
//!     volume-NAME      a file or directory of hosts  ┘
//!     lower-NAME/0…    links to the app's layers, topmost first: short names for overlayfs
//!     etc-FILE         a file of ours
//!     shm/             the pod's shared memory
//!     root/            where each app's tree is mounted, in a namespace of its own
//! ```
//!
//! The host's table of mounts never shows any of it. Trees are cloned before the namespace is
//! entered, because a mount can be cloned only where it is, and attached afterwards, because
//! kernels before 6.15 take no detached mount for a layer.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

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

use crate::mounts::{self, Depth, INERT};
use crate::plan::{EtcFile, StagingStep};

/// Bytes of the memory that holds the files of ours: the longest texts of an order fit.
const SIZE: &str = "8m";

/// The pod's shared memory may hold so much; docker's figure, which programs are used to.
const SHM_SIZE: &str = "64m";

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

/// What staging stands on.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    /// The pod's directory.
    pub(crate) pod: &'a OwnedFd,
    /// The run directory.
    pub(crate) run: &'a OwnedFd,
    /// The directory of layers.
    pub(crate) layers: &'a OwnedFd,
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
}

/// Performs the steps. The working directory is the staging area afterwards.
///
/// # Errors
///
/// What could not be staged. The way back is in `home` as soon as it is needed.
pub(crate) fn stage(
    ground: &Ground<'_>,
    steps: &[StagingStep],
    home: &mut Option<Home>,
) -> Result<(), Failure> {
    let mut cloned = Vec::new();
    for step in steps {
        cloned.extend(clone(ground, step)?);
    }
    enter(ground, home)?;
    make_directory(ROOT)?;
    for tree in cloned {
        attach(ground, &tree)?;
    }
    steps.iter().try_for_each(|step| make(ground, step))
}

fn clone(ground: &Ground<'_>, step: &StagingStep) -> Result<Option<Cloned>, Failure> {
    let directory = |tree, place: String, what: String| Cloned {
        tree,
        depth: Depth::One,
        place,
        kind: FileType::Directory,
        what,
    };
    Ok(match step {
        StagingStep::Layers => {
            let tree = mounts::clone(ground.layers.as_fd(), "", Depth::One)
                .during(|| "cannot clone the directory of layers, open_tree()")?;
            Some(directory(tree, LAYERS.to_owned(), "the layers".to_owned()))
        }
        StagingStep::AppDirectory(name) => {
            let path = layout::app(name);
            for (made, mode) in [(layout::UPPER, 0o755), (layout::WORK, 0o700)] {
                make_beneath(ground.pod, &format!("{path}/{made}"), mode)?;
            }
            let tree = mounts::clone(ground.pod.as_fd(), &path, Depth::One)
                .during(|| format!("cannot clone `{path}`, open_tree()"))?;
            Some(directory(tree, app_path(name), format!("the writable layer of app `{name}`")))
        }
        StagingStep::EmptyVolumes(volumes) => {
            make_beneath(ground.pod, layout::VOLUMES, 0o755)?;
            for (name, mode) in volumes {
                make_beneath(ground.pod, &layout::volume(name), *mode)?;
            }
            let tree = mounts::clone(ground.pod.as_fd(), layout::VOLUMES, Depth::One)
                .during(|| "cannot clone the pod's volumes, open_tree()")?;
            Some(directory(tree, EMPTY_VOLUMES.to_owned(), "the pod's volumes".to_owned()))
        }
        StagingStep::HostVolume(name, path) => {
            let what = format!("volume `{name}`, which is `{path}`");
            let tree = mounts::clone(CWD, path, Depth::All)
                .during(|| format!("cannot open {what}, open_tree()"))?;
            let stat = fstat(&tree).during(|| format!("cannot look at {what}"))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let place = host_volume_path(name);
            Some(Cloned { tree, depth: Depth::All, place, kind, what })
        }
        StagingStep::Shm | StagingStep::File(..) => None,
    })
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
    let Cloned { tree, depth, place, kind, what } = cloned;
    let flags = MountFlags::NODEV
        | if *depth == Depth::All { MountFlags::NOSUID } else { MountFlags::NONE };
    let mapped = ground.ids.map(|(_, user_namespace)| user_namespace);
    mounts::make_own(tree, flags, mapped, *depth).map_err(|error| {
        let what = format!("cannot map the ids of {what}, mount_setattr(IDMAP)");
        Failure::of(what, error)
            .code("pod.idmap")
            .hint("its file system may not be able to; `--userns host` does without")
    })?;
    match kind {
        FileType::Directory => make_directory(place)?,
        _ => drop(make_file(place, "")?),
    }
    mounts::attach_at(tree, CWD, place).during(|| format!("cannot stage {what}, move_mount()"))
}

fn make(ground: &Ground<'_>, step: &StagingStep) -> Result<(), Failure> {
    let owner = ground.ids.map_or(0, |(ids, _)| ids.base);
    match step {
        StagingStep::Shm => {
            make_directory(SHM)?;
            let options = format!("mode=1777,size={SHM_SIZE},uid={owner},gid={owner}");
            mounts::mount_at(SHM, "tmpfs", &options, INERT)
                .during(|| "cannot mount the pod's shared memory, mount(tmpfs)")
        }
        StagingStep::File(file, text) => {
            let path = etc_path(*file);
            make_file(&path, text)?;
            let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
            chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .during(|| format!("cannot give `{path}` to the pod"))
        }
        _ => Ok(()),
    }
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

/// Returns where a file of ours is staged.
pub(crate) fn etc_path(file: EtcFile) -> String {
    format!("etc-{}", file.as_str())
}

fn make_directory(path: &str) -> Result<(), Failure> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o700)).during(|| format!("cannot make `{path}`"))
}

fn make_file(path: &str, text: &str) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o644))
        .during(|| format!("cannot make `{path}`"))?;
    File::from(file).write_all(text.as_bytes()).during(|| format!("cannot write `{path}`"))
}

/// Makes a directory beneath the pod's, unless it is there.
fn make_beneath(pod: &OwnedFd, path: &str, mode: u32) -> Result<(), Failure> {
    let making = || format!("cannot make `{path}` of the pod");
    match mkdirat(pod, path, Mode::from_raw_mode(mode)) {
        Ok(()) if mode & !0o755 == 0 => Ok(()),
        Ok(()) => {
            // What the umask has taken away.
            chmodat(pod, path, Mode::from_raw_mode(mode), AtFlags::empty()).during(making)
        }
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).during(making),
    }
}
