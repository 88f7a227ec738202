//! Whether the pod is alive as far as a service manager is concerned (`sd_watchdog_enabled(3)`).
//! Pure: no clock.
//!
//! Twice within the time it is given, the supervisor says `WATCHDOG=1` if PID 1 has answered since
//! the last time, and if every app that ever said that it is alive has said so again in time. So
//! a supervisor that hangs, a PID 1 that hangs and an app that hangs all end in what the unit says
//! is to happen then. A paused pod answers nothing and counts as alive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pod_abi::AppName;

/// What is known of who lives.
#[derive(Debug)]
pub(crate) struct Watchdog {
    within: Duration,
    next: Instant,
    /// Whether PID 1 was asked and has not answered.
    asked: bool,
    paused: bool,
    apps: BTreeMap<AppName, Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Say that all is well.
    pub(crate) alive: bool,
    /// Ask PID 1.
    pub(crate) ask: bool,
}

impl Watchdog {
    /// Watches, and has to say that all is well `within` this time again and again.
    pub(crate) fn new(within: Duration, now: Instant) -> Self {
        Self { within, next: now, asked: false, paused: false, apps: BTreeMap::new() }
    }

    /// Returns when [`Watchdog::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }

    /// Notes that PID 1 has answered, or could not be asked.
    pub(crate) fn answered(&mut self) {
        self.asked = false;
    }

    /// Notes that an app has said that it is alive.
    pub(crate) fn heard(&mut self, app: AppName, now: Instant) {
        self.apps.insert(app, now);
    }

    /// Expects nothing of an app any more, until it says that it is alive.
    pub(crate) fn forget(&mut self, app: &AppName) {
        self.apps.remove(app);
    }

    /// Decides what to do, if it is time.
    pub(crate) fn tick(&mut self, paused: bool, now: Instant) -> Option<Step> {
        if now < self.next {
            return None;
        }
        self.next = now + self.within / 2;
        let resumed = std::mem::replace(&mut self.paused, paused) && !paused;
        if paused {
            return Some(Step { alive: true, ask: false });
        }
        if resumed {
            // Nothing could be heard meanwhile.
            self.asked = false;
            self.apps.values_mut().for_each(|heard| *heard = now);
        }
        let in_time = |heard: &Instant| now.saturating_duration_since(*heard) <= self.within;
        let alive = !self.asked && self.apps.values().all(in_time);
        let ask = !self.asked;
        self.asked = true;
        Some(Step { alive, ask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// Ticks every five seconds; PID 1 answers, and the app speaks, as `table` says.
    fn lives(table: &[(bool, bool)]) -> Vec<bool> {
        let begin = Instant::now();
        let mut watchdog = Watchdog::new(WITHIN, begin);
        let web = AppName::parse("web").unwrap();
        let mut lives = Vec::new();
        for (turn, (answers, speaks)) in (0_u32..).zip(table) {
            let now = begin + WITHIN / 2 * turn;
            assert_eq!(
                watchdog.tick(false, now.checked_sub(Duration::from_millis(1)).unwrap()),
                None
            );
            lives.push(watchdog.tick(false, now).unwrap().alive);
            if *answers {
                watchdog.answered();
            }
            if *speaks {
                watchdog.heard(web.clone(), now);
            }
        }
        lives
    }

    #[test]
    fn a_pod_is_alive_while_pid_1_answers() {
        let (yes, no) = ((true, false), (false, false));
        assert_eq!(lives(&[yes, yes, no, no, yes, yes]), [true, true, true, false, false, true]);
    }

    #[test]
    fn an_app_that_was_heard_once_has_to_go_on() {
        let (speaks, silent) = ((true, true), (true, false));
        assert_eq!(
            lives(&[silent, silent, speaks, silent, silent, silent, speaks, silent]),
            [true, true, true, true, true, false, false, true]
        );
    }

    #[test]
    fn what_is_paused_or_has_ended_need_not_answer() {
        let begin = Instant::now();
        let mut watchdog = Watchdog::new(WITHIN, begin);
        let web = AppName::parse("web").unwrap();
        watchdog.heard(web.clone(), begin);
        assert!(watchdog.tick(false, begin).unwrap().ask);
        let paused = watchdog.tick(true, begin + 3 * WITHIN);
        assert_eq!(paused, Some(Step { alive: true, ask: false }));
        let resumed = watchdog.tick(false, begin + 4 * WITHIN);
        assert_eq!(resumed, Some(Step { alive: true, ask: true }));
        watchdog.answered();
        watchdog.forget(&web);
        assert!(watchdog.tick(false, begin + 9 * WITHIN).unwrap().alive);
    }
}
