//! Small files beneath a descriptor: read with a bound, replaced durably.

use std::fs::File;
use std::io;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens `path` beneath `dir` for reading; its last component may be no symbolic link, and must
/// be a regular file.
pub(super) fn open(dir: impl AsFd, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(dir, path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::INVAL.into()) }
}

/// Opens the directory `path` beneath `dir`; its last component may be no symbolic link.
pub(super) fn open_dir(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    Ok(rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// Opens the directory `path`, of any bytes, beneath `root`, through no symbolic link; empty is the
/// root itself.
pub(crate) fn beneath(root: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Reads a whole file of at most `limit` bytes; a larger one is `EFBIG`.
pub(super) fn read(dir: impl AsFd, path: &str, limit: usize) -> io::Result<Vec<u8>> {
    read_all(open(dir, path)?, limit)
}

/// Reads to the end, at most `limit` bytes; more is `EFBIG`.
pub(super) fn read_all(from: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    // Room for nearly every document, so that one read takes it.
    let mut bytes = Vec::with_capacity(limit.min(8192));
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(bound).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(Errno::FBIG.into()) } else { Ok(bytes) }
}

/// Makes a new file and writes all of it; durable once it has been synced. It is locked as long
/// as it is open, which tells gc that its maker lives.
pub(super) fn write_new(dir: impl AsFd, path: &str, bytes: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        let mut file = File::from(rustix::fs::openat(&dir, path, flags, Mode::from(0o600))?);
        // gc may come between: it locks the file, sees that nobody holds it, and removes it. It is
        // waited for, as it holds the lock for no longer than that.
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        if is_still(&dir, path, &file)? {
            file.write_all(bytes)?;
            return Ok(file);
        }
        if exists(&dir, path)? {
            return Err(Errno::EXIST.into());
        }
    }
}

/// Puts `bytes` at `path`: written aside as `aside`, synced, renamed, and the directory synced. A
/// reader sees the old content or the new; after a crash one of the two is there.
pub(super) fn replace(
    dir: impl AsFd,
    aside: &str,
    path: &str,
    parent: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let dir = dir.as_fd();
    let moved = write_new(dir, aside, bytes).and_then(|file| {
        file.sync_all()?;
        Ok(rustix::fs::renameat(dir, aside, dir, path)?)
    });
    if moved.is_err() {
        // It may not have been made; what stays is residue that gc sweeps.
        let _ = rustix::fs::unlinkat(dir, aside, AtFlags::empty());
        return moved;
    }
    sync_dir(dir, parent)
}

/// Makes renames into the directory `path` durable.
pub(super) fn sync_dir(dir: impl AsFd, path: &str) -> io::Result<()> {
    Ok(rustix::fs::fsync(open_dir(dir, path)?)?)
}

/// Tells whether there is something at `path`, a symbolic link included.
pub(super) fn exists(dir: impl AsFd, path: &str) -> io::Result<bool> {
    match rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Tells whether `path` still is the file behind `file`: locks are taken on files that somebody
/// may have renamed or removed between opening and locking.
pub(super) fn is_still(dir: impl AsFd, path: &str, file: impl AsFd) -> io::Result<bool> {
    let ours = rustix::fs::fstat(file)?;
    match rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Takes the exclusive lock of `file` if nobody holds any.
pub(super) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Returns a name that no other process and no other call uses at this time.
pub(super) fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = super::refs::now().0;
    format!("{prefix}{}-{nanos:x}-{count}", std::process::id())
}

/// Lists the names in the directory `path`, sorted; those that are no UTF-8 are not ours and are
/// given with replacement characters.
pub(super) fn list(dir: impl AsFd, path: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(open_dir(dir, path)?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
