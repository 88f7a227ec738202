//! One entry of an image's archive, to be written again under another name.
//!
//! Nothing but names is changed: header, records and maps of sparse files pass as they are, so that
//! a layer has what the image had to the last bit. Names are written into PAX records where a
//! header has no room for them, whatever form they had.

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::layer::tar::{BLOCK, each_record, padding};

/// What fits the fields of a header.
const MAX_SHORT: usize = 100;

/// PAX records: keys and values.
pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry without its content.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) header: Header,
    /// Its PAX records, in order, but those of names.
    pub(super) records: Records,
    /// The further blocks of an old GNU sparse map.
    pub(super) map: Vec<u8>,
    /// Whether its records gave its name as that of a sparse file.
    pub(super) sparse_name: bool,
    /// Its type flag.
    pub(super) kind: u8,
    /// Its name as it stands in the archive.
    pub(super) name: Vec<u8>,
    /// The target, of links.
    pub(super) link: Vec<u8>,
    /// How many bytes of content follow in the archive.
    pub(super) size: u64,
    /// Whether its content has holes.
    pub(super) sparse: bool,
}

impl Member {
    /// Tells whether it is a directory; old archives mark them by a slash only.
    pub(super) fn is_directory(&self) -> bool {
        self.kind == b'5' || (self.is_regular() && !self.sparse && self.name.ends_with(b"/"))
    }

    /// Tells whether its type is that of a file with content.
    pub(super) fn is_regular(&self) -> bool {
        matches!(self.kind, b'0' | b'\0' | b'7' | b'S')
    }

    /// Writes all that stands before the content, under other names.
    pub(super) fn write(mut self, name: &[u8], link: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut records = std::mem::take(&mut self.records);
        if self.sparse_name {
            records.push((b"GNU.sparse.name".to_vec(), name.to_vec()));
        }
        for (key, value) in [("path", name), ("linkpath", link)] {
            if value.len() > MAX_SHORT {
                records.push((key.as_bytes().to_vec(), value.to_vec()));
            }
        }
        if !records.is_empty() {
            extended(&records, out)?;
        }
        let posix = self.header.as_bytes().get(257..263) == Some(b"ustar\0");
        // In other headers something else is in the place of the prefix.
        if let Some(prefix) = self.header.as_mut_bytes().get_mut(345..500).filter(|_| posix) {
            prefix.fill(0);
        }
        let old = self.header.as_old_mut();
        old.name = short(name);
        old.linkname = short(link);
        self.header.set_cksum();
        out.write_all(self.header.as_bytes())?;
        out.write_all(&self.map)
    }
}

fn short(name: &[u8]) -> [u8; MAX_SHORT] {
    let mut field = [0; MAX_SHORT];
    field.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    field
}

/// Splits the body of an extended header.
pub(super) fn records(bytes: &[u8]) -> Result<Records, &'static str> {
    let mut records = Vec::new();
    each_record(bytes, |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(records)
}

/// Takes the records of `key` out; the last one counts, and an empty one takes it back.
pub(super) fn taken(records: &mut Records, key: &[u8]) -> Option<Vec<u8>> {
    let last = records.extract_if(.., |(this, _)| this == key).last();
    last.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Writes an extended header with `records`.
fn extended(records: &Records, out: &mut dyn Write) -> io::Result<()> {
    let mut body = Vec::new();
    for (key, value) in records {
        // A blank, an equals sign, a line feed; the length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let digits = |length: usize| length.to_string().len();
        let length = rest + digits(rest + digits(rest));
        write!(body, "{length} ")?;
        body.extend([key.as_slice(), b"=", value, b"\n"].concat());
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.as_old_mut().name = short(b"PaxHeaders");
    header.set_mode(0o644);
    header.set_size(body.len() as u64);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(&body)?;
    pad(body.len() as u64, out)
}

/// Fills the last block of `size` bytes.
pub(super) fn pad(size: u64, out: &mut dyn Write) -> io::Result<()> {
    let zeros = [0; BLOCK];
    let length = usize::try_from(padding(size)).unwrap_or_default();
    out.write_all(zeros.get(..length).unwrap_or_default())
}
