//! Standard input, output and error of a process on its way to `execve`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pod_sys::{open_in_root, place};
use rustix::fs::{FileType, OFlags, fstat, major, minor};
use rustix::io::Errno;

use super::Streams;
use super::masks::open_root;

/// Puts a process's streams at 0, 1 and 2.
pub(super) fn set(streams: Streams<'_>) -> io::Result<()> {
    match streams {
        Streams::Given(three) | Streams::Terminal(three) => {
            three.into_iter().zip(0..).try_for_each(|(fd, at)| place(fd, at))
        }
        Streams::Null => {
            let null = null()?;
            (0..3).try_for_each(|at| place(null.as_fd(), at))
        }
    }
}

/// Opens `/dev/null` of the app, if it is still what it was.
fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = open_in_root(&open_root()?, "dev/null", flags)?;
    let stat = fstat(&null)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(null) } else { Err(Errno::NODEV.into()) }
}
