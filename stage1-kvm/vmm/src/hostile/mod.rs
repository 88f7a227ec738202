//! What a hostile guest can do, as functions of bytes: each takes any bytes for a guest's deeds,
//! and panics if something is not as it must be.
//!
//! `cargo test` calls them with a bounded number of random inputs; `tests/fuzz` lets `cargo fuzz`
//! look for inputs for as long as somebody likes.

mod disk;
mod muxer;
mod net;
mod serial;
mod transport;
mod vsock;

pub use disk::disk;
pub use muxer::muxer;
pub use net::net;
pub use serial::serial;
pub use transport::transport;
pub use vsock::vsock;

use crate::rig::{Driver, INDIRECT, MEMORY, NEXT, WRITE};
use crate::virtio::Fault;

/// Bytes that are taken from the front; zeros once they are used up.
#[derive(Debug)]
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// One of these, or now and then any other.
    fn one_of(&mut self, likely: &[u32]) -> u32 {
        let choice = usize::from(self.byte());
        if choice >= 250 || likely.is_empty() {
            return self.word();
        }
        likely[choice % likely.len()]
    }
}

/// Whether the machine is no more: because of its guest, and of nothing else.
fn ends(done: &Result<(), Fault>) -> bool {
    let broken = |fault: &Fault| fault.0.contains("the guest's driver has broken a queue");
    assert!(done.as_ref().err().is_none_or(broken), "no fault of the host's: {done:?}");
    done.is_err()
}

/// Makes a chain available that may be anything: in memory, across its end, in a loop, indirect.
fn offer_anything(driver: &mut Driver, words: &mut Words<'_>) {
    let base = 4 << 20;
    let buffers = words.below(6);
    for _ in 0..buffers {
        let index = u16::from(words.below(16));
        let address = match words.below(8) {
            0 => MEMORY - u64::from(words.byte()),
            1 => u64::from(words.word()) << 8,
            _ => base + u64::from(words.half()),
        };
        let length = match words.below(8) {
            0 => words.word(),
            1 => 0,
            2 => 44,
            _ => u32::from(words.half()) % 5000,
        };
        let flags = match words.below(8) {
            0 => words.half(),
            1 => INDIRECT,
            2 => WRITE,
            3 | 4 => WRITE | NEXT,
            5 => 0,
            _ => NEXT,
        };
        driver.describe(index, address, length, flags, u16::from(words.below(17)));
    }
    driver.offer(u16::from(words.below(17)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn deeds() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..2000)
    }

    proptest! {
        #[test]
        fn no_packets_confuse_the_connections(deeds in deeds()) {
            super::muxer(&deeds);
        }

        #[test]
        fn no_chains_confuse_the_socket_device(deeds in deeds()) {
            super::vsock(&deeds);
        }

        #[test]
        fn no_chains_confuse_the_network_device(deeds in deeds()) {
            super::net(&deeds);
        }

        #[test]
        fn no_chains_confuse_a_disk(deeds in deeds()) {
            super::disk(&deeds);
        }

        #[test]
        fn no_registers_confuse_the_transport(deeds in deeds()) {
            super::transport(&deeds);
        }

        #[test]
        fn no_registers_confuse_the_console(deeds in deeds()) {
            super::serial(&deeds);
        }
    }
}
