//! What holds for every history of a pod, and a few histories told in full.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn name(index: usize) -> AppName {
    AppName::parse(&format!("app{index}")).unwrap()
}

fn rules(index: usize, restart: Restart) -> Rules {
    Rules { name: name(index), restart, stop: Stop { signal: 15, grace_ms: 10_000 } }
}

fn machine(policy: ExitPolicy, restarts: &[Restart]) -> Machine {
    let mut machine = Machine::new(policy);
    for (index, restart) in restarts.iter().enumerate() {
        machine.add(rules(index, *restart)).unwrap();
    }
    machine
}

const FAILED: Ended = Ended::Exited { code: 7 };
const DONE: Ended = Ended::Exited { code: 0 };
const TERMINATED: Ended = Ended::Signaled { signal: 15, oom: false };

fn told_end(index: usize, exit: Ended, restart_in_ms: Option<u64>) -> Action {
    Action::Tell(FromInit::AppEnded { app: name(index), exit, error: None, restart_in_ms })
}

fn told_start(index: usize, restarts: u32) -> Action {
    Action::Tell(FromInit::AppStarted { app: name(index), restarts, pid: 5 })
}

#[test]
fn apps_are_started_one_after_the_other_and_the_pod_is_ready_with_the_last() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::No; 2]);
    assert_eq!(machine.run(), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 0), [told_start(0, 0), Action::Start(name(1))]);
    let ready = Action::Tell(FromInit::PodReady);
    assert_eq!(machine.started(&name(1), 5, 0), [told_start(1, 0), ready]);
}

#[test]
fn the_first_failure_stops_the_others_and_is_the_pods_status() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::No; 3]);
    machine.run();
    for index in 0..3 {
        machine.started(&name(index), 5, 0);
    }
    let stop = |index| Action::Stop(name(index), 15);
    assert_eq!(machine.ended(&name(1), FAILED, None, 9), [told_end(1, FAILED, None), stop(2)]);
    let actions = machine.ended(&name(2), TERMINATED, None, 10);
    assert_eq!(actions, [told_end(2, TERMINATED, None), stop(0)]);
    let actions = machine.ended(&name(0), DONE, None, 11);
    assert_eq!(actions, [told_end(0, DONE, None), Action::Finish(7)]);
}

#[test]
fn an_app_that_cannot_be_executed_ends_a_pod_before_the_next_is_started() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always, Restart::No]);
    machine.run();
    let missing = Ended::NotStarted { code: 127 };
    let actions = machine.ended(&name(0), missing, None, 0);
    assert_eq!(actions, [told_end(0, missing, None), Action::Finish(127)]);
}

#[test]
fn with_policy_all_a_failure_waits_for_the_others() {
    let mut machine = machine(ExitPolicy::All, &[Restart::No; 2]);
    machine.run();
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 1), [told_end(0, FAILED, None)]);
    let actions = machine.ended(&name(1), DONE, None, 2);
    assert_eq!(actions, [told_end(1, DONE, None), Action::Finish(7)]);
}

#[test]
fn with_policy_main_only_that_app_counts() {
    let mut machine = machine(ExitPolicy::Main(name(0)), &[Restart::No; 2]);
    machine.run();
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.ended(&name(1), FAILED, None, 1), [told_end(1, FAILED, None)]);
    let actions = machine.ended(&name(0), DONE, None, 2);
    assert_eq!(actions, [told_end(0, DONE, None), Action::Finish(0)]);
}

#[test]
fn a_shutdown_that_was_asked_for_is_no_failure() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always]);
    machine.run();
    machine.started(&name(0), 5, 0);
    assert_eq!(machine.shutdown(None, 100), [Action::Stop(name(0), 15)]);
    assert_eq!(machine.deadline(), Some(10_100));
    assert_eq!(machine.tick(10_099), []);
    assert_eq!(machine.tick(10_100), [Action::Signal(name(0), SIGKILL)]);
    let killed = Ended::Signaled { signal: 9, oom: false };
    let actions = machine.ended(&name(0), killed, None, 10_101);
    assert_eq!(actions, [told_end(0, killed, None), Action::Finish(0)]);
}

#[test]
fn a_second_shutdown_hastens() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::No]);
    machine.run();
    machine.started(&name(0), 5, 0);
    machine.shutdown(None, 100);
    assert_eq!(machine.shutdown(Some(0), 200), [Action::Signal(name(0), SIGKILL)]);
    assert_eq!(machine.shutdown(Some(0), 201), []);
}

#[test]
fn an_app_is_restarted_with_growing_waits_and_forgiven_after_ten_good_minutes() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::OnFailure { max: Some(2) }]);
    machine.run();
    machine.started(&name(0), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 0), [told_end(0, FAILED, Some(100))]);
    assert_eq!(machine.tick(99), []);
    assert_eq!(machine.tick(100), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 100), [told_start(0, 1)]);
    assert_eq!(machine.ended(&name(0), FAILED, None, 100), [told_end(0, FAILED, Some(200))]);
    machine.tick(300);
    machine.started(&name(0), 5, 300);
    let later = 300 + app::GOOD_MS;
    assert_eq!(machine.ended(&name(0), FAILED, None, later), [told_end(0, FAILED, Some(100))]);
    machine.tick(later + 100);
    machine.started(&name(0), 5, later + 100);
    machine.ended(&name(0), FAILED, None, later + 101);
    machine.tick(later + 301);
    machine.started(&name(0), 5, later + 301);
    let actions = machine.ended(&name(0), FAILED, None, later + 302);
    assert_eq!(actions, [told_end(0, FAILED, None), Action::Finish(7)]);
}

#[test]
fn an_app_stopped_by_hand_stays_stopped_and_can_be_started_by_hand() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always; 2]);
    machine.run();
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.stop(&name(0), Some(5), 0), [Action::Stop(name(0), 15)]);
    let actions = machine.ended(&name(0), TERMINATED, None, 1);
    assert_eq!(actions, [told_end(0, TERMINATED, None)]);
    assert!(matches!(
        machine.stop(&name(0), None, 1)[..],
        [Action::Tell(FromInit::Refused { .. })]
    ));
    assert_eq!(machine.start(&name(0)), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 2), [told_start(0, 1)]);
}

#[test]
fn an_app_stopped_while_it_waits_for_its_restart_does_not_start_again() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always; 2]);
    machine.run();
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    machine.ended(&name(0), FAILED, None, 0);
    assert_eq!(machine.stop(&name(0), None, 1), [told_end(0, FAILED, None)]);
    assert_eq!(machine.tick(1_000_000), []);
}

/// Something that happens to a pod.
#[derive(Clone, Debug)]
enum Event {
    Started(usize),
    Ended(usize, u8),
    Stop(usize),
    Start(usize),
    Shutdown(Option<u64>),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_usize).prop_map(Event::Started),
        4 => (0..5_usize, 0..3_u8).prop_map(|(app, code)| Event::Ended(app, code)),
        1 => (0..5_usize).prop_map(Event::Stop),
        1 => (0..5_usize).prop_map(Event::Start),
        1 => prop::option::of(0..500_u64).prop_map(Event::Shutdown),
        2 => (0..400_000_u64).prop_map(Event::Later),
    ]
}

fn restart() -> impl Strategy<Value = Restart> {
    prop_oneof![
        Just(Restart::No),
        Just(Restart::Always),
        prop::option::of(0..3_u32).prop_map(|max| Restart::OnFailure { max }),
    ]
}

fn policy() -> impl Strategy<Value = ExitPolicy> {
    prop_oneof![
        Just(ExitPolicy::AnyFailure),
        Just(ExitPolicy::All),
        (0..4_usize).prop_map(|index| ExitPolicy::Main(name(index))),
    ]
}

/// Plays the processes: who lives, and whether it has executed its program.
#[derive(Debug, Default)]
struct World {
    living: BTreeMap<AppName, bool>,
    finished: Option<u8>,
    going_down: bool,
}

impl World {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.finished, None, "{action:?} after the end");
            match action {
                Action::Start(app) => {
                    assert!(!self.going_down, "{app} started while the pod ends");
                    assert_eq!(self.living.insert(app, false), None, "started twice");
                }
                Action::Stop(app, signal) | Action::Signal(app, signal) => {
                    assert!(self.living.contains_key(&app), "{signal} for {app}, which is dead");
                }
                Action::Tell(FromInit::AppEnded { restart_in_ms, .. }) => {
                    assert!(restart_in_ms.is_none_or(|wait| wait <= app::MAX_BACK_OFF_MS));
                    assert!(restart_in_ms.is_none() || !self.going_down);
                }
                Action::Tell(_) => {}
                Action::Finish(code) => {
                    assert!(self.living.is_empty(), "{:?} outlive the pod", self.living);
                    self.finished = Some(code);
                }
            }
        }
        let starting = self.living.values().filter(|executed| !**executed).count();
        assert!(starting <= 5);
    }

    fn play(&mut self, machine: &mut Machine, event: &Event, now: &mut Millis) {
        let actions = match event {
            Event::Started(index) => match self.living.get_mut(&name(*index)) {
                Some(executed) if !*executed => {
                    *executed = true;
                    machine.started(&name(*index), 5, *now)
                }
                _ => return,
            },
            Event::Ended(index, code) => match self.living.remove(&name(*index)) {
                Some(true) => {
                    machine.ended(&name(*index), Ended::Exited { code: *code }, None, *now)
                }
                Some(false) => {
                    machine.ended(&name(*index), Ended::NotStarted { code: 127 }, None, *now)
                }
                None => return,
            },
            Event::Stop(index) => machine.stop(&name(*index), None, *now),
            Event::Start(index) => machine.start(&name(*index)),
            Event::Shutdown(grace) => {
                self.going_down = true;
                machine.shutdown(*grace, *now)
            }
            Event::Later(ms) => {
                *now += ms;
                machine.tick(*now)
            }
        };
        self.take(actions);
    }
}

proptest! {
    #[test]
    fn every_pod_ends_once_with_nobody_left(
        policy in policy(),
        restarts in prop::collection::vec(restart(), 1..5),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut machine = machine(policy, &restarts);
        let (mut world, mut now) = (World::default(), 0);
        world.take(machine.run());
        for event in &events {
            world.play(&mut machine, event, &mut now);
        }
        world.play(&mut machine, &Event::Shutdown(None), &mut now);
        for _ in 0..10 {
            now += 100_000;
            let due = machine.tick(now);
            world.take(due);
            for index in 0..5 {
                world.play(&mut machine, &Event::Ended(index, 0), &mut now);
            }
        }
        prop_assert!(world.finished.is_some());
        prop_assert_eq!(machine.deadline(), None);
    }
}
