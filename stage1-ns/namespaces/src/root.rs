//! Look-ups in an app's tree that cannot leave it.
//!
//! The image is hostile: any component may be a symbolic link to anywhere. Every look-up is one
//! `openat2(2)` with the tree as root; what is missing is made one component at a time, by
//! descriptor. Nothing here takes a path of the host, and nothing is looked up twice.

use std::os::fd::OwnedFd;

use pod_abi::PodPath;
use pod_sys::open_in_root;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, statat, symlinkat, unlinkat,
};
use rustix::io::{Errno, Result};

/// The root of an app's tree.
#[derive(Debug)]
pub(crate) struct Root {
    descriptor: OwnedFd,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Permission bits of directories that are made.
const MADE: Mode = Mode::from_raw_mode(0o755);

impl Root {
    /// Opens the tree mounted at `name` in the working directory.
    pub(crate) fn open(name: &str) -> Result<Self> {
        Ok(Self { descriptor: openat(CWD, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())? })
    }

    /// Returns the descriptor.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Finds a directory, following links inside the tree, or makes it and those around it.
    pub(crate) fn directory(&self, path: &PodPath) -> Result<OwnedFd> {
        match open_in_root(&self.descriptor, path.relative(), DIRECTORY) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let mut sofar = String::new();
        let mut parent = open_in_root(&self.descriptor, ".", DIRECTORY)?;
        for component in path.components() {
            sofar.push_str(if sofar.is_empty() { "" } else { "/" });
            sofar.push_str(component);
            parent = match open_in_root(&self.descriptor, &sofar, DIRECTORY) {
                Err(Errno::NOENT) => {
                    // A link to nowhere is in the way: EEXIST, never a directory elsewhere.
                    mkdirat(&parent, component, MADE)?;
                    openat(&parent, component, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
                }
                found => found?,
            };
        }
        Ok(parent)
    }

    /// Finds a file to be mounted over, following links inside the tree, or makes it.
    pub(crate) fn file(&self, path: &PodPath) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match open_in_root(&self.descriptor, path.relative(), flags) {
            Err(Errno::NOENT) => {}
            found => {
                let found = found?;
                return match FileType::from_raw_mode(fstat(&found)?.st_mode) {
                    FileType::Directory => Err(Errno::ISDIR),
                    _ => Ok(found),
                };
            }
        }
        let (parent, name) = self.parent(path)?;
        make_file(&parent, name)
    }

    /// Makes a regular file of no content, replacing a link or device in its place, so that what
    /// is mounted over it is seen at this path and nowhere else.
    ///
    /// `EEXIST` if links of the image have led into a volume: nothing is replaced there.
    pub(crate) fn own_file(&self, path: &PodPath) -> Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return make_file(&parent, name),
            Err(error) => return Err(error),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    return openat(&parent, name, flags, Mode::empty());
                }
                FileType::Directory => return Err(Errno::ISDIR),
                _ => {}
            },
        }
        if fstat(&parent)?.st_dev != fstat(&self.descriptor)?.st_dev {
            return Err(Errno::EXIST);
        }
        unlinkat(&parent, name, AtFlags::empty())?;
        make_file(&parent, name)
    }

    /// Makes a real directory at the top of the tree, replacing whatever else the image has there
    /// (CVE-2019-19921, CVE-2026-41579: `/proc` or `/dev` as a link).
    pub(crate) fn own_directory(&self, name: &str) -> Result<OwnedFd> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        match openat(&self.descriptor, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(&self.descriptor, name, AtFlags::empty())?;
            }
            Err(Errno::NOENT) => {}
            found => return found,
        }
        mkdirat(&self.descriptor, name, MADE)?;
        openat(&self.descriptor, name, flags, Mode::empty())
    }

    /// Finds the directory `path` is in, following links inside the tree, or makes it.
    pub(crate) fn around(&self, path: &PodPath) -> Result<OwnedFd> {
        Ok(self.parent(path)?.0)
    }

    /// Makes a symbolic link of this name in a directory that must be there.
    pub(crate) fn link(&self, directory: &PodPath, name: &str, target: &str) -> Result<()> {
        symlinkat(target, open_in_root(&self.descriptor, directory.relative(), DIRECTORY)?, name)
    }

    fn parent<'path>(&self, path: &'path PodPath) -> Result<(OwnedFd, &'path str)> {
        let (parent, name) = path.as_str().rsplit_once('/').ok_or(Errno::INVAL)?;
        let parent = PodPath::parse(if parent.is_empty() { "/" } else { parent });
        Ok((self.directory(&parent.map_err(|_| Errno::INVAL)?)?, name))
    }
}

fn make_file(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags | OFlags::WRONLY, Mode::from_raw_mode(0o644))?;
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("root")).unwrap();
        let path = outside.path().join("root");
        let root = Root::open(path.to_str().unwrap()).unwrap();
        (outside, root)
    }

    fn path(text: &str) -> PodPath {
        PodPath::parse(text).unwrap()
    }

    #[test]
    fn missing_directories_are_made_inside() {
        let (outside, root) = root();
        root.directory(&path("/a/b/c")).unwrap();
        assert!(outside.path().join("root/a/b/c").is_dir());
    }

    #[test]
    fn a_link_that_climbs_or_is_absolute_stays_inside() {
        let (outside, root) = root();
        fs::create_dir(outside.path().join("victim")).unwrap();
        symlink("../../../../victim", outside.path().join("root/climbs")).unwrap();
        symlink(outside.path().join("victim"), outside.path().join("root/absolute")).unwrap();
        for link in ["/climbs/x", "/absolute/x"] {
            // Made inside the tree or refused, never outside.
            let _ = root.directory(&path(link));
            let _ = root.file(&path(link));
        }
        assert_eq!(fs::read_dir(outside.path().join("victim")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_place_of_proc_is_replaced() {
        let (outside, root) = root();
        fs::create_dir(outside.path().join("victim")).unwrap();
        symlink("../victim", outside.path().join("root/proc")).unwrap();
        fs::write(outside.path().join("root/dev"), "x").unwrap();
        root.own_directory("proc").unwrap();
        root.own_directory("dev").unwrap();
        root.own_directory("sys").unwrap();
        for name in ["proc", "dev", "sys"] {
            let kind = fs::symlink_metadata(outside.path().join("root").join(name)).unwrap();
            assert!(kind.is_dir(), "{name}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_of_ours_is_replaced() {
        let (outside, root) = root();
        fs::write(outside.path().join("victim"), "host").unwrap();
        fs::create_dir(outside.path().join("root/etc")).unwrap();
        let link = outside.path().join("root/etc/hosts");
        symlink(outside.path().join("victim"), &link).unwrap();
        root.own_file(&path("/etc/hosts")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "host");
    }
}
