//! What a driver can do to registers, honest or not, against a model of what it must not reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use proptest::prelude::*;

use super::progress::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET};
use super::{Facts, Keeper, Transport, Wiring, register};
use crate::bell::Bell;
use crate::memory;
use crate::virtio::{Activation, Active, Device, Fault, Interrupt, Status, Waits, feature};
use crate::watch::Watch;

/// A device that only says what it is.
#[derive(Debug)]
struct Dummy;

impl Waits for Dummy {}

impl Device for Dummy {
    fn kind(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn config(&self) -> Vec<u8> {
        vec![1, 2, 3, 4, 5, 6]
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 8]
    }

    fn activate(self: Box<Self>, _: Activation) -> Result<Box<dyn Active>, Fault> {
        unreachable!("the tests' keeper activates nothing")
    }
}

/// Keeps what a device would be given.
#[derive(Debug)]
struct Desk {
    given: Sender<Activation>,
    resets: Arc<AtomicU32>,
}

impl Keeper for Desk {
    fn activate(&self, activation: Activation) {
        let _ = self.given.send(activation);
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    transport: Transport<Desk>,
    given: Receiver<Activation>,
    resets: Arc<AtomicU32>,
    bells: Vec<Bell>,
    status: Arc<Status>,
}

impl Bench {
    fn new() -> Self {
        let status = Arc::new(Status::default());
        let bells = vec![Bell::new().unwrap(), Bell::new().unwrap()];
        let wiring = Wiring {
            memory: memory::map(1 << 20).unwrap(),
            interrupt: Interrupt::new(Arc::clone(&status), None),
            status: Arc::clone(&status),
            notified: bells.clone(),
            watch: Watch::new().unwrap(),
        };
        let (sender, given) = channel();
        let resets = Arc::new(AtomicU32::new(0));
        let desk = Desk { given: sender, resets: Arc::clone(&resets) };
        let transport = Transport::new(Facts::of(&Dummy), wiring, desk);
        Self { transport, given, resets, bells, status }
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn advance(&mut self, bits: u8) {
        let progress = self.read(register::STATUS);
        self.write(register::STATUS, progress | u32::from(bits));
    }

    fn progress(&mut self) -> u8 {
        u8::try_from(self.read(register::STATUS)).unwrap()
    }

    /// As Linux does it, up to the queues.
    fn negotiate(&mut self) {
        self.write(register::STATUS, 0);
        self.advance(ACKNOWLEDGE);
        self.advance(DRIVER);
        for half in [1, 0] {
            self.write(register::DEVICE_FEATURES_SEL, half);
            let offered = self.read(register::DEVICE_FEATURES);
            self.write(register::DRIVER_FEATURES_SEL, half);
            self.write(register::DRIVER_FEATURES, offered);
        }
        self.advance(FEATURES_OK);
        assert_ne!(self.progress() & FEATURES_OK, 0);
    }

    fn queue(&mut self, index: u32, base: u32) {
        self.write(register::QUEUE_SEL, index);
        assert_eq!(self.read(register::QUEUE_READY), 0);
        let size = self.read(register::QUEUE_NUM_MAX);
        self.write(register::QUEUE_NUM, size);
        let rings = [register::QUEUE_DESC, register::QUEUE_DRIVER, register::QUEUE_DEVICE];
        for (ring, offset) in rings.into_iter().zip((base..).step_by(0x1000)) {
            self.write(ring, offset);
            self.write(ring + 4, 0);
        }
        self.write(register::QUEUE_READY, 1);
        assert_eq!(self.read(register::QUEUE_READY), 1);
    }

    fn start(&mut self) -> Activation {
        self.negotiate();
        self.queue(0, 0x1_0000);
        self.queue(1, 0x2_0000);
        self.advance(DRIVER_OK);
        self.given.try_recv().unwrap()
    }
}

#[test]
fn a_driver_as_linux_has_it_gets_a_device_with_all_it_set_up() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(register::MAGIC).to_le_bytes(), *b"virt");
    assert_eq!((bench.read(register::VERSION), bench.read(register::DEVICE_ID)), (2, 42));
    let given = bench.start();
    assert_eq!(given.features, feature::COMMON | 1 << 5);
    let sizes: Vec<_> = given.queues.iter().flatten().map(crate::virtio::Queue::size).collect();
    assert_eq!(sizes, [16, 8]);
    bench.write(register::QUEUE_NOTIFY, 1);
    assert_eq!([bench.bells[0].hear(), bench.bells[1].hear()], [false, true]);
    // Its end, as Linux' `vm_del_vqs`.
    bench.write(register::STATUS, 0);
    bench.write(register::QUEUE_SEL, 1);
    bench.write(register::QUEUE_READY, 0);
    assert_eq!((bench.read(register::QUEUE_READY), bench.status.violations()), (0, 0));
}

#[test]
fn what_is_read_of_the_configuration_is_what_is_there_and_zeros_behind() {
    let mut bench = Bench::new();
    let mut bytes = [9; 4];
    bench.transport.read(register::CONFIG + 4, &mut bytes);
    assert_eq!(bytes, [5, 6, 0, 0]);
    let mut byte = [9; 1];
    bench.transport.read(register::CONFIG + 0xeff, &mut byte);
    assert_eq!(byte, [0]);
    bench.transport.write(register::CONFIG, &[0; 4]);
    assert_eq!(bench.status.violations(), 1);
}

#[test]
fn a_queue_cannot_be_changed_once_its_device_has_it() {
    // CVE-2026-5747: sizes and addresses written after DRIVER_OK reached the queue.
    let mut bench = Bench::new();
    let given = bench.start();
    bench.write(register::QUEUE_SEL, 0);
    bench.write(register::QUEUE_NUM, 0x8000);
    bench.write(register::QUEUE_DESC, 0x4_0000);
    bench.write(register::QUEUE_READY, 0);
    assert_eq!(bench.status.violations(), 4);
    assert_eq!(given.queues[0].as_ref().map(crate::virtio::Queue::size), Some(16));
    assert!(bench.given.try_recv().is_err());
    // Nor can the driver say that it is less far than it was.
    bench.write(register::STATUS, u32::from(ACKNOWLEDGE | DRIVER));
    assert_eq!(bench.progress(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(bench.status.violations(), 5);
    // Only a reset takes the device back, and then all begins again.
    bench.write(register::STATUS, 0);
    assert_eq!((bench.progress(), bench.resets.load(Ordering::Relaxed)), (0, 1));
    bench.start();
}

#[test]
fn queues_outside_memory_or_of_no_size_fail_the_device() {
    let mut bench = Bench::new();
    bench.negotiate();
    bench.queue(0, 0x1_0000);
    bench.queue(1, 0x10_0000);
    bench.advance(DRIVER_OK);
    assert!(bench.given.try_recv().is_err());
    assert_ne!(bench.progress() & NEEDS_RESET, 0);
    bench.negotiate();
    bench.write(register::QUEUE_SEL, 0);
    for size in [0, 3, 17, 32, u32::MAX] {
        bench.write(register::QUEUE_NUM, size);
    }
    bench.write(register::QUEUE_SEL, 2);
    bench.write(register::QUEUE_NUM, 4);
    assert_eq!(bench.status.violations(), 7);
}

#[test]
fn a_driver_without_version_1_is_not_taken() {
    let mut bench = Bench::new();
    bench.advance(ACKNOWLEDGE | DRIVER);
    bench.write(register::DRIVER_FEATURES, 1 << 5);
    bench.advance(FEATURES_OK);
    assert_eq!(bench.progress(), ACKNOWLEDGE | DRIVER);
    bench.advance(DRIVER_OK);
    assert!(bench.given.try_recv().is_err());
}

#[test]
fn a_driver_that_takes_what_is_not_offered_is_not_taken() {
    let mut bench = Bench::new();
    bench.advance(ACKNOWLEDGE | DRIVER);
    for (half, taken) in [(1, 1), (0, 1 << 6)] {
        bench.write(register::DRIVER_FEATURES_SEL, half);
        bench.write(register::DRIVER_FEATURES, taken);
    }
    bench.advance(FEATURES_OK);
    assert_eq!((bench.progress(), bench.status.violations()), (ACKNOWLEDGE | DRIVER, 1));
    // It may think again.
    bench.write(register::DRIVER_FEATURES, 1 << 5);
    bench.advance(FEATURES_OK);
    assert_eq!(bench.progress(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
}

/// What a hostile driver does: mostly registers that there are.
fn deed() -> impl Strategy<Value = (u64, u32)> {
    let registers = [
        register::DEVICE_FEATURES_SEL,
        register::DRIVER_FEATURES,
        register::DRIVER_FEATURES_SEL,
        register::QUEUE_SEL,
        register::QUEUE_NUM,
        register::QUEUE_READY,
        register::QUEUE_NOTIFY,
        register::INTERRUPT_ACK,
        register::STATUS,
        register::STATUS,
        register::QUEUE_DESC,
        register::QUEUE_DRIVER,
        register::QUEUE_DEVICE + 4,
    ];
    let offsets = prop_oneof![9 => prop::sample::select(registers.to_vec()), 1 => 0..0x1000_u64];
    let bits = [0, ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, FAILED, 0x0f, 0x0b, 3];
    let values = prop_oneof![
        4 => prop::sample::select(bits.to_vec()).prop_map(u32::from),
        2 => 0..20_u32,
        2 => prop::sample::select(vec![0x1_0000, 0x2_0000, 0x10_0000, 1 << 28, 1 << 29]),
        1 => any::<u32>(),
    ];
    (offsets, values)
}

proptest! {
    #[test]
    fn whatever_is_written_a_device_is_given_only_queues_that_make_sense(
        first in any::<bool>(),
        deeds in prop::collection::vec(deed(), 0..200),
    ) {
        let mut bench = Bench::new();
        let mut active = false;
        if first {
            let _given = bench.start();
            active = true;
        }
        for (offset, value) in deeds {
            let before = (bench.progress(), bench.resets.load(Ordering::Relaxed));
            bench.write(offset, value);
            let after = bench.progress();
            let reset = bench.resets.load(Ordering::Relaxed) - before.1;
            // What was said is only taken back as a whole.
            prop_assert!(after == 0 || before.0 & !NEEDS_RESET & after == before.0 & !NEEDS_RESET);
            // A device in use is given back at a reset or a failure, and only then.
            let ended = active && (after == 0 || after & FAILED != 0);
            prop_assert_eq!(reset, u32::from(ended));
            active &= !ended;
            if let Ok(given) = bench.given.try_recv() {
                prop_assert!(!active, "a device was given twice");
                active = true;
                prop_assert_ne!(given.features & feature::VERSION_1, 0);
                prop_assert_eq!(given.features & !(feature::COMMON | 1 << 5), 0);
                for mut queue in given.queues.into_iter().flatten() {
                    prop_assert!(queue.size() <= 16);
                    // All of its rings lie in memory: there is nothing in them, or nonsense.
                    let _ = queue.next(&given.memory);
                }
            }
            prop_assert_eq!(active, after & DRIVER_OK != 0 && after & FAILED == 0);
        }
    }
}
