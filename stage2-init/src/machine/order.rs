//! Who starts when: init apps before all others, and each app after those it names.

use pod_abi::app::Role;
use pod_abi::exit::{Ended, OURS};
use pod_abi::inner::FromInit;
use pod_abi::manifest::ExitPolicy;
use pod_abi::name::AppName;
use pod_abi::report::Report;

use super::app::{App, State};
use super::{Action, Machine, Stage};

impl Machine {
    /// Starts the next queued app that waits for nobody, unless one is just being started.
    pub(super) fn start_queued(&mut self, actions: &mut Vec<Action>) {
        let starting = |app: &App| matches!(app.state, State::Starting { .. });
        if self.stage != Stage::Up || self.apps.iter().any(starting) {
            return;
        }
        if let Some(index) = self.apps.iter().position(|app| self.may_start(app)) {
            actions.push(self.apps[index].start());
        }
    }

    fn may_start(&self, app: &App) -> bool {
        // One init app at a time: one that was begun and has not ended well holds up the next.
        let held_up = |other: &App| {
            let begun = other.first_batch && other.state != State::Queued;
            begun && app.rules.role == Role::Init && other.rules.role == Role::Init
        };
        let waits_for = |other: &App| app.comes_after(other) || held_up(other);
        app.state == State::Queued
            && !self.apps.iter().any(|other| !other.is_fulfilled && waits_for(other))
    }

    pub(super) fn tell_ready(&mut self, actions: &mut Vec<Action>) {
        let all = || self.apps.iter().filter(|app| app.first_batch).all(|app| app.is_fulfilled);
        if !self.ready_told && self.stage == Stage::Up && all() {
            self.ready_told = true;
            actions.push(Action::Tell(FromInit::PodReady));
        }
    }

    /// What waits for an app that has ended for good without ever having been ready would wait
    /// for ever: it counts as one that could not be started. In a pod without an end it may wait,
    /// for the other can be started by hand.
    pub(super) fn give_up_those_after(&mut self, index: usize, actions: &mut Vec<Action>) {
        if self.policy == ExitPolicy::Never {
            return;
        }
        let mut gone = vec![index];
        while let Some(gone_at) = gone.pop() {
            if self.apps[gone_at].is_fulfilled {
                continue;
            }
            let waits =
                |app: &App| app.state == State::Queued && app.comes_after(&self.apps[gone_at]);
            let waiting: Vec<usize> =
                (0..self.apps.len()).filter(|at| waits(&self.apps[*at])).collect();
            for at in waiting {
                let before = self.apps[gone_at].rules.name.clone();
                self.apps[at].state = State::Idle;
                actions.push(given_up(&self.apps[at].rules.name, &before));
                self.note(OURS);
                if self.ends_pod(at, OURS) {
                    self.stage = Stage::Ending { code: OURS, grace_ms: None };
                    return;
                }
                gone.push(at);
            }
        }
    }
}

fn given_up(name: &AppName, before: &AppName) -> Action {
    let text = format!("app `{name}` was not started: `{before}` ended before it was ready");
    let error = Some(Box::new(Report::new("app.after", text)));
    let exit = Ended::NotStarted { code: OURS };
    Action::Tell(FromInit::AppEnded { app: name.clone(), exit, error, restart_in_ms: None })
}
