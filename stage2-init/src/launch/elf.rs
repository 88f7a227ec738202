//! What can be read off an ELF file without running it: its machine, its interpreter, the shared
//! libraries it needs.
//!
//! The bytes are the app's and may be anything. Every number read is checked before it is used,
//! every table is bounded, and what does not fit is as good as absent; nothing here fails or
//! allocates more than a few kilobytes. It must never grow into a loader.
//!
//! Source: `elf(5)`.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most entries of the table of segments that are looked at; linkers write a dozen.
const MAX_SEGMENTS: u64 = 64;
/// The most entries of the dynamic section that are looked at.
const MAX_ENTRIES: u64 = 2048;
/// The longest string that is read: the kernel's `PATH_MAX`.
const MAX_STRING: usize = 4096;
/// The most libraries one file is asked for.
const MAX_NEEDED: usize = 128;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Bytes that can be read at any place.
pub(super) trait Bytes {
    /// Returns up to `length` bytes from `at` on; fewer at the end, none where nothing can be read.
    fn at(&self, at: u64, length: usize) -> Vec<u8>;
}

impl Bytes for File {
    fn at(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(left) = bytes.get_mut(filled..).filter(|left| !left.is_empty()) {
            match at.checked_add(filled as u64).map(|at| self.read_at(left, at)) {
                Some(Ok(count)) if count > 0 => filled += count,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

impl Bytes for [u8] {
    fn at(&self, at: u64, length: usize) -> Vec<u8> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        self[from..self.len().min(from.saturating_add(length))].to_vec()
    }
}

/// An ELF file as far as its head can be understood.
pub(super) struct Elf<'b, B: ?Sized> {
    bytes: &'b B,
    form: Form,
    /// The machine it is for, `e_machine`.
    pub(super) machine: u16,
    segments: Vec<Segment>,
}

/// How numbers are written in it.
#[derive(Clone, Copy, Debug)]
struct Form {
    wide: bool,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

/// What a file asks the dynamic linker for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// The libraries, by the names it knows them by.
    pub(super) libraries: Vec<String>,
    /// The directories it wants searched first, as it wrote them.
    pub(super) directories: Vec<String>,
}

impl<'b, B: Bytes + ?Sized> Elf<'b, B> {
    /// Reads the head of a file; `None` if it is no ELF file.
    pub(super) fn read(bytes: &'b B) -> Option<Self> {
        let head = bytes.at(0, 64);
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let form = Form { wide: head.get(4) == Some(&2), big_endian: head.get(5) == Some(&2) };
        let machine = u16::try_from(form.number(&head, 18, 2)?).ok()?;
        let mut elf = Self { bytes, form, machine, segments: Vec::new() };
        elf.segments = elf.read_segments(&head).unwrap_or_default();
        Some(elf)
    }

    /// Returns the program that is to interpret it.
    pub(super) fn interpreter(&self) -> Option<String> {
        let segment = self.segments.iter().find(|segment| segment.kind == PT_INTERP)?;
        Some(self.string(segment.offset))
    }

    /// Returns what it asks the dynamic linker for.
    pub(super) fn wants(&self) -> Wants {
        self.read_wants().unwrap_or_default()
    }

    fn read_segments(&self, head: &[u8]) -> Option<Vec<Segment>> {
        let form = self.form;
        let (table, size, count) = if form.wide {
            (form.number(head, 32, 8)?, form.number(head, 54, 2)?, form.number(head, 56, 2)?)
        } else {
            (form.number(head, 28, 4)?, form.number(head, 42, 2)?, form.number(head, 44, 2)?)
        };
        // Where the fields of an entry lie: kind, offset, address, size in the file.
        let (places, width) = if form.wide { ([0, 8, 16, 32], 8) } else { ([0, 4, 8, 16], 4) };
        let entry = |index: u64| {
            let bytes = self.bytes.at(table.checked_add(index.checked_mul(size)?)?, 56);
            let number = |at, width| form.number(&bytes, at, width);
            Some(Segment {
                kind: number(places[0], 4)?,
                offset: number(places[1], width)?,
                address: number(places[2], width)?,
                size: number(places[3], width)?,
            })
        };
        Some((0..count.min(MAX_SEGMENTS)).map_while(entry).collect())
    }

    fn read_wants(&self) -> Option<Wants> {
        let dynamic = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
        let width = if self.form.wide { 8 } else { 4 };
        let size = dynamic.size.min(MAX_ENTRIES * 2 * width as u64);
        let table = self.bytes.at(dynamic.offset, usize::try_from(size).ok()?);
        let entries: Vec<(u64, u64)> = table
            .chunks_exact(2 * width)
            .map_while(|entry| {
                let tag = self.form.number(entry, 0, width)?;
                Some((tag, self.form.number(entry, width, width)?)).filter(|(tag, _)| *tag != 0)
            })
            .collect();
        let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
        let strings = self.offset_of(strings)?;
        let texts = |wanted: u64| {
            let of_kind = entries.iter().filter(move |(tag, _)| *tag == wanted);
            of_kind.filter_map(|(_, at)| Some(self.string(strings.checked_add(*at)?)))
        };
        // Where there is a RUNPATH, no RPATH counts.
        let mut directories: Vec<String> = texts(DT_RUNPATH).take(1).collect();
        if directories.is_empty() {
            directories.extend(texts(DT_RPATH).take(1));
        }
        let directories = directories.iter().flat_map(|list| list.split(':')).map(str::to_owned);
        let libraries = texts(DT_NEEDED).take(MAX_NEEDED).filter(|name| !name.is_empty()).collect();
        Some(Wants { libraries, directories: directories.take(MAX_NEEDED).collect() })
    }

    /// Returns where in the file lies what is loaded at `address`.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let loaded = self.segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let mut places = loaded.filter_map(|segment| {
            let beyond =
                address.checked_sub(segment.address).filter(|beyond| *beyond < segment.size)?;
            segment.offset.checked_add(beyond)
        });
        places.next()
    }

    /// Reads the string that begins at `at`, up to its NUL byte.
    fn string(&self, at: u64) -> String {
        let bytes = self.bytes.at(at, MAX_STRING);
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

impl Form {
    /// Reads a number of `width` bytes, at most eight.
    fn number(self, bytes: &[u8], at: usize, width: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(width)?)?;
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.big_endian {
            field.iter().fold(0, join)
        } else {
            field.iter().rev().fold(0, join)
        })
    }
}

/// Returns what people call an ELF machine, as `uname -m` does.
pub(super) fn machine_name(machine: u16) -> String {
    let name = match machine {
        3 => "i386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        43 => "sparc64",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return format!("ELF machine {machine}"),
    };
    name.to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::env::consts::ARCH;

    use super::*;
    use proptest::prelude::*;

    /// Writes an ELF64 file with an interpreter and libraries, its strings at its end.
    pub(in super::super) fn written(
        machine: u16,
        interpreter: &str,
        wants: &[(u64, &str)],
    ) -> Vec<u8> {
        const HEAD: usize = 64 + 3 * 56;
        let mut strings = vec![0];
        let mut place = |text: &str| {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let named = place(interpreter);
        let mut entries: Vec<(u64, u64)> =
            wants.iter().map(|(tag, text)| (*tag, place(text))).collect();
        entries.push((DT_STRTAB, 0x1000));
        entries.push((0, 0));
        let table = (HEAD + entries.len() * 16) as u64;
        let mut elf = vec![0; HEAD];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[16] = 2;
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        (elf[32], elf[54], elf[56]) = (64, 56, 3);
        let segments = [
            (PT_INTERP, table + named, 0, interpreter.len() as u64),
            (PT_LOAD, table, 0x1000, strings.len() as u64),
            (PT_DYNAMIC, HEAD as u64, 0, entries.len() as u64 * 16),
        ];
        for (index, (kind, offset, address, size)) in segments.into_iter().enumerate() {
            for (at, number) in [(0, kind), (8, offset), (16, address), (32, size)] {
                let at = 64 + index * 56 + at;
                let width = if at % 56 == 8 { 4 } else { 8 };
                elf[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
        }
        for (tag, value) in entries {
            elf.extend_from_slice(&tag.to_le_bytes());
            elf.extend_from_slice(&value.to_le_bytes());
        }
        elf.extend_from_slice(&strings);
        elf
    }

    #[test]
    fn a_file_names_its_machine_its_interpreter_and_its_libraries() {
        let wants = [(DT_NEEDED, "liba.so.1"), (DT_RUNPATH, "$ORIGIN/lib:/opt"), (DT_NEEDED, "b")];
        let bytes = written(183, "/lib/ld.so", &wants);
        let elf = Elf::read(bytes.as_slice()).unwrap();
        assert_eq!(machine_name(elf.machine), "aarch64");
        assert_eq!(elf.interpreter().as_deref(), Some("/lib/ld.so"));
        let wants = elf.wants();
        assert_eq!(wants.libraries, ["liba.so.1", "b"]);
        assert_eq!(wants.directories, ["$ORIGIN/lib", "/opt"]);
    }

    #[test]
    fn so_does_the_program_of_this_test() {
        let file = File::open("/proc/self/exe").unwrap();
        let elf = Elf::read(&file).unwrap();
        assert_eq!(machine_name(elf.machine), ARCH);
    }

    #[test]
    fn other_files_are_none() {
        for bytes in
            [&b""[..], b"#!/bin/sh", b"\x7fELF", b"\x7fELF\x02\x01\0\0\0\0\0\0\0\0\0\0\x02"]
        {
            assert!(Elf::read(bytes).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(at in 4..250_usize, with: [u8; 8], end in 0..600_usize) {
            let mut bytes = written(62, "/lib/ld.so", &[(DT_NEEDED, "a"), (DT_RPATH, "/b")]);
            for (index, byte) in with.into_iter().enumerate() {
                if let Some(place) = bytes.get_mut(at + index) {
                    *place = byte;
                }
            }
            bytes.truncate(end);
            if let Some(elf) = Elf::read(bytes.as_slice()) {
                let wants = elf.wants();
                prop_assert!(wants.libraries.len() <= MAX_NEEDED);
                prop_assert!(elf.interpreter().unwrap_or_default().len() <= 3 * MAX_STRING);
            }
        }

        #[test]
        fn nor_does_any_noise(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [&b"\x7fELF"[..], &noise].concat();
            if let Some(elf) = Elf::read(bytes.as_slice()) {
                let _ = (elf.interpreter(), elf.wants(), machine_name(elf.machine));
            }
        }
    }
}
