//! A thread's devices, and the one loop that calls them.
//!
//! ```text
//!   transports (any processor) ── Activate, Reset ──▶ mailbox ─┐
//!   queues (ioeventfd, or a transport) ── notified ────────────┼──▶ round ──▶ device
//!   descriptors of devices ────────────────────────────────────┘
//! ```
//!
//! The monitor has two: one for the disks, which wait for files, and one for all the rest. Slot 0
//! of what is waited for is the thread's own; the devices have the others.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::bell::Bell;
use crate::virtio::transport::Keeper;
use crate::virtio::{Activation, Active, Device, Fault, Waits};
use crate::watch::{Ready, TOKENS, Watch};

/// The token of a device's first queue.
const QUEUES: u32 = TOKENS;

/// The token of the mailbox, in slot 0; whoever else waits there takes another.
pub const MAILBOX: u32 = 0;

/// Devices, and what calls them.
#[derive(Debug)]
pub struct Service {
    watch: Watch,
    slots: Vec<Slot>,
    mailbox: Receiver<Letter>,
    sender: Sender<Letter>,
    bell: Bell,
}

/// What a transport asks for.
#[derive(Debug)]
enum Letter {
    Activate(usize, Box<Activation>),
    /// Answered by the sender's end.
    Reset(usize, Sender<()>),
}

/// A device of a service, as its transport sees it.
#[derive(Debug)]
pub struct Kept {
    slot: usize,
    sender: Sender<Letter>,
    bell: Bell,
}

#[derive(Debug)]
struct Slot {
    stage: Stage,
    notified: Vec<Bell>,
}

#[derive(Debug)]
enum Stage {
    Idle(Box<dyn Device>),
    Active(Box<dyn Active>),
    /// Between the two, within a call.
    Moving,
}

/// A device that was handed in, and what its transport needs.
#[derive(Debug)]
pub struct Berth {
    /// By which the transport reaches it.
    pub kept: Kept,
    /// What it waits for descriptors by.
    pub watch: Watch,
    /// What its driver's notifications are written to.
    pub notified: Vec<Bell>,
}

impl Service {
    /// A service without devices.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        let watch = Watch::new()?;
        let bell = Bell::new()?;
        watch.add(&bell, MAILBOX, EventFlags::IN)?;
        let (sender, mailbox) = channel();
        Ok(Self { watch, slots: Vec::new(), mailbox, sender, bell })
    }

    /// What the thread itself waits for: slot 0.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Takes a device in.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn take(&mut self, device: Box<dyn Device>) -> io::Result<Berth> {
        let slot = self.slots.len();
        let watch = self.watch.of(u32::try_from(slot + 1).unwrap_or(u32::MAX));
        let mut notified = Vec::new();
        for (queue, _) in (QUEUES..).zip(device.queue_sizes()) {
            let event = Bell::new()?;
            watch.add(&event, queue, EventFlags::IN)?;
            notified.push(event);
        }
        self.slots.push(Slot { stage: Stage::Idle(device), notified: notified.clone() });
        let (sender, bell) = (self.sender.clone(), self.bell.clone());
        Ok(Berth { kept: Kept { slot, sender, bell }, watch, notified })
    }

    /// Waits until there is something to do, no longer than `most`, and returns what there is.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the kernel cannot say.
    pub fn wait(&self, most: Option<Duration>) -> Result<Vec<Ready>, Fault> {
        let now = Instant::now();
        let next = self.slots.iter().filter_map(|slot| slot.device()?.deadline()).min();
        let until = next.map(|deadline| deadline.saturating_duration_since(now));
        let timeout = [until, most].into_iter().flatten().min();
        self.watch.wait(timeout).map_err(|error| Fault(format!("cannot wait: {error}")))
    }

    /// Does what there is to do for devices; what is of slot 0 was for the thread.
    ///
    /// # Errors
    ///
    /// The first [`Fault`] of a device.
    pub fn serve(&mut self, ready: &[Ready]) -> Result<(), Fault> {
        self.read_mailbox()?;
        for event in ready {
            let Some(index) = usize::try_from(event.slot).ok().and_then(|at| at.checked_sub(1))
            else {
                continue;
            };
            if let Some(slot) = self.slots.get_mut(index) {
                slot.call(event.token, event.flags)?;
            }
        }
        let now = Instant::now();
        for slot in &mut self.slots {
            if let Some(device) = slot.device_mut()
                && device.deadline().is_some_and(|deadline| deadline <= now)
            {
                device.timed_out(now)?;
            }
        }
        Ok(())
    }

    /// The machine has ended: each device looks at each of its queues once more. A processor that
    /// has not heard of it may still run, and fill them: whoever waits for what it gives the host
    /// waits for a while at most.
    ///
    /// # Errors
    ///
    /// The first [`Fault`] of a device.
    pub fn look_at_all(&mut self) -> Result<(), Fault> {
        self.read_mailbox()?;
        for slot in &mut self.slots {
            if let Stage::Active(device) = &mut slot.stage {
                for queue in 0..slot.notified.len() {
                    device.notified(queue)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a device holds something that is still to leave the monitor.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.slots.iter().filter_map(Slot::device).any(Waits::unfinished)
    }

    fn read_mailbox(&mut self) -> Result<(), Fault> {
        // Empty already if nothing has rung.
        let _ = self.bell.hear();
        while let Ok(letter) = self.mailbox.try_recv() {
            match letter {
                Letter::Activate(index, activation) => {
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.activate(*activation)?;
                    }
                }
                Letter::Reset(index, done) => {
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.reset();
                    }
                    // Nobody waits if the transport's processor has ended.
                    let _ = done.send(());
                }
            }
        }
        Ok(())
    }
}

impl Slot {
    fn device(&self) -> Option<&dyn Waits> {
        match &self.stage {
            Stage::Idle(device) => Some(&**device),
            Stage::Active(device) => Some(&**device),
            Stage::Moving => None,
        }
    }

    fn device_mut(&mut self) -> Option<&mut dyn Waits> {
        match &mut self.stage {
            Stage::Idle(device) => Some(&mut **device),
            Stage::Active(device) => Some(&mut **device),
            Stage::Moving => None,
        }
    }

    fn call(&mut self, token: u32, flags: EventFlags) -> Result<(), Fault> {
        let queue = token.checked_sub(QUEUES).and_then(|queue| usize::try_from(queue).ok());
        if let Some(event) = queue.and_then(|queue| self.notified.get(queue)) {
            // It may have been read already, by a call before.
            let _ = event.hear();
        }
        match (&mut self.stage, queue) {
            (Stage::Active(device), Some(queue)) => device.notified(queue),
            (_, Some(_)) => Ok(()),
            (_, None) => self.device_mut().map_or(Ok(()), |device| device.ready(token, flags)),
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), Fault> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Moving) {
            Stage::Idle(device) => Stage::Active(device.activate(activation)?),
            other => other,
        };
        Ok(())
    }

    fn reset(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Moving) {
            Stage::Active(device) => Stage::Idle(device.reset()),
            other => other,
        };
    }
}

impl Kept {
    fn send(&self, letter: Letter) {
        // It fails only if the thread has ended, and the machine with it.
        let _ = self.sender.send(letter);
        self.bell.ring();
    }
}

impl Keeper for Kept {
    fn activate(&self, activation: Activation) {
        self.send(Letter::Activate(self.slot, Box::new(activation)));
    }

    fn reset(&self) {
        let (done, is_done) = channel();
        self.send(Letter::Reset(self.slot, done));
        // An error is the end of the thread: nothing touches memory then either.
        let _ = is_done.recv();
    }
}
