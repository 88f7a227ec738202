//! Looking through several layers as overlayfs would show them, without mounting.
//!
//! Follows no symbolic link at all: a path that leads through one, or up, is not found. Whiteouts, opaque
//! directories and things that are no directories hide what lies below.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::PodPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::files;
use super::handle::Store;
use crate::error::{Error, ErrorKind};

/// Marks a directory that hides the lower ones of its name (overlayfs documentation).
const OPAQUE: &str = "trusted.overlay.opaque";

/// Trees, the topmost first.
#[derive(Debug)]
pub(crate) struct Merged {
    trees: Vec<OwnedFd>,
}

/// Something that was found: a name in a directory of one of the trees.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) parent: OwnedFd,
    pub(crate) name: Vec<u8>,
    pub(crate) stat: Stat,
}

/// What one tree says of a path.
enum Answer {
    Here(Found),
    /// It does not know; ask the next one below.
    Nothing,
    /// It hides whatever is below.
    Hidden,
}

impl Merged {
    pub(super) fn new(trees: Vec<OwnedFd>) -> Self {
        Self { trees }
    }

    /// Returns a second view of the same trees.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let trees = self.trees.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { trees })
    }

    /// Puts one more tree on top.
    pub(crate) fn put_on_top(&mut self, tree: OwnedFd) {
        self.trees.insert(0, tree);
    }

    /// Returns what `components` lead to, if anything; at least one is needed.
    pub(crate) fn find(&self, components: &[&[u8]]) -> io::Result<Option<Found>> {
        // The kernel would take it for the way up.
        if components.contains(&&b".."[..]) {
            return Ok(None);
        }
        for tree in &self.trees {
            match look(tree.as_fd(), components)? {
                Answer::Here(found) => return Ok(Some(found)),
                Answer::Nothing => {}
                Answer::Hidden => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn look(tree: BorrowedFd<'_>, components: &[&[u8]]) -> io::Result<Answer> {
    let Some((last, parents)) = components.split_last() else { return Ok(Answer::Nothing) };
    let mut dir = tree.try_clone_to_owned()?;
    let mut opaque = is_opaque(&dir)?;
    for component in parents {
        let Some(stat) = stat(&dir, component)? else { return Ok(absent(opaque)) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Answer::Hidden);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, *component, flags, Mode::empty())?;
        opaque = opaque || is_opaque(&dir)?;
    }
    match stat(&dir, last)? {
        None => Ok(absent(opaque)),
        Some(stat) if is_whiteout(&stat) => Ok(Answer::Hidden),
        Some(stat) => Ok(Answer::Here(Found { parent: dir, name: last.to_vec(), stat })),
    }
}

fn absent(opaque: bool) -> Answer {
    if opaque { Answer::Hidden } else { Answer::Nothing }
}

fn stat(dir: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    let mut value = [0_u8; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(Errno::RANGE) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

impl Store {
    /// Reads the regular file `path` as an app made of `layers`, lowest first, would see it before
    /// it writes anything. `None` if there is none, or only behind a symbolic link.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if it is larger than `limit` bytes, [`ErrorKind::NotFound`] if a
    /// layer is missing.
    pub fn read_file(
        &self,
        layers: &[pod_abi::Digest],
        path: &PodPath,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let merged = self.merged(layers)?;
        let components: Vec<&[u8]> = path.components().map(str::as_bytes).collect();
        let failed = |source| self.failed(&format!("read `{path}` of an image"), source);
        let Some(found) = merged.find(&components).map_err(failed)? else { return Ok(None) };
        if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&found.parent, found.name.as_slice(), flags, Mode::empty())
            .map_err(|source| failed(source.into()))?;
        match files::read_all(File::from(file), limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.raw_os_error() == Some(Errno::FBIG.raw_os_error()) => {
                let sentence = format!("`{path}` of the image is larger than {limit} bytes");
                Err(Error::new(ErrorKind::Invalid, sentence))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn merged(root: &Path, names: &[&str]) -> Merged {
        let open = |name: &&str| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(root.join(name), flags, Mode::empty()).unwrap()
        };
        Merged::new(names.iter().map(open).collect())
    }

    fn content(merged: &Merged, path: &str) -> Option<String> {
        let components: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let found = merged.find(&components).unwrap()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&found.parent, found.name.as_slice(), flags, Mode::empty()).ok()?;
        files::read_all(File::from(file), 99).ok().map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn upper_layers_win_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["low/etc", "low/only", "low/gone", "top/etc", "top/d"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::write(at("low/etc/passwd"), "low").unwrap();
        fs::write(at("low/etc/group"), "low").unwrap();
        fs::write(at("top/etc/passwd"), "top").unwrap();
        fs::write(at("low/only/file"), "low").unwrap();
        fs::write(at("low/gone/file"), "low").unwrap();
        fs::write(at("top/gone"), "a file over a directory").unwrap();
        symlink("etc", at("top/link")).unwrap();
        let merged = merged(root.path(), &["top", "low"]);
        assert_eq!(content(&merged, "etc/passwd").as_deref(), Some("top"));
        assert_eq!(content(&merged, "etc/group").as_deref(), Some("low"));
        assert_eq!(content(&merged, "only/file").as_deref(), Some("low"));
        for hidden in ["gone/file", "link/passwd", "link", "etc/nothing", "d"] {
            assert_eq!(content(&merged, hidden).filter(|_| hidden != "d"), None, "{hidden}");
        }
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["low/a", "low/b", "top/a", "top/b"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::write(at("low/a/file"), "low").unwrap();
        fs::write(at("low/b/file"), "low").unwrap();
        let dir = File::open(at("top/a")).unwrap();
        let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
        let device = rustix::fs::makedev(0, 0);
        let made = rustix::fs::mknodat(&dir, "file", kind, mode, device);
        let opaque =
            rustix::fs::setxattr(at("top/b"), OPAQUE, b"y", rustix::fs::XattrFlags::empty());
        if made.is_err() || opaque.is_err() {
            println!("skipped: this process may not make overlay marks here");
            return;
        }
        let merged = merged(root.path(), &["top", "low"]);
        assert_eq!(content(&merged, "a/file"), None);
        assert_eq!(content(&merged, "b/file"), None);
    }
}
