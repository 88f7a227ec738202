//! The state machine: blocks in, entries and their content out.
//!
//! Extension headers apply to the next real entry only; a PAX size never applies to a long name in
//! between (the TARmageddon family of desyncs). Sizes on entries that have no content are errors,
//! because half of the world's parsers skip such data and the other half reads it as headers.

use std::io::{BufRead, Seek};
use std::ops::Range;

use tar::Header;

use super::name::MAX_PATH;
use super::number;
use super::pax::{self, Records};
use super::sparse::Map;
use crate::layer::entry::Entry;
use crate::layer::fault::{Fault, Shown};

pub(crate) const BLOCK: usize = 512;

/// The most bytes of long names and PAX records one entry may have: what Go's reader takes.
pub(crate) const MAX_METADATA: u64 = 1 << 20;

/// A part of a file's content.
#[derive(Debug)]
pub(in crate::layer) enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros that the archive does not hold.
    Hole(u64),
}

/// Reads an archive from an uncompressed stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    /// Bytes consumed of the stream.
    offset: u64,
    /// Where the current entry's header stands, and its name as far as known, for faults.
    at: u64,
    pub(super) shown: Vec<u8>,
    pub(super) body: Body,
}

/// What of the current entry has not been read.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) left: u64,
    pub(super) padding: u64,
    pub(super) map: Option<Map>,
}

/// Extension headers that wait for their entry.
#[derive(Debug, Default)]
pub(super) struct Pending {
    metadata: u64,
    pub(super) records: Option<Records>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// Makes a reader at the start of an archive.
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, at: 0, shown: Vec::new(), body: Body::default() }
    }

    /// Returns the stream, somewhere behind the end of the archive.
    pub(in crate::layer) fn into_inner(self) -> R {
        self.input
    }

    /// Reads up to the next entry, or to the end of the archive.
    ///
    /// # Errors
    ///
    /// [`Fault`]; the reader is of no further use.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        self.body.map = None;
        self.body(|_| Ok(()))?;
        let mut pending = Pending::default();
        loop {
            self.at = self.offset;
            let Some(block) = self.header()? else {
                let dangling = pending.records.is_some()
                    || pending.long_name.is_some()
                    || pending.long_link.is_some();
                return if dangling {
                    Err(self.fault("is an extension header without an entry"))
                } else {
                    Ok(None)
                };
            };
            let header = Header::from_byte_slice(&block);
            self.shown.clear();
            self.shown.extend_from_slice(until_nul(&header.as_old().name));
            match header.as_old().linkflag[0] {
                kind @ (b'x' | b'g' | b'L' | b'K') => self.extension(kind, header, &mut pending)?,
                _ => return self.entry(header, pending).map(Some),
            }
        }
    }

    /// Hands the content of the current entry to `take`, in order, and all of it. Content that
    /// has been read once is gone.
    ///
    /// # Errors
    ///
    /// Whatever `take` returns, or the [`Fault`] of the stream.
    pub(in crate::layer) fn body(
        &mut self,
        mut take: impl FnMut(Piece<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let body = std::mem::take(&mut self.body);
        let Some(map) = body.map else {
            self.pass(body.left, &mut take)?;
            return self.pass(body.padding, &mut |_| Ok(()));
        };
        let mut position = 0;
        for segment in &map.segments {
            if segment.offset > position {
                take(Piece::Hole(segment.offset - position))?;
            }
            self.pass(segment.length, &mut take)?;
            position = segment.offset + segment.length;
        }
        if map.size > position {
            take(Piece::Hole(map.size - position))?;
        }
        self.pass(body.padding, &mut |_| Ok(()))
    }

    pub(super) fn fault(&self, what: &'static str) -> Fault {
        Fault::Archive { entry: Shown::of(&self.shown), at: self.at, what }
    }

    /// Hands `left` bytes of the stream to `take` as they come.
    fn pass(
        &mut self,
        mut left: u64,
        take: &mut impl FnMut(Piece<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while left > 0 {
            let at = self.offset;
            let bytes = self.input.fill_buf().map_err(|error| Fault::stream(error, at))?;
            if bytes.is_empty() {
                return Err(self.fault("is cut short"));
            }
            let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            take(Piece::Data(&bytes[..length]))?;
            self.input.consume(length);
            self.offset += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// Reads one block; `None` at the end of the stream. A part of a block is an error.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let at = self.offset;
            let bytes = self.input.fill_buf().map_err(|error| Fault::stream(error, at))?;
            if bytes.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(self.fault("is cut short")) };
            }
            let length = bytes.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&bytes[..length]);
            self.input.consume(length);
            self.offset += length as u64;
            filled += length;
        }
        Ok(Some(block))
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().any(|byte| *byte != 0) {
            if !checksum_holds(&block) {
                return Err(self.fault("has no valid header"));
            }
            return Ok(Some(block));
        }
        // Two zero blocks end an archive. Behind a single one, some parsers stop, some go on and
        // some refuse; only the end of the stream means the same to all.
        match self.block()? {
            Some(next) if next.iter().any(|byte| *byte != 0) => {
                Err(self.fault("stands behind a single zero block"))
            }
            _ => Ok(None),
        }
    }

    fn extension(&mut self, kind: u8, header: &Header, pending: &mut Pending) -> Result<(), Fault> {
        let size = self.size_field(header)?;
        pending.metadata = pending.metadata.saturating_add(size);
        if pending.metadata > MAX_METADATA {
            return Err(self.fault("has more than 1 MiB of extension headers"));
        }
        let mut bytes = Vec::new();
        self.pass(size, &mut |piece| {
            if let Piece::Data(data) = piece {
                bytes.extend_from_slice(data);
            }
            Ok(())
        })?;
        self.pass(padding(size), &mut |_| Ok(()))?;
        let twice = match kind {
            b'g' => {
                pax::global(&bytes).map_err(|what| self.fault(what))?;
                false
            }
            b'x' => {
                let records = pax::local(&bytes).map_err(|what| self.fault(what))?;
                pending.records.replace(records).is_some()
            }
            b'L' => pending.long_name.replace(self.long(&bytes)?).is_some(),
            _ => pending.long_link.replace(self.long(&bytes)?).is_some(),
        };
        if twice { Err(self.fault("has two extension headers of one kind")) } else { Ok(()) }
    }

    fn long(&self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let name = until_nul(bytes);
        if name.is_empty() || name.len() > MAX_PATH {
            return Err(self.fault("has a long name that is empty or longer than 4095 bytes"));
        }
        Ok(name.to_vec())
    }
}

impl<R: BufRead + Seek> Reader<R> {
    /// Goes past the content of the current entry without reading it, and returns where it stands
    /// in a stream of `end` bytes.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the content is sparse, or the stream ends before it does.
    pub(crate) fn skip(&mut self, end: u64) -> Result<Range<u64>, Fault> {
        let body = std::mem::take(&mut self.body);
        if body.map.is_some() {
            return Err(self.fault("is sparse, which nothing in an archive of images may be"));
        }
        let start = self.offset;
        let all = body.left.checked_add(body.padding);
        let after = all.and_then(|all| start.checked_add(all)).filter(|after| *after <= end);
        let (Some(all), Some(after)) = (all.and_then(|all| i64::try_from(all).ok()), after) else {
            return Err(self.fault("is cut short"));
        };
        self.input.seek_relative(all).map_err(|error| Fault::stream(error, start))?;
        self.offset = after;
        Ok(start..start + body.left)
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

pub(crate) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Checks the sum of a header's bytes; some old writers added them as signed ones.
pub(crate) fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let Some(stated) = number::field(&block[148..156]) else { return false };
    let outside = || block[..148].iter().chain(&block[156..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum::<i64>() + spaces;
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + spaces;
    stated == unsigned || stated == signed
}
