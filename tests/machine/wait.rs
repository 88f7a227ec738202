//! Waiting for what nobody tells: a property of a unit, a file that appears.

use std::thread;
use std::time::{Duration, Instant};

use tests::said;

/// How long something may take that takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before looking again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Waits until `wanted` holds.
///
/// # Panics
///
/// When it does not in time.
#[track_caller]
pub(crate) fn until(mut wanted: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE * said::slowness();
    while !wanted() {
        assert!(Instant::now() < end, "it never came true");
        thread::sleep(BETWEEN_LOOKS);
    }
}
