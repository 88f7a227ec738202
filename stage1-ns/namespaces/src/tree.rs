//! One app's tree, built step by step in a mount namespace of its own.
//!
//! Runs in the helper process ([`crate::helper`]), whose working directory is the staging area.
//! Every step is a few system calls on descriptors; where something goes in the image is looked
//! up by [`Root`] only.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags as Namespaces, setns};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use pod_abi::credential::CREDENTIALS_DIRECTORY;
use pod_abi::isolators::Device;
use pod_abi::stage::IdRange;
use pod_abi::{AppName, PodPath};
use pod_sys::{CloneFlags, MountFlags, unshare};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags as OldFlags, UnmountFlags, unmount};
use rustix::process::{Signal, chdir, fchdir, pivot_root, set_parent_process_death_signal};
use rustix::thread::{capabilities, set_capabilities};
use supervisor::{During, Failure};

use crate::credentials::{self, Secrets};
use crate::devices::{self, HIDDEN, Node};
use crate::mounts::{self, DATA, Depth, INERT};
use crate::overlay::{Layers, mount_layers};
use crate::plan::{AppPlan, EtcFile, Limits, Namespace, Staged, TreeStep, VolumeMount, Writing};
use crate::root::Root;
use crate::staging::{self, ROOT};

/// This process's mount namespace, as soon as `/proc` is the tree's own.
pub(crate) const MOUNT_NAMESPACE: &str = "/proc/self/ns/mnt";

/// A tree that is being built.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    app: &'a AppName,
    init: &'a OwnedFd,
    secrets: &'a Secrets,
    /// The pod's ids, once files are made as its root.
    ids: Option<IdRange>,
    root: Option<Root>,
}

/// Builds an app's tree; `init` is the pidfd of the pod's PID 1, and `secrets` has the contents of
/// its credentials.
///
/// # Errors
///
/// What could not be done; the process is good for nothing but to exit.
pub(crate) fn build(plan: &AppPlan, init: &OwnedFd, secrets: &Secrets) -> Result<(), Failure> {
    let mut tree = Tree { app: &plan.name, init, secrets, ids: None, root: None };
    plan.steps.iter().try_for_each(|step| tree.perform(step))
}

impl Tree<'_> {
    fn perform(&mut self, step: &TreeStep) -> Result<(), Failure> {
        match step {
            TreeStep::JoinNamespaces(namespaces) => self.join(namespaces),
            TreeStep::ActAsPodRoot(ids) => self.act_as_pod_root(*ids),
            TreeStep::Overlay { layers, volatile } => self.overlay(layers, *volatile),
            TreeStep::Mtab => self.mtab(),
            TreeStep::Proc => self.own("proc", "proc", INERT),
            TreeStep::Sys(Writing::Denied) => self.own("sys", "sysfs", INERT.read_only()),
            TreeStep::Sys(Writing::Allowed) => self.own("sys", "sysfs", INERT),
            TreeStep::Dev => {
                let place = self.own_directory("dev")?;
                devices::mount(ROOT, &place, self.ids.map_or(0, |ids| ids.base))
            }
            TreeStep::HostTree(name) => {
                let place = self.own_directory(name)?;
                let tree = self.cloned(&format!("/{name}"), Depth::All)?;
                mounts::attach(&tree, &place)
                    .during(|| self.of(&format!("cannot mount `/{name}`, move_mount()")))
            }
            TreeStep::Shm => {
                let shm = self.cloned(staging::SHM, Depth::One)?;
                self.attach(&shm, &path("/dev/shm")?)
            }
            TreeStep::Device(device) => self.device(device),
            TreeStep::Volume(volume) => self.volume(volume),
            TreeStep::Tmpfs { destination, size, mode, limits } => {
                self.tmpfs(destination, *size, *mode, *limits)
            }
            TreeStep::File(file) => self.file(*file),
            TreeStep::Credentials { names, owner } => {
                let tree = credentials::mount(names, *owner, self.secrets)?;
                self.attach(&tree, &path(CREDENTIALS_DIRECTORY)?)
            }
            TreeStep::ReadOnlyRoot => {
                mounts::restrict(self.root()?.descriptor(), MountFlags::RDONLY, Depth::One)
                    .during(|| self.of("cannot make the root read-only, mount_setattr(RDONLY)"))
            }
            TreeStep::Pivot => self.pivot(),
            TreeStep::Lock => self.lock(),
        }
    }

    fn of(&self, what: &str) -> String {
        format!("app `{}`: {what}", self.app)
    }

    fn root(&self) -> Result<&Root, Failure> {
        self.root.as_ref().ok_or_else(|| Failure::new("the tree has no root yet"))
    }

    fn join(&self, namespaces: &[Namespace]) -> Result<(), Failure> {
        let flags = namespaces.iter().fold(Namespaces::empty(), |flags, one| {
            flags
                | match one {
                    Namespace::User => Namespaces::CLONE_NEWUSER,
                    Namespace::Pid => Namespaces::CLONE_NEWPID,
                    Namespace::Ipc => Namespaces::CLONE_NEWIPC,
                    Namespace::Uts => Namespaces::CLONE_NEWUTS,
                    Namespace::Mount => Namespaces::CLONE_NEWNS,
                    Namespace::Network => Namespaces::CLONE_NEWNET,
                }
        });
        setns(self.init, flags).during(|| self.of("cannot join the pod's namespaces, setns()"))
    }

    /// Makes files as root of the pod, for through mapped mounts nobody else can. Our own
    /// capabilities go with the ids and are taken back.
    fn act_as_pod_root(&mut self, ids: IdRange) -> Result<(), Failure> {
        self.ids = Some(ids);
        let mut sets = capabilities(None).during(|| "capget()")?;
        setfsgid(Gid::from_raw(ids.base));
        setfsuid(Uid::from_raw(ids.base));
        sets.effective = sets.permitted;
        set_capabilities(None, sets).during(|| "cannot keep capabilities, capset()")?;
        // The change of ids has cleared it.
        set_parent_process_death_signal(Some(Signal::KILL)).during(|| "prctl(PR_SET_PDEATHSIG)")
    }

    fn overlay(&mut self, layers: &[String], volatile: bool) -> Result<(), Failure> {
        let (links, app) = (staging::lower_path(self.app), staging::app_path(self.app));
        let whose = format!("app `{}`", self.app);
        let volatile = if volatile { ",volatile" } else { "" };
        let options = format!(",upperdir=../{app}/upper,workdir=../{app}/work,index=off{volatile}");
        let layers =
            Layers { whose: &whose, links: &links, beneath: staging::LAYERS, names: layers };
        mount_layers(&layers, ROOT, &options, OldFlags::NODEV)?;
        self.root = Some(Root::open(ROOT).during(|| self.of("cannot open the root"))?);
        Ok(())
    }

    /// Links `/etc/mtab` in an image that has `/etc` and none: `df` and `mount` read it.
    fn mtab(&self) -> Result<(), Failure> {
        match self.root()?.link(&path("/etc")?, "mtab", "../proc/self/mounts") {
            // A root without `/etc`, or with another there, is none that would miss it.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error).during(|| self.of("cannot link `/etc/mtab`, symlinkat()")),
        }
    }

    fn own_directory(&self, name: &str) -> Result<OwnedFd, Failure> {
        self.root()?.own_directory(name).during(|| self.of(&format!("cannot make `/{name}`")))
    }

    fn own(&self, name: &str, kind: &str, ban: mounts::Ban) -> Result<(), Failure> {
        let place = self.own_directory(name)?;
        let mounting = || self.of(&format!("cannot mount `/{name}`, fsmount({kind})"));
        let tree = mounts::new(kind, &[("source", kind)], ban).during(mounting)?;
        mounts::attach(&tree, &place).during(mounting)
    }

    fn cloned(&self, staged: &str, depth: Depth) -> Result<OwnedFd, Failure> {
        mounts::clone(CWD, staged, depth)
            .during(|| self.of(&format!("cannot clone `{staged}`, open_tree()")))
    }

    /// Attaches a tree at a place in the image, which is made if it is missing.
    fn attach(&self, tree: &OwnedFd, destination: &PodPath) -> Result<(), Failure> {
        let mounting = || self.of(&format!("cannot mount anything at `{destination}`"));
        let kind = FileType::from_raw_mode(fstat(tree).during(mounting)?.st_mode);
        let place = match kind {
            FileType::Directory => self.root()?.directory(destination),
            _ => self.root()?.file(destination),
        };
        mounts::attach(tree, &in_the_way(place, mounting)?).during(mounting)
    }

    fn volume(&self, mount: &VolumeMount) -> Result<(), Failure> {
        let VolumeMount { destination, volume, staged, limits } = mount;
        let (staged, depth) = match staged {
            Staged::Empty => (format!("{}/{volume}", staging::EMPTY_VOLUMES), Depth::One),
            Staged::Host => (staging::host_volume_path(volume), Depth::All),
            Staged::Memory => (staging::memory_path(volume), Depth::One),
        };
        let tree = self.cloned(&staged, depth)?;
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        if limits.read_only {
            flags = flags | MountFlags::RDONLY;
        }
        if limits.no_exec {
            flags = flags | MountFlags::NOEXEC;
        }
        mounts::restrict(&tree, flags, depth)
            .during(|| format!("cannot restrict volume `{volume}`, mount_setattr()"))?;
        self.attach(&tree, destination)
    }

    fn tmpfs(
        &self,
        destination: &PodPath,
        size: Option<u64>,
        mode: u32,
        limits: Limits,
    ) -> Result<(), Failure> {
        let (mode, size) = (format!("{mode:o}"), size.map(|size| size.to_string()));
        let mut options = vec![("mode", mode.as_str())];
        options.extend(size.as_deref().map(|size| ("size", size)));
        let ban = if limits.no_exec { INERT } else { DATA };
        let ban = if limits.read_only { ban.read_only() } else { ban };
        let tree = mounts::new("tmpfs", &options, ban)
            .during(|| self.of(&format!("cannot make memory for `{destination}`")))?;
        self.attach(&tree, destination)
    }

    /// Makes a device of the host: a node of its numbers on the app's own `/dev`, which the host's
    /// permissions need not open to the pod. Outside `/dev` it is a mount of that node.
    fn device(&self, device: &Device) -> Result<(), Failure> {
        let Device { source, destination, .. } = device;
        let node = Node::of(source)?;
        let making = || self.of(&format!("cannot make device `{destination}`"));
        if destination.is_beneath(&path("/dev")?) {
            self.check_place(destination)?;
            let place = in_the_way(self.root()?.around(destination), making)?;
            let name = destination.components().last().unwrap_or_default();
            return node.make(&place, name, self.ids).during(making);
        }
        let dev = self.root()?.directory(&path("/dev")?).during(making)?;
        node.make(&dev, HIDDEN, self.ids).during(making)?;
        let tree = mounts::clone(dev.as_fd(), HIDDEN, Depth::One).during(making)?;
        self.attach(&tree, destination)?;
        // Only now: the kernel attaches nothing that has no name.
        unlinkat(&dev, HIDDEN, AtFlags::empty()).during(making)
    }

    /// Refuses a device where others are: what is there may be the whole pod's, or the host's,
    /// and would stay behind.
    fn check_place(&self, destination: &PodPath) -> Result<(), Failure> {
        for shared in ["/dev/shm", "/dev/mqueue", "/dev/pts"] {
            if destination.is_beneath(&path(shared)?) {
                let what = self.of(&format!("`{destination}` is no place for a device"));
                return Err(Failure::new(what)
                    .code("device.place")
                    .hint("`/dev` itself and any directory of the image are"));
            }
        }
        Ok(())
    }

    fn file(&self, file: EtcFile) -> Result<(), Failure> {
        let destination = path(&format!("/etc/{}", file.as_str()))?;
        let mounting = || self.of(&format!("cannot mount `{destination}`"));
        let tree = self.cloned(&staging::etc_path(file), Depth::One)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mounts::restrict(&tree, flags, Depth::One).during(mounting)?;
        let place = in_the_way(self.root()?.own_file(&destination), mounting)?;
        mounts::attach(&tree, &place).during(mounting)
    }

    /// From here on no path of the host exists.
    fn pivot(&self) -> Result<(), Failure> {
        fchdir(self.root()?.descriptor()).during(|| self.of("cannot enter the root, fchdir()"))?;
        pivot_root(".", ".").during(|| self.of("pivot_root(., .)"))?;
        unmount(".", UnmountFlags::DETACH).during(|| self.of("umount2(., MNT_DETACH)"))?;
        chdir("/").during(|| self.of("chdir(/)"))
    }

    /// Copies the tree into a mount namespace of the pod's users, where nothing can be taken off it.
    ///
    /// The namespace that is left stays until this process ends: to take one down the kernel waits
    /// for every processor, and that is nothing an app should wait for.
    fn lock(&self) -> Result<(), Failure> {
        setns(self.init, Namespaces::CLONE_NEWUSER)
            .during(|| self.of("cannot join the pod's user namespace, setns(CLONE_NEWUSER)"))?;
        let left = openat(CWD, MOUNT_NAMESPACE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during(|| self.of(&format!("cannot open `{MOUNT_NAMESPACE}`")))?;
        mem::forget(left);
        unshare(CloneFlags::NEWNS).during(|| self.of("cannot lock mounts, unshare(CLONE_NEWNS)"))
    }
}

/// Gives the error of a look-up its object, and says what is usually behind it.
fn in_the_way(
    found: rustix::io::Result<OwnedFd>,
    what: impl FnOnce() -> String,
) -> Result<OwnedFd, Failure> {
    let error = match found {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let failure = Failure::of(what(), error).code("app.mount");
    Err(match error {
        Errno::EXIST | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP => failure.hint(
            "something in the image is in the way: a link to nowhere, or a file for a directory",
        ),
        Errno::ROFS => failure.hint("make the place in the volume, or mount the volume writable"),
        _ => failure,
    })
}

fn path(text: &str) -> Result<PodPath, Failure> {
    PodPath::parse(text).map_err(|error| Failure::of("cannot place a mount of ours", error))
}
