//! One app's tree, built step by step in a mount namespace of its own.
//!
//! Runs in the helper process ([`crate::helper`]), whose working directory is the staging area.
//! Every step is a few system calls on descriptors; where something goes in the image is looked
//! up by [`Root`] only.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags as Namespaces, setns};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use pod_abi::stage::IdRange;
use pod_abi::{AppName, PodPath};
use pod_sys::{CloneFlags, MountFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, fstat, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags as OldFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, chdir, fchdir, pivot_root, set_parent_process_death_signal};
use rustix::thread::{capabilities, set_capabilities};
use supervisor::{During, Failure};

use crate::devices;
use crate::mounts::{self, DATA, Depth, INERT};
use crate::plan::{AppPlan, EtcFile, Namespace, TreeStep};
use crate::root::Root;
use crate::staging::{self, ROOT};

/// A tree that is being built.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    app: &'a AppName,
    init: &'a OwnedFd,
    /// The first id of the pod on the host; 0 if it has none of its own.
    base: u32,
    root: Option<Root>,
}

/// Builds an app's tree; `init` is the pidfd of the pod's PID 1.
///
/// # Errors
///
/// What could not be done; the process is good for nothing but to exit.
pub(crate) fn build(plan: &AppPlan, init: &OwnedFd) -> Result<(), Failure> {
    let mut tree = Tree { app: &plan.name, init, base: 0, root: None };
    plan.steps.iter().try_for_each(|step| tree.perform(step))
}

impl Tree<'_> {
    fn perform(&mut self, step: &TreeStep) -> Result<(), Failure> {
        match step {
            TreeStep::JoinNamespaces(namespaces) => self.join(namespaces),
            TreeStep::ActAsPodRoot(ids) => self.act_as_pod_root(*ids),
            TreeStep::Overlay { layers, volatile } => self.overlay(layers, *volatile),
            TreeStep::Proc => self.own("proc", "proc", INERT),
            TreeStep::Sys => self.own("sys", "sysfs", INERT.read_only()),
            TreeStep::Dev => {
                let place = self.own_directory("dev")?;
                devices::mount(ROOT, &place, self.base)
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
            TreeStep::Volume { destination, volume, empty, read_only } => {
                let (staged, depth) = if *empty {
                    (format!("{}/{volume}", staging::EMPTY_VOLUMES), Depth::One)
                } else {
                    (staging::host_volume_path(volume), Depth::All)
                };
                let tree = self.cloned(&staged, depth)?;
                let flags = if *read_only { MountFlags::RDONLY } else { MountFlags::NONE };
                mounts::restrict(&tree, MountFlags::NOSUID | MountFlags::NODEV | flags, depth)
                    .during(|| format!("cannot restrict volume `{volume}`, mount_setattr()"))?;
                self.attach(&tree, destination)
            }
            TreeStep::Tmpfs { destination, size, mode, read_only } => {
                self.tmpfs(destination, *size, *mode, *read_only)
            }
            TreeStep::File(file) => self.file(*file),
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
        self.base = ids.base;
        let mut sets = capabilities(None).during(|| "capget()")?;
        setfsgid(Gid::from_raw(ids.base));
        setfsuid(Uid::from_raw(ids.base));
        sets.effective = sets.permitted;
        set_capabilities(None, sets).during(|| "cannot keep capabilities, capset()")?;
        // The change of ids has cleared it.
        set_parent_process_death_signal(Some(Signal::KILL)).during(|| "prctl(PR_SET_PDEATHSIG)")
    }

    /// Mounts the overlay from within a directory of short links to the layers, because all
    /// options of `mount(2)` share one page.
    fn overlay(&mut self, layers: &[String], volatile: bool) -> Result<(), Failure> {
        let directory = staging::lower_path(self.app);
        let linking = || self.of("cannot link the layers");
        mkdirat(CWD, &directory, Mode::from_raw_mode(0o700)).during(linking)?;
        chdir(&directory).during(linking)?;
        let mut lower = Vec::new();
        for (number, layer) in layers.iter().rev().enumerate() {
            let name = number.to_string();
            let target = format!("../{}/{layer}", staging::LAYERS);
            symlinkat(target, CWD, &name).during(linking)?;
            lower.push(name);
        }
        let app = staging::app_path(self.app);
        let options = format!(
            "lowerdir={},upperdir=../{app}/upper,workdir=../{app}/work,index=off{}",
            lower.join(":"),
            if volatile { ",volatile" } else { "" }
        );
        let options = CString::new(options)
            .map_err(|error| Failure::of(self.of("a layer holds a NUL byte"), error))?;
        let target = format!("../{ROOT}");
        mount("overlay", &target, "overlay", OldFlags::NODEV, options.as_c_str())
            .during(|| self.of("cannot mount the layers, mount(overlay)"))?;
        chdir("..").during(linking)?;
        self.root = Some(Root::open(ROOT).during(|| self.of("cannot open the root"))?);
        Ok(())
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

    fn tmpfs(
        &self,
        destination: &PodPath,
        size: Option<u64>,
        mode: u32,
        read_only: bool,
    ) -> Result<(), Failure> {
        let (mode, size) = (format!("{mode:o}"), size.map(|size| size.to_string()));
        let mut options = vec![("mode", mode.as_str())];
        options.extend(size.as_deref().map(|size| ("size", size)));
        let ban = if read_only { DATA.read_only() } else { DATA };
        let tree = mounts::new("tmpfs", &options, ban)
            .during(|| self.of(&format!("cannot make memory for `{destination}`")))?;
        self.attach(&tree, destination)
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

    fn lock(&self) -> Result<(), Failure> {
        setns(self.init, Namespaces::CLONE_NEWUSER)
            .during(|| self.of("cannot join the pod's user namespace, setns(CLONE_NEWUSER)"))?;
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
