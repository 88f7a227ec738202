//! The versions of every document and protocol of ours, and the refusal when two do not meet.
//!
//! One number each, raised when an older reader could misunderstand a newer writer. There are no
//! minor versions: unknown fields are errors, so every addition is a new number. What lies on
//! disk is read from version 1 on; what only crosses between programs must be the same.

use serde::{Deserialize, Serialize};

/// Version of `pod.json`, `app.N.json` and the file given to `pod run --spec`.
pub const MANIFEST: u32 = 6;
/// The oldest version of these documents that is still read: a pod laid out by an older `pod`
/// can be started by this one.
pub const OLDEST_MANIFEST: u32 = 1;
/// Version of the order stage0 gives a stage1, with its table of descriptors.
pub const STAGE_ABI: u32 = 5;
/// Version of `status.json` and of the lines of `events.jsonl`.
pub const STATUS: u32 = 4;
/// Version of the frames on a pod's control socket.
pub const CONTROL: u32 = 4;
/// Version of the frames between a supervisor and the pod's PID 1.
pub const INNER: u32 = 3;
/// Version of the frames between stage1-kvm and PID 1 of its guest.
pub const GUEST: u32 = 1;

/// The versions of the stage ABI a stage1 understands, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbiRange {
    /// The oldest version understood.
    pub oldest: u32,
    /// The newest version understood.
    pub newest: u32,
}

impl AbiRange {
    /// Tells whether `version` lies in this range.
    #[must_use]
    pub const fn contains(self, version: u32) -> bool {
        self.oldest <= version && version <= self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_both_its_ends() {
        let range = AbiRange { oldest: 2, newest: 4 };
        let inside: Vec<u32> = (0..7).filter(|version| range.contains(*version)).collect();
        assert_eq!(inside, [2, 3, 4]);
    }
}
