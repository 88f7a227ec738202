//! Kernels and modules of an enemy: whatever the bytes are, they are refused or read, within time
//! and memory, and never end the program. The bodies here are those of the fuzz targets.

#![allow(clippy::unwrap_used, reason = "a test says no more than that it failed")]

use guest_kernel::{Kernel, Module, check_config, kernel, module_file};
use proptest::prelude::*;

/// Reads `bytes` as whatever could be made of them.
fn read_all(bytes: &[u8]) {
    if let Ok(Kernel { release, elf }) = kernel(bytes) {
        assert!(!release.contains('/') && !release.is_empty());
        // What was written is sound, and written again it is the same.
        assert_eq!(kernel(&elf).map_or_else(|_| elf.clone(), |again| again.elf), elf);
    }
    if let Ok(module) = Module::parse(bytes) {
        for name in module.depends.iter().chain(&module.softly).chain([&module.name]) {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = check_config(text);
        let _ = module_file(text);
    }
}

/// The header of an ELF file for x86-64, of a kind, with one table of each.
fn elf(kind: u16, programs: (u64, u16), sections: (u64, u16, u16)) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [kind, 62, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [0x10_0000, programs.0, sections.0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64, 56, programs.1, 64, sections.1, sections.2] {
        file.extend(half.to_le_bytes());
    }
    file
}

/// A kernel of one segment, with a banner and a note in it.
fn small_kernel() -> Vec<u8> {
    let mut file = elf(2, (64, 2), (0, 0, 0));
    let body: &[u8] =
        b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x01\x02\x03\x04Linux version 6.1.0-x (y)";
    for (kind, length) in [(1_u32, body.len() as u64), (4, 20)] {
        file.extend(kind.to_le_bytes());
        file.extend(5_u32.to_le_bytes());
        for word in [64 + 2 * 56, 0x10_0000, 0x10_0000, length, length, 4096] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(body);
    file
}

/// A module with a `.modinfo`.
fn small_module() -> Vec<u8> {
    let info = b"name=x\0depends=a,b\0softdep=pre: c\0alias=d\0vermagic=6.1.0-x SMP\0";
    let names = b"\0.modinfo\0";
    let table = (64 + info.len() + names.len()) as u64;
    let mut file = elf(1, (0, 0), (table, 2, 1));
    file.extend(info);
    file.extend(names);
    for (name, at, length) in [(1_u32, 64, info.len()), (0, 64 + info.len(), names.len())] {
        let mut row = [0; 64];
        row[..4].copy_from_slice(&name.to_le_bytes());
        row[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        row[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        file.extend(row);
    }
    file
}

/// A `bzImage` around something packed.
fn bzimage(packed: &[u8], size: usize) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    let length = u32::try_from(packed.len() + 4).unwrap();
    file[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    file.extend(packed);
    file.extend(u32::try_from(size).unwrap().to_le_bytes());
    file
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(bytes);
    let length = u32::try_from(block.len()).unwrap().to_le_bytes();
    [b"\x02\x21\x4c\x18".to_vec(), length.to_vec(), block].concat()
}

/// Sound files of every kind that is read.
fn sound() -> Vec<Vec<u8>> {
    let (kernel, module) = (small_kernel(), small_module());
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    vec![
        bzimage(&lz4(&kernel), kernel.len()),
        bzimage(&zstd(&kernel), kernel.len()),
        bzimage(&kernel, 0),
        include_bytes!("hello.xz").to_vec(),
        zstd(&module),
        kernel,
        module,
    ]
}

#[test]
fn the_sound_files_are_read() {
    let sound = sound();
    for file in [&sound[0], &sound[1], &sound[2], &sound[5]] {
        assert_eq!(kernel(file).unwrap().release, "6.1.0-x");
    }
    for file in [&sound[4], &sound[6]] {
        assert_eq!(Module::parse(file).unwrap().name, "x");
    }
}

#[test]
fn every_kernel_and_module_that_is_cut_short_is_refused_or_read() {
    for file in sound() {
        for length in 0..file.len() {
            read_all(&file[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        read_all(&bytes);
    }

    #[test]
    fn no_change_of_a_sound_file_does_harm(
        which in 0_usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = sound().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        read_all(&file);
    }

    #[test]
    fn no_number_in_a_table_does_harm(
        which in 0_usize..7,
        at in any::<prop::sample::Index>(),
        number in prop_oneof![
            Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), Just(0), any::<u64>(),
        ],
    ) {
        let mut file = sound().swap_remove(which);
        let at = at.index(file.len().saturating_sub(8).max(1)) & !1;
        let end = (at + 8).min(file.len());
        file[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        read_all(&file);
    }
}
