//! One app as the machine sees it: its state, and the arithmetic of its restarts.

use pod_abi::app::{Restart, Role};
use pod_abi::exit::Ended;
use pod_abi::inner::FromInit;

use super::{Action, Millis, Rules, SIGKILL};

/// The wait before the first restart; doubled for each one that follows.
pub(super) const BACK_OFF_MS: u64 = 100;
/// The longest wait before a restart.
pub(super) const MAX_BACK_OFF_MS: u64 = 5 * 60 * 1000;
/// After this long without an end, an app is taken for well and its back-off begins anew.
pub(super) const GOOD_MS: u64 = 10 * 60 * 1000;

/// Where an app is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not run, and will not by itself.
    Idle,
    /// It is started when those before it have been, and those it comes after are ready.
    Queued,
    /// Its process exists but has not executed its program yet; it may have said already that it
    /// is ready, for its word and the news of its start come by different ways.
    Starting { ready: bool },
    /// It runs.
    Running { since: Millis },
    /// It has been asked to end; SIGKILL follows at `kill_at`, or has been sent.
    Stopping { kill_at: Option<Millis> },
    /// It has ended thus, and is started again at `until`.
    Waiting { until: Millis, last: Ended },
}

impl State {
    /// Tells whether there is a process.
    pub(super) const fn has_process(self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Running { .. } | Self::Stopping { .. })
    }

    /// Tells whether its program is being executed, as far as is known.
    pub(super) const fn is_running(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Stopping { .. })
    }

    /// Tells whether there is a process, or will be one by itself.
    pub(super) const fn is_pending(self) -> bool {
        !matches!(self, Self::Idle)
    }
}

/// One app.
#[derive(Debug)]
pub(super) struct App {
    pub(super) rules: Rules,
    pub(super) state: State,
    /// How often it was started at all.
    pub(super) starts: u32,
    /// How often it was started again since it was last well or started by hand.
    pub(super) streak: u32,
    /// Whether somebody asked for this app to stop: its end is no failure and no reason to start.
    pub(super) stop_requested: bool,
    /// Whether the pod's readiness waits for it.
    pub(super) first_batch: bool,
    /// Whether it has executed its program once.
    pub(super) was_executed: bool,
    /// Whether it is ready, since its last start.
    pub(super) is_ready: bool,
    /// Whether those that come after it may start: it has been ready once or, an init app, has
    /// ended well.
    pub(super) is_fulfilled: bool,
}

impl App {
    pub(super) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Idle,
            starts: 0,
            streak: 0,
            stop_requested: false,
            first_batch: false,
            was_executed: false,
            is_ready: false,
            is_fulfilled: false,
        }
    }

    pub(super) fn start(&mut self) -> Action {
        self.state = State::Starting { ready: false };
        self.is_ready = false;
        self.stop_requested = false;
        self.starts = self.starts.saturating_add(1);
        Action::Start(self.rules.name.clone())
    }

    /// Asks it to end, in the way its state allows.
    ///
    /// One that has not executed its program yet is killed: it has nothing to clean up, and would
    /// not have heard a signal.
    pub(super) fn stop(&mut self, grace_ms: Option<u64>, now: Millis, actions: &mut Vec<Action>) {
        let name = || self.rules.name.clone();
        match self.state {
            State::Idle => {}
            State::Queued => self.state = State::Idle,
            State::Starting { .. } => {
                actions.push(Action::Signal(name(), SIGKILL));
                self.state = State::Stopping { kill_at: None };
            }
            State::Running { .. } => {
                let grace = grace_ms.unwrap_or(self.rules.stop.grace_ms);
                actions.push(Action::Stop(name(), self.rules.stop.signal));
                self.state = State::Stopping { kill_at: Some(now.saturating_add(grace)) };
            }
            State::Stopping { .. } => {
                if let Some(grace) = grace_ms {
                    self.hasten(now.saturating_add(grace));
                }
            }
            State::Waiting { last, .. } => {
                let (app, exit) = (name(), last);
                let told = FromInit::AppEnded { app, exit, error: None, restart_in_ms: None };
                actions.push(Action::Tell(told));
                self.state = State::Idle;
            }
        }
    }

    /// Makes it ready, if it runs and was not before; returns the news.
    pub(super) fn become_ready(&mut self) -> Option<Action> {
        match &mut self.state {
            State::Starting { ready } => *ready = true,
            State::Running { .. } if !self.is_ready && self.rules.role == Role::Main => {
                (self.is_ready, self.is_fulfilled) = (true, true);
                return Some(Action::Tell(FromInit::AppReady { app: self.rules.name.clone() }));
            }
            _ => {}
        }
        None
    }

    /// Tells whether it must not start before `other` is fulfilled.
    pub(super) fn comes_after(&self, other: &Self) -> bool {
        let init_first =
            other.rules.role == Role::Init && other.first_batch && self.rules.role == Role::Main;
        init_first || self.rules.after.contains(&other.rules.name)
    }

    /// Brings the SIGKILL of a stopping app forward to `at`.
    pub(super) fn hasten(&mut self, at: Millis) {
        if let State::Stopping { kill_at: Some(before) } = self.state {
            self.state = State::Stopping { kill_at: Some(before.min(at)) };
        }
    }

    /// Takes notice of its end; returns how long it waits for its next start, if there is one.
    pub(super) fn end(&mut self, exit: Ended, pod_is_up: bool, now: Millis) -> Option<u64> {
        if let State::Running { since } = self.state
            && now.saturating_sub(since) >= GOOD_MS
        {
            self.streak = 0;
        }
        self.is_ready = false;
        if self.rules.role == Role::Init && !exit.is_failure() {
            self.is_fulfilled = true;
        }
        if !pod_is_up || self.stop_requested || !self.restarts_after(exit) {
            self.state = State::Idle;
            return None;
        }
        let wait = back_off(self.streak);
        self.streak = self.streak.saturating_add(1);
        self.state = State::Waiting { until: now.saturating_add(wait), last: exit };
        Some(wait)
    }

    /// Tells whether its policy starts it again after this end.
    ///
    /// One whose very first start failed is not: that is a mistake in its specification, which no
    /// second try mends.
    fn restarts_after(&self, exit: Ended) -> bool {
        if matches!(exit, Ended::NotStarted { .. }) && !self.was_executed {
            return false;
        }
        match self.rules.restart {
            Restart::No => false,
            Restart::Always => true,
            Restart::OnFailure { max } => {
                exit.is_failure() && max.is_none_or(|max| self.streak < max)
            }
        }
    }
}

/// Returns how long to wait before the restart that follows `streak` others, in milliseconds.
fn back_off(streak: u32) -> u64 {
    BACK_OFF_MS.checked_shl(streak.min(32)).unwrap_or(MAX_BACK_OFF_MS).min(MAX_BACK_OFF_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = (0..4).map(back_off).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(back_off(11), 204_800);
        for streak in [12, 31, 32, 33, 63, 64, u32::MAX] {
            assert_eq!(back_off(streak), MAX_BACK_OFF_MS, "{streak}");
        }
    }
}
