//! What apps have written that are no more: out of the way at once, removed by a child.
//!
//! ```text
//!   /pod/apps/NAME ── rename ──▶ /pod/gone/N ── a child ──▶ nothing
//! ```
//!
//! A tree may hold millions of files, or be deeper than any process has descriptors, as its app
//! liked; whoever removes it must not be the one loop of this guest. So the child needs one
//! descriptor for each of two directories and no stack: what lies deeper is lifted up first. What a
//! machine that was ended has left on its second disk goes with its next boot.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_sys::{CloneFlags, Forked, clone3, forsake_all_but};
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, unlinkat,
};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use supervisor::{During, Failure};

type Outcome = std::result::Result<(), Failure>;

/// Moves the tree at `path` into `gone`, a directory of the same file system that is made if it is
/// not there, and begins to remove what is in that. A path where nothing is is no error.
///
/// # Errors
///
/// What has kept the tree where it is.
pub(crate) fn set_aside(path: &str, gone: &str) -> Outcome {
    let moving = || format!("cannot move `{path}` out of the way, renameat()");
    match mkdirat(CWD, gone, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).during(moving),
    }
    let gone = open(CWD, gone).during(moving)?;
    match lift(CWD, path, gone.as_fd(), &mut 0) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error).during(moving),
    }
    begin(&gone)
}

/// Begins to remove what a boot before this one has left in `gone`, if it is there.
///
/// # Errors
///
/// If no child can be made.
pub(crate) fn resume(gone: &str) -> Outcome {
    match open(CWD, gone) {
        Ok(gone) => begin(&gone),
        Err(_) => Ok(()),
    }
}

/// Has a child remove all that is in a directory. There may be several at once.
fn begin(gone: &OwnedFd) -> Outcome {
    match clone3(CloneFlags::NONE, None).during(|| "cannot start what removes files, clone3()")? {
        // It is collected like any other child.
        Forked::Parent { .. } => Ok(()),
        Forked::Child => {
            forsake_all_but(gone.as_fd(), |gone, _| u8::from(empty(&gone).is_err()), &[])
        }
    }
}

/// Removes all that is in a directory.
fn empty(directory: &OwnedFd) -> Result<()> {
    let mut next = 0;
    // What is lifted into it while it is read may be missed; it is there in the next round.
    while each(directory, |name| remove_one(directory, name, &mut next))? {}
    Ok(())
}

/// Removes one entry: a directory by lifting up what is deeper than its own entries.
fn remove_one(top: &OwnedFd, name: &CStr, next: &mut u64) -> Result<()> {
    match unlinkat(top, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return unless_gone(done),
    }
    let directory = match open(top.as_fd(), name) {
        Ok(directory) => directory,
        Err(error) => return unless_gone(Err(error)),
    };
    each(&directory, |inner| match unlinkat(&directory, inner, AtFlags::empty()) {
        Err(Errno::ISDIR) => unless_gone(lift(directory.as_fd(), inner, top.as_fd(), next)),
        done => unless_gone(done),
    })?;
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        // Another child has lifted something into it, or it was not read to its end.
        Err(Errno::NOTEMPTY) => Ok(()),
        done => unless_gone(done),
    }
}

/// Moves something into a directory, under a number that is free.
fn lift(
    from: BorrowedFd<'_>,
    name: impl Arg + Copy,
    to: BorrowedFd<'_>,
    next: &mut u64,
) -> Result<()> {
    loop {
        let number = format!("{next}");
        *next += 1;
        match renameat_with(from, name, to, number.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
}

/// Does something for each entry of a directory; tells whether there was any.
fn each(directory: &OwnedFd, mut deed: impl FnMut(&CStr) -> Result<()>) -> Result<bool> {
    let mut any = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            any = true;
            deed(entry.file_name())?;
        }
    }
    Ok(any)
}

/// Another child may have been faster.
fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn open(at: BorrowedFd<'_>, path: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    /// Deeper than many a process has descriptors; a trial goes beyond those of a guest.
    const DEEP: u32 = 2_000;

    #[test]
    fn a_tree_is_removed_however_deep_and_wide_it_is_and_nothing_beside_it() {
        let place = TempDir::new().unwrap();
        let (gone, beside) = (place.path().join("gone"), place.path().join("beside"));
        fs::create_dir_all(gone.join("wide/0")).unwrap();
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("kept"), "").unwrap();
        symlink(&beside, gone.join("wide/link")).unwrap();
        (0..2000).for_each(|number| fs::write(gone.join(format!("wide/{number}x")), "").unwrap());
        let mut at = open(CWD, &gone).unwrap();
        for _ in 0..DEEP {
            mkdirat(&at, "0", Mode::RWXU).unwrap();
            at = open(at.as_fd(), "0").unwrap();
        }
        drop(at);
        empty(&open(CWD, &gone).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&gone).unwrap().count(), 0);
        assert!(beside.join("kept").exists());
    }

    #[test]
    fn what_is_not_there_is_no_error_and_nothing_is_replaced() {
        let place = TempDir::new().unwrap();
        let gone = open(CWD, place.path()).unwrap();
        fs::write(place.path().join("0"), "old").unwrap();
        fs::write(place.path().join("new"), "new").unwrap();
        lift(gone.as_fd(), "new", gone.as_fd(), &mut 0).unwrap();
        assert_eq!(fs::read_to_string(place.path().join("0")).unwrap(), "old");
        assert_eq!(fs::read_to_string(place.path().join("1")).unwrap(), "new");
        assert!(unless_gone(lift(gone.as_fd(), "new", gone.as_fd(), &mut 0)).is_ok());
    }
}
