//! A ring of bytes of a fixed size, for what a descriptor did not take at once.

/// The ring. It takes no memory until it holds a byte.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Box<[u8]>,
    first: usize,
    filled: usize,
}

impl Buffer {
    /// Bytes in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Puts bytes behind those that are in it, as far as `capacity` has room; returns how many.
    pub fn push(&mut self, bytes: &[u8], capacity: usize) -> usize {
        if self.bytes.is_empty() && !bytes.is_empty() {
            self.bytes = vec![0; capacity].into_boxed_slice();
        }
        let room = self.bytes.len() - self.filled;
        let taken = &bytes[..bytes.len().min(room)];
        let mut rest = taken;
        while !rest.is_empty() {
            let end = (self.first + self.filled) % self.bytes.len();
            let piece = rest.len().min(self.bytes.len() - end);
            self.bytes[end..end + piece].copy_from_slice(&rest[..piece]);
            self.filled += piece;
            rest = &rest[piece..];
        }
        taken.len()
    }

    /// Returns its first bytes, as many as lie in a row; none if it is empty.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        let end = (self.first + self.filled).min(self.bytes.len());
        &self.bytes[self.first..end]
    }

    /// Takes its first bytes away.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.filled -= count;
        self.first = if self.filled == 0 { 0 } else { (self.first + count) % self.bytes.len() };
    }

    /// Takes all bytes away, and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue_that_ends_at_its_capacity(
            steps in prop::collection::vec((any::<bool>(), 0_usize..40), 0..200),
        ) {
            let (mut buffer, mut model) = (Buffer::default(), VecDeque::<u8>::new());
            let mut next = 0_u8;
            for (push, count) in steps {
                if push {
                    let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let taken = buffer.push(&bytes, 32);
                    prop_assert_eq!(taken, count.min(32 - model.len()));
                    model.extend(&bytes[..taken]);
                } else {
                    buffer.consume(count);
                    model.drain(..count.min(model.len()));
                }
                prop_assert_eq!(buffer.len(), model.len());
                prop_assert_eq!(buffer.is_empty(), buffer.front().is_empty());
                prop_assert!(buffer.front().iter().eq(model.iter().take(buffer.front().len())));
            }
        }
    }
}
