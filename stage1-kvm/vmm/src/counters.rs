//! What the monitor counts while it runs, by any thread, without a lock where it matters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::helm::{Counters, OfDevice};

/// How many of the accesses that are nobody's are remembered by what they were.
const MAX_STRANGERS: usize = 16;

/// Counts, from the start of the monitor on.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    port_exits: AtomicU64,
    unclaimed: AtomicU64,
    strangers: Mutex<Vec<String>>,
    hello: OnceLock<u64>,
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
        let elapsed = || u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.hello.get_or_init(elapsed);
    }

    /// The disk of images has answered a request with so many bytes.
    pub fn disk_request(&self, bytes: u64) {
        self.disk_requests.fetch_add(1, Ordering::Relaxed);
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far, and by devices.
    #[must_use]
    pub fn counted(&self, devices: Vec<OfDevice>) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            port_exits: read(&self.port_exits),
            unclaimed: read(&self.unclaimed),
            strangers: self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            hello_us: self.hello.get().copied(),
            devices,
            disk_requests: read(&self.disk_requests),
            disk_bytes: read(&self.disk_bytes),
        }
    }
}
