//! Joining a layer to those below it, where its archive speaks of what only they have.
//!
//! A directory that the archive implies has in the merged view the attributes a lower layer gives
//! it, so they are copied. A hard link whose target is in a lower layer becomes a link to a copy,
//! at the target's own path, as overlayfs would have made it. All looks are without following
//! links, in trees nobody else writes to. Reference: image-spec `layer.md`, "Applying Changesets".

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::copy_up::{copy_attributes, copy_up, times};
use crate::layer::LayerFacts;
use crate::store::Merged;

/// How often a look-up is tried that others' renames and mounts, anywhere on the host, disturb:
/// `openat2(2)` then says `EAGAIN` for paths that climb.
const ATTEMPTS: usize = 64;

/// Why a layer cannot be joined.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainError {
    #[error("hard link `{link}` leads to `{target}`, which no layer has")]
    NoTarget { link: String, target: String },
    #[error("hard link `{link}` leads to `{target}`, which is no file")]
    NoFile { link: String, target: String },
    #[error("cannot {what} `{path}`")]
    Io { what: &'static str, path: String, source: io::Error },
}

fn failed(what: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> ChainError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |source| ChainError::Io { what, path, source }
}

/// Completes `tree` with what `facts` says is missing and `lower` has.
pub(super) fn complete(
    tree: BorrowedFd<'_>,
    facts: &LayerFacts,
    mut lower: Merged,
) -> Result<(), ChainError> {
    for path in &facts.implicit_dirs {
        copy_directory(tree, path, &lower).map_err(failed("copy the attributes of", path))?;
    }
    if facts.lower_links.is_empty() {
        return Ok(());
    }
    let own = tree.try_clone_to_owned().map_err(failed("open", b"."))?;
    let own = open_dir(own.as_fd(), b".").map_err(failed("open", b"."))?;
    let below = lower.share().map_err(failed("open", b"."))?;
    lower.put_on_top(own);
    for (link, target) in &facts.lower_links {
        make_link(tree, link, target, &lower, &below)?;
    }
    Ok(())
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect()
}

/// Opens a directory beneath `root` without following any link.
fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Gives the directory `path` of `tree` the attributes it has below, if it is one there and here.
fn copy_directory(tree: BorrowedFd<'_>, path: &[u8], lower: &Merged) -> io::Result<()> {
    let components = components(path);
    let Some(found) = lower.find(&components)? else { return Ok(()) };
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let dir = match open_dir(tree, &components.join(&b'/')) {
        Ok(dir) => dir,
        // A later entry of the archive put something else in its place.
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let from = open_dir(found.parent.as_fd(), &found.name)?;
    copy_attributes(&from, &dir, &found.stat)
}

fn is_gone(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Makes `link` a hard link to `target`, which is copied up if it is only below.
fn make_link(
    tree: BorrowedFd<'_>,
    link: &[u8],
    target: &[u8],
    all: &Merged,
    below: &Merged,
) -> Result<(), ChainError> {
    let words = || {
        let word = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        (word(link), word(target))
    };
    let parts = components(target);
    let found = all.find(&parts).map_err(failed("find", target))?.ok_or_else(|| {
        let (link, target) = words();
        ChainError::NoTarget { link, target }
    })?;
    if !matches!(
        FileType::from_raw_mode(found.stat.st_mode),
        FileType::RegularFile | FileType::Symlink | FileType::Fifo
    ) {
        let (link, target) = words();
        return Err(ChainError::NoFile { link, target });
    }
    let (target_parent, target_name) =
        parent(tree, &parts, below).map_err(failed("make the directory of", target))?;
    keeping_times(&target_parent, || copy_up(&found, &target_parent, &target_name))
        .map_err(failed("copy up", target))?;
    let link_parts = components(link);
    let (link_parent, link_name) =
        parent(tree, &link_parts, below).map_err(failed("make the directory of", link))?;
    let flags = AtFlags::empty();
    keeping_times(&link_parent, || {
        let made = rustix::fs::linkat(
            &target_parent,
            target_name.as_slice(),
            &link_parent,
            link_name.as_slice(),
            flags,
        );
        match made {
            // A later entry of the archive stands there.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(other) => Err(other.into()),
        }
    })
    .map_err(failed("link", link))
}

/// Opens the directory of a path in `tree`, through links of the tree itself as the archive's own
/// entries are; what is missing on the way is made as it is below.
fn parent(tree: BorrowedFd<'_>, parts: &[&[u8]], below: &Merged) -> io::Result<(OwnedFd, Vec<u8>)> {
    let Some((name, parents)) = parts.split_last() else { return Err(Errno::INVAL.into()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = [&b"."[..], &parents.join(&b'/')].join(&b'/');
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(tree, &path, flags, Mode::empty(), resolve) {
            Ok(dir) => return Ok((dir, name.to_vec())),
            Err(Errno::AGAIN) => {}
            Err(_) => break,
        }
    }
    let mut dir = open_dir(tree, b".")?;
    for (depth, part) in parents.iter().enumerate() {
        dir = match open_dir(dir.as_fd(), part) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                keeping_times(&dir, || Ok(rustix::fs::mkdirat(&dir, *part, Mode::from(0o755))?))?;
                let made = open_dir(dir.as_fd(), part)?;
                if let Some(found) = below.find(&parts[..=depth])? {
                    let from = open_dir(found.parent.as_fd(), &found.name)?;
                    copy_attributes(&from, &made, &found.stat)?;
                }
                made
            }
            Err(error) => return Err(error),
        };
    }
    Ok((dir, name.to_vec()))
}

/// Does something within `dir` that is not to be seen in its times.
fn keeping_times(dir: &OwnedFd, deed: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let before = rustix::fs::fstat(dir)?;
    deed()?;
    Ok(rustix::fs::futimens(dir, &times(&before))?)
}
