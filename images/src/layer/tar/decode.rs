//! What a header and its extensions say: name, kind, size, owner.
//!
//! A value that two widespread readers take differently is refused here, field by field.

use std::io::BufRead;

use tar::Header;

use super::name::{self, MAX_PATH};
use super::number;
use super::pax::Records;
use super::reader::{BLOCK, Body, Pending, Reader, padding, until_nul};
use super::sparse::{self, Lines, Map};
use crate::layer::entry::{Attributes, Entry, Kind, Moment};
use crate::layer::fault::Fault;

/// The largest number that fits a size field in octal; larger ones need PAX or base-256.
pub(crate) const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

impl<R: BufRead> Reader<R> {
    pub(super) fn entry(&mut self, header: &Header, pending: Pending) -> Result<Entry, Fault> {
        let Pending { records, long_name, long_link, .. } = pending;
        let mut records = records.unwrap_or_default();
        if (records.path.is_some() && long_name.is_some())
            || (records.linkpath.is_some() && long_link.is_some())
        {
            return Err(self.fault("has both a PAX and a GNU name"));
        }
        let raw = match records.sparse.name.take().or_else(|| records.path.take()).or(long_name) {
            Some(name) => name,
            None => header_name(header.as_bytes()).map_err(|what| self.fault(what))?,
        };
        self.shown.clone_from(&raw);
        let path = name::clean(&raw).map_err(|what| self.fault(what))?;
        let link = records.linkpath.take().or(long_link);
        let link = link.unwrap_or_else(|| until_nul(&header.as_old().linkname).to_vec());
        let size = self.content_size(header, &records)?;
        self.body = Body { left: size, padding: padding(size), map: None };
        let slash = raw.ends_with(b"/");
        let kind = self.kind(header, &records, slash, &link)?;
        let attributes = self.attributes(header, records)?;
        Ok(Entry { path, kind, attributes })
    }

    /// Returns the entry's kind; for sparse files, reads their map.
    fn kind(
        &mut self,
        header: &Header,
        records: &Records,
        slash: bool,
        link: &[u8],
    ) -> Result<Kind, Fault> {
        let flag = header.as_old().linkflag[0];
        let sparse = records.sparse.any();
        let kind = match flag {
            // Old archives mark directories by a slash only.
            b'0' | b'\0' | b'7' if slash && !sparse => Kind::Directory,
            b'0' | b'\0' | b'7' | b'S' if slash => {
                return Err(self.fault("is a sparse file named like a directory"));
            }
            b'0' | b'\0' | b'7' if sparse => return self.pax_sparse(records),
            b'0' | b'\0' | b'7' => return Ok(Kind::File { size: self.body.left }),
            b'S' if sparse => return Err(self.fault("is sparse in two ways")),
            b'S' => return self.gnu_sparse(header),
            b'1' => match name::clean(link) {
                Ok(target) if !target.is_empty() => Kind::HardLink(target),
                _ => return Err(self.fault("is a hard link without a usable target")),
            },
            b'2' if link.is_empty() || link.len() > MAX_PATH || link.contains(&0) => {
                return Err(self.fault("is a symbolic link without a usable target"));
            }
            b'2' => Kind::Symlink(link.to_vec()),
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(self.fault("is of a type that is not supported")),
        };
        if self.body.left != 0 {
            return Err(self.fault("has content although its type has none"));
        }
        if sparse {
            return Err(self.fault("is sparse although its type has no content"));
        }
        Ok(kind)
    }

    fn gnu_sparse(&mut self, header: &Header) -> Result<Kind, Fault> {
        const BAD: &str = "has a malformed sparse header";
        let Some(gnu) = header.as_gnu() else { return Err(self.fault(BAD)) };
        let size = number::field(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
        let Some(size) = size else { return Err(self.fault(BAD)) };
        let mut segments = Vec::new();
        let in_header = &header.as_bytes()[386..482];
        sparse::gnu_pairs(in_header, &mut segments).map_err(|what| self.fault(what))?;
        let mut more = gnu.isextended[0];
        while more != 0 {
            let Some(block) = self.block()? else { return Err(self.fault("is cut short")) };
            sparse::gnu_pairs(&block[..504], &mut segments).map_err(|what| self.fault(what))?;
            more = block[504];
            // The bound on segments bounds this loop only if every block has one.
            if block[..24].iter().all(|byte| *byte == 0) && more != 0 {
                return Err(self.fault(BAD));
            }
        }
        self.sparse_file(Map::checked(segments, size, self.body.left))
    }

    fn pax_sparse(&mut self, records: &Records) -> Result<Kind, Fault> {
        let sparse = &records.sparse;
        let Some(size) = sparse.size else {
            return Err(self.fault("is a sparse file without a size"));
        };
        let segments = match (sparse.major, sparse.minor) {
            (Some(1), Some(0)) if sparse.map.is_none() => self.leading_map()?,
            (None | Some(0), None | Some(0 | 1)) => sparse.map.clone().unwrap_or_default(),
            _ => return Err(self.fault("is a sparse file of an unknown version")),
        };
        self.sparse_file(Map::checked(segments, size, self.body.left))
    }

    /// Reads the map in front of the data of a PAX 1.0 sparse file.
    fn leading_map(&mut self) -> Result<Vec<sparse::Segment>, Fault> {
        let mut lines = Lines::default();
        loop {
            if self.body.left < BLOCK as u64 {
                return Err(self.fault("has a sparse map that ends in the middle"));
            }
            let Some(block) = self.block()? else { return Err(self.fault("is cut short")) };
            self.body.left -= BLOCK as u64;
            if lines.feed(&block).map_err(|what| self.fault(what))? {
                return Ok(lines.into_segments());
            }
        }
    }

    fn sparse_file(&mut self, map: Result<Map, &'static str>) -> Result<Kind, Fault> {
        let map = map.map_err(|what| self.fault(what))?;
        let size = map.size;
        self.body.map = Some(map);
        Ok(Kind::File { size })
    }

    pub(super) fn size_field(&self, header: &Header) -> Result<u64, Fault> {
        let size = number::field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.fault("has an impossible size"))
    }

    /// Returns the bytes of content in the archive. A PAX size may stand in for a field that is
    /// zero or too small for it, but not contradict one.
    fn content_size(&self, header: &Header, records: &Records) -> Result<u64, Fault> {
        let in_header = self.size_field(header)?;
        match records.size {
            None => Ok(in_header),
            Some(size) if size == in_header || in_header == 0 || size > MAX_OCTAL_SIZE => Ok(size),
            Some(_) => Err(self.fault("has two sizes that differ")),
        }
    }

    fn attributes(&self, header: &Header, records: Records) -> Result<Attributes, Fault> {
        let old = header.as_old();
        let mode = number::field(&old.mode).and_then(|mode| u32::try_from(mode & 0o7777).ok());
        let mode = mode.ok_or_else(|| self.fault("has an impossible mode"))?;
        let modified = match records.modified {
            Some(moment) => moment,
            None => {
                let seconds = number::field(&old.mtime);
                let seconds = seconds.ok_or_else(|| self.fault("has an impossible time"))?;
                Moment { seconds, nanos: 0 }
            }
        };
        let uid = self.id(records.uid, &old.uid)?;
        let gid = self.id(records.gid, &old.gid)?;
        Ok(Attributes { mode, uid, gid, modified, xattrs: records.xattrs })
    }

    fn id(&self, record: Option<u64>, field: &[u8]) -> Result<u32, Fault> {
        let id = match record {
            Some(id) => Some(id),
            None => number::field(field).and_then(|id| u64::try_from(id).ok()),
        };
        // -1 means "do not change" to chown(2).
        let id = id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
        id.ok_or_else(|| self.fault("has an owner that cannot exist"))
    }
}

/// Joins name and prefix. Only POSIX headers have a prefix; GNU ones keep other things there.
pub(crate) fn header_name(block: &[u8; BLOCK]) -> Result<Vec<u8>, &'static str> {
    let name = until_nul(&block[..100]);
    if &block[257..263] != b"ustar\0" {
        return Ok(name.to_vec());
    }
    // star ends the prefix 24 bytes earlier and puts times there.
    if &block[508..] == b"tar\0" && block[476..500].iter().any(|byte| *byte != 0) {
        return Err("has a header of star, whose names other readers take for longer");
    }
    let prefix = until_nul(&block[345..500]);
    if prefix.is_empty() {
        return Ok(name.to_vec());
    }
    Ok([prefix, b"/", name].concat())
}
