//! Who answers an address: ranges, sorted, without holes that somebody would answer for.

use std::ops::Range;

/// Ranges of addresses and what is there.
#[derive(Debug)]
pub struct Bus<T> {
    ranges: Vec<(Range<u64>, T)>,
}

impl<T> Bus<T> {
    /// A bus of these.
    ///
    /// # Panics
    ///
    /// If two overlap: addresses are constants of this crate.
    #[must_use]
    pub fn new(mut ranges: Vec<(Range<u64>, T)>) -> Self {
        ranges.sort_by_key(|(range, _)| range.start);
        let apart = ranges.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start);
        assert!(apart, "two devices have the same address");
        Self { ranges }
    }

    /// What is at all of these addresses, and how far into its range they begin.
    #[must_use]
    pub fn find(&self, address: u64, length: usize) -> Option<(&T, u64)> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= address);
        let (range, there) = self.ranges.get(after.checked_sub(1)?)?;
        let end = address.checked_add(length as u64)?;
        (end <= range.end).then(|| (there, address - range.start))
    }
}
