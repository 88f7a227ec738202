//! Removing a tree an app has written, by descriptor.
//!
//! Nothing in it is trusted: links are removed, never followed; a mount or another file system in
//! it is refused; however deep it is, neither stack nor descriptors grow, because a directory
//! beyond a certain depth is moved to the top first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// How deep we go before a directory is moved to the top; also the most descriptors held.
const MAX_DEPTH: usize = 64;

/// Removes directory `name` of `parent` with all it holds. That it is not there is fine.
///
/// # Errors
///
/// `EXDEV` or `EBUSY` for a mount, and the kernel's own; parts may be left.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &str) -> Result<()> {
    let top = match open_dir(parent, name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut moved = 0_u64;
    // Each pass moves what lies too deep to the top, where the next pass meets it.
    loop {
        let before = moved;
        empty(open_dir(&top, ".")?, &top, 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match remove_dir(parent, name)? {
        Removed::Yes => Ok(()),
        Removed::NotEmpty => Err(Errno::NOTEMPTY),
    }
}

fn open_dir(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

enum Removed {
    Yes,
    NotEmpty,
}

fn remove_dir(parent: impl AsFd, name: impl Arg) -> Result<Removed> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(Removed::Yes),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Removed::NotEmpty),
        Err(error) => Err(error),
    }
}

/// Empties `dir`, which lies `depth` below `top`.
fn empty(dir: OwnedFd, top: &OwnedFd, depth: usize, moved: &mut u64) -> Result<()> {
    let mut entries = Dir::new(dir)?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let (name, dir) = (entry.file_name(), entries.fd()?);
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {} // the file system does not tell types
                Err(error) => return Err(error),
            }
        }
        // Most directories of a pod are empty: mount points.
        if matches!(remove_dir(dir, name)?, Removed::Yes) {
            continue;
        }
        if depth >= MAX_DEPTH {
            match renameat(dir, name, top, format!(".moved-{moved}")) {
                // What an earlier, killed removal has moved stands there.
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => *moved += 1,
                Err(error) => return Err(error),
            }
            continue;
        }
        match open_dir(dir, name) {
            Ok(child) => empty(child, top, depth + 1, moved)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        // What is not empty now holds what was moved in the meantime; the next pass meets it.
        let _ = remove_dir(dir, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("tree/a/b")).unwrap();
        fs::write(root.path().join("kept"), "x").unwrap();
        symlink("../kept", root.path().join("tree/link")).unwrap();
        symlink("..", root.path().join("tree/a/up")).unwrap();
        remove_tree(open(root.path()).as_fd(), "tree").unwrap();
        assert!(!root.path().join("tree").exists() && root.path().join("kept").exists());
        remove_tree(open(root.path()).as_fd(), "tree").unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("kept")).unwrap();
        symlink("kept", root.path().join("tree")).unwrap();
        assert!(remove_tree(open(root.path()).as_fd(), "tree").is_err());
        assert!(root.path().join("kept").exists());
    }

    #[test]
    fn depth_beyond_every_path_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let mut dir = open(root.path());
        for depth in 0..2_000 {
            let name = if depth == 0 { "tree" } else { "a" };
            rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)).unwrap();
            dir = open_dir(&dir, name).unwrap();
        }
        drop(dir);
        remove_tree(open(root.path()).as_fd(), "tree").unwrap();
        assert!(!root.path().join("tree").exists());
    }

    #[test]
    fn what_a_killed_removal_has_moved_is_in_nobodys_way() {
        let root = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("a", 3 * MAX_DEPTH).collect();
        fs::create_dir_all(root.path().join("tree/.moved-0").join(&deep)).unwrap();
        fs::create_dir_all(root.path().join("tree").join(&deep)).unwrap();
        fs::write(root.path().join("tree/.moved-1"), "x").unwrap();
        remove_tree(open(root.path()).as_fd(), "tree").unwrap();
        assert!(!root.path().join("tree").exists());
    }
}
