//! What the monitor counts while it runs, by any thread, without a lock where it matters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::helm::Counters;

/// How many of the accesses that are nobody's are remembered by what they were.
const MAX_STRANGERS: usize = 16;

/// Counts, from the start of the monitor on.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    port_exits: AtomicU64,
    mmio_exits: AtomicU64,
    unclaimed: AtomicU64,
    strangers: Mutex<Vec<String>>,
    hello: OnceLock<(u64, u64)>,
    disk_requests: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Tally {
    /// Nothing, from now on.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            port_exits: AtomicU64::new(0),
            mmio_exits: AtomicU64::new(0),
            unclaimed: AtomicU64::new(0),
            strangers: Mutex::default(),
            hello: OnceLock::new(),
            disk_requests: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
        }
    }

    /// A processor has used a port of ours.
    pub fn port_exit(&self) {
        self.port_exits.fetch_add(1, Ordering::Relaxed);
    }

    /// A processor has used a register of a device.
    pub fn mmio_exit(&self) {
        self.mmio_exits.fetch_add(1, Ordering::Relaxed);
    }

    /// A processor has used what is nobody's. `what` is asked only for the first of these.
    pub fn stranger(&self, what: impl FnOnce() -> String) {
        self.unclaimed.fetch_add(1, Ordering::Relaxed);
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() < MAX_STRANGERS {
            strangers.push(what());
        }
    }

    /// The guest asks for its first stream; later calls change nothing.
    pub fn hello(&self) {
        self.hello.get_or_init(|| {
            let exits = [&self.port_exits, &self.mmio_exits, &self.unclaimed];
            let exits = exits.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            (u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX), exits)
        });
    }

    /// The disk of images has answered a request with so many bytes.
    pub fn disk_request(&self, bytes: u64) {
        self.disk_requests.fetch_add(1, Ordering::Relaxed);
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far, and so many violations.
    #[must_use]
    pub fn counted(&self, violations: u64) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let hello = self.hello.get();
        Counters {
            port_exits: read(&self.port_exits),
            mmio_exits: read(&self.mmio_exits),
            unclaimed: read(&self.unclaimed),
            strangers: self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            hello_us: hello.map(|hello| hello.0),
            exits_before_hello: hello.map_or(0, |hello| hello.1),
            violations,
            disk_requests: read(&self.disk_requests),
            disk_bytes: read(&self.disk_bytes),
        }
    }
}
