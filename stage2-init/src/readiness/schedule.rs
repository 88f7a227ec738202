//! When a probe asks, and what it makes of the answers. Pure: no clock, no sockets.

use crate::machine::Millis;

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask.
    Ask,
    /// Take no answer for an answer, which is no.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is nobody to ask.
    Idle,
    /// The next question comes then.
    Resting { until: Millis },
    /// An answer may come until then.
    Asking { until: Millis },
    /// The answer came too late to count; its end is waited for.
    GivenUp,
    /// The answer was yes.
    Satisfied,
}

/// The questions of one probe.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ms: u64,
    timeout_ms: u64,
    state: State,
    round: u32,
}

impl Schedule {
    pub(super) const fn new(interval_ms: u64, timeout_ms: u64) -> Self {
        Self { interval_ms, timeout_ms, state: State::Idle, round: 0 }
    }

    /// Returns the number of the last question, so that a late answer to an earlier one is known.
    pub(super) const fn round(&self) -> u32 {
        self.round
    }

    /// There is somebody to ask from now on.
    pub(super) const fn begin(&mut self, now: Millis) {
        self.state = State::Resting { until: now };
    }

    /// There is nobody any more.
    pub(super) const fn stop(&mut self) {
        self.state = State::Idle;
    }

    /// Returns what is due, once.
    pub(super) const fn due(&mut self, now: Millis) -> Option<Step> {
        match self.state {
            State::Resting { until } if until <= now => {
                self.round = self.round.wrapping_add(1);
                self.state = State::Asking { until: now.saturating_add(self.timeout_ms) };
                Some(Step::Ask)
            }
            State::Asking { until } if until <= now => {
                self.state = State::GivenUp;
                Some(Step::GiveUp)
            }
            _ => None,
        }
    }

    /// Takes an answer; tells whether it was the yes that was waited for.
    pub(super) const fn answered(&mut self, yes: bool, now: Millis) -> bool {
        match self.state {
            State::Asking { .. } if yes => {
                self.state = State::Satisfied;
                true
            }
            State::Asking { .. } | State::GivenUp => {
                self.state = State::Resting { until: now.saturating_add(self.interval_ms) };
                false
            }
            State::Idle | State::Resting { .. } | State::Satisfied => false,
        }
    }

    /// Returns when something is due next.
    pub(super) const fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Resting { until } | State::Asking { until } => Some(until),
            State::Idle | State::GivenUp | State::Satisfied => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_asks_until_the_answer_is_yes() {
        let mut schedule = Schedule::new(200, 1000);
        assert_eq!((schedule.due(0), schedule.deadline()), (None, None));
        schedule.begin(10);
        assert_eq!(schedule.due(10), Some(Step::Ask));
        assert_eq!((schedule.due(11), schedule.deadline()), (None, Some(1010)));
        assert!(!schedule.answered(false, 50));
        assert_eq!((schedule.due(249), schedule.deadline()), (None, Some(250)));
        assert_eq!(schedule.due(250), Some(Step::Ask));
        assert!(schedule.answered(true, 251));
        assert_eq!((schedule.due(10_000), schedule.deadline()), (None, None));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_a_no() {
        let mut schedule = Schedule::new(200, 1000);
        schedule.begin(0);
        schedule.due(0);
        assert_eq!(schedule.due(1000), Some(Step::GiveUp));
        assert_eq!((schedule.due(5000), schedule.deadline()), (None, None));
        assert!(!schedule.answered(true, 5000));
        assert_eq!(schedule.deadline(), Some(5200));
    }

    #[test]
    fn nobody_is_asked_after_its_end() {
        let mut schedule = Schedule::new(200, 1000);
        schedule.begin(0);
        schedule.due(0);
        schedule.stop();
        assert!(!schedule.answered(true, 1));
        assert_eq!(schedule.due(9999), None);
    }
}
