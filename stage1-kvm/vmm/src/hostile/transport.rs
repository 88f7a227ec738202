//! Registers of a device, read and written in any order and width, against a model of how far its
//! driver is.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::Words;
use crate::bell::Bell;
use crate::description::Nic;
use crate::devices::net::Net;
use crate::rig;
use crate::virtio::transport::{Facts, Keeper, Transport, Wiring, progress, register};
use crate::virtio::{Activation, Interrupt, Status};
use crate::watch::Watch;

/// What the device's thread has been told.
#[derive(Debug, Default)]
struct Told {
    active: Option<Activation>,
    activations: u64,
}

#[derive(Clone, Debug, Default)]
struct Thread(Arc<Mutex<Told>>);

impl Thread {
    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keeper for Thread {
    fn activate(&self, activation: Activation) {
        self.told(|told| {
            assert!(told.active.is_none(), "a device is activated once");
            told.activations += 1;
            told.active = Some(activation);
        });
    }

    fn reset(&self) {
        self.told(|told| told.active = None);
    }
}

/// Runs the deeds.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn transport(deeds: &[u8]) {
    let mut words = Words(deeds);
    let memory = rig::memory(16 << 20);
    let status = Arc::new(Status::default());
    let bell = || Bell::new().expect("an eventfd");
    let wiring = Wiring {
        memory,
        interrupt: Interrupt::new(Arc::clone(&status), None),
        status: Arc::clone(&status),
        notified: vec![bell(), bell()],
        watch: Watch::new().expect("an epoll instance"),
    };
    let (tap, _): (OwnedFd, OwnedFd) = rustix::pipe::pipe().expect("a pipe");
    let facts = Facts::of(&Net::new(tap, Nic { mac: [2; 6], mtu: 1500 }));
    let thread = Thread::default();
    let mut transport = Transport::new(facts, wiring, thread.clone());
    if words.byte() & 1 != 0 {
        drive(&mut transport);
    }
    while words.has_more() {
        let offset = u64::from(match words.below(4) {
            0 => u16::from(words.byte()),
            1 => words.half() % 0x1100,
            _ => u16::from(words.below(0x30)) * 4,
        });
        let width = [4, 4, 4, 4, 1, 2, 8, 3][usize::from(words.below(8))];
        let active = thread.told(|told| told.active.is_some());
        if words.byte() & 1 == 0 {
            let mut bytes = [0; 8];
            transport.read(offset, &mut bytes[..width]);
            continue;
        }
        let value = words.one_of(&[0, 1, 3, 11, 15, 2, 4, 8, 64, 128, 256, 0x1000, 0x2000, 0x8000]);
        let before = (status.violations(), thread.told(|told| told.activations));
        transport.write(offset, &u64::from(value).to_le_bytes()[..width]);
        let after = (status.violations(), thread.told(|told| told.activations));
        let resets = offset == register::STATUS && width == 4 && value == 0;
        if active && !resets {
            assert!(thread.told(|told| told.active.is_some()) || offset == register::STATUS);
            assert_eq!(after.1, before.1, "an active device is not activated");
            let queues = [register::QUEUE_NUM, register::QUEUE_READY, register::DRIVER_FEATURES];
            let rings = register::QUEUE_DESC..register::SHM_LEN;
            if queues.contains(&offset) || rings.contains(&offset) {
                assert_eq!(after.0, before.0 + 1, "what comes too late is counted");
            }
        }
        let mut now = [0; 4];
        transport.read(register::STATUS, &mut now);
        let done = u32::from_le_bytes(now) & u32::from(progress::DRIVER_OK) != 0;
        let failed = u32::from_le_bytes(now) & u32::from(progress::FAILED) != 0;
        let active = thread.told(|told| told.active.is_some());
        assert!(!active || done || failed, "only a driver that is ready has a device");
        if resets {
            assert_eq!((now, active), ([0; 4], false));
        }
    }
}

/// What an honest driver writes until it is ready.
fn drive(transport: &mut Transport<Thread>) {
    let mut write = |offset, value: u32| transport.write(offset, &value.to_le_bytes());
    for status in [0, 1, 3] {
        write(register::STATUS, status);
    }
    write(register::DRIVER_FEATURES_SEL, 1);
    write(register::DRIVER_FEATURES, 1);
    write(register::STATUS, 11);
    for queue in 0..2 {
        write(register::QUEUE_SEL, queue);
        write(register::QUEUE_NUM, 16);
        write(register::QUEUE_DESC, 0x1_0000 * (queue + 1));
        write(register::QUEUE_DRIVER, 0x1_0000 * (queue + 1) + 0x4000);
        write(register::QUEUE_DEVICE, 0x1_0000 * (queue + 1) + 0x8000);
        write(register::QUEUE_READY, 1);
    }
    write(register::STATUS, 15);
}
