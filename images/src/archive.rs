//! An archive of images as one file: what lies where in it, and bytes from anywhere in it.
//!
//! `oci-archive:` and `docker-archive:` are tar files that hold blobs as they are. Their headers
//! are read once and content is skipped, so that nothing is ever unpacked to the disk and memory
//! holds names only. The file may come from anywhere: its headers are read as strictly as those of
//! a layer, a name stands for one member, and links lead nowhere but to other members. What members
//! hold is for the reader's digests to check.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pod_abi::text::is_tame;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::layer::{self, EntryKind, Fault};

/// The most members: several images of four hundred layers, three files each.
const MAX_MEMBERS: usize = 10_000;
/// The most bytes their names may take together.
const MAX_NAMES: usize = 4 << 20;
/// How many links may lead to one another.
const MAX_LINKS: usize = 8;
/// How much is read at once while headers are looked for.
const BUFFER: usize = 4096;

/// A tar file that is read at random.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    path: PathBuf,
    members: BTreeMap<Vec<u8>, Member>,
}

/// What a name of the archive stands for; directories stand for nothing.
#[derive(Debug)]
enum Member {
    File(Range<u64>),
    /// Another name, cleaned.
    Link(Vec<u8>),
}

/// The content of a member, from some byte on.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    file: &'a File,
    left: Range<u64>,
}

impl Archive {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is not there, [`ErrorKind::Invalid`] if it is no archive or
    /// one that could be read in two ways.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| {
            let sentence = format!("cannot open archive `{}`", path.display());
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Error::caused(ErrorKind::NotFound, sentence, source)
                }
                _ => Error::storage(sentence, source),
            }
        };
        // A pipe must not keep us waiting.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty());
        let file = File::from(file.map_err(|errno: Errno| failed(errno.into()))?);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::invalid(format!("`{}` is no regular file", path.display())));
        }
        Self::read(file, path)
    }

    /// Reads the headers of `file`, which is called `path` in what is said of it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(crate) fn read(file: File, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::storage(format!("cannot read `{}`", path.display()), source);
        let mut file = file;
        file.rewind().map_err(failed)?;
        let mut archive = Self { file, path: path.to_owned(), members: BTreeMap::new() };
        let end = archive.file.metadata().map_err(failed)?.len();
        if let Some(packer) = packer(&archive.head(0..end).map_err(failed)?) {
            return Err(archive.invalid(&format!("it is compressed; unpack it first, {packer}")));
        }
        let input = archive.file.try_clone().map_err(failed)?;
        archive.members = members(input, end).map_err(|refused| match refused {
            Refused::Fault(Fault::Archive { entry, at, what }) => {
                archive.invalid(&format!("entry `{entry}` at byte {at} {what}"))
            }
            Refused::Fault(other) => {
                let sentence = format!("cannot read the headers of `{}`", path.display());
                Error::caused(ErrorKind::Invalid, sentence, other)
            }
            Refused::Other(why) => archive.invalid(&why),
        })?;
        Ok(archive)
    }

    /// Returns the path it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether a file, or a link to one, is called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_some()
    }

    /// Opens the member `name` from byte `offset` on; at the end if it has no more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such file.
    pub(crate) fn content(&self, name: &str, offset: u64) -> Result<Content<'_>, Error> {
        let Some(Range { start, end }) = self.find(name.as_bytes()) else {
            let name: String = name.chars().take(200).filter(|c| is_tame(*c)).collect();
            return Err(self.invalid(&format!("it has no file `{name}`")));
        };
        let start = start.saturating_add(offset).min(end);
        Ok(Content { file: &self.file, left: start..end })
    }

    /// Makes the error of an archive that is not as it must be.
    pub(crate) fn invalid(&self, why: &str) -> Error {
        Error::invalid(format!("cannot use archive `{}`: {why}", self.path.display()))
    }

    /// Follows links to a file.
    fn find(&self, name: &[u8]) -> Option<Range<u64>> {
        let mut name = layer::clean(name).ok()?;
        for _ in 0..=MAX_LINKS {
            match self.members.get(&name)? {
                Member::File(range) => return Some(range.clone()),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    fn head(&self, left: Range<u64>) -> io::Result<Vec<u8>> {
        Content { file: &self.file, left }.head()
    }
}

impl Content<'_> {
    /// Returns how many bytes are left.
    pub(crate) fn len(&self) -> u64 {
        self.left.end - self.left.start
    }

    /// Returns the first bytes, as many as tell a compression apart; reading is not disturbed.
    pub(crate) fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        Content { file: self.file, left: self.left.clone() }.take(6).read_to_end(&mut head)?;
        Ok(head)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).map_or(buffer.len(), |left| left.min(buffer.len()));
        let length = self.file.read_at(&mut buffer[..most], self.left.start)?;
        self.left.start += length as u64;
        Ok(length)
    }
}

/// Names the program that unpacks what begins with `head`, if it is compressed at all.
pub(crate) fn packer(head: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "as with `gunzip`"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "as with `unzstd`"),
        (b"BZh", "as with `bunzip2`"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "as with `unxz`"),
    ];
    KNOWN.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packer)| *packer)
}

/// Why headers are not taken.
#[derive(Debug)]
enum Refused {
    Fault(Fault),
    Other(String),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads all headers of an archive of `end` bytes.
fn members(input: File, end: u64) -> Result<BTreeMap<Vec<u8>, Member>, Refused> {
    let mut reader = layer::Reader::new(BufReader::with_capacity(BUFFER, input));
    let (mut members, mut names) = (BTreeMap::new(), 0);
    while let Some(entry) = reader.next()? {
        let content = reader.skip(end)?;
        let member = match entry.kind {
            EntryKind::Directory => continue,
            EntryKind::File { .. } => Member::File(content),
            EntryKind::HardLink(target) => Member::Link(target),
            EntryKind::Symlink(target) => Member::Link(beside(&entry.path, &target)?),
            _ => return Err(Refused::Other(format!("`{}` is no file", shown(&entry.path)))),
        };
        names += entry.path.len();
        if members.len() >= MAX_MEMBERS || names > MAX_NAMES {
            return Err(Refused::Other(format!("it has more than {MAX_MEMBERS} members")));
        }
        // Some readers take the first of two, some the last.
        if let Some(_earlier) = members.insert(entry.path.clone(), member) {
            return Err(Refused::Other(format!("`{}` is in it twice", shown(&entry.path))));
        }
    }
    Ok(members)
}

/// Resolves the target of the symbolic link `path`, by name alone.
fn beside(path: &[u8], target: &[u8]) -> Result<Vec<u8>, Refused> {
    let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &path[..at]);
    let whole =
        if target.starts_with(b"/") { target.to_vec() } else { [parent, b"/", target].concat() };
    layer::clean(&whole)
        .map_err(|what| Refused::Other(format!("the target of link `{}` {what}", shown(path))))
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().filter(|c| is_tame(*c)).take(200).collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use tar::{Builder, EntryType, Header};

    use super::{Archive, Error, ErrorKind, Read};

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    /// Writes files (`name`, content) and links (`name`, target with `->` in front).
    fn tar(members: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, content) in members {
            match content.strip_prefix("->") {
                Some(target) => {
                    let mut header = header(EntryType::Symlink, 0);
                    builder.append_link(&mut header, name, target).unwrap();
                }
                None => {
                    let mut header = header(EntryType::Regular, content.len() as u64);
                    builder.append_data(&mut header, name, content.as_bytes()).unwrap();
                }
            }
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<(tempfile::TempDir, Archive), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        Archive::open(&path).map(|archive| (dir, archive))
    }

    fn text(archive: &Archive, name: &str, offset: u64) -> Option<String> {
        let mut text = String::new();
        archive.content(name, offset).ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn members_are_read_from_anywhere_and_links_lead_to_members() {
        let long = "d/".repeat(80) + "deep";
        let big = "x".repeat(70_000);
        let bytes = tar(&[
            ("a/one", "first"),
            ("b/layer.tar", "->../a/one"),
            ("./c", &big),
            ("e", "->/b/layer.tar"),
            (&long, "far"),
        ]);
        let (_dir, archive) = open(&bytes).unwrap();
        assert_eq!(text(&archive, "a/one", 0).as_deref(), Some("first"));
        assert_eq!(text(&archive, "a/one", 3).as_deref(), Some("st"));
        assert_eq!(text(&archive, "a/one", 9).as_deref(), Some(""));
        assert_eq!(text(&archive, "e", 0).as_deref(), Some("first"));
        assert_eq!(archive.content("c", 0).unwrap().len(), 70_000);
        assert_eq!(text(&archive, &long, 0).as_deref(), Some("far"));
        assert!(!archive.has("a") && !archive.has("nothing"));
    }

    #[test]
    fn archives_that_lie_are_refused() {
        let good = tar(&[("a", "first"), ("b", "second")]);
        let mut spoilt = good.clone();
        spoilt[3] ^= 1;
        let mut device = header(EntryType::Char, 0);
        device.set_path("dev").unwrap();
        device.set_cksum();
        let mut huge = header(EntryType::Regular, u64::from(u32::MAX));
        huge.set_path("huge").unwrap();
        huge.set_cksum();
        for (what, bytes) in [
            ("a name twice", tar(&[("a", "1"), ("./a", "2")])),
            ("a spoilt header", spoilt),
            ("cut in a header", good[..700].to_vec()),
            ("cut in content", good[..514].to_vec()),
            ("a device", device.as_bytes().to_vec()),
            ("content beyond the end", huge.as_bytes().to_vec()),
            ("gzip", vec![0x1f, 0x8b, 8, 0, 0, 0]),
            ("text", b"hello".repeat(300)),
        ] {
            let error = open(&bytes).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        }
    }

    #[test]
    fn links_in_a_ring_lead_nowhere() {
        let (_dir, archive) =
            open(&tar(&[("a", "->b"), ("b", "->a"), ("c", "->../../x")])).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(archive.content(name, 0).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert_eq!(Archive::open(&pipe).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Archive::open(dir.path()).unwrap_err().kind(), ErrorKind::Invalid);
        let gone = Archive::open(&dir.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
