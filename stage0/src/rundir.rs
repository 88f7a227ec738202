//! The run directories of pods: made before a start, gone after the end.
//!
//! Each bears the mark of the root its pod belongs to, because two roots may share a run root and
//! neither may sweep what is the other's. While it has no mark yet, or no more, the mark stands in
//! its name: whoever dies over making or removing one leaves nothing of which nobody knows whose it
//! is.

use std::os::fd::{BorrowedFd, OwnedFd};

use pod_abi::{PodId, layout};
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fstat, mkdirat, openat, readlinkat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Context as _, Result};

/// The mark, a symbolic link whose target is no path.
const MARK: &str = "root";
/// What stands between id and mark in the name of one that is half made, or half removed.
const HALF: char = '~';
/// Tells, by being there, that whoever started the pod reads errors as JSON.
const JSON: &str = "json";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the words that stand for a root as long as the machine is up.
///
/// # Errors
///
/// `storage`.
pub(crate) fn mark_of(root: BorrowedFd<'_>) -> Result<String> {
    let stat = fstat(root).context(|| "cannot look at the root".to_owned())?;
    Ok(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Makes and opens the run directory of pod `id`.
///
/// # Errors
///
/// `storage`.
pub(crate) fn make(run_root: BorrowedFd<'_>, id: &PodId, mark: &str) -> Result<OwnedFd> {
    let tell = || format!("cannot make the run directory of pod `{id}`");
    let half = half(id, mark);
    mkdirat(run_root, &half, Mode::from_raw_mode(0o700)).context(tell)?;
    let dir = openat(run_root, &half, DIRECTORY, Mode::empty()).context(tell)?;
    symlinkat(mark, &dir, MARK).context(tell)?;
    renameat(run_root, &half, run_root, id.as_str()).context(tell)?;
    Ok(dir)
}

/// Returns the name of a directory that bears no mark.
fn half(id: &PodId, mark: &str) -> String {
    format!("{id}{HALF}{mark}")
}

/// Notes that the error of this run, if there will be one, is to be printed as JSON.
///
/// # Errors
///
/// `storage`.
pub(crate) fn ask_for_json(run: BorrowedFd<'_>) -> Result<()> {
    symlinkat(JSON, run, JSON).context(|| "cannot write to a run directory".to_owned())
}

/// Tells whether errors of this run are to be printed as JSON.
pub(crate) fn asks_for_json(run: BorrowedFd<'_>) -> bool {
    statat(run, JSON, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Tells whether a supervisor listens, or has listened, in a run directory.
pub(crate) fn has_socket(run: BorrowedFd<'_>) -> bool {
    statat(run, layout::CONTROL_SOCKET, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Opens the run directory of pod `id`, if it has one.
pub(crate) fn open(run_root: BorrowedFd<'_>, id: &PodId) -> Option<OwnedFd> {
    openat(run_root, id.as_str(), DIRECTORY, Mode::empty()).ok()
}

/// Removes the run directory of pod `id`, if it has one: sockets and the mark, nothing deeper.
///
/// # Errors
///
/// `storage`.
pub(crate) fn remove(run_root: BorrowedFd<'_>, id: &PodId) -> Result<()> {
    let tell = || format!("cannot remove the run directory of pod `{id}`");
    let Some(dir) = open(run_root, id) else { return Ok(()) };
    let mut mark = None;
    for entry in Dir::read_from(&dir).context(tell)?.filter_map(std::result::Result::ok) {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if name.to_bytes() == MARK.as_bytes() {
            mark = readlinkat(&dir, MARK, Vec::new()).ok();
            continue;
        }
        match unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                unlinkat(&dir, name, AtFlags::REMOVEDIR).context(tell)?;
            }
            Err(error) => return Err(error).context(tell),
        }
    }
    let Some(mark) = mark.as_ref().and_then(|mark| mark.to_str().ok()) else {
        return removed(unlinkat(run_root, id.as_str(), AtFlags::REMOVEDIR)).context(tell);
    };
    removed(renameat(run_root, id.as_str(), run_root, half(id, mark))).context(tell)?;
    remove_half(run_root, id, mark)
}

/// Removes the run directory of pod `id` that whoever made or removed it has died over, if there is
/// one. Nobody may be at it any more.
///
/// # Errors
///
/// `storage`.
pub(crate) fn remove_half(run_root: BorrowedFd<'_>, id: &PodId, mark: &str) -> Result<()> {
    let tell = || format!("cannot remove the run directory of pod `{id}`");
    let half = half(id, mark);
    removed(unlinkat(run_root, format!("{half}/{MARK}"), AtFlags::empty())).context(tell)?;
    removed(unlinkat(run_root, &half, AtFlags::REMOVEDIR)).context(tell)
}

/// Takes what is gone already for removed.
fn removed(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Lists the pods that have a run directory and belong to the root of `mark`.
///
/// A directory without any mark was made by an older version; it belongs to whoever knows the pod,
/// so it is listed too.
///
/// # Errors
///
/// `storage`.
pub(crate) fn list(run_root: BorrowedFd<'_>, mark: &str) -> Result<Vec<(PodId, Marked)>> {
    let tell = || "cannot list the run root".to_owned();
    let dir = openat(run_root, ".", DIRECTORY, Mode::empty()).context(tell)?;
    let mut list = Vec::new();
    for entry in Dir::new(dir).context(tell)?.filter_map(std::result::Result::ok) {
        let Ok(name) = entry.file_name().to_str() else { continue };
        let (id, half) = name.split_once(HALF).map_or((name, None), |(id, of)| (id, Some(of)));
        let Ok(id) = PodId::parse(id) else { continue };
        if let Some(half) = half {
            list.extend((half == mark).then_some((id, Marked::Half)));
            continue;
        }
        match readlinkat(run_root, format!("{id}/{MARK}"), Vec::new()) {
            Ok(target) if target.to_bytes() == mark.as_bytes() => list.push((id, Marked::Ours)),
            Err(Errno::NOENT) => list.push((id, Marked::Unmarked)),
            _ => {}
        }
    }
    Ok(list)
}

/// Whether a run directory bears a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// Ours.
    Ours,
    /// In its name: it is being made, or removed, or somebody has died over that.
    Half,
    /// None.
    Unmarked,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_run_directory_is_known_by_its_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let id = PodId::from_random([7; 16]);
        let run = make(root.as_fd(), &id, "1:2").unwrap();
        std::fs::write(dir.path().join(id.as_str()).join("control.sock"), "").unwrap();
        drop(run);
        assert_eq!(list(root.as_fd(), "1:2").unwrap(), [(id.clone(), Marked::Ours)]);
        assert_eq!(list(root.as_fd(), "1:3").unwrap(), []);
        remove(root.as_fd(), &id).unwrap();
        assert!(open(root.as_fd(), &id).is_none());
        remove(root.as_fd(), &id).unwrap();
    }

    #[test]
    fn whoever_dies_half_way_leaves_what_is_known_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let root: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let id = PodId::from_random([7; 16]);
        let half = dir.path().join(format!("{id}~1:2"));
        for mark in [None, Some("1:2")] {
            std::fs::create_dir(&half).unwrap();
            mark.into_iter().for_each(|mark| symlink(mark, half.join(MARK)).unwrap());
            assert_eq!(list(root.as_fd(), "1:2").unwrap(), [(id.clone(), Marked::Half)]);
            assert_eq!(list(root.as_fd(), "1:3").unwrap(), []);
            remove_half(root.as_fd(), &id, "1:2").unwrap();
            assert_eq!(list(root.as_fd(), "1:2").unwrap(), []);
        }
        remove_half(root.as_fd(), &id, "1:2").unwrap();
    }
}
