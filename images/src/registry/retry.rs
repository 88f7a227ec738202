//! How often and how patiently one thing is asked for again.
//!
//! A counter and a clock's worth of waiting; which failures deserve it is decided where they are
//! seen. The waits are random between nothing and a doubling ceiling ("full jitter"), so that many
//! clients that failed together do not come back together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::Duration;

/// The limits of patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often one thing is asked for in a row without progress.
    pub attempts: u32,
    /// The ceiling of the first wait; it doubles with every failure.
    pub base: Duration,
    /// The highest ceiling.
    pub ceiling: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one ends the attempts.
    pub longest_retry_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_secs(1),
            ceiling: Duration::from_secs(30),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

/// The attempts made for one thing so far.
#[derive(Debug)]
pub(super) struct Attempts {
    patience: Patience,
    failed: u32,
}

/// There is no patience left.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Attempts {
    pub(super) const fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// Forgets failures, because what came since is worth it.
    pub(super) const fn forgive(&mut self) {
        self.failed = 0;
    }

    /// Counts a failure and waits, for as long as the other side said or else at random.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>) -> Result<(), Exhausted> {
        self.failed += 1;
        if self.failed >= self.patience.attempts {
            return Err(Exhausted);
        }
        let wait = match retry_after {
            Some(told) if told > self.patience.longest_retry_after => return Err(Exhausted),
            Some(told) => told,
            None => part_of(ceiling(self.patience, self.failed), random()),
        };
        thread::sleep(wait);
        Ok(())
    }
}

fn ceiling(patience: Patience, failed: u32) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    patience.base.saturating_mul(1 << doublings).min(patience.ceiling)
}

fn part_of(whole: Duration, random: u32) -> Duration {
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A number nobody else draws at the same time; nothing secret hangs on it.
fn random() -> u32 {
    let drawn = RandomState::new().build_hasher().finish();
    u32::try_from(drawn >> 32).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_highest() {
        let patience = Patience::default();
        let seconds: Vec<u64> =
            [1, 2, 3, 5, 6, 40].map(|failed| ceiling(patience, failed).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 16, 30, 30]);
        assert_eq!(part_of(Duration::from_secs(8), 0), Duration::ZERO);
        assert_eq!(part_of(Duration::from_secs(8), u32::MAX), Duration::from_secs(8));
    }

    #[test]
    fn patience_ends_with_the_last_attempt_or_a_long_retry_after() {
        let patience = Patience { attempts: 3, base: Duration::ZERO, ..Patience::default() };
        let mut attempts = Attempts::new(patience);
        assert!(attempts.pause(None).is_ok());
        assert!(attempts.pause(Some(Duration::from_millis(1))).is_ok());
        assert!(attempts.pause(None).is_err());
        attempts.forgive();
        assert!(attempts.pause(None).is_ok());
        assert!(attempts.pause(Some(Duration::from_secs(61))).is_err());
    }
}
