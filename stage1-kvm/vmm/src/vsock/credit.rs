//! How much either side may send (virtio 1.2 §5.10.6.3).
//!
//! Each side tells in every packet how large its buffer is and how many bytes it has taken out of
//! it so far, modulo 2³². What is under way is what was sent less what was taken out.

use super::{BUFFER, MAX_PAYLOAD};

/// What we may still send to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    sent: u32,
    taken: u32,
    allocated: u32,
}

/// What the guest may still send to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    received: u32,
    taken: u32,
    told: u32,
}

impl Outgoing {
    /// Hears what the header of a packet says.
    ///
    /// Packets of a guest may overtake each other between two of its processors, so an older count
    /// is no lie: it is passed over, and with it one that runs ahead of what was sent.
    pub const fn hear(&mut self, allocated: u32, taken: u32) {
        self.allocated = allocated;
        if self.sent.wrapping_sub(taken) <= self.under_way() {
            self.taken = taken;
        }
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub const fn room(&self) -> u32 {
        self.allocated.saturating_sub(self.under_way())
    }

    /// Counts bytes that are sent.
    pub const fn send(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    const fn under_way(&self) -> u32 {
        self.sent.wrapping_sub(self.taken)
    }
}

impl Incoming {
    /// Counts bytes that came; no if they are more than the guest was told it may send.
    #[must_use]
    pub const fn receive(&mut self, count: u32) -> bool {
        if count > MAX_PAYLOAD || count > BUFFER - self.held() {
            return false;
        }
        self.received = self.received.wrapping_add(count);
        true
    }

    /// Bytes that came and have not left the buffer.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.received.wrapping_sub(self.taken)
    }

    /// Counts bytes that have left the buffer.
    pub const fn take(&mut self, count: u32) {
        self.taken = self.taken.wrapping_add(count);
    }

    /// Whether the guest is to hear of it: it believes that half of the buffer, or less, is free.
    #[must_use]
    pub const fn is_news(&self) -> bool {
        self.taken.wrapping_sub(self.told) >= BUFFER / 2
    }

    /// Returns `forwarded` for a packet that is sent now.
    pub const fn tell(&mut self) -> u32 {
        self.told = self.taken;
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a guest says: never more is under way than the largest buffer it told of,
        /// counted from the furthest it said it was.
        #[test]
        fn no_word_of_a_guest_gets_more_than_its_buffer(
            start in any::<u32>(),
            steps in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..100),
        ) {
            let mut credit = Outgoing { sent: start, taken: start, allocated: 0 };
            let (mut sent, mut taken) = (0_u64, 0_u64);
            for (allocated, said, want) in steps {
                // Now and then an honest word: part of what is under way.
                let honest = said % 2 == 0;
                let step = if sent > taken { u64::from(said) % (sent - taken + 1) } else { 0 };
                let said = if honest { credit.taken.wrapping_add(u32::try_from(step).unwrap()) } else { said };
                let before = credit.under_way();
                credit.hear(allocated, said);
                taken += u64::from(before - credit.under_way());
                let count = want.min(credit.room());
                credit.send(count);
                sent += u64::from(count);
                prop_assert!(taken <= sent);
                prop_assert!(count == 0 || sent - taken <= u64::from(allocated));
            }
        }
    }

    #[test]
    fn counts_that_go_back_or_run_ahead_are_passed_over() {
        let mut credit = Outgoing::default();
        credit.hear(100, 0);
        credit.send(60);
        credit.hear(100, 50);
        assert_eq!(credit.room(), 90);
        credit.hear(100, 10);
        assert_eq!(credit.room(), 90, "an older word");
        credit.hear(100, 61);
        assert_eq!(credit.room(), 90, "more than was sent");
        credit.hear(u32::MAX, 60);
        assert_eq!(credit.room(), u32::MAX);
        credit.hear(0, 60);
        assert_eq!(credit.room(), 0, "a buffer can shrink");
    }

    #[test]
    fn a_guest_that_sends_more_than_it_may_is_found_out() {
        let mut credit = Incoming::default();
        assert!(!credit.receive(u32::MAX));
        assert!(!credit.receive(BUFFER + 1));
        assert!(credit.receive(BUFFER));
        assert!(!credit.receive(1));
        credit.take(BUFFER / 2 - 1);
        assert!(!credit.is_news());
        credit.take(1);
        assert!(credit.is_news());
        assert_eq!(credit.tell(), BUFFER / 2);
        assert!(!credit.is_news());
        assert!(credit.receive(BUFFER / 2));
        assert!(!credit.receive(1));
    }
}
