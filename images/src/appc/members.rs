//! The entries of an image's archive, in its order.
//!
//! An archive is cut into entries by the rules of the reader of layers, so that both see the same
//! ones; all else is for that reader to judge, which gets the layer next. Extension headers are
//! bounded, content is handed on as it comes, and nothing is kept of an entry behind the next one.

use std::io::{self, BufReader, Read, Write};

use tar::Header;

use super::error::AppcError;
use super::member::{Member, Records, records, taken};
use crate::layer::Shown;
use crate::layer::tar::{
    BLOCK, MAX_METADATA, MAX_OCTAL_SIZE, checksum_holds, decimal, field, global, header_name,
    padding, until_nul,
};

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// The entries of a stream.
pub(super) struct Members<'a> {
    input: BufReader<&'a mut dyn Read>,
    shown: Vec<u8>,
}

/// Extension headers that wait for their entry.
#[derive(Default)]
struct Pending {
    metadata: u64,
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn waits(&self) -> bool {
        self.records.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<'a> Members<'a> {
    pub(super) fn new(reader: &'a mut dyn Read) -> Self {
        Self { input: BufReader::with_capacity(BUFFER, reader), shown: Vec::new() }
    }

    /// Reads up to the content of the next entry; all content of the one before has been taken.
    pub(super) fn next(&mut self) -> Result<Option<Member>, AppcError> {
        let mut pending = Pending::default();
        loop {
            let Some(header) = self.header()? else {
                let what = "is an extension header without an entry";
                return if pending.waits() { Err(self.fault(what)) } else { Ok(None) };
            };
            self.shown = until_nul(&header.as_old().name).to_vec();
            match header.as_old().linkflag {
                [kind @ (b'x' | b'g' | b'L' | b'K')] => {
                    self.extension(kind, &header, &mut pending)?;
                }
                [kind] => return self.member(kind, header, pending).map(Some),
            }
        }
    }

    /// Makes the fault of the entry read last.
    pub(super) fn fault(&self, what: &'static str) -> AppcError {
        AppcError::Entry { entry: Shown::of(&self.shown), what }
    }

    /// Hands `size` bytes of content to `out`, and passes over what fills the last block.
    pub(super) fn content(&mut self, size: u64, out: &mut dyn Write) -> Result<(), AppcError> {
        self.pass(size, out)?;
        self.pass(padding(size), &mut io::sink())
    }

    /// Reads what is behind the end of the archive, so that all of the stream has been seen by
    /// whoever takes its sum, and a compressed one is known to be whole.
    pub(super) fn rest(&mut self) -> Result<(), AppcError> {
        io::copy(&mut self.input, &mut io::sink()).map(drop).map_err(AppcError::Read)
    }

    fn pass(&mut self, mut left: u64, out: &mut dyn Write) -> Result<(), AppcError> {
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let part = buffer.get_mut(..most).unwrap_or_default();
            let length = self.read(part)?;
            let part = part.get(..length).filter(|part| !part.is_empty());
            let part = part.ok_or_else(|| self.fault("is cut short"))?;
            out.write_all(part).map_err(AppcError::Write)?;
            left = left.saturating_sub(length as u64);
        }
        Ok(())
    }

    fn read(&mut self, part: &mut [u8]) -> Result<usize, AppcError> {
        loop {
            match self.input.read(part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(AppcError::Read),
            }
        }
    }

    /// Reads one block; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, AppcError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(part) = block.get_mut(filled..).filter(|part| !part.is_empty()) {
            match self.read(part)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.fault("is cut short")),
                length => filled += length,
            }
        }
        Ok(Some(block))
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, AppcError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(next) if next.iter().any(|byte| *byte != 0) => {
                    Err(self.fault("is followed by a single zero block"))
                }
                _ => Ok(None),
            };
        }
        match checksum_holds(&block) {
            true => Ok(Some(Header::from_byte_slice(&block).clone())),
            false if self.shown.is_empty() => Err(AppcError::Archive("is no tar archive")),
            false => Err(self.fault("is followed by no valid header")),
        }
    }

    fn extension(
        &mut self,
        kind: u8,
        header: &Header,
        pending: &mut Pending,
    ) -> Result<(), AppcError> {
        let size = self.size_field(header)?;
        pending.metadata = pending.metadata.saturating_add(size);
        if pending.metadata > MAX_METADATA {
            return Err(self.fault("has more than 1 MiB of extension headers"));
        }
        let mut bytes = Vec::new();
        self.content(size, &mut bytes)?;
        let long = || until_nul(&bytes).to_vec();
        let twice = match kind {
            b'g' => {
                global(&bytes).map_err(|what| self.fault(what))?;
                false
            }
            b'x' => {
                let records = records(&bytes).map_err(|what| self.fault(what))?;
                pending.records.replace(records).is_some()
            }
            b'L' => pending.long_name.replace(long()).is_some(),
            _ => pending.long_link.replace(long()).is_some(),
        };
        if twice { Err(self.fault("has two extension headers of one kind")) } else { Ok(()) }
    }

    fn member(&mut self, kind: u8, header: Header, pending: Pending) -> Result<Member, AppcError> {
        let mut records = pending.records.unwrap_or_default();
        let path = taken(&mut records, b"path");
        let linkpath = taken(&mut records, b"linkpath");
        let sparse_name = taken(&mut records, b"GNU.sparse.name");
        let both = (path.is_some() && pending.long_name.is_some())
            || (linkpath.is_some() && pending.long_link.is_some());
        if both {
            return Err(self.fault("has both a PAX and a GNU name"));
        }
        let named = sparse_name.is_some();
        let name = match sparse_name.or(path).or(pending.long_name) {
            Some(name) => name,
            None => header_name(header.as_bytes()).map_err(|what| self.fault(what))?,
        };
        self.shown.clone_from(&name);
        let link = linkpath.or(pending.long_link);
        let link = link.unwrap_or_else(|| until_nul(&header.as_old().linkname).to_vec());
        if link.contains(&0) {
            return Err(self.fault("has a NUL byte in its target"));
        }
        let size = self.size(&header, &records)?;
        let sparse = kind == b'S' || records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse."));
        let map = if kind == b'S' { self.map(&header)? } else { Vec::new() };
        Ok(Member { header, records, map, sparse_name: named, kind, name, link, size, sparse })
    }

    /// Returns the bytes of content in the archive, by the rules of the reader of layers.
    fn size(&self, header: &Header, records: &Records) -> Result<u64, AppcError> {
        let in_header = self.size_field(header)?;
        let Some((_, value)) = records.iter().rfind(|(key, _)| key == b"size") else {
            return Ok(in_header);
        };
        match decimal(value).filter(|size| i64::try_from(*size).is_ok()) {
            None => Err(self.fault("has an impossible size")),
            Some(size) if size == in_header || in_header == 0 || size > MAX_OCTAL_SIZE => Ok(size),
            Some(_) => Err(self.fault("has two sizes that differ")),
        }
    }

    fn size_field(&self, header: &Header) -> Result<u64, AppcError> {
        let size = field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| self.fault("has an impossible size"))
    }

    /// Reads the blocks behind a header that continue its sparse map.
    fn map(&mut self, header: &Header) -> Result<Vec<u8>, AppcError> {
        let mut map = Vec::new();
        let gnu = header.as_gnu().ok_or_else(|| self.fault("has a malformed sparse header"))?;
        let [mut more] = gnu.isextended;
        while more != 0 {
            if map.len() as u64 >= MAX_METADATA {
                return Err(self.fault("has a sparse map of more than 1 MiB"));
            }
            let block = self.block()?.ok_or_else(|| self.fault("is cut short"))?;
            more = block.get(504).copied().unwrap_or_default();
            map.extend_from_slice(&block);
        }
        Ok(map)
    }
}
