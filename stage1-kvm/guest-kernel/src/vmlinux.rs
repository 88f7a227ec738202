//! A kernel as a monitor loads it: the segments of its ELF file, and nothing else.
//!
//! Sections, symbols, relocations and zeros at the end of a segment stay behind: a guest's memory
//! is zero anyway. Each segment begins on a page of the file, so that it can be mapped.

use crate::MAX_KERNEL;
use crate::bytes::{piece, u32_at};
use crate::bzimage;
use crate::elf::{ET_EXEC, Elf, HEADER, PROGRAM_HEADER, Segment};
use crate::error::{Error, ErrorKind};
use crate::packing::{Packing, unpack_payload};

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `p_flags` of what is executed.
const PF_X: u32 = 1;
/// Bytes of a page: segments lie at multiples of it in the file.
const PAGE: u64 = 4096;
/// The lowest address a segment may be loaded to; below lie the monitor's own tables.
const LOWEST: u64 = 1 << 20;
/// The first address no segment may reach: what the first page tables of a guest map.
const END: u64 = 1 << 30;
/// The longest notes that are kept, in bytes.
const MAX_NOTES: u64 = 64 << 10;
/// The longest name of a release, in bytes; `utsname` has room for 64.
const MAX_RELEASE: usize = 64;
/// What stands before the release in a kernel (`linux_banner`).
const BANNER: &[u8] = b"Linux version ";

/// A kernel to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `uname(2)` tells it in the guest.
    pub release: String,
    /// An ELF file of segments to load, and of notes if it has any.
    pub elf: Vec<u8>,
}

/// Reads a kernel: a `bzImage` as distributions have it, or its ELF file, packed or not.
///
/// # Errors
///
/// Of every kind but [`ErrorKind::Missing`].
pub fn kernel(file: &[u8]) -> Result<Kernel, Error> {
    if file.len() as u64 > MAX_KERNEL {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("it has more than {MAX_KERNEL} bytes"),
        ));
    }
    let (elf, release) = if bzimage::is_bzimage(file) {
        let payload = bzimage::payload(file)?;
        (unpack_payload(payload.packed, MAX_KERNEL)?, payload.release.and_then(checked_release))
    } else {
        (Packing::of(file)?.unpack(file, MAX_KERNEL)?, None)
    };
    let release = release
        .or_else(|| banner(&elf))
        .ok_or_else(|| Error::damaged("it does not tell its release"))?
        .to_owned();
    Ok(Kernel { release, elf: slim(&elf)? })
}

/// Returns `release` if it is the name of one: it becomes part of paths.
fn checked_release(release: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    let sound = (1..=MAX_RELEASE).contains(&release.len())
        && !release.starts_with('.')
        && release.chars().all(plain);
    sound.then_some(release)
}

/// Finds the release in the kernel itself.
fn banner(elf: &[u8]) -> Option<&str> {
    // The first bytes are compared one by one, which is enough where it is read once.
    let mut rest = elf;
    while let Some(at) = rest.iter().position(|byte| *byte == BANNER[0]) {
        rest = &rest[at..];
        if let Some(release) = rest.strip_prefix(BANNER) {
            let end = release.iter().take(MAX_RELEASE + 1).position(|byte| *byte == b' ');
            let text = end.and_then(|end| str::from_utf8(&release[..end]).ok());
            if let Some(release) = text.and_then(checked_release) {
                return Some(release);
            }
        }
        rest = &rest[1..];
    }
    None
}

/// Makes a file of nothing but what is loaded.
fn slim(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let elf = Elf::parse(bytes)?;
    if elf.kind != ET_EXEC {
        return Err(Error::new(ErrorKind::Unsupported, "it is no kernel, but another ELF file"));
    }
    let segments = elf.segments()?;
    let mut loads = Vec::new();
    for segment in segments.iter().filter(|segment| segment.kind == PT_LOAD) {
        loads.push(load(&elf, segment)?);
    }
    check(&loads, elf.entry)?;
    // Segments that share bytes of the file would be written once each.
    if loads.iter().map(|(_, content)| content.len()).sum::<usize>() > bytes.len() {
        return Err(Error::damaged("its segments have more bytes than the file"));
    }
    let notes = match segments.iter().find(|segment| segment.kind == PT_NOTE) {
        Some(notes) => Some(self::notes(&elf, notes)?),
        None => None,
    };
    Ok(written(elf.entry, &loads, notes.as_ref()))
}

/// A segment to load, and what is loaded: as long as the file size it tells.
type Load<'e> = (Segment, &'e [u8]);

fn load<'e>(elf: &Elf<'e>, segment: &Segment) -> Result<Load<'e>, Error> {
    let content =
        elf.content(segment).ok_or_else(|| Error::damaged("a segment ends behind the file"))?;
    if segment.file_size > segment.size {
        return Err(Error::damaged("a segment is longer in the file than in memory"));
    }
    let end = segment.address.checked_add(segment.size);
    if segment.address < LOWEST || end.is_none_or(|end| end > END) {
        return Err(Error::damaged(format!(
            "a segment would be loaded to {:#x}, where no kernel lies",
            segment.address
        )));
    }
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let content = &content[..used];
    Ok((Segment { file_size: used as u64, ..*segment }, content))
}

/// Checks that segments are apart from each other, and that the kernel begins in one of them.
fn check(loads: &[Load<'_>], entry: u64) -> Result<(), Error> {
    let mut ranges: Vec<(u64, u64)> = loads
        .iter()
        .map(|(segment, _)| (segment.address, segment.address + segment.size))
        .collect();
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(Error::damaged("two segments would be loaded to one place"));
    }
    let begins = |segment: &Segment| {
        segment.flags & PF_X != 0
            && entry >= segment.address
            && entry - segment.address < segment.file_size
    };
    if !loads.iter().any(|(segment, _)| begins(segment)) {
        return Err(Error::damaged("it does not begin in what is loaded"));
    }
    Ok(())
}

fn notes<'e>(elf: &Elf<'e>, segment: &Segment) -> Result<Load<'e>, Error> {
    let bad = || Error::damaged("its notes are not sound");
    let content =
        elf.content(segment).filter(|notes| notes.len() as u64 <= MAX_NOTES).ok_or_else(bad)?;
    // Each is a header of twelve bytes, a name and a description, both padded to four bytes.
    let mut rest = content;
    while !rest.is_empty() {
        let name = u64::from(u32_at(rest, 0).ok_or_else(bad)?);
        let description = u64::from(u32_at(rest, 4).ok_or_else(bad)?);
        let length = 12 + name.next_multiple_of(4) + description.next_multiple_of(4);
        let length = piece(rest, 0, length).ok_or_else(bad)?.len();
        rest = &rest[length..];
    }
    Ok((*segment, content))
}

fn written(entry: u64, loads: &[Load<'_>], notes: Option<&Load<'_>>) -> Vec<u8> {
    let count = loads.len() + usize::from(notes.is_some());
    let mut file = header(entry, count);
    let mut bodies = Vec::new();
    let mut at = (HEADER + count * PROGRAM_HEADER) as u64;
    for (segment, content) in loads.iter().chain(notes) {
        at = at.next_multiple_of(PAGE) + segment.address % PAGE;
        file.extend(program_header(&Segment { offset: at, ..*segment }));
        bodies.push((at, *content));
        at += content.len() as u64;
    }
    for (at, content) in bodies {
        // It fits: `slim` has seen to it that it is no longer than what it is made from, but for a
        // page of each segment.
        file.resize(usize::try_from(at).unwrap_or(file.len()), 0);
        file.extend_from_slice(content);
    }
    file
}

fn header(entry: u64, count: usize) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, EM_X86_64, EV_CURRENT
    file.extend(entry.to_le_bytes());
    file.extend((HEADER as u64).to_le_bytes()); // e_phoff
    file.extend([0; 12]); // e_shoff, e_flags
    for half in [64, 56, count, 0, 0, 0] {
        file.extend(half.to_le_bytes()); // sizes of headers, counts of them
    }
    file
}

fn program_header(segment: &Segment) -> Vec<u8> {
    let mut row = Vec::with_capacity(PROGRAM_HEADER);
    row.extend(segment.kind.to_le_bytes());
    row.extend(segment.flags.to_le_bytes());
    for word in [
        segment.offset,
        segment.virtual_address,
        segment.address,
        segment.file_size,
        segment.size,
        if segment.kind == PT_NOTE { 4 } else { PAGE },
    ] {
        row.extend(word.to_le_bytes());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, file_size: u64, size: u64) -> Segment {
        Segment {
            kind: PT_LOAD,
            flags: PF_X,
            offset: 0,
            virtual_address: address,
            address,
            file_size,
            size,
        }
    }

    /// A kernel of these segments, filled with ones, with room for a banner in front.
    fn made(entry: u64, segments: &[Segment], notes: Option<&[u8]>) -> Vec<u8> {
        let ones: Vec<Vec<u8>> = segments
            .iter()
            .map(|s| {
                let mut ones = vec![1; usize::try_from(s.file_size).unwrap()];
                let banner = b"Linux version 6.1.0-test (somebody)\0";
                if ones.len() >= banner.len() {
                    ones[..banner.len()].copy_from_slice(banner);
                }
                ones
            })
            .collect();
        let loads: Vec<Load<'_>> =
            segments.iter().copied().zip(ones.iter().map(|o| &o[..])).collect();
        let notes = notes.map(|notes| {
            let length = notes.len() as u64;
            (Segment { kind: PT_NOTE, flags: 4, ..segment(LOWEST, length, length) }, notes)
        });
        written(entry, &loads, notes.as_ref())
    }

    fn note(name: &[u8], description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
        note.extend(u32::try_from(description.len()).unwrap().to_le_bytes());
        note.extend([18, 0, 0, 0]);
        for part in [name, description] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn refused(file: &[u8]) -> String {
        kernel(file).unwrap_err().to_string()
    }

    #[test]
    fn what_is_loaded_is_kept_and_zeros_at_the_end_are_not() {
        let notes = [note(b"Xen\0", &[1, 2, 3, 4]), note(b"GNU\0", b"abc")].concat();
        let mut file = made(LOWEST, &[segment(LOWEST, 9000, 20_000)], Some(&notes));
        let first = kernel(&file).unwrap();
        assert_eq!(first.release, "6.1.0-test");
        assert_eq!(first, kernel(&first.elf).unwrap(), "it is as short as it gets");
        // The last pages of the segment become zero.
        let content = file.windows(5).position(|five| five == b"Linux").unwrap();
        file[content + 5000..content + 9000].fill(0);
        let slim = kernel(&file).unwrap();
        assert!(slim.elf.len() < first.elf.len());
        let elf = Elf::parse(&slim.elf).unwrap();
        let segments = elf.segments().unwrap();
        assert_eq!((segments[0].file_size, segments[0].size), (5000, 20_000));
        assert_eq!(elf.content(&segments[1]).unwrap(), notes);
    }

    #[test]
    fn segments_lie_where_a_kernel_lies_and_apart() {
        let fine = segment(LOWEST, 5000, 5000);
        for (bad, why) in [
            (segment(0, 10, 10), "no kernel lies"),
            (segment(END - 5, 10, 10), "no kernel lies"),
            (segment(u64::MAX - 5, 10, 10), "no kernel lies"),
            (segment(2 * LOWEST, 10, u64::MAX), "no kernel lies"),
            (segment(2 * LOWEST, 10, 9), "longer in the file"),
            (segment(LOWEST + 100, 10, 10), "to one place"),
        ] {
            assert!(refused(&made(LOWEST, &[fine, bad], None)).contains(why), "{bad:?}");
        }
        assert!(refused(&made(LOWEST - 1, &[fine], None)).contains("does not begin"));
        assert!(refused(&made(LOWEST + 5000, &[fine], None)).contains("does not begin"));
        assert!(refused(&made(LOWEST, &[], None)).contains("does not tell"));
    }

    #[test]
    fn segments_that_share_the_bytes_of_a_file_are_refused() {
        let (one, other) = (segment(LOWEST, 9000, 9000), segment(2 * LOWEST, 9000, 9000));
        let mut file = made(LOWEST, &[one, other], None);
        assert!(kernel(&file).is_ok());
        file.truncate(4096 + 9000);
        file.copy_within(64 + 8..64 + 16, 64 + 56 + 8); // p_offset
        assert!(refused(&file).contains("more bytes than the file"));
    }

    #[test]
    fn notes_that_lie_about_their_lengths_are_refused() {
        let fine = segment(LOWEST, 5000, 5000);
        for (at, value) in [(0, u32::MAX), (4, u32::MAX), (0, 500), (4, 500), (0, 9)] {
            let mut notes = note(b"Xen\0", &[1, 2, 3, 4]);
            notes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(refused(&made(LOWEST, &[fine], Some(&notes))).contains("notes"), "{value}");
        }
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let fine = made(LOWEST, &[segment(LOWEST, 5000, 5000)], None);
        for (at, bytes) in [
            (32, &u64::MAX.to_le_bytes()[..]), // e_phoff
            (32, &(fine.len() as u64 - 55).to_le_bytes()),
            (54, &[0, 0]),                      // e_phentsize
            (56, &[255, 255]),                  // e_phnum
            (64 + 8, &u64::MAX.to_le_bytes()),  // p_offset
            (64 + 32, &u64::MAX.to_le_bytes()), // p_filesz
            (18, &[3, 0]),                      // e_machine
            (4, &[1]),                          // EI_CLASS
            (16, &[3, 0]),                      // e_type
        ] {
            let mut bad = fine.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(kernel(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn a_release_cannot_be_a_way_elsewhere() {
        for bad in ["", "..", ".hidden", "6.1/..", "6.1 x", "6.1\n", &"6".repeat(65)] {
            assert_eq!(checked_release(bad), None, "{bad}");
        }
        assert_eq!(checked_release("6.1.0-56-cloud-amd64"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(checked_release("6.8.0+deb13~rc1_x"), Some("6.8.0+deb13~rc1_x"));
    }
}
