//! The registers by which a driver finds a device and sets it up: virtio over MMIO, version 2.
//!
//! ```text
//!            write 0                    DRIVER_OK, queues make sense
//!   Reset ◀──────────── Setup ────────────────────────────────────▶ Active
//!     │  ACKNOWLEDGE ──▶  │ ── FAILED, or queues make no sense ──▶ Failed
//! ```
//!
//! The queues are part of `Setup` and move on to the device: in `Active` there is nothing left that
//! a register could change. What a driver writes at a time it must not is ignored and counted.
//!
//! Source: virtio 1.2 §2.1, §3.1, §4.2.2.

use std::sync::Arc;

use virtio_queue::{Queue as Ring, QueueT as _};
use vm_memory::GuestAddress;

use super::{Activation, Device, Interrupt, Queue, Status, feature};
use crate::bell::Bell;
use crate::memory::Memory;
use crate::watch::Watch;

/// Offsets of registers.
pub mod register {
    /// `virt`, by which a driver knows that there are registers.
    pub const MAGIC: u64 = 0x000;
    /// 2.
    pub const VERSION: u64 = 0x004;
    /// The number of the device.
    pub const DEVICE_ID: u64 = 0x008;
    /// Whose device it is.
    pub const VENDOR_ID: u64 = 0x00c;
    /// Half of the features offered.
    pub const DEVICE_FEATURES: u64 = 0x010;
    /// Which half.
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    /// Half of the features taken.
    pub const DRIVER_FEATURES: u64 = 0x020;
    /// Which half.
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    /// Which queue the registers of queues are of.
    pub const QUEUE_SEL: u64 = 0x030;
    /// The longest the queue may be.
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    /// How long it is.
    pub const QUEUE_NUM: u64 = 0x038;
    /// Whether it is used.
    pub const QUEUE_READY: u64 = 0x044;
    /// There is something in a queue.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// What an interrupt was about.
    pub const INTERRUPT_STATUS: u64 = 0x060;
    /// It was heard.
    pub const INTERRUPT_ACK: u64 = 0x064;
    /// How far the driver is.
    pub const STATUS: u64 = 0x070;
    /// The table of descriptors, two halves.
    pub const QUEUE_DESC: u64 = 0x080;
    /// The ring of available chains.
    pub const QUEUE_DRIVER: u64 = 0x090;
    /// The ring of used chains.
    pub const QUEUE_DEVICE: u64 = 0x0a0;
    /// The length of a region of shared memory, which there is none of: all ones.
    pub const SHM_LEN: u64 = 0x0b0;
    /// Changes whenever the configuration does: never.
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    /// The configuration space.
    pub const CONFIG: u64 = 0x100;
}

/// Bits of the status a driver writes.
pub mod progress {
    /// It has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// It knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// It is ready.
    pub const DRIVER_OK: u8 = 4;
    /// It has chosen features.
    pub const FEATURES_OK: u8 = 8;
    /// The device wants to be reset: never written by a driver.
    pub const NEEDS_RESET: u8 = 64;
    /// It has given up.
    pub const FAILED: u8 = 128;
}

const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Ours: there is no registry.
const VENDOR: u32 = 0x0044_4f50;

/// Whoever has the device: its thread.
pub trait Keeper: Send {
    /// The driver is ready.
    fn activate(&self, activation: Activation);
    /// The driver wants the device back as it was; returns when nothing of its memory is touched
    /// any more.
    fn reset(&self);
}

/// What of a device its registers tell, whoever has it by now.
#[derive(Debug)]
pub struct Facts {
    kind: u32,
    features: u64,
    config: Vec<u8>,
    queue_sizes: &'static [u16],
}

impl Facts {
    /// Those of a device.
    #[must_use]
    pub fn of(device: &dyn Device) -> Self {
        Self {
            kind: device.kind(),
            features: device.features() | feature::COMMON,
            config: device.config(),
            queue_sizes: device.queue_sizes(),
        }
    }
}

/// What goes into an [`Activation`] that is known beforehand.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The memory of the guest.
    pub memory: Memory,
    /// The device's interrupt.
    pub interrupt: Interrupt,
    /// What its driver tells of it.
    pub status: Arc<Status>,
    /// What is written when there is something in each queue.
    pub notified: Vec<Bell>,
    /// The device's share of what its thread waits for.
    pub watch: Watch,
}

/// The registers of a device.
#[derive(Debug)]
pub struct Transport<K> {
    facts: Facts,
    wiring: Wiring,
    keeper: K,
    state: State,
}

#[derive(Debug)]
enum State {
    Reset,
    Setup(Setup),
    /// The status as the driver has written it.
    Active(u8),
    /// The status it had come to.
    Failed(u8),
}

/// How far a driver is that is not ready.
#[derive(Debug)]
struct Setup {
    progress: u8,
    offered_half: u32,
    taken_half: u32,
    taken: u64,
    queue: usize,
    rings: Vec<Ring>,
}

impl<K: Keeper> Transport<K> {
    /// The registers of a device that has these facts, whose driver is yet to come.
    pub fn new(facts: Facts, wiring: Wiring, keeper: K) -> Self {
        Self { facts, wiring, keeper, state: State::Reset }
    }

    /// What the device tells beside registers.
    pub fn status(&self) -> &Arc<Status> {
        &self.wiring.status
    }

    /// A driver reads. Registers are words; only the configuration is read by other widths.
    pub fn read(&mut self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        if let Some(start) = offset.checked_sub(register::CONFIG) {
            let config = usize::try_from(start).ok().and_then(|at| self.facts.config.get(at..));
            let config = config.unwrap_or_default();
            let length = config.len().min(into.len());
            into[..length].copy_from_slice(&config[..length]);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(into) {
            *word = self.read_word(offset).to_le_bytes();
        } else {
            self.wiring.status.violation();
        }
    }

    /// A driver writes a word. There is no configuration that could be written.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        match <[u8; 4]>::try_from(from) {
            Ok(word) if offset < register::CONFIG => {
                self.write_word(offset, u32::from_le_bytes(word));
            }
            _ => self.wiring.status.violation(),
        }
    }

    fn read_word(&self, offset: u64) -> u32 {
        let setup = if let State::Setup(setup) = &self.state { Some(setup) } else { None };
        match offset {
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => self.facts.kind,
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => {
                half(self.facts.features, setup.map_or(0, |setup| setup.offered_half))
            }
            register::QUEUE_NUM_MAX => {
                let size = setup.and_then(|setup| self.facts.queue_sizes.get(setup.queue));
                size.map_or(0, |&size| u32::from(size))
            }
            register::QUEUE_READY => {
                let ring = setup.and_then(|setup| setup.rings.get(setup.queue));
                u32::from(ring.is_some_and(Ring::ready))
            }
            register::INTERRUPT_STATUS => self.wiring.status.pending(),
            register::STATUS => u32::from(self.progress()),
            register::SHM_LEN.. if offset < register::SHM_LEN + 16 => u32::MAX,
            _ => 0,
        }
    }

    fn progress(&self) -> u8 {
        match &self.state {
            State::Reset => 0,
            State::Setup(setup) => setup.progress,
            State::Active(progress) => *progress,
            State::Failed(progress) => progress | progress::NEEDS_RESET,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        match (offset, &mut self.state) {
            (register::STATUS, _) => self.advance(value),
            (register::INTERRUPT_ACK, _) => self.wiring.status.acknowledge(value),
            (register::QUEUE_NOTIFY, State::Active(_)) => self.notify(value),
            (_, State::Setup(setup)) => {
                if !setup.write(offset, value, self.facts.features) {
                    self.wiring.status.violation();
                }
            }
            // A driver that begins looks at features before it says that it is there; one that goes
            // takes its queues back after the reset.
            (register::DEVICE_FEATURES_SEL | register::QUEUE_SEL, State::Reset) => {}
            (register::QUEUE_READY, State::Reset) if value == 0 => {}
            _ => self.wiring.status.violation(),
        }
    }

    /// Only where KVM does not do it by itself.
    fn notify(&self, queue: u32) {
        let notified = usize::try_from(queue).ok().and_then(|at| self.wiring.notified.get(at));
        match notified {
            Some(notified) => notified.ring(),
            None => self.wiring.status.violation(),
        }
    }

    fn advance(&mut self, value: u32) {
        let Ok(value) = u8::try_from(value) else { return self.wiring.status.violation() };
        if value == 0 {
            return self.reset();
        }
        let value = value & !progress::NEEDS_RESET;
        let known = self.progress() & !progress::NEEDS_RESET;
        // What was said cannot be taken back but by a reset.
        if value & known != known {
            return self.wiring.status.violation();
        }
        let added = value & !known;
        if added & progress::FAILED != 0 {
            return self.fail(value);
        }
        match std::mem::replace(&mut self.state, State::Reset) {
            State::Reset => {
                let sizes = self.facts.queue_sizes;
                match Setup::begin(value, sizes) {
                    Some(setup) => self.state = State::Setup(setup),
                    None => self.wiring.status.violation(),
                }
            }
            State::Setup(setup) => self.go_on(setup, value, added),
            kept @ (State::Active(_) | State::Failed(_)) => {
                if added != 0 {
                    self.wiring.status.violation();
                }
                self.state = kept;
            }
        }
    }

    fn go_on(&mut self, mut setup: Setup, value: u8, added: u8) {
        let agreed =
            setup.taken & feature::VERSION_1 != 0 && setup.taken & !self.facts.features == 0;
        if added & progress::FEATURES_OK != 0 && !agreed {
            // Not taken: the driver reads it back and sees (virtio 1.2 §3.1.1).
            setup.progress = value & !(progress::FEATURES_OK | progress::DRIVER_OK);
            self.state = State::Setup(setup);
            return;
        }
        setup.progress = value;
        if added & progress::DRIVER_OK == 0 {
            self.state = State::Setup(setup);
        } else if value & progress::FEATURES_OK == 0 || !setup.makes_sense(&self.wiring.memory) {
            self.wiring.status.violation();
            self.fail(value & !progress::DRIVER_OK);
        } else {
            self.activate(setup);
        }
    }

    fn activate(&mut self, setup: Setup) {
        let event_idx = setup.taken & feature::EVENT_IDX != 0;
        let mut queues = Vec::new();
        for (mut ring, notified) in setup.rings.into_iter().zip(&self.wiring.notified) {
            let ready = ring.ready();
            ring.set_event_idx(event_idx);
            let interrupt = self.wiring.interrupt.clone();
            queues.push(ready.then(|| Queue::new(ring, interrupt, notified.clone())));
        }
        self.state = State::Active(setup.progress);
        self.keeper.activate(Activation {
            memory: Arc::clone(&self.wiring.memory),
            queues,
            interrupt: self.wiring.interrupt.clone(),
            features: setup.taken,
            watch: self.wiring.watch.clone(),
        });
    }

    fn reset(&mut self) {
        self.give_back();
        self.wiring.status.clear();
    }

    fn fail(&mut self, progress: u8) {
        self.give_back();
        self.state = State::Failed(progress);
    }

    fn give_back(&mut self) {
        if let State::Active(_) = std::mem::replace(&mut self.state, State::Reset) {
            self.keeper.reset();
        }
    }
}

impl Setup {
    fn begin(progress: u8, sizes: &[u16]) -> Option<Self> {
        // A size that is no power of two would be a mistake of ours: the device is not there then.
        let rings = sizes.iter().map(|&size| Ring::new(size).ok()).collect::<Option<Vec<_>>>()?;
        let early = progress & (progress::FEATURES_OK | progress::DRIVER_OK) == 0;
        early.then_some(Self {
            progress,
            offered_half: 0,
            taken_half: 0,
            taken: 0,
            queue: 0,
            rings,
        })
    }

    /// Whether a driver may write this, now.
    fn write(&mut self, offset: u64, value: u32, offered: u64) -> bool {
        let chosen = self.progress & progress::FEATURES_OK != 0;
        match offset {
            register::DEVICE_FEATURES_SEL => self.offered_half = value,
            register::DRIVER_FEATURES_SEL => self.taken_half = value,
            register::QUEUE_SEL => self.queue = usize::try_from(value).unwrap_or(usize::MAX),
            register::DRIVER_FEATURES => return !chosen && self.take(value, offered),
            _ => {
                let Some(ring) = self.rings.get_mut(self.queue) else { return false };
                return chosen && write_ring(ring, offset, value);
            }
        }
        true
    }

    /// Takes half of the features. Whether each is offered is decided once it has all of them; that
    /// one is not is no honest driver's deed.
    fn take(&mut self, value: u32, offered: u64) -> bool {
        let (shift, other) = match self.taken_half {
            0 => (0, 0xffff_ffff_0000_0000),
            1 => (32, 0x0000_0000_ffff_ffff),
            // Linux writes zeros into halves that do not exist yet.
            _ => return value == 0,
        };
        let taken = u64::from(value) << shift;
        self.taken = self.taken & other | taken;
        taken & !offered == 0
    }

    fn makes_sense(&self, memory: &Memory) -> bool {
        self.rings.iter().all(|ring| !ring.ready() || ring.is_valid(&**memory))
    }
}

/// Whether a register of a queue may be written so.
fn write_ring(ring: &mut Ring, offset: u64, value: u32) -> bool {
    if offset == register::QUEUE_READY {
        ring.set_ready(value == 1);
        return value <= 1;
    }
    if ring.ready() {
        return false;
    }
    let with = |old: u64| {
        let (low, high) = (u64::from(value), u64::from(value) << 32);
        GuestAddress(match offset & 4 {
            0 => old & 0xffff_ffff_0000_0000 | low,
            _ => old & 0x0000_0000_ffff_ffff | high,
        })
    };
    match offset & !4 {
        register::QUEUE_NUM if offset == register::QUEUE_NUM => {
            u16::try_from(value).is_ok_and(|size| ring.try_set_size(size).is_ok())
        }
        register::QUEUE_DESC => ring.try_set_desc_table_address(with(ring.desc_table())).is_ok(),
        register::QUEUE_DRIVER => ring.try_set_avail_ring_address(with(ring.avail_ring())).is_ok(),
        register::QUEUE_DEVICE => ring.try_set_used_ring_address(with(ring.used_ring())).is_ok(),
        _ => false,
    }
}

fn half(features: u64, which: u32) -> u32 {
    let half = match which {
        0 => features,
        1 => features >> 32,
        _ => 0,
    };
    u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
