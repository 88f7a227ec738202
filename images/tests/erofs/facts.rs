//! Everything there is to know of a tree, by path: what must be the same on both sides.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::reader::Facts;

/// Looks at everything beneath `root`; the root's own path is empty.
pub(crate) fn of(root: &Path) -> BTreeMap<Vec<u8>, Facts> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![(root.to_owned(), Vec::new())];
    while let Some((at, path)) = todo.pop() {
        look(&at, path, (&mut inodes, &mut found), &mut todo);
    }
    // What is the first of several names depends on their order alone.
    let paths: Vec<Vec<u8>> = found.keys().cloned().collect();
    let mut first = BTreeMap::new();
    for path in paths {
        let facts = found.get_mut(&path).unwrap();
        let inode = inodes[&path];
        facts.same_as = first.entry(inode).or_insert_with(|| path.clone()).clone();
    }
    found
}

type Inodes = BTreeMap<Vec<u8>, (u64, u64)>;

/// Looks at one path and adds what is in it to `todo`.
fn look(
    at: &Path,
    path: Vec<u8>,
    (inodes, found): (&mut Inodes, &mut BTreeMap<Vec<u8>, Facts>),
    todo: &mut Vec<(PathBuf, Vec<u8>)>,
) {
    let stat = fs::symlink_metadata(at).unwrap();
    let kind = stat.file_type();
    let mut links = stat.nlink();
    let mut content = Vec::new();
    if kind.is_file() {
        content = fs::read(at).unwrap();
    } else if kind.is_symlink() {
        content = fs::read_link(at).unwrap().into_os_string().into_vec();
    } else if kind.is_dir() {
        links = 2;
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let type_of_entry = entry.file_type().unwrap();
            assert_eq!(type_of_entry, fs::symlink_metadata(entry.path()).unwrap().file_type());
            links += u64::from(type_of_entry.is_dir());
            let name = entry.file_name();
            let below = if path.is_empty() {
                name.as_bytes().to_vec()
            } else {
                [path.as_slice(), b"/", name.as_bytes()].concat()
            };
            todo.push((entry.path(), below));
        }
        if stat.nlink() != 1 {
            // 1 is what file systems say that do not count (overlayfs).
            assert_eq!(links, stat.nlink(), "{}", at.display());
        }
    }
    let attributes = xattr::list(at).unwrap().map(|name| {
        let value = xattr::get(at, &name).unwrap().unwrap();
        (name.into_vec(), value)
    });
    let device = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
    let facts = Facts {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        time: (stat.mtime(), stat.mtime_nsec()),
        links,
        device,
        attributes: attributes.collect(),
        content,
        same_as: Vec::new(),
    };
    inodes.insert(path.clone(), (stat.dev(), stat.ino()));
    found.insert(path, facts);
}

/// Compares two trees, path for path, and names the first that differs.
pub(crate) fn agree(seen: &BTreeMap<Vec<u8>, Facts>, expected: &BTreeMap<Vec<u8>, Facts>) {
    let names = |facts: &BTreeMap<Vec<u8>, Facts>| -> Vec<String> {
        facts.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    };
    assert_eq!(names(seen), names(expected));
    for ((path, seen), expected) in seen.iter().zip(expected.values()) {
        let path = String::from_utf8_lossy(path);
        assert!(seen.content == expected.content, "the content of `{path}`");
        let bare = |facts: &Facts| Facts { content: Vec::new(), ..facts.clone() };
        assert_eq!(bare(seen), bare(expected), "`{path}`");
    }
}
