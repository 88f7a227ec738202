//! Reading an archive, entry by entry, strictly and within bounds.
//!
//! The tar crate finds the entries; names that are too long for a header, which stand in entries of
//! their own, are read here, because that crate takes as much memory for them as the archive asks
//! for. What an extended header may change beside names is refused rather than half obeyed.

use std::io::Read;
use std::path::PathBuf;

use tar::{Archive, Entries, Entry, EntryType};

use crate::error::Error;
use crate::names;

/// The most bytes of an entry that holds names.
const MAX_NAMES: u64 = 64 << 10;
/// The most entries of an archive.
const MAX_ENTRIES: u64 = 4_000_000;

/// What an entry makes.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink(Vec<u8>),
    HardLink(PathBuf),
}

/// What an entry says of the file it makes.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u64,
    /// How much content it has.
    pub(crate) size: u64,
}

/// Names from entries of their own, for the next entry.
#[derive(Debug, Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

/// Calls `each` for every entry of an archive, with its content.
///
/// # Errors
///
/// The first [`Error`] of the archive or of `each`.
pub(crate) fn entries<R: Read>(
    archive: R,
    mut each: impl FnMut(About, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut archive = Archive::new(archive);
    let entries: Entries<'_, R> = archive.entries().map_err(Error::archive)?;
    let mut ahead = Ahead::default();
    let mut count = 0;
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(Error::archive)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(Error::refused(&PathBuf::new(), "for the archive has too many entries"));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => ahead.path = Some(text(&mut entry)?),
            EntryType::GNULongLink => ahead.target = Some(text(&mut entry)?),
            EntryType::XHeader => extended(&text_of(&mut entry)?, &mut ahead)?,
            // What holds for all entries is times and comments, or a name nobody means.
            EntryType::XGlobalHeader => {}
            _ => {
                let about = about(&entry, std::mem::take(&mut ahead))?;
                each(about, &mut entry)?;
            }
        }
    }
    Ok(())
}

fn text_of<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Error> {
    if entry.header().entry_size().map_err(Error::archive)? > MAX_NAMES {
        return Err(Error::refused(&PathBuf::new(), "for a name in the archive is too long"));
    }
    let mut text = Vec::new();
    entry.take(MAX_NAMES).read_to_end(&mut text).map_err(Error::archive)?;
    Ok(text)
}

/// Reads an entry that holds one name, which a NUL byte may end.
fn text<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Error> {
    let mut text = text_of(entry)?;
    while text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

/// Reads an extended header (POSIX pax): lines of `LENGTH KEY=VALUE`.
fn extended(mut rest: &[u8], ahead: &mut Ahead) -> Result<(), Error> {
    let broken = || Error::refused(&PathBuf::new(), "for an extended header is damaged");
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|word| word.parse().ok());
        let length: usize = length.ok_or_else(broken)?;
        let line = rest.get(space + 1..length).ok_or_else(broken)?;
        let line = line.strip_suffix(b"\n").ok_or_else(broken)?;
        rest = rest.get(length..).ok_or_else(broken)?;
        let equals = line.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&line[..equals], line[equals + 1..].to_vec());
        match key {
            b"path" => ahead.path = Some(value),
            b"linkpath" => ahead.target = Some(value),
            // These would change what the rest of the archive means.
            b"size" => {
                return Err(Error::refused(&PathBuf::new(), "for a file is larger than 8 GiB"));
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::refused(&PathBuf::new(), "for a file in the archive is sparse"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn about<R: Read>(entry: &Entry<'_, R>, ahead: Ahead) -> Result<About, Error> {
    let header = entry.header();
    let name = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = names::read(&name)?;
    let target = ahead.target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
    let refused = |why| Err(Error::refused(&path, why));
    let kind = match (header.entry_type(), target) {
        // The old form of a directory is a file whose name ends in a slash.
        (EntryType::Regular, _) if name.ends_with(b"/") => Kind::Directory,
        (EntryType::Regular | EntryType::Continuous, _) => Kind::File,
        (EntryType::Directory, _) => Kind::Directory,
        (EntryType::Symlink, Some(target)) if !target.is_empty() && target.len() < 4096 => {
            Kind::Symlink(target)
        }
        (EntryType::Link, Some(target)) => Kind::HardLink(names::read(&target)?),
        (EntryType::Char | EntryType::Block | EntryType::Fifo, _) => {
            return refused("which is a device or a pipe");
        }
        _ => return refused("which is of a kind that is not copied"),
    };
    let number = |number: std::io::Result<u64>| {
        let number = number.ok().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| Error::refused(&path, "which belongs to nobody there can be"))
    };
    let owner = (number(header.uid())?, number(header.gid())?);
    let mode = header.mode().map_err(Error::archive)? & 0o7777;
    let mtime = header.mtime().unwrap_or(0).min(i64::MAX.unsigned_abs());
    Ok(About { path, kind, mode, owner, mtime, size: entry.size() })
}
