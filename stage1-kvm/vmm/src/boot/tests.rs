//! What a kernel finds, as bytes; and what no kernel is.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Command;

use proptest::prelude::*;

use super::{Error, acpi, at, elf, initramfs_address, linux};

const ENTRY: u64 = 0x100_0000;

/// An ELF file with one segment: offset, length in the file, address, length in memory.
fn program(segment: [u64; 4], entry: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(entry.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.resize(54, 0);
    file.extend([56, 0, 1, 0]);
    file.resize(64, 0);
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    let [offset, length, address, in_memory] = segment;
    for word in [offset, 0, address, length, in_memory, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.resize(0x2000, 0x90);
    file
}

fn parse(bytes: &[u8]) -> Result<elf::Image, elf::Error> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    elf::parse(file.as_fd())
}

#[test]
fn a_kernel_is_its_segments_and_where_it_begins() {
    let image = parse(&program([0x1000, 0x1000, ENTRY, 0x5000], ENTRY)).unwrap();
    let segment = elf::Segment { offset: 0x1000, length: 0x1000, address: ENTRY };
    let whole = elf::Image { entry: ENTRY, segments: vec![segment], end: ENTRY + 0x5000 };
    assert_eq!(image, whole);
}

#[test]
fn headers_that_make_no_sense_are_an_error() {
    let hostile = [
        ([0x1000, 0x1001, ENTRY, 0x5000], ENTRY),
        ([u64::MAX, 2, ENTRY, 0x5000], ENTRY),
        ([0x1000, 0x1000, ENTRY, 0xfff], ENTRY),
        ([0x1000, 0x1000, u64::MAX - 1, 0x1000], u64::MAX - 1),
        ([0x1000, 0x1000, ENTRY, 0x5000], ENTRY + 0x5000),
    ];
    for (segment, entry) in hostile {
        let parsed = parse(&program(segment, entry));
        assert!(matches!(parsed, Err(elf::Error::Headers)), "{segment:x?}: {parsed:?}");
    }
    assert!(matches!(parse(b"MZ"), Err(elf::Error::Headers)));
    assert!(matches!(parse(&[b'M'; 100]), Err(elf::Error::Kind)));
}

proptest! {
    #[test]
    fn no_byte_of_a_header_leads_outside_the_file(
        changes in prop::collection::vec((0..120_usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = program([0x1000, 0x1000, ENTRY, 0x5000], ENTRY);
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        if let Ok(image) = parse(&bytes) {
            for segment in image.segments {
                prop_assert!(segment.offset + segment.length <= 0x2000);
                prop_assert!(segment.address + segment.length <= image.end);
            }
        }
    }
}

#[test]
fn the_initramfs_lies_as_high_as_it_can_and_never_on_the_kernel() {
    let address = |memory, length| initramfs_address(memory, 64 << 20, length).ok();
    assert_eq!(address(256 << 20, 4097), Some((256 << 20) - 8192));
    assert_eq!(address(8 << 30, 4096), Some((3 << 30) - 4096));
    assert_eq!(address(65 << 20, 2 << 20), None);
    assert_eq!(address(1 << 20, 2 << 20), None);
}

#[test]
fn linux_is_told_of_its_memory_its_line_and_its_seed() {
    let told = |command_line| linux::Told {
        memory: 4 << 30,
        command_line,
        initramfs: (0x3fff_0000, 0x1234),
        seed: [7; 32],
    };
    let pieces = linux::pieces(&told("quiet")).unwrap();
    let find = |address| &pieces.iter().find(|piece| piece.0 == address).unwrap().1;
    assert_eq!(find(at::COMMAND_LINE), b"quiet\0");
    let seed = find(at::SEED);
    assert_eq!((&seed[8..16], &seed[16..]), (&[9, 0, 0, 0, 32, 0, 0, 0][..], &[7; 32][..]));
    let page = find(at::BOOT_PARAMS);
    assert_eq!(page[0x70..0x78], at::ACPI.to_le_bytes());
    assert_eq!(page[0x218..0x220], [0, 0, 0xff, 0x3f, 0x34, 0x12, 0, 0]);
    let rows: Vec<_> = (0..usize::from(page[0x1e8]))
        .map(|row| 0x2d0 + row * 20)
        .map(|row| {
            let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
            (word(row), word(row + 8), page[row + 16])
        })
        .collect();
    let expected = [
        (0, 0x9_fc00, 1),
        (0x9_fc00, 0x6_0400, 2),
        (0x10_0000, (3 << 30) - 0x10_0000, 1),
        (4 << 30, 1 << 30, 1),
    ];
    assert_eq!(rows, expected);
    let long = "x".repeat(2048);
    for line in ["a\0b", &long] {
        assert!(matches!(linux::pieces(&told(line)), Err(Error::CommandLine)));
    }
}

/// The tables by their signatures, as a kernel finds them from the first.
fn tables(vcpus: u8, devices: u8) -> Vec<Vec<u8>> {
    let (start, bytes) = acpi::tables(vcpus, devices);
    assert_eq!((start, &bytes[..8]), (at::ACPI, &b"RSD PTR "[..]));
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let table = |address: u64| {
        let from = usize::try_from(address - start).unwrap();
        let length = u32::from_le_bytes(bytes[from + 4..from + 8].try_into().unwrap());
        bytes[from..from + usize::try_from(length).unwrap()].to_vec()
    };
    let root = table(word(24));
    let at_end = |place: usize| u64::from_le_bytes(root[place..place + 8].try_into().unwrap());
    let (fixed, processors) = (table(at_end(36)), table(at_end(44)));
    let differentiated = u64::from_le_bytes(fixed[140..148].try_into().unwrap());
    vec![root, fixed, processors, table(differentiated)]
}

#[test]
fn tables_are_found_from_the_first_and_each_adds_up() {
    for (vcpus, devices) in [(1, 2), (32, 12)] {
        let found = tables(vcpus, devices);
        let names: Vec<_> = found.iter().map(|table| &table[..4]).collect();
        assert_eq!(names, [b"XSDT", b"FACP", b"APIC", b"DSDT"]);
        for table in &found {
            let sum = table.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
            assert_eq!(sum, 0, "{:?}", String::from_utf8_lossy(&table[..4]));
        }
        // Neither display, interrupts by message nor clock; no keyboard: two seconds of every boot.
        assert_eq!(found[1][109..111], [0x2c, 0]);
        assert_eq!(found[2].len(), 44 + usize::from(vcpus) * 8 + 12);
        let names = found[3].windows(8).filter(|name| name == b"LNRO0005").count();
        assert_eq!(names, usize::from(devices));
    }
}

#[test]
fn acpica_reads_the_table_of_devices_as_it_was_meant() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dsdt.aml");
    std::fs::write(&path, &tables(1, 2)[3]).unwrap();
    let read = Command::new("iasl").arg("-d").arg(&path).output();
    let Ok(read) = read else {
        let _ = writeln!(std::io::stderr(), "skipped: iasl is not installed (acpica-tools)");
        return;
    };
    assert!(read.status.success(), "{read:?}");
    let text = std::fs::read_to_string(directory.path().join("dsdt.dsl")).unwrap();
    for what in ["Device (COM1)", "Device (V000)", "Device (V001)", "\"LNRO0005\"", "_S5"] {
        assert!(text.contains(what), "{what} is not in:\n{text}");
    }
    assert!(text.contains("0xD0001000"), "{text}");
}
