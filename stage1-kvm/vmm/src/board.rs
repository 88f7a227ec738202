//! What processors reach outside memory: ports, registers of devices, and nothing else.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::boot::{at, io_port};
use crate::bus::Bus;
use crate::console::Console;
use crate::counters::Tally;
use crate::ending::Ending;
use crate::helm::EndClass;
use crate::kvm::cpu::Outside;
use crate::service::Kept;
use crate::virtio::Status;
use crate::virtio::transport::{Transport, register};

/// All of it, as every processor has it.
#[derive(Debug)]
pub struct Board {
    ports: Bus<Port>,
    registers: Bus<usize>,
    devices: Vec<Place>,
    console: Arc<Console>,
    tally: Arc<Tally>,
    ending: Arc<Ending>,
}

/// What is at a port.
#[derive(Clone, Copy, Debug)]
enum Port {
    Console,
    Power,
    /// Nothing, and every kernel looks there: the configuration of PCI, which it is told that there
    /// is none of, and the byte by which firmware would know why it was reset. Reads give what says
    /// that nothing is there; of a clock, that it is not being changed.
    Absent,
}

/// The registers of a device. What every interrupt needs is read beside them, without their lock.
#[derive(Debug)]
struct Place {
    status: Arc<Status>,
    transport: Mutex<Transport<Kept>>,
}

impl Board {
    /// Everything, the devices in their order.
    #[must_use]
    pub fn new(
        devices: Vec<Transport<Kept>>,
        console: Arc<Console>,
        tally: Arc<Tally>,
        ending: Arc<Ending>,
    ) -> Self {
        let registers = (0..devices.len()).zip(at::DEVICES / at::DEVICE_SIZE..);
        let registers = registers
            .map(|(device, page)| (page * at::DEVICE_SIZE..(page + 1) * at::DEVICE_SIZE, device));
        let place = |transport: Transport<Kept>| Place {
            status: Arc::clone(transport.status()),
            transport: Mutex::new(transport),
        };
        Self {
            ports: ports(),
            registers: Bus::new(registers.collect()),
            devices: devices.into_iter().map(place).collect(),
            console,
            tally,
            ending,
        }
    }

    fn device(&self, address: u64, length: usize) -> Option<(&Place, u64)> {
        let (&device, offset) = self.registers.find(address, length)?;
        let place = self.devices.get(device)?;
        place.status.exit();
        Some((place, offset))
    }

    fn power(&self, value: Option<&u8>) {
        match value {
            Some(&io_port::SLEEP) => {
                self.ending.tell(EndClass::PoweredOff, "the guest has switched off");
            }
            Some(&io_port::RESET) => {
                self.ending.tell(EndClass::Reset, "the guest has reset itself");
            }
            _ => {}
        }
    }
}

fn ports() -> Bus<Port> {
    let from = |port: u16, count: u64| -> Range<u64> { u64::from(port)..u64::from(port) + count };
    Bus::new(vec![
        (from(0x70, 2), Port::Absent),
        (from(io_port::CONSOLE, 8), Port::Console),
        (from(io_port::POWER, 1), Port::Power),
        (from(0xcf8, 8), Port::Absent),
    ])
}

impl Outside for Board {
    fn port_in(&self, port: u16, into: &mut [u8]) {
        self.tally.port_exit();
        let found = self.ports.find(u64::from(port), 1);
        into.fill(match found {
            Some((Port::Power, _)) => 0,
            Some((Port::Absent, _)) if port == 0x71 => 0,
            _ => 0xff,
        });
        match found {
            Some((Port::Console, register)) => {
                for byte in into {
                    *byte = self.console.read(u8::try_from(register).unwrap_or(u8::MAX));
                }
            }
            // A clock is something no kernel should look for: FADT says that there is none.
            Some((Port::Absent, _)) if (0x70..=0x71).contains(&port) => {
                self.tally.stranger(|| format!("in {port:#x}"));
            }
            Some(_) => {}
            None => self.tally.stranger(|| format!("in {port:#x}")),
        }
    }

    fn port_out(&self, port: u16, from: &[u8]) {
        self.tally.port_exit();
        match self.ports.find(u64::from(port), 1) {
            Some((Port::Console, register)) => {
                for &byte in from {
                    self.console.write(u8::try_from(register).unwrap_or(u8::MAX), byte);
                }
            }
            Some((Port::Power, _)) => self.power(from.first()),
            Some((Port::Absent, _)) => {}
            None => self.tally.stranger(|| format!("out {port:#x}")),
        }
    }

    fn read(&self, address: u64, into: &mut [u8]) {
        let Some((device, offset)) = self.device(address, into.len()) else {
            into.fill(0xff);
            return self.tally.stranger(|| format!("read {address:#x}"));
        };
        match <&mut [u8; 4]>::try_from(&mut *into) {
            Ok(word) if offset == register::INTERRUPT_STATUS => {
                *word = device.status.pending().to_le_bytes();
            }
            _ => device.transport.lock().unwrap_or_else(PoisonError::into_inner).read(offset, into),
        }
    }

    fn write(&self, address: u64, from: &[u8]) {
        let Some((device, offset)) = self.device(address, from.len()) else {
            return self.tally.stranger(|| format!("write {address:#x}"));
        };
        match <[u8; 4]>::try_from(from) {
            Ok(word) if offset == register::INTERRUPT_ACK => {
                device.status.acknowledge(u32::from_le_bytes(word));
            }
            _ => {
                device.transport.lock().unwrap_or_else(PoisonError::into_inner).write(offset, from);
            }
        }
    }

    fn ended(&self) -> bool {
        self.ending.known().is_some()
    }
}
