//! The tables of ACPI: how a kernel finds processors, devices, and the way to switch off.
//!
//! Hardware-reduced: there is no timer, no event block, no legacy device. The flags that say so
//! keep a kernel from looking for a clock (two seconds of polling), a keyboard, a display. Each
//! device on the bus of virtio is an `LNRO0005`, found in the order it stands here.
//!
//! Source: ACPI 6.5 §5.2; names of devices: Linux `drivers/virtio/virtio_mmio.c`.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package, Path, ResourceTemplate,
    Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;

use super::{Piece, at, io_port, line};

const OEM: [u8; 6] = *b"POD   ";
const TABLE: [u8; 8] = *b"PODVM   ";

/// `IAPC_BOOT_ARCH`: no display, no message-signalled interrupts, no clock in CMOS; and, by what
/// is not set, no legacy devices and no keyboard controller (ACPI 6.5 §5.2.9.3).
const BOOT_ARCH: u16 = 1 << 2 | 1 << 3 | 1 << 5;

/// The tables of a machine with so many processors and devices, from [`at::ACPI`] on.
#[must_use]
pub fn tables(vcpus: u8, devices: u8) -> Piece {
    let rsdp = Rsdp::len();
    let dsdt = bytes(&differentiated(devices));
    let madt = bytes(&processors(vcpus));
    let aligned = |offset: usize| offset.next_multiple_of(64);
    let dsdt_at = aligned(rsdp);
    let fadt_at = aligned(dsdt_at + dsdt.len());
    let madt_at = aligned(fadt_at + acpi_tables::fadt::FADT::len());
    let xsdt_at = aligned(madt_at + madt.len());
    let fadt = bytes(&fixed(address(dsdt_at)));
    let mut list = XSDT::new(OEM, TABLE, 1);
    list.add_entry(address(fadt_at));
    list.add_entry(address(madt_at));
    let root = bytes(&Rsdp::new(OEM, address(xsdt_at)));
    let mut all = Vec::new();
    let parts = [(0, root), (dsdt_at, dsdt), (fadt_at, fadt), (madt_at, madt)];
    for (offset, part) in parts.into_iter().chain([(xsdt_at, bytes(&list))]) {
        all.resize(offset, 0);
        all.extend(part);
    }
    (at::ACPI, all)
}

fn address(offset: usize) -> u64 {
    at::ACPI + offset as u64
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The FADT.
fn fixed(dsdt: u64) -> acpi_tables::fadt::FADT {
    let power = || {
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(io_port::POWER))
    };
    let mut table = FADTBuilder::new(OEM, TABLE, 1).dsdt_64(dsdt);
    table.preferred_pm_profile = PmProfile::Unspecified as u8;
    table.iapc_boot_arch = BOOT_ARCH.into();
    let flags = [
        Flags::Wbinvd,
        Flags::PwrButton,
        Flags::SlpButton,
        Flags::ResetRegSup,
        Flags::Headless,
        Flags::HwReducedAcpi,
    ];
    table.flags = flags.iter().fold(0, |bits, &flag| bits | flag as u32).into();
    table.reset_reg = power();
    table.reset_value = io_port::RESET;
    table.sleep_control_reg = power();
    table.sleep_status_reg = power();
    table.finalize()
}

/// The MADT: a local APIC for each processor, and the I/O APIC.
fn processors(vcpus: u8) -> MADT {
    let controller = LocalInterruptController::Address(at::LOCAL_APIC);
    let mut table = MADT::new(OEM, TABLE, 1, controller);
    for id in 0..vcpus {
        table.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    table.add_structure(IoApic::new(0, at::IO_APIC, 0));
    table
}

/// The DSDT: the console, the devices, and what to write to switch off.
fn differentiated(devices: u8) -> Sdt {
    let mut body = console();
    for index in 0..devices {
        body.extend(device(index));
    }
    let sleep = Package::new(vec![&5_u8, &ZERO, &ZERO, &ZERO]);
    body.extend(bytes(&Name::new("_S5_".into(), &sleep)));
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, TABLE, 1);
    table.append_slice(&body);
    table
}

fn console() -> Vec<u8> {
    let ports = IO::new(io_port::CONSOLE, io_port::CONSOLE, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, line::CONSOLE);
    let resources = ResourceTemplate::new(vec![&ports, &interrupt]);
    let id = Name::new("_HID".into(), &EISAName::new("PNP0501"));
    let uid = Name::new("_UID".into(), &ZERO);
    let used = Name::new("_CRS".into(), &resources);
    let device = Device::new("COM1".into(), vec![&id, &uid, &used]);
    bytes(&Scope::new("_SB_".into(), vec![&device]))
}

/// The `index`th device: the page of registers and the line that go with its number.
fn device(index: u8) -> Vec<u8> {
    let start = u32::try_from(at::DEVICES + u64::from(index) * at::DEVICE_SIZE).unwrap_or(0);
    let length = u32::try_from(at::DEVICE_SIZE).unwrap_or(0);
    let registers = Memory32Fixed::new(true, start, length);
    let interrupt = Interrupt::new(true, true, false, false, line::DEVICES + u32::from(index));
    let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
    let id = Name::new("_HID".into(), &"LNRO0005");
    let uid = Name::new("_UID".into(), &index);
    let coherent = Name::new("_CCA".into(), &ONE);
    let used = Name::new("_CRS".into(), &resources);
    let name: Path = format!("V{index:03}").as_str().into();
    let device = Device::new(name, vec![&id, &uid, &coherent, &used]);
    bytes(&Scope::new("_SB_".into(), vec![&device]))
}
