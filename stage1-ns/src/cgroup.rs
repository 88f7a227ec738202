//! The pod's cgroup: one directory beneath our own, a leaf for PID 1 and for each app.
//!
//! ```text
//!   ours/pod-UUID/pod/init        given to the root of the pod: `pod`, and the leaves' members
//!                    /app-NAME
//! ```
//!
//! No process is ever moved: PID 1 and the apps are born in their leaves, which is fifty times
//! cheaper. Only cgroup v2 is used; on a host without it, or with it read-only, pods run without,
//! as long as nobody asked for a limit.

mod limit;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use pod_abi::stage::IdRange;
use pod_abi::{AppName, PodId, layout};
use rustix::fs::{
    Access, AtFlags, Gid, Mode, OFlags, Uid, accessat, chownat, mkdirat, openat, unlinkat,
};
use rustix::io::{Errno, read, write};
use supervisor::{During, Failure};

pub(crate) use self::limit::enforce;

/// The longest table of mounts read, in bytes: a hundred thousand mounts.
const MAX_TABLE: u64 = 16 << 20;

/// The cgroup a pod is to have.
#[derive(Debug)]
pub(crate) struct Cgroup {
    ours: OwnedFd,
    name: String,
    path: String,
    directories: Vec<String>,
    /// Whether the supervisor has left our cgroup for a leaf.
    moved: bool,
    /// The controllers that were switched on for leaves.
    controllers: BTreeSet<&'static str>,
}

impl Cgroup {
    /// Finds the place for a pod's cgroup, without making anything; `None` if the host has none.
    pub(crate) fn find(id: &PodId, directories: &[String]) -> Option<Self> {
        let membership = read_all("/proc/self/cgroup")?;
        let ours = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mounts = read_all("/proc/self/mountinfo")?;
        let directory = mounts.lines().find_map(|line| place(line, ours))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(rustix::fs::CWD, directory, flags, Mode::empty()).ok()?;
        accessat(&directory, ".", Access::WRITE_OK, AtFlags::empty()).ok()?;
        let name = layout::cgroup(id);
        let path = format!("{}/{name}", ours.trim_end_matches('/'));
        let directories = directories.to_vec();
        let controllers = BTreeSet::new();
        Some(Self { ours: directory, name, path, directories, moved: false, controllers })
    }

    /// Returns the pod's cgroup as an absolute path in the hierarchy.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Makes all directories and gives them to the root of the pod.
    pub(crate) fn make(&self, ids: Option<IdRange>) -> Result<(), Failure> {
        self.make_these(&self.directories, ids)
    }

    /// Makes those of `directories` that are not there yet, and gives them to the root of the pod.
    pub(crate) fn extend(
        &mut self,
        directories: &[String],
        ids: Option<IdRange>,
    ) -> Result<(), Failure> {
        let known = |directory: &&String| self.directories.contains(directory);
        let new: Vec<String> = directories.iter().filter(|one| !known(one)).cloned().collect();
        let made = self.make_these(&new, ids);
        // What was made before it failed is to be removed with the rest.
        self.directories.extend(new);
        made
    }

    /// Removes the leaf of an app that does not run, as far as that goes at once.
    pub(crate) fn remove_app(&mut self, app: &AppName) {
        let leaf = format!("{}/pod/app-{app}", self.name);
        if unlinkat(&self.ours, &leaf, AtFlags::REMOVEDIR).is_ok() {
            self.directories.retain(|directory| *directory != leaf);
        }
    }

    fn make_these(&self, directories: &[String], ids: Option<IdRange>) -> Result<(), Failure> {
        for directory in directories {
            match mkdirat(&self.ours, directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(Failure::of(format!("cannot make cgroup `{directory}`"), error));
                }
            }
        }
        let Some(IdRange { base, .. }) = ids else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(base), Gid::from_raw(base));
        let pod = format!("{}/pod", self.name);
        let leaves = directories.iter().filter(|path| path.starts_with(&format!("{pod}/app-")));
        // For a birth into a leaf, its list of members and that of the common ancestor must be
        // writable; nothing else need be.
        for directory in std::iter::once(&pod).chain(leaves) {
            let path = format!("{directory}/cgroup.procs");
            chownat(&self.ours, &path, Some(uid), Some(gid), AtFlags::empty())
                .during(|| format!("cannot give cgroup file `{path}` to the pod, fchownat()"))?;
        }
        Ok(())
    }

    /// Opens the leaf of PID 1.
    pub(crate) fn open_init(&self) -> Result<OwnedFd, Failure> {
        self.open("init")
    }

    /// Opens the leaf of an app.
    pub(crate) fn open_app(&self, app: &AppName) -> Result<OwnedFd, Failure> {
        self.open(&format!("app-{app}"))
    }

    fn open(&self, leaf: &str) -> Result<OwnedFd, Failure> {
        let path = format!("{}/pod/{leaf}", self.name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.ours, &path, flags, Mode::empty())
            .during(|| format!("cannot open cgroup `{path}`"))
    }

    /// Returns the process of app `app` that PID 1 knows as `pid`.
    pub(crate) fn member(&self, app: &AppName, pid: u32) -> Option<u32> {
        let path = format!("{}/pod/app-{app}/cgroup.procs", self.name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let members = openat(&self.ours, path, flags, Mode::empty()).ok()?;
        let mut text = [0; 1024];
        let count = read(&members, &mut text[..]).ok()?;
        let text = std::str::from_utf8(&text[..count]).ok()?;
        text.lines().filter_map(|line| line.parse().ok()).find(|host| inner_pid(*host) == Some(pid))
    }

    /// Kills whatever is left in the pod's cgroup and takes it away as far as that goes at once.
    pub(crate) fn remove(&self) {
        let mut directories = self.directories.iter().rev();
        // PID 1 has ended and all of its namespace with it; a process that is still being torn
        // down keeps a leaf, which `pod reap` removes.
        let clean = directories
            .all(|directory| unlinkat(&self.ours, directory, AtFlags::REMOVEDIR).is_ok());
        if !clean {
            self.kill();
        }
        self.move_back();
    }

    /// Kills whatever is in the pod's cgroup; returns without waiting.
    pub(crate) fn kill(&self) {
        let path = format!("{}/cgroup.kill", self.name);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = openat(&self.ours, path, flags, Mode::empty()) {
            // Nothing to kill, or nothing to be done about it.
            let _ = write(&file, b"1");
        }
    }
}

/// Reads a file of procfs at once, whose size is not known beforehand.
fn read_all(path: &str) -> Option<String> {
    let mut text = String::with_capacity(8 << 10);
    File::open(path).ok()?.take(MAX_TABLE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns the pid a process has in the pid namespace next to ours, or in ours if it has no other.
fn inner_pid(host: u32) -> Option<u32> {
    let status = read_all(&format!("/proc/{host}/status"))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut pids = pids.split_whitespace();
    let ours = pids.next()?;
    pids.next().unwrap_or(ours).parse().ok()
}

/// Returns the directory of cgroup `ours`, if `line` of mountinfo is a cgroup2 mount it is in.
fn place(line: &str, ours: &str) -> Option<String> {
    let (mount, file_system) = line.split_once(" - ")?;
    if !file_system.starts_with("cgroup2 ") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let beneath = match root {
        "/" => ours,
        root => ours.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
    };
    if point.contains('\\') || beneath.split('/').any(|part| part == "..") {
        return None;
    }
    Some(format!("{point}{beneath}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_directory_is_found_beneath_the_mount_it_is_in() {
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(place(line, "/").as_deref(), Some("/sys/fs/cgroup/unified/"));
        assert_eq!(place(line, "/a/b").as_deref(), Some("/sys/fs/cgroup/unified/a/b"));
        let line = "41 31 0:38 /a /mnt rw shared:3 - cgroup2 none rw";
        assert_eq!(place(line, "/a/b").as_deref(), Some("/mnt/b"));
        assert_eq!(place(line, "/ab"), None);
        assert_eq!(place(line, "/a/../b"), None);
        assert_eq!(place("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw", "/"), None);
    }
}
