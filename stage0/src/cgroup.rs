//! What is left of a pod in the cgroup tree: killing it and taking its directories away.
//!
//! The supervisor makes and removes cgroups; this is for when it could not. Only directories
//! called `pod-UUID` for a pod of ours are touched, and those called `pod`, in a unit, that bear
//! its mark: the same unit may have another pod by now. Source: kernel `cgroup-v2.rst`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pod_abi::{AppName, PodId, layout};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fgetxattr, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{CommandError, Context as _, Result};

/// How long killed processes may take to be gone. They are SIGKILLed; only one stuck in the
/// kernel takes longer than milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How deep and how wide the tree is searched at most; apps may make cgroups without number.
const MAX_DEPTH: usize = 16;
const MAX_DIRECTORIES: usize = 50_000;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns where the version 2 hierarchy is mounted.
pub(crate) fn mount_point() -> Option<PathBuf> {
    // The kernel makes this text anew for each read; few reads, then.
    let mut text = String::with_capacity(1 << 16);
    fs::File::open("/proc/self/mountinfo").ok()?.read_to_string(&mut text).ok()?;
    mount_point_in(&text).map(PathBuf::from)
}

fn mount_point_in(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        (back.split(' ').next() == Some("cgroup2")).then(|| front.split(' ').nth(4))?
    })
}

/// Lists the processes in the cgroup a pod has recorded, each with the app whose leaf it is in.
/// What ends meanwhile is passed over.
pub(crate) fn members(recorded: &str, id: &PodId) -> Vec<(u32, Option<AppName>)> {
    let (Some(mount), Some(path)) = (mount_point(), own(recorded, id)) else { return Vec::new() };
    let path = mount.join(path);
    if !open(&path).is_ok_and(|dir| is_of(&path, &dir, id)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut left = vec![(path, None, 0)];
    let mut seen = 0;
    while let Some((path, app, depth)) = left.pop() {
        let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|pid| Some((pid.parse().ok()?, app.clone()))));
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.filter_map(std::result::Result::ok) {
            seen += 1;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_dir || depth >= MAX_DEPTH || seen >= MAX_DIRECTORIES {
                continue;
            }
            // The first leaf on the way down counts: what is beneath it an app has named.
            let leaf = || AppName::parse(entry.file_name().to_str()?.strip_prefix("app-")?).ok();
            left.push((entry.path(), app.clone().or_else(leaf), depth + 1));
        }
    }
    found
}

/// The name of a pod's directory in that of a unit.
const IN_UNIT: &str = "pod";

/// Returns the path of the pod's own directory in what it has recorded, which may be one beneath
/// it; never one above or beside it. One whose name does not tell must bear the pod's mark.
fn own(recorded: &str, id: &PodId) -> Option<PathBuf> {
    let name = layout::cgroup(id);
    let mut path = PathBuf::new();
    for part in recorded.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        if part == name {
            return Some(path);
        }
        if part == ".." {
            return None;
        }
    }
    (path.file_name()? == IN_UNIT && path.parent()? != Path::new("")).then_some(path)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

/// Tells whether the open directory at `path` is the pod's.
fn is_of(path: &Path, dir: &OwnedFd, id: &PodId) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(pod_of).as_ref() == Some(id)
        || (name == Some(IN_UNIT) && marked(dir).as_ref() == Some(id))
}

/// Returns the pod whose mark a directory bears.
fn marked(dir: &OwnedFd) -> Option<PodId> {
    let mut mark = [0; 64];
    let count = fgetxattr(dir, layout::CGROUP_MARK, &mut mark).ok()?;
    PodId::parse(std::str::from_utf8(&mark[..count]).ok()?).ok()
}

/// Kills what lives in the cgroup a pod has recorded, and removes it.
///
/// # Errors
///
/// `cgroup.busy` if something in it does not die, `storage` otherwise.
pub(crate) fn remove_recorded(recorded: &str, id: &PodId) -> Result<()> {
    match (own(recorded, id), mount_point()) {
        (Some(path), Some(mount)) => remove(&mount.join(path), id),
        _ => Ok(()),
    }
}

/// Finds cgroups of the pods `ids`, wherever they are, and removes them. Returns how many.
///
/// # Errors
///
/// As [`remove_recorded`].
pub(crate) fn remove_everywhere(ids: &BTreeSet<PodId>) -> Result<usize> {
    let Some(mount) = mount_point().filter(|_| !ids.is_empty()) else { return Ok(0) };
    let mut found = Vec::new();
    let mut left = vec![(mount, 0)];
    let mut seen = 0;
    while let Some((path, depth)) = left.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.filter_map(std::result::Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            let name = entry.file_name();
            let id = match name.to_str() {
                Some(IN_UNIT) => open(&entry.path()).ok().as_ref().and_then(marked),
                name => name.and_then(pod_of),
            };
            match id.filter(|id| ids.contains(id)) {
                Some(id) => found.push((entry.path(), id)),
                None if depth < MAX_DEPTH && seen < MAX_DIRECTORIES => {
                    left.push((entry.path(), depth + 1));
                }
                None => {}
            }
        }
    }
    for (path, id) in &found {
        remove(path, id)?;
    }
    Ok(found.len())
}

fn pod_of(name: &str) -> Option<PodId> {
    PodId::parse(name.strip_prefix("pod-")?).ok()
}

fn remove(path: &Path, id: &PodId) -> Result<()> {
    let dir = match open(path) {
        Ok(dir) if is_of(path, &dir, id) => dir,
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => {
            return Err(error).context(|| format!("cannot open cgroup `{}`", path.display()));
        }
    };
    kill(&dir)?;
    remove_beneath(&dir, 0);
    match unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => Err(CommandError::new(
            "cgroup.busy",
            format!("processes of pod `{id}` do not die; cgroup `{}` stays", path.display()),
        )
        .hint("`pod gc` tries again")),
        Err(error) => Err(error).context(|| format!("cannot remove cgroup `{}`", path.display())),
    }
}

/// Kills everything at and beneath `dir` and waits until it is gone.
fn kill(dir: &OwnedFd) -> Result<()> {
    let write = OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(dir, "cgroup.kill", write, Mode::empty()) {
        Ok(file) => fs::File::from(file)
            .write_all(b"1")
            .context(|| "cannot write `1` to `cgroup.kill`".to_owned())?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error).context(|| "cannot open `cgroup.kill`".to_owned()),
    }
    let events = openat(dir, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "cannot open `cgroup.events`".to_owned())?;
    let deadline = Instant::now() + PATIENCE;
    while is_populated(&events) {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
        let left = Timespec::try_from(left).ok();
        // The kernel wakes whoever polls for a change of this file (POLLPRI).
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], left.as_ref()); // looked at again
    }
    Ok(())
}

fn is_populated(events: &OwnedFd) -> bool {
    let mut text = [0; 256];
    let read = rustix::io::pread(events, &mut text, 0).unwrap_or(0);
    text[..read].split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
}

/// Removes all directories beneath `dir`, innermost first, as far as they let themselves be.
fn remove_beneath(dir: &OwnedFd, depth: usize) {
    let Ok(entries) = Dir::read_from(dir) else { return };
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory || name == c"." || name == c".." {
            continue;
        }
        if depth < MAX_DEPTH
            && let Ok(child) = openat(dir.as_fd(), name, DIRECTORY, Mode::empty())
        {
            remove_beneath(&child, depth + 1);
        }
        let _ = unlinkat(dir, name, AtFlags::REMOVEDIR); // the caller sees what is left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_by_its_file_system() {
        let text = "29 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    36 23 0:33 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 none rw\n";
        assert_eq!(mount_point_in(text), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point_in("1 2 3:4 / /cgroup2 rw - tmpfs cgroup2 rw\n"), None);
    }

    #[test]
    fn what_is_recorded_is_the_pods_own_or_nothing() {
        let id = PodId::parse("0b6a1f2e-3c4d-4e5f-8a9b-0c1d2e3f4a5b").unwrap();
        let own = |recorded: &str| own(recorded, &id).map(|path| path.display().to_string());
        let name = layout::cgroup(&id);
        let beneath = format!("user.slice/{name}");
        assert_eq!(own(&format!("/{beneath}")), Some(beneath.clone()));
        assert_eq!(own(&format!("/{beneath}/pod/init")), Some(beneath));
        let unit = "machine.slice/pod-web.service/pod";
        assert_eq!(own(&format!("/{unit}")).as_deref(), Some(unit));
        for other in
            ["", "/", "/pod", "/../pod", "/a/../b/pod", "/system.slice/a.service", "/x/podx"]
        {
            assert_eq!(own(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_marked_directory_of_a_unit_is_the_pods() {
        // Marks of users can be had on most file systems; on none of them does this test less.
        let root = tempfile::tempdir().unwrap();
        let id = PodId::parse("0b6a1f2e-3c4d-4e5f-8a9b-0c1d2e3f4a5b").unwrap();
        let other = PodId::parse("1b6a1f2e-3c4d-4e5f-8a9b-0c1d2e3f4a5b").unwrap();
        let path = root.path().join("pod");
        fs::create_dir(&path).unwrap();
        let dir = open(&path).unwrap();
        assert!(!is_of(&path, &dir, &id));
        let mark = id.to_string();
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::fsetxattr(&dir, layout::CGROUP_MARK, mark.as_bytes(), flags).is_ok() {
            assert!(is_of(&path, &dir, &id));
        }
        assert!(!is_of(&path, &dir, &other));
        remove(&path, &other).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn only_names_of_pods_are_ours() {
        let id = "0b6a1f2e-3c4d-4e5f-8a9b-0c1d2e3f4a5b";
        assert!(pod_of(&format!("pod-{id}")).is_some());
        for other in [id, "pod-x", "machine.slice"] {
            assert!(pod_of(other).is_none(), "{other}");
        }
    }
}
