//! The kernel's ELF file, as far as a loader looks: which of its bytes go where.
//!
//! The file is the distribution's, imported once and owned by root, but a bad one must be an error
//! and nothing else: every number of it is checked before it is used (CVE-2022-23523).
//!
//! Source: `elf(5)`.

use std::io;
use std::os::fd::BorrowedFd;

/// What of the file goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The first instruction.
    pub entry: u64,
    /// What is loaded, in the order of the file.
    pub segments: Vec<Segment>,
    /// The end of the highest of them, in memory.
    pub end: u64,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies in the file.
    pub offset: u64,
    /// Bytes of it there.
    pub length: u64,
    /// Where it goes.
    pub address: u64,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("it is not a 64-bit executable for x86")]
    Kind,
    /// A number in it makes no sense, or its entry is in no segment.
    #[error("its headers make no sense")]
    Headers,
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Far more than any kernel has; Debian's has five.
const MAX_SEGMENTS: u16 = 64;
const PT_LOAD: u32 = 1;

/// Reads the headers of a file.
///
/// # Errors
///
/// [`Error`]; nothing else was read than headers.
pub fn parse(file: BorrowedFd<'_>) -> Result<Image, Error> {
    let mut header = [0; HEADER];
    read_at(file, &mut header, 0)?;
    // Class 64-bit, little-endian; executable; machine x86-64.
    if header[..6] != *b"\x7fELF\x02\x01" || header[16..20] != [2, 0, 62, 0] {
        return Err(Error::Kind);
    }
    let entry = u64_at(&header, 24);
    let table = u64_at(&header, 32);
    let (size, count) = (u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(size) != PROGRAM_HEADER || count == 0 || count > MAX_SEGMENTS {
        return Err(Error::Headers);
    }
    let mut headers = vec![0; PROGRAM_HEADER * usize::from(count)];
    read_at(file, &mut headers, table)?;
    let file_length = u64::try_from(rustix::fs::fstat(file).map_err(io::Error::from)?.st_size);
    let file_length = file_length.map_err(|_| Error::Headers)?;
    image(entry, &headers, file_length)
}

fn image(entry: u64, headers: &[u8], file_length: u64) -> Result<Image, Error> {
    let mut image = Image { entry, segments: Vec::new(), end: 0 };
    let mut entered = false;
    for header in headers.chunks_exact(PROGRAM_HEADER) {
        if u32_at(header, 0) != PT_LOAD {
            continue;
        }
        let (offset, address) = (u64_at(header, 8), u64_at(header, 24));
        let (length, in_memory) = (u64_at(header, 32), u64_at(header, 40));
        let end = address.checked_add(in_memory).ok_or(Error::Headers)?;
        let in_file = offset.checked_add(length).is_some_and(|end| end <= file_length);
        if !in_file || length > in_memory {
            return Err(Error::Headers);
        }
        entered |= (address..end).contains(&entry);
        image.end = image.end.max(end);
        if length > 0 {
            image.segments.push(Segment { offset, length, address });
        }
    }
    if entered { Ok(image) } else { Err(Error::Headers) }
}

fn read_at(file: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < into.len() {
        let at = offset.checked_add(done as u64).ok_or(Error::Headers)?;
        match rustix::io::pread(file, &mut into[done..], at) {
            Ok(0) => return Err(Error::Headers),
            Ok(read) => done += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::INVAL) => return Err(Error::Headers),
            Err(errno) => return Err(Error::Read(errno.into())),
        }
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
