//! `struct boot_params` and what goes with it: the state Linux wants to find at its 64-bit entry.

use super::{Error, MAX_COMMAND_LINE, Piece, at};
use crate::memory;

/// What Linux is told.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Bytes of memory.
    pub memory: u64,
    /// The command line.
    pub command_line: &'a str,
    /// Where the initramfs lies, and its length.
    pub initramfs: (u64, u64),
    /// Bytes nobody knows.
    pub seed: [u8; 32],
}

/// A row of memory as Linux is told of it: start, length, kind.
type Row = (u64, u64, u32);

/// `E820_TYPE_RAM`.
const USABLE: u32 = 1;
/// `E820_TYPE_RESERVED`.
const RESERVED: u32 = 2;

/// Everything Linux is told, where it looks for it.
///
/// # Errors
///
/// [`Error::CommandLine`]; [`Error::Room`] for an initramfs above 4 GiB.
pub fn pieces(told: &Told<'_>) -> Result<Vec<Piece>, Error> {
    let line = told.command_line.as_bytes();
    if line.len() > MAX_COMMAND_LINE || line.contains(&0) {
        return Err(Error::CommandLine);
    }
    let mut line = line.to_vec();
    line.push(0);
    Ok(vec![
        (at::GDT, descriptor_table()),
        (at::BOOT_PARAMS, boot_params(told)?),
        (at::SEED, seed(&told.seed)),
        (at::PAGE_TABLES, page_tables()),
        (at::COMMAND_LINE, line),
    ])
}

/// Which memory there is (`struct boot_e820_entry`).
fn rows(bytes: u64) -> Vec<Row> {
    let mut rows = vec![
        (0, at::LOW_MEMORY_END, USABLE),
        (at::LOW_MEMORY_END, at::HIGH_MEMORY - at::LOW_MEMORY_END, RESERVED),
    ];
    for (start, length) in memory::layout(bytes) {
        let end = start + length;
        let start = start.max(at::HIGH_MEMORY);
        rows.push((start, end.saturating_sub(start), USABLE));
    }
    rows
}

fn boot_params(told: &Told<'_>) -> Result<Vec<u8>, Error> {
    let room = || Error::Room("the initramfs", told.memory);
    let (start, length) = told.initramfs;
    let start = u32::try_from(start).map_err(|_| room())?;
    let length = u32::try_from(length).map_err(|_| room())?;
    let mut page = vec![0; 4096];
    let mut put = |offset: usize, bytes: &[u8]| {
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0x070, &at::ACPI.to_le_bytes()); // acpi_rsdp_addr
    put(0x1fe, &0xaa55_u16.to_le_bytes()); // boot_flag
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes()); // version 2.15
    put(0x210, &[0xff]); // type_of_loader: none with a number
    put(0x218, &start.to_le_bytes()); // ramdisk_image
    put(0x21c, &length.to_le_bytes()); // ramdisk_size
    put(0x228, &0x2_0000_u32.to_le_bytes()); // cmd_line_ptr
    put(0x230, &0x100_0000_u32.to_le_bytes()); // kernel_alignment
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x250, &at::SEED.to_le_bytes()); // setup_data
    let rows = rows(told.memory);
    put(0x1e8, &[u8::try_from(rows.len()).unwrap_or(0)]); // e820_entries
    for (index, (start, length, kind)) in rows.into_iter().enumerate() {
        let offset = 0x2d0 + index * 20;
        put(offset, &start.to_le_bytes());
        put(offset + 8, &length.to_le_bytes());
        put(offset + 16, &kind.to_le_bytes());
    }
    Ok(page)
}

/// `struct setup_data` with `SETUP_RNG_SEED`: the generator is ready before anything asks it.
fn seed(seed: &[u8; 32]) -> Vec<u8> {
    const SETUP_RNG_SEED: u32 = 9;
    let mut bytes = 0_u64.to_le_bytes().to_vec();
    bytes.extend(SETUP_RNG_SEED.to_le_bytes());
    bytes.extend(32_u32.to_le_bytes());
    bytes.extend(seed);
    bytes
}

/// Segments as the protocol wants them: `__BOOT_CS` at 0x10, `__BOOT_DS` at 0x18, flat. The task
/// segment behind them is only there because the processor insists on one.
fn descriptor_table() -> Vec<u8> {
    [0_u64, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x008f_8b00_0000_ffff]
        .iter()
        .flat_map(|descriptor| descriptor.to_le_bytes())
        .collect()
}

/// The first gibibyte, mapped to itself by pages of 2 MiB.
fn page_tables() -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let mut bytes = vec![0; 3 * 4096];
    let mut put = |offset: usize, entry: u64| {
        bytes[offset..offset + 8].copy_from_slice(&entry.to_le_bytes());
    };
    put(0, (at::PAGE_TABLES + 0x1000) | PRESENT_WRITABLE);
    put(0x1000, (at::PAGE_TABLES + 0x2000) | PRESENT_WRITABLE);
    for (index, page) in (0..512).zip(0_u64..) {
        put(0x2000 + index * 8, page << 21 | PRESENT_WRITABLE | LARGE);
    }
    bytes
}
