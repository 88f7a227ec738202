//! What lies in memory when the first processor starts: all of it decided here, as bytes and
//! addresses, before there is a machine.
//!
//! ```text
//!   0x500      descriptor table      0xe0000    ACPI: RSDP, DSDT, FADT, MADT, XSDT
//!   0x7000     boot_params           0x1000000  the kernel, where its ELF file wants it
//!   0x8000     seed of randomness    …          memory
//!   0x9000     page tables           …          the initramfs, at the end of low memory
//!   0x20000    command line          0xd0000000 registers of devices, a page for each
//! ```
//!
//! Source: `Documentation/arch/x86/boot.rst`, 64-bit protocol.

pub mod acpi;
pub mod elf;
pub mod linux;

use crate::memory;

/// Where things lie that have one place.
pub mod at {
    /// The table of segment descriptors.
    pub const GDT: u64 = 0x500;
    /// Where the stack of the first instructions ends.
    pub const STACK: u64 = 0x6ff0;
    /// `struct boot_params`, a page.
    pub const BOOT_PARAMS: u64 = 0x7000;
    /// The seed of randomness.
    pub const SEED: u64 = 0x8000;
    /// Three pages of page tables.
    pub const PAGE_TABLES: u64 = 0x9000;
    /// The command line.
    pub const COMMAND_LINE: u64 = 0x2_0000;
    /// Where usable memory ends below 1 MiB.
    pub const LOW_MEMORY_END: u64 = 0x9_fc00;
    /// The first of the tables of ACPI; the RSDP, as firmware has it.
    pub const ACPI: u64 = 0xe_0000;
    /// Where usable memory goes on.
    pub const HIGH_MEMORY: u64 = 0x10_0000;
    /// The registers of the first device.
    pub const DEVICES: u64 = 0xd000_0000;
    /// Bytes of registers of each device.
    pub const DEVICE_SIZE: u64 = 0x1000;
    /// The I/O APIC.
    pub const IO_APIC: u32 = 0xfec0_0000;
    /// The local APICs.
    pub const LOCAL_APIC: u32 = 0xfee0_0000;
    /// Pages KVM wants for itself on Intel, below the end of the first 4 GiB.
    pub const KVM_PAGES: u64 = 0xfffb_c000;
}

/// Ports of the machine.
pub mod io_port {
    /// Where the machine is switched off and reset: [`SLEEP`], [`RESET`].
    pub const POWER: u16 = 0x600;
    /// Switches off: `SLP_TYP` 5, `SLP_EN` (ACPI 6.5 §4.8.3.7).
    pub const SLEEP: u8 = 5 << 2 | 1 << 5;
    /// Resets.
    pub const RESET: u8 = 1;
    /// The serial console, eight ports.
    pub const CONSOLE: u16 = 0x3f8;
}

/// Lines of interrupts, as pins of the I/O APIC.
pub mod line {
    /// The serial console's.
    pub const CONSOLE: u32 = 4;
    /// The first device's; each further device has the next.
    pub const DEVICES: u32 = 5;
    /// How many pins there are.
    pub const END: u32 = 24;
}

/// Bytes that are to lie somewhere.
pub type Piece = (u64, Vec<u8>);

/// The longest command line, its end left out (`COMMAND_LINE_SIZE` of x86).
pub const MAX_COMMAND_LINE: usize = 2047;

/// Why a machine cannot start like this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`elf::Error`].
    #[error("the kernel is no ELF file that can be started: {0}")]
    Elf(#[from] elf::Error),
    /// It does not fit.
    #[error("{0} does not fit into {1} bytes of memory")]
    Room(&'static str, u64),
    /// It is too long, or has a zero byte in it.
    #[error("the command line is longer than {MAX_COMMAND_LINE} bytes or has a zero in it")]
    CommandLine,
}

/// Where the initramfs goes: as high as it can below [`memory::LOW_END`], at a page.
///
/// # Errors
///
/// [`Error::Room`]: it would lie on the kernel.
pub fn initramfs_address(memory: u64, kernel_end: u64, length: u64) -> Result<u64, Error> {
    let room = Error::Room("the initramfs", memory);
    let low = memory.min(memory::LOW_END);
    let Some(start) = low.checked_sub(length) else { return Err(room) };
    let start = start & !0xfff;
    if start < kernel_end.max(at::HIGH_MEMORY) { Err(room) } else { Ok(start) }
}

#[cfg(test)]
mod tests;
