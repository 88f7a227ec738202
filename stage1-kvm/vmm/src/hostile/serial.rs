//! Registers of the console, read and written in any order.

use super::Words;
use crate::bell::Bell;
use crate::console::{Console, KEPT};

/// Runs the deeds.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn serial(deeds: &[u8]) {
    let mut words = Words(deeds);
    let console = Console::new(Bell::new().expect("an eventfd"));
    let mut left = 100_000_u32;
    while words.has_more() {
        let register = words.byte();
        match words.below(3) {
            0 => {
                let _ = console.read(register);
            }
            1 => console.write(register, words.byte()),
            _ => {
                // Many of the same, as long as the ring and longer.
                let value = words.byte();
                let count = (u32::from(words.half()) * 2).min(left);
                left -= count;
                for _ in 0..count {
                    console.write(register % 8, value);
                }
            }
        }
    }
    assert!(console.tail(usize::MAX).len() <= KEPT * 3, "each byte is a character at most");
    for limit in [0, 1, 100, KEPT] {
        assert!(console.tail(limit).len() <= limit);
    }
}
