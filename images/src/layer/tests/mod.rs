//! Tests that take the whole way from bytes to a tree.
//!
//! Each runs in a directory of its own with a canary beside the root, which no archive may touch.
//! Most of them need root, for only root makes whiteouts and gives files away.

mod attacks;
mod corpus;
mod differential;
mod limits;
mod overlay;
mod packing;
mod race;
mod random;
mod semantics;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::facts::{LayerFacts, Limits};
use super::fault::Fault;
use super::tree::Root;
use super::work::unpack;

/// Tells whether the test can run; says so if not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A root to unpack into, with something outside that must not change.
struct Place {
    home: TempDir,
}

impl Place {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("root")).unwrap();
        fs::create_dir_all(home.path().join("outside/directory")).unwrap();
        fs::write(home.path().join("outside/canary"), "alive").unwrap();
        Self { home }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    fn outside(&self) -> String {
        self.home.path().join("outside").to_str().unwrap().to_owned()
    }

    fn unpack(&self, archive: &[u8]) -> Result<LayerFacts, Fault> {
        self.unpack_within(archive, &Limits { reserve: 0, ..Limits::default() })
    }

    /// Unpacks as worker and starter do together, opaque marks included.
    fn unpack_within(&self, archive: &[u8], limits: &Limits) -> Result<LayerFacts, Fault> {
        let open = || Root::new(fs::File::open(self.root()).unwrap().into());
        let (facts, opaque) = unpack(Cursor::new(archive.to_vec()), open(), limits)?;
        for path in opaque {
            open().mark_opaque(&path).unwrap();
        }
        Ok(facts)
    }

    /// Returns what lies outside the root, times included.
    fn canary(&self) -> BTreeMap<String, String> {
        list(&self.home.path().join("outside"))
    }

    /// Returns what lies inside.
    fn tree(&self) -> BTreeMap<String, String> {
        list(&self.root())
    }

    fn paths(&self) -> Vec<String> {
        self.tree().into_keys().filter(|path| !path.is_empty()).collect()
    }
}

/// Lists a tree: path to type, mode, owner, time, content and attributes, in one line each.
fn list(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii();
        let name = name.to_string();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let mut below: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            // The first path of a file is the one that is shown in full.
            below.sort_by(|a, b| b.cmp(a));
            pending.extend(below);
            "dir".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            show_content(&fs::read(&path).unwrap())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_char_device() {
            format!("char {}", meta.rdev())
        } else {
            "other".to_owned()
        };
        if !kind.is_dir() && meta.nlink() > 1 {
            if let Some(first) = links.get(&meta.ino()) {
                all.insert(name, format!("= {first}"));
                continue;
            }
            links.insert(meta.ino(), name.clone());
        }
        let mut attributes: Vec<String> = xattr::list(&path)
            .unwrap()
            .map(|name| {
                let value = xattr::get(&path, &name).unwrap().unwrap_or_default();
                format!(" {}={}", name.display(), value.escape_ascii())
            })
            .collect();
        attributes.sort();
        let (mode, mtime) = (meta.mode() & 0o7777, (meta.mtime(), meta.mtime_nsec()));
        let owner = (meta.uid(), meta.gid());
        all.insert(name, format!("{what} {mode:o} {owner:?} {mtime:?}{}", attributes.concat()));
    }
    all
}

/// Shows little content as it is, and much by its length and a sum.
fn show_content(content: &[u8]) -> String {
    if content.len() <= 16 {
        return format!("file {}", content.escape_ascii());
    }
    let sum = content.iter().fold(7_u64, |sum, byte| {
        sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(*byte))
    });
    format!("file {} {sum:x}", content.len())
}

/// Writes archives byte by byte, so that they can be wrong.
#[derive(Clone, Default)]
struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    fn new() -> Self {
        Self::default()
    }

    /// Appends an entry whose header `change` may spoil before its sum is made.
    fn entry(
        mut self,
        kind: u8,
        name: &str,
        link: &str,
        content: &[u8],
        change: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        {
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            old.linkflag = [kind];
        }
        header.set_size(content.len() as u64);
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        change(header.as_mut_bytes());
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", b"", |_| {})
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, "", content.as_bytes(), |_| {})
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, b"", |_| {})
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, b"", |_| {})
    }

    fn whiteout(self, name: &str) -> Self {
        self.file(name, "")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(b'x', "PaxHeaders/x", "", &body, |_| {})
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Ends the archive as the standard says.
    fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// Writes one PAX record, with its own length in front.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = body.len() + 1;
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &body].concat()
}
