//! The rows of bytes of the disk of images that are devices of their own.
//!
//! The disk has no partition table: the host says where a layer lies, and the kernel is told so
//! (`BLKPG_ADD_PARTITION`, `linux/blkpg.h`). Pure: who has which number; [`crate::hardware`] does
//! it.

use std::collections::{BTreeMap, BTreeSet};

use pod_abi::guest::Extent;

/// The highest number of a partition (`DISK_MAX_PARTS` of `block/genhd.c`, less the whole disk).
pub(crate) const HIGHEST: u16 = 255;

/// Who has which number.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    there: BTreeMap<(u64, u64), u16>,
    /// Numbers whose rows nobody mounts any more, as far as we know.
    idle: BTreeSet<u16>,
}

/// What is to be done for a row of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// It has this one.
    There(u16),
    /// It is to have this one, which is free.
    New(u16),
}

impl Partitions {
    /// Finds a number for a row. `release` is asked to take back an idle one, should all be taken.
    pub(crate) fn number(
        &mut self,
        extent: Extent,
        mut release: impl FnMut(u16) -> bool,
    ) -> Option<Number> {
        let key = (extent.offset, extent.length);
        if let Some(number) = self.there.get(&key) {
            self.idle.remove(number);
            return Some(Number::There(*number));
        }
        let taken: BTreeSet<u16> = self.there.values().copied().collect();
        let free = (1..=HIGHEST).find(|number| !taken.contains(number));
        let number = free.or_else(|| {
            let number = self.idle.iter().copied().find(|number| release(*number))?;
            self.idle.remove(&number);
            self.there.retain(|_, there| *there != number);
            Some(number)
        })?;
        Some(Number::New(number))
    }

    /// Notes that a row has a number now.
    pub(crate) fn note(&mut self, extent: Extent, number: u16) {
        self.there.insert((extent.offset, extent.length), number);
    }

    /// Notes that nobody mounts a row any more.
    pub(crate) fn forget(&mut self, extent: Extent) {
        self.idle.extend(self.there.get(&(extent.offset, extent.length)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> Extent {
        Extent { offset: number << 20, length: 4096 }
    }

    #[test]
    fn a_row_keeps_its_number_and_an_idle_one_is_given_on_when_all_are_taken() {
        let mut partitions = Partitions::default();
        let never = |_| -> bool { unreachable!() };
        for at in 1..=HIGHEST {
            let found = partitions.number(row(at.into()), never);
            assert_eq!(found, Some(Number::New(at)));
            partitions.note(row(at.into()), at);
        }
        assert_eq!(partitions.number(row(7), never), Some(Number::There(7)));
        assert_eq!(partitions.number(row(999), |_| true), None, "none is idle");
        partitions.forget(row(7));
        partitions.forget(row(9));
        partitions.forget(row(12345));
        assert_eq!(partitions.number(row(7), never), Some(Number::There(7)), "in use again");
        assert_eq!(partitions.number(row(999), |_| false), None, "the kernel holds it still");
        assert_eq!(partitions.number(row(999), |number| number == 9), Some(Number::New(9)));
        partitions.note(row(999), 9);
        assert_eq!(partitions.number(row(9), |_| true), None);
    }
}
