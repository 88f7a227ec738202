//! PAX extended headers: records that override the header of the entry behind them.
//!
//! Records are cut by their declared length, for values may hold newlines; the last of several
//! with one key wins, as everywhere but in the `tar` crate. Source: POSIX.1-2024, `pax`,
//! "pax Extended Header".

use super::number;
use super::sparse::{self, Segment};
use crate::layer::entry::{Moment, Xattr};

/// The most extended attributes of one entry; no file system stores more in practice.
const MAX_XATTRS: usize = 1000;

/// What extended headers say of the next entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Its name.
    pub(super) path: Option<Vec<u8>>,
    /// The target of a link.
    pub(super) linkpath: Option<Vec<u8>>,
    /// The bytes of its data in the archive.
    pub(super) size: Option<u64>,
    /// Its owner.
    pub(super) uid: Option<u64>,
    /// Its group.
    pub(super) gid: Option<u64>,
    /// When it was modified.
    pub(super) modified: Option<Moment>,
    /// Its extended attributes.
    pub(super) xattrs: Vec<Xattr>,
    /// What makes it a sparse file.
    pub(super) sparse: SparseRecords,
}

/// The records `GNU.sparse.*`.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    /// `major` and `minor`, of version 1.0.
    pub(super) major: Option<u64>,
    /// See `major`.
    pub(super) minor: Option<u64>,
    /// The real name, of versions 0.1 and 1.0.
    pub(super) name: Option<Vec<u8>>,
    /// The real size: `realsize` of 1.0, `size` of the others.
    pub(super) size: Option<u64>,
    /// The map of versions 0.0 and 0.1.
    pub(super) map: Option<Vec<Segment>>,
    /// An offset of version 0.0 that waits for its length.
    offset: Option<u64>,
}

impl SparseRecords {
    /// Tells whether any of them was there.
    pub(super) fn any(&self) -> bool {
        self.major.is_some() || self.size.is_some() || self.map.is_some() || self.name.is_some()
    }
}

/// Splits the body of an extended header into records and hands each to `take`.
pub(crate) fn each_record(
    mut body: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    const BAD: &str = "has a malformed PAX header";
    while !body.is_empty() {
        let space = body.iter().take(20).position(|byte| *byte == b' ').ok_or(BAD)?;
        let length =
            number::decimal(&body[..space]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length > space + 1).ok_or(BAD)?;
        let record = body.get(space + 1..length).ok_or(BAD)?;
        let record = record.strip_suffix(b"\n").ok_or(BAD)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(BAD);
        }
        take(key, value)?;
        body = &body[length..];
    }
    Ok(())
}

/// Reads the extended header of one entry.
pub(super) fn local(body: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::default();
    each_record(body, |key, value| records.take(key, value))?;
    if records.sparse.offset.is_some() {
        return Err("has a sparse map that ends in the middle");
    }
    Ok(records)
}

/// Checks a global extended header, which has no effect here. Some readers let it change every
/// entry behind it, so what would change the structure of the archive is refused.
pub(crate) fn global(body: &[u8]) -> Result<(), &'static str> {
    each_record(body, |key, _| match key {
        b"path" | b"linkpath" | b"size" => {
            Err("is a global header that renames or resizes entries")
        }
        _ if key.starts_with(b"GNU.sparse.") => Err("is a global header that makes entries sparse"),
        _ => Ok(()),
    })
}

impl Records {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.linkpath = text(value)?,
            b"size" => self.size = Some(size(value)?),
            b"uid" => self.uid = Some(count(value)?),
            b"gid" => self.gid = Some(count(value)?),
            b"mtime" => {
                let moment = number::moment(value).ok_or("has a malformed PAX time")?;
                self.modified = Some(moment);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.take_xattr(name, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h.
        if name.is_empty() || name.len() > 255 || value.len() > 65536 {
            return Err("has an extended attribute longer than the kernel takes");
        }
        let value = value.to_vec();
        if let Some(known) = self.xattrs.iter_mut().find(|xattr| xattr.name == name) {
            known.value = value;
            return Ok(());
        }
        if self.xattrs.len() == MAX_XATTRS {
            return Err("has more than 1000 extended attributes");
        }
        self.xattrs.push(Xattr { name: name.to_vec(), value });
        Ok(())
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = Some(count(value)?),
            b"minor" => self.minor = Some(count(value)?),
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.size = Some(size(value)?),
            b"map" => self.map = Some(sparse::comma_list(value)?),
            b"offset" if self.offset.is_none() => self.offset = Some(count(value)?),
            b"numbytes" => {
                let offset =
                    self.offset.take().ok_or("has a sparse map that begins in the middle")?;
                let segment = Segment { offset, length: count(value)? };
                sparse::push(self.map.get_or_insert_default(), segment)?;
            }
            b"offset" => return Err("has a sparse map that ends in the middle"),
            // `numblocks` only repeats how many there are.
            _ => {}
        }
        Ok(())
    }
}

/// An empty value takes a record back.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("has a NUL byte in its path");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn count(value: &[u8]) -> Result<u64, &'static str> {
    number::decimal(value).ok_or("has a malformed number in its PAX header")
}

/// Sizes and offsets are signed to the kernel.
fn size(value: &[u8]) -> Result<u64, &'static str> {
    count(value)?.try_into().map(i64::cast_unsigned).map_err(|_| "has an impossible size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = |length: usize| length.to_string().len();
        let mut length = body.len() + digits(body.len());
        length = body.len() + digits(length);
        [length.to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn a_value_may_hold_newlines_and_what_looks_like_records() {
        let body =
            [record("SCHILY.xattr.user.a", b"x\n12 size=1\n"), record("size", b"7")].concat();
        let records = local(&body).unwrap();
        assert_eq!(records.size, Some(7));
        assert_eq!(records.xattrs[0].value, b"x\n12 size=1\n");
    }

    #[test]
    fn the_last_record_wins() {
        let body = [
            record("size", b"0"),
            record("path", b"a"),
            record("size", b"1024"),
            record("path", b"b"),
        ];
        let records = local(&body.concat()).unwrap();
        assert_eq!((records.size, records.path.as_deref()), (Some(1024), Some(&b"b"[..])));
    }

    #[test]
    fn malformed_records_are_refused() {
        let cases: &[&[u8]] = &[
            b"5 a=\n5",
            b"99 path=a\n",
            b"9 path=ab",
            b" path=a\n",
            b"0 path=a\n",
            b"2 \n",
            b"10 patha\n\n",
            b"6 =ab\n",
            b"x path=a\n",
            b"+9 path=a\n",
            b"13 size=0x10\n",
            b"11 size=-1\n",
            b"28 size=9223372036854775808\n",
            b"12 path=a\0b\n",
            b"12 mtime=1e\n",
        ];
        for bad in cases {
            assert!(local(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_global_header_may_not_change_the_structure() {
        assert!(global(&record("comment", b"0123")).is_ok());
        for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
            assert!(global(&record(key, b"1")).is_err(), "{key}");
        }
    }
}
