//! What kernels and modules have in common: the header of an ELF file, and its tables
//! (`elf(5)`, 64 bits, little endian, x86-64).

use crate::bytes::{piece, text_at, u16_at, u32_at, u64_at};
use crate::error::{Error, ErrorKind};

/// Bytes of the header of a file.
pub(crate) const HEADER: usize = 64;
/// Bytes of a program header.
pub(crate) const PROGRAM_HEADER: usize = 56;
/// Bytes of a section header.
const SECTION_HEADER: usize = 64;
/// The most program headers of a kernel; Debian's has five.
const MAX_PROGRAM_HEADERS: u16 = 32;
/// The most sections of a module; an instrumented one has one for each function.
const MAX_SECTIONS: u16 = 32_768;
/// The longest name of a section that is compared, in bytes.
const MAX_SECTION_NAME: usize = 64;

/// `e_type` of a file that runs where it is linked.
pub(crate) const ET_EXEC: u16 = 2;
/// `e_type` of a file that is linked still.
pub(crate) const ET_REL: u16 = 1;
/// `e_type` of a program that runs anywhere.
pub(crate) const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// A segment, as its program header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) virtual_address: u64,
    pub(crate) address: u64,
    pub(crate) file_size: u64,
    pub(crate) size: u64,
}

/// An ELF file whose header is sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elf<'e> {
    bytes: &'e [u8],
    pub(crate) kind: u16,
    pub(crate) entry: u64,
}

impl<'e> Elf<'e> {
    /// Reads the header.
    pub(crate) fn parse(bytes: &'e [u8]) -> Result<Self, Error> {
        let cut = || Error::damaged("it is cut short");
        let header = bytes.get(..HEADER).ok_or_else(cut)?;
        if !header.starts_with(b"\x7fELF") {
            return Err(Error::damaged("it is no ELF file"));
        }
        // EI_CLASS 64 bits, EI_DATA little endian
        let machine = u16_at(header, 18).ok_or_else(cut)?;
        if header[4] != 2 || header[5] != 1 || machine != EM_X86_64 {
            return Err(Error::new(ErrorKind::Unsupported, "it is not for x86-64"));
        }
        let kind = u16_at(header, 16).ok_or_else(cut)?;
        let entry = u64_at(header, 24).ok_or_else(cut)?;
        Ok(Self { bytes, kind, entry })
    }

    /// Returns the segments.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>, Error> {
        let bad = || Error::damaged("its table of segments is not sound");
        let at = u64_at(self.bytes, 32).ok_or_else(bad)?;
        let size = u16_at(self.bytes, 54).ok_or_else(bad)?;
        let count = u16_at(self.bytes, 56).ok_or_else(bad)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if usize::from(size) != PROGRAM_HEADER || count > MAX_PROGRAM_HEADERS {
            return Err(bad());
        }
        let table = piece(self.bytes, at, u64::from(size) * u64::from(count)).ok_or_else(bad)?;
        let segment = |row: &[u8]| {
            Some(Segment {
                kind: u32_at(row, 0)?,
                flags: u32_at(row, 4)?,
                offset: u64_at(row, 8)?,
                virtual_address: u64_at(row, 16)?,
                address: u64_at(row, 24)?,
                file_size: u64_at(row, 32)?,
                size: u64_at(row, 40)?,
            })
        };
        let rows = table.chunks_exact(PROGRAM_HEADER);
        rows.map(segment).collect::<Option<_>>().ok_or_else(bad)
    }

    /// Returns where the header and the table of segments end, if they are all there.
    pub(crate) fn end_of_headers(&self) -> Result<u64, Error> {
        let bad = || Error::damaged("its table of segments is not sound");
        let at = u64_at(self.bytes, 32).ok_or_else(bad)?;
        let count = u16_at(self.bytes, 56).ok_or_else(bad)?;
        let end = at.checked_add(PROGRAM_HEADER as u64 * u64::from(count)).ok_or_else(bad)?;
        let end = end.max(HEADER as u64);
        piece(self.bytes, 0, end).map(|_| end).ok_or_else(bad)
    }

    /// Returns the content of the segment in the file.
    pub(crate) fn content(&self, segment: &Segment) -> Option<&'e [u8]> {
        piece(self.bytes, segment.offset, segment.file_size)
    }

    /// Returns the content of the first section called `name`.
    pub(crate) fn section(&self, name: &str) -> Result<Option<&'e [u8]>, Error> {
        let bad = || Error::damaged("its table of sections is not sound");
        let at = u64_at(self.bytes, 40).ok_or_else(bad)?;
        let size = u16_at(self.bytes, 58).ok_or_else(bad)?;
        let count = u16_at(self.bytes, 60).ok_or_else(bad)?;
        let names = usize::from(u16_at(self.bytes, 62).ok_or_else(bad)?);
        if usize::from(size) != SECTION_HEADER || count > MAX_SECTIONS {
            return Err(bad());
        }
        let table = piece(self.bytes, at, u64::from(size) * u64::from(count)).ok_or_else(bad)?;
        let rows = table.chunks_exact(SECTION_HEADER);
        let content = |row: &[u8]| piece(self.bytes, u64_at(row, 24)?, u64_at(row, 32)?);
        let names = rows.clone().nth(names).and_then(content).ok_or_else(bad)?;
        for row in rows {
            let at = u32_at(row, 0).ok_or_else(bad)? as usize;
            if text_at(names, at, MAX_SECTION_NAME) == Some(name) {
                return content(row).map(Some).ok_or_else(bad);
            }
        }
        Ok(None)
    }
}

/// Returns a file whose header is sound without its table of sections.
pub(crate) fn without_sections(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    file[40..48].fill(0); // e_shoff
    file[60..64].fill(0); // e_shnum, e_shstrndx
    file
}
