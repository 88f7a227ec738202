//! What is done with the files of an enemy, for the tests here and for `tests/fuzz`.

use std::sync::LazyLock;

use guest_kernel::{Kernel, Module, check_config, kernel, module_file};

/// Reads a sound file that is changed as the deeds say, or packed deeds, or the deeds themselves.
///
/// ```text
///   which │ place: 2, byte │ place: 2, byte │ …       0…6: a change of a sound file
///   which │ bytes …                                   7…9: packed, 10: as they are
/// ```
///
/// # Panics
///
/// If something is not as it must be.
pub(crate) fn body(deeds: &[u8]) {
    let Some((&which, rest)) = deeds.split_first() else { return };
    match which % 11 {
        7 => read_all(&bzimage(&lz4(rest), rest.len())),
        8 => read_all(&bzimage(rest, 0)),
        9 => read_all(&zstd(rest)),
        10 => read_all(rest),
        which => {
            let mut file = SOUND[usize::from(which)].clone();
            for change in rest.chunks_exact(3) {
                let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
                file[place] = change[2];
            }
            read_all(&file);
        }
    }
}

/// Reads `bytes` as whatever could be made of them.
pub(crate) fn read_all(bytes: &[u8]) {
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
    let length = u32::try_from(packed.len() + 4).expect("a small file");
    file[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    file.extend(packed);
    file.extend(u32::try_from(size).expect("a small file").to_le_bytes());
    file
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(bytes);
    let length = u32::try_from(block.len()).expect("a small file").to_le_bytes();
    [b"\x02\x21\x4c\x18".to_vec(), length.to_vec(), block].concat()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory")
}

/// Sound files of every kind that is read.
pub(crate) static SOUND: LazyLock<[Vec<u8>; 7]> = LazyLock::new(|| {
    let (kernel, module) = (small_kernel(), small_module());
    [
        bzimage(&lz4(&kernel), kernel.len()),
        bzimage(&zstd(&kernel), kernel.len()),
        bzimage(&kernel, 0),
        include_bytes!("../hello.xz").to_vec(),
        zstd(&module),
        kernel,
        module,
    ]
});
