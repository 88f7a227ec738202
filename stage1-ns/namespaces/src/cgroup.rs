//! The pod's cgroup: a leaf for PID 1 and for each app, in one of two places.
//!
//! ```text
//!   UNIT/supervisor       the main process of a unit that systemd has handed over: its cgroup is
//!       /pod/init         the pod's, and `systemctl status` shows who is who
//!           /app-NAME
//!
//!   ours/pod-UUID/pod/…   everywhere else: one directory beneath our own
//! ```
//!
//! No process is ever moved but the supervisor, once: PID 1 and the apps are born in their leaves,
//! which is fifty times cheaper. `pod` belongs to the pod's root as far as births need it, with the
//! leaves' lists of members; nothing else does. Only cgroup v2 is used; on a host without it, or
//! with it read-only, pods run without, as long as nobody asked for a limit. Attributes of a unit's
//! own directory are systemd's: they are read here and never written.

mod change;
mod files;
mod freeze;
mod limit;
mod members;
mod memory;
mod met;
mod place;
mod usage;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use pod_abi::stage::{IdRange, Service};
use pod_abi::{AppName, PodId, layout};
use rustix::fs::{
    Access, AtFlags, Gid, Mode, OFlags, Uid, XattrFlags, accessat, chownat, fsetxattr, mkdirat,
    openat, unlinkat,
};
use rustix::io::Errno;
use supervisor::{During, Failure};

pub(crate) use self::change::change;
use self::files::read_all;
pub(crate) use self::limit::enforce;
use self::memory::Alarm;
use self::place::Place;

/// Where the supervisor goes.
const SUPERVISOR: &str = "supervisor";

/// The cgroup a pod is to have.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// The directory all paths start from: the unit's, or our own.
    ground: OwnedFd,
    place: Place,
    id: PodId,
    path: String,
    /// What was made or is to be made, outer ones first.
    directories: Vec<String>,
    /// Whether the supervisor has left the ground for a leaf.
    moved: bool,
    /// The controllers that were switched on for leaves.
    controllers: BTreeSet<&'static str>,
    /// Whether what only counts is switched on, whoever asks for it.
    counts: bool,
    alarm: Option<Alarm>,
}

impl Cgroup {
    /// Finds the place for a pod's cgroup, without making anything; `None` if the host has none.
    pub(crate) fn find(
        id: &PodId,
        service: Option<&Service>,
        directories: &[String],
    ) -> Option<Self> {
        let membership = read_all("/proc/self/cgroup")?;
        let ours = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mounts = read_all("/proc/self/mountinfo")?;
        let open = |ours: &str| {
            let directory = mounts.lines().find_map(|line| place::directory(line, ours))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let ground = openat(rustix::fs::CWD, directory, flags, Mode::empty()).ok()?;
            accessat(&ground, ".", Access::WRITE_OK, AtFlags::empty()).ok()?;
            Some(ground)
        };
        let unit = service
            .and_then(|service| place::of_unit(ours, &service.unit))
            .and_then(|(unit, place)| Some((open(unit)?, unit, place)))
            .filter(|(ground, ..)| place::is_handed_over(ground));
        let (ground, ours, place) = match unit {
            Some(unit) => unit,
            None => (open(ours)?, ours, Place::Beneath(layout::cgroup(id))),
        };
        let path = match &place {
            Place::Unit { .. } => format!("{}/pod", ours.trim_end_matches('/')),
            Place::Beneath(name) => format!("{}/{name}", ours.trim_end_matches('/')),
        };
        let own = place.own().map(str::to_owned).into_iter();
        let directories = own.chain(beneath(&place, directories)).collect();
        let counts = matches!(place, Place::Unit { .. });
        Some(Self {
            ground,
            place,
            counts,
            id: id.clone(),
            path,
            directories,
            moved: false,
            controllers: BTreeSet::new(),
            alarm: None,
        })
    }

    /// Has all that only counts switched on: on a machine that is the pod's alone.
    pub(crate) fn counting(self) -> Self {
        Self { counts: true, ..self }
    }

    /// Returns the pod's cgroup as an absolute path in the hierarchy.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Makes all directories and gives them to the root of the pod. In a unit, the supervisor leaves
    /// the unit's own directory first.
    pub(crate) fn make(&mut self, ids: Option<IdRange>) -> Result<(), Failure> {
        if self.place == (Place::Unit { aside: false }) {
            self.enter_aside()?;
        }
        self.make_these(&self.directories, ids)?;
        if matches!(self.place, Place::Unit { .. }) {
            self.mark()?;
        }
        Ok(())
    }

    /// Makes those of `directories` that are not there yet, and gives them to the root of the pod.
    pub(crate) fn extend(
        &mut self,
        directories: &[String],
        ids: Option<IdRange>,
    ) -> Result<(), Failure> {
        let known = |directory: &String| self.directories.contains(directory);
        let new: Vec<String> =
            beneath(&self.place, directories).filter(|one| !known(one)).collect();
        let made = self.make_these(&new, ids);
        // What was made before it failed is to be removed with the rest.
        self.directories.extend(new);
        made
    }

    /// Removes the leaf of an app that does not run, as far as that goes at once.
    pub(crate) fn remove_app(&mut self, app: &AppName) {
        let leaf = self.leaf(app);
        if let Some(alarm) = &mut self.alarm {
            alarm.forget(app);
        }
        if unlinkat(&self.ground, &leaf, AtFlags::REMOVEDIR).is_ok() {
            self.directories.retain(|directory| *directory != leaf);
        }
    }

    fn make_these(&self, directories: &[String], ids: Option<IdRange>) -> Result<(), Failure> {
        let mut fresh = true;
        for directory in directories {
            let making = || format!("cannot make cgroup `{directory}`");
            let mode = Mode::from_raw_mode(0o755);
            match mkdirat(&self.ground, directory, mode) {
                Ok(()) => {}
                // What an earlier pod of the unit has left may be limited, or be dying.
                Err(Errno::EXIST) if fresh && matches!(self.place, Place::Unit { .. }) => {
                    self.clear(directory)?;
                    mkdirat(&self.ground, directory, mode).during(making)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Failure::of(making(), error)),
            }
            fresh = false;
        }
        let Some(IdRange { base, .. }) = ids else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(base), Gid::from_raw(base));
        let pod = self.pod();
        let leaves = directories.iter().filter(|path| path.starts_with(&format!("{pod}/app-")));
        // For a birth into a leaf, its list of members and that of the common ancestor must be
        // writable; nothing else need be.
        for directory in std::iter::once(&pod).chain(leaves) {
            let path = format!("{directory}/cgroup.procs");
            chownat(&self.ground, &path, Some(uid), Some(gid), AtFlags::empty())
                .during(|| format!("cannot give cgroup file `{path}` to the pod, fchownat()"))?;
        }
        Ok(())
    }

    /// Marks the pod's directory in a unit, whose name does not tell whose it is, as this pod's.
    fn mark(&self) -> Result<(), Failure> {
        let pod = self.pod();
        let marking = || format!("cannot mark cgroup `{pod}`, fsetxattr()");
        let directory = self.open(&pod)?;
        let id = self.id.to_string();
        fsetxattr(&directory, layout::CGROUP_MARK, id.as_bytes(), XattrFlags::empty())
            .during(marking)
    }

    /// Makes the leaf of the supervisor and goes there: the one migration of a pod.
    fn enter_aside(&mut self) -> Result<(), Failure> {
        match mkdirat(&self.ground, SUPERVISOR, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| "cannot make cgroup `supervisor`"),
        }
        self.moved = true;
        self.put(&format!("{SUPERVISOR}/cgroup.procs"), "0")
            .during(|| "cannot move into cgroup `supervisor`")
    }

    /// Returns the path of the directory that all processes of the pod but the supervisor are in.
    fn pod(&self) -> String {
        self.place.beneath("pod")
    }

    /// Returns the path of the directory whose limits are the pod's.
    fn whole(&self) -> &str {
        self.place.own().unwrap_or(".")
    }

    fn leaf(&self, app: &AppName) -> String {
        self.place.beneath(&format!("pod/app-{app}"))
    }

    /// Opens the leaf of PID 1.
    pub(crate) fn open_init(&self) -> Result<OwnedFd, Failure> {
        self.open(&self.place.beneath("pod/init"))
    }

    /// Opens the leaf of an app.
    pub(crate) fn open_app(&self, app: &AppName) -> Result<OwnedFd, Failure> {
        self.open(&self.leaf(app))
    }

    fn open(&self, path: &str) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.ground, path, flags, Mode::empty())
            .during(|| format!("cannot open cgroup `{path}`"))
    }

    /// Returns the process of app `app` that PID 1 knows as `pid`.
    pub(crate) fn member(&self, app: &AppName, pid: u32) -> Option<u32> {
        let members = self.get(&format!("{}/cgroup.procs", self.leaf(app))).ok()?;
        let mut members = members.lines().filter_map(|line| line.parse().ok());
        members.find(|host| inner_pid(*host) == Some(pid))
    }

    /// Kills whatever is left in the pod's cgroup and takes it away as far as that goes at once.
    pub(crate) fn remove(&mut self) {
        self.alarm = None;
        let mut directories = self.directories.iter().rev();
        // PID 1 has ended and all of its namespace with it; a process that is still being torn
        // down keeps a leaf, which `pod reap` removes.
        let clean = directories
            .all(|directory| unlinkat(&self.ground, directory, AtFlags::REMOVEDIR).is_ok());
        if !clean {
            self.kill();
        }
        // Where a unit is the ground, systemd takes the rest away with us.
        if self.moved && matches!(self.place, Place::Beneath(_)) {
            self.move_back();
        }
    }

    /// Kills whatever is in the pod's cgroup; returns without waiting.
    pub(crate) fn kill(&self) {
        // Nothing to kill, or nothing to be done about it.
        let _ = self.put(&format!("{}/cgroup.kill", self.pod()), "1");
    }
}

fn beneath<'d>(place: &'d Place, directories: &'d [String]) -> impl Iterator<Item = String> + 'd {
    directories.iter().map(|directory| place.beneath(directory))
}

/// Returns the pid a process has in the pid namespace next to ours, or in ours if it has no other.
fn inner_pid(host: u32) -> Option<u32> {
    let status = read_all(&format!("/proc/{host}/status"))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut pids = pids.split_whitespace();
    let ours = pids.next()?;
    pids.next().unwrap_or(ours).parse().ok()
}
