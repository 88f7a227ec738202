//! What holds for every history of a pod, and a few histories told in full.

use std::collections::BTreeMap;

use proptest::prelude::*;

use pod_abi::exit::OURS;

use super::*;

fn name(index: usize) -> AppName {
    AppName::parse(&format!("app{index}")).unwrap()
}

fn rules(index: usize, restart: Restart) -> Rules {
    Rules {
        name: name(index),
        restart,
        stop: Stop { signal: 15, grace_ms: 10_000 },
        role: Role::Main,
        after: vec![],
        readiness: Readiness::Started,
    }
}

/// A pod of apps that never restart, each changed by one of `changes`.
fn ordered(policy: ExitPolicy, changes: &[fn(&mut Rules)]) -> Machine {
    let mut machine = Machine::new(policy);
    for (index, change) in changes.iter().enumerate() {
        let mut rules = rules(index, Restart::No);
        change(&mut rules);
        machine.add(rules).unwrap();
    }
    machine
}

fn init(rules: &mut Rules) {
    rules.role = Role::Init;
}

fn notifies(rules: &mut Rules) {
    rules.readiness = Readiness::Notify;
}

fn after_0(rules: &mut Rules) {
    rules.after = vec![name(0)];
}

fn plain(_: &mut Rules) {}

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

fn told_ready(index: usize) -> Action {
    Action::Tell(FromInit::AppReady { app: name(index) })
}

const POD_READY: Action = Action::Tell(FromInit::PodReady);

fn told_start(index: usize, restarts: u32) -> Action {
    Action::Tell(FromInit::AppStarted { app: name(index), restarts, pid: 5 })
}

#[test]
fn apps_are_started_one_after_the_other_and_the_pod_is_ready_with_the_last() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::No; 2]);
    assert_eq!(machine.run(0), [Action::Start(name(0))]);
    let next = Action::Start(name(1));
    assert_eq!(machine.started(&name(0), 5, 0), [told_start(0, 0), told_ready(0), next]);
    let actions = machine.started(&name(1), 5, 0);
    assert_eq!(actions, [told_start(1, 0), told_ready(1), POD_READY]);
}

#[test]
fn the_first_failure_stops_the_others_and_is_the_pods_status() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::No; 3]);
    machine.run(0);
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
    machine.run(0);
    let missing = Ended::NotStarted { code: 127 };
    let actions = machine.ended(&name(0), missing, None, 0);
    assert_eq!(actions, [told_end(0, missing, None), Action::Finish(127)]);
}

#[test]
fn with_policy_all_a_failure_waits_for_the_others() {
    let mut machine = machine(ExitPolicy::All, &[Restart::No; 2]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 1), [told_end(0, FAILED, None)]);
    let actions = machine.ended(&name(1), DONE, None, 2);
    assert_eq!(actions, [told_end(1, DONE, None), Action::Finish(7)]);
}

#[test]
fn with_policy_main_only_that_app_counts() {
    let mut machine = machine(ExitPolicy::Main(name(0)), &[Restart::No; 2]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.ended(&name(1), FAILED, None, 1), [told_end(1, FAILED, None)]);
    let actions = machine.ended(&name(0), DONE, None, 2);
    assert_eq!(actions, [told_end(0, DONE, None), Action::Finish(0)]);
}

#[test]
fn a_shutdown_that_was_asked_for_is_no_failure() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always]);
    machine.run(0);
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
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.shutdown(None, 100);
    assert_eq!(machine.shutdown(Some(0), 200), [Action::Signal(name(0), SIGKILL)]);
    assert_eq!(machine.shutdown(Some(0), 201), []);
}

#[test]
fn an_app_is_restarted_with_growing_waits_and_forgiven_after_ten_good_minutes() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::OnFailure { max: Some(2) }]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 0), [told_end(0, FAILED, Some(100))]);
    assert_eq!(machine.tick(99), []);
    assert_eq!(machine.tick(100), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 100), [told_start(0, 1), told_ready(0)]);
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
    machine.run(0);
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
    assert_eq!(machine.started(&name(0), 5, 2), [told_start(0, 1), told_ready(0)]);
}

#[test]
fn an_app_stopped_while_it_waits_for_its_restart_does_not_start_again() {
    let mut machine = machine(ExitPolicy::AnyFailure, &[Restart::Always; 2]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    machine.ended(&name(0), FAILED, None, 0);
    assert_eq!(machine.stop(&name(0), None, 1), [told_end(0, FAILED, None)]);
    assert_eq!(machine.tick(1_000_000), []);
}

#[test]
fn init_apps_run_one_after_the_other_and_to_a_good_end_before_any_other() {
    let mut machine = ordered(ExitPolicy::AnyFailure, &[plain, init, init]);
    assert_eq!(machine.run(0), [Action::Start(name(1))]);
    assert_eq!(machine.started(&name(1), 5, 0), [told_start(1, 0)]);
    let actions = machine.ended(&name(1), DONE, None, 1);
    assert_eq!(actions, [told_end(1, DONE, None), Action::Start(name(2))]);
    machine.started(&name(2), 5, 1);
    let actions = machine.ended(&name(2), DONE, None, 2);
    assert_eq!(actions, [told_end(2, DONE, None), Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 2), [told_start(0, 0), told_ready(0), POD_READY]);
}

#[test]
fn an_init_app_that_fails_ends_the_pod_under_every_policy_that_knows_an_end() {
    for policy in [ExitPolicy::AnyFailure, ExitPolicy::All, ExitPolicy::Main(name(1))] {
        let mut machine = ordered(policy, &[init, plain]);
        machine.run(0);
        machine.started(&name(0), 5, 0);
        let actions = machine.ended(&name(0), FAILED, None, 1);
        assert_eq!(actions, [told_end(0, FAILED, None), Action::Finish(7)]);
    }
}

#[test]
fn a_pod_without_an_end_keeps_a_failed_init_app_and_those_that_wait_for_it() {
    let mut machine = ordered(ExitPolicy::Never, &[init, plain]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 1), [told_end(0, FAILED, None)]);
    assert_eq!(machine.start(&name(0)), [Action::Start(name(0))]);
    machine.started(&name(0), 5, 2);
    let actions = machine.ended(&name(0), DONE, None, 3);
    assert_eq!(actions, [told_end(0, DONE, None), Action::Start(name(1))]);
    machine.started(&name(1), 5, 3);
    machine.ended(&name(1), FAILED, None, 4);
    assert_eq!(machine.shutdown(None, 5), [Action::Finish(0)]);
}

#[test]
fn an_app_starts_when_the_one_it_comes_after_is_ready() {
    let mut machine = ordered(ExitPolicy::AnyFailure, &[notifies, after_0, plain]);
    assert_eq!(machine.run(0), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 0), [told_start(0, 0), Action::Start(name(2))]);
    assert_eq!(machine.started(&name(2), 5, 0), [told_start(2, 0), told_ready(2)]);
    assert_eq!(machine.ready(&name(0)), [told_ready(0), Action::Start(name(1))]);
    assert_eq!(machine.ready(&name(0)), []);
    let actions = machine.started(&name(1), 5, 0);
    assert_eq!(actions, [told_start(1, 0), told_ready(1), POD_READY]);
}

#[test]
fn an_app_may_say_that_it_is_ready_before_its_start_is_known_of() {
    let mut machine = ordered(ExitPolicy::AnyFailure, &[notifies]);
    machine.run(0);
    assert_eq!(machine.ready(&name(0)), []);
    let actions = machine.started(&name(0), 5, 0);
    assert_eq!(actions, [told_start(0, 0), told_ready(0), POD_READY]);
}

#[test]
fn what_waits_for_an_app_that_ended_before_it_was_ready_counts_as_not_started() {
    let given_up = |actions: &[Action]| {
        let [_, Action::Tell(FromInit::AppEnded { app, exit, .. }), ..] = actions else {
            panic!("nobody was given up: {actions:?}")
        };
        assert_eq!((app, *exit), (&name(1), Ended::NotStarted { code: OURS }));
    };
    let mut machine = ordered(ExitPolicy::All, &[notifies, after_0, plain]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.started(&name(2), 5, 0);
    let actions = machine.ended(&name(0), DONE, None, 1);
    given_up(&actions);
    assert_eq!(actions.len(), 2);
    let actions = machine.ended(&name(2), DONE, None, 2);
    assert_eq!(actions, [told_end(2, DONE, None), Action::Finish(OURS)]);
    let mut machine = ordered(ExitPolicy::AnyFailure, &[notifies, after_0]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    let actions = machine.ended(&name(0), DONE, None, 1);
    given_up(&actions);
    assert_eq!(actions.last(), Some(&Action::Finish(OURS)));
}

#[test]
fn a_restart_does_not_touch_those_that_came_after() {
    let mut machine = Machine::new(ExitPolicy::AnyFailure);
    machine.add(rules(0, Restart::Always)).unwrap();
    machine.add(Rules { after: vec![name(0)], ..rules(1, Restart::No) }).unwrap();
    machine.run(0);
    machine.started(&name(0), 5, 0);
    machine.started(&name(1), 5, 0);
    assert_eq!(machine.ended(&name(0), FAILED, None, 0), [told_end(0, FAILED, Some(100))]);
    assert_eq!(machine.tick(100), [Action::Start(name(0))]);
    assert_eq!(machine.started(&name(0), 5, 101), [told_start(0, 1), told_ready(0)]);
}

#[test]
fn an_app_started_by_hand_waits_for_nobody() {
    let mut machine = ordered(ExitPolicy::AnyFailure, &[notifies, after_0]);
    machine.run(0);
    machine.started(&name(0), 5, 0);
    assert_eq!(machine.start(&name(1)), [Action::Start(name(1))]);
}

#[test]
fn an_empty_pod_is_ready_at_once_and_takes_apps_until_it_is_stopped() {
    let mut machine = ordered(ExitPolicy::Never, &[]);
    assert_eq!(machine.run(0), [POD_READY]);
    machine.add(rules(0, Restart::No)).unwrap();
    assert_eq!(machine.start(&name(0)), [Action::Start(name(0))]);
    assert!(matches!(machine.remove(&name(0), 0)[..], [Action::Tell(FromInit::Refused { .. })]));
    machine.started(&name(0), 5, 0);
    machine.ended(&name(0), FAILED, None, 1);
    let removed = Action::Tell(FromInit::AppRemoved { app: name(0) });
    assert_eq!(machine.remove(&name(0), 2), [Action::Forget(name(0)), removed]);
    machine.add(rules(0, Restart::No)).unwrap();
    assert_eq!(machine.shutdown(None, 3), [Action::Finish(0)]);
}

/// Something that happens to a pod.
#[derive(Clone, Debug)]
enum Event {
    Started(usize),
    Ended(usize, u8),
    Stop(usize),
    Start(usize),
    Ready(usize),
    Remove(usize),
    Shutdown(Option<u64>),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_usize).prop_map(Event::Started),
        4 => (0..5_usize, 0..3_u8).prop_map(|(app, code)| Event::Ended(app, code)),
        1 => (0..5_usize).prop_map(Event::Stop),
        1 => (0..5_usize).prop_map(Event::Start),
        2 => (0..5_usize).prop_map(Event::Ready),
        1 => (0..5_usize).prop_map(Event::Remove),
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
        Just(ExitPolicy::Never),
    ]
}

/// What is random of one app: its restarts, whether it is an init app, whether it tells that it is
/// ready, and how many of those before it it comes after.
fn life() -> impl Strategy<Value = (Restart, bool, bool, usize)> {
    (restart(), prop::bool::weighted(0.2), any::<bool>(), 0..3_usize)
}

fn random_machine(policy: ExitPolicy, lives: &[(Restart, bool, bool, usize)]) -> Machine {
    let mut machine = Machine::new(policy);
    for (index, (restart, is_init, told, after)) in lives.iter().enumerate() {
        let mut rules = rules(index, if *is_init { Restart::No } else { *restart });
        if *is_init {
            rules.role = Role::Init;
        } else if *told {
            rules.readiness = Readiness::Notify;
        }
        let before = (0..index).filter(|before| !*is_init || lives[*before].1);
        rules.after = before.take(*after).map(name).collect();
        machine.add(rules).unwrap();
    }
    machine
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
                Action::Forget(app) => assert!(!self.living.contains_key(&app), "{app} lives"),
                Action::Tell(FromInit::AppReady { app }) => {
                    assert_eq!(self.living.get(&app), Some(&true), "{app} is ready, and dead");
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
            Event::Ready(index) if self.living.contains_key(&name(*index)) => {
                machine.ready(&name(*index))
            }
            Event::Ready(_) => return,
            Event::Remove(index) => machine.remove(&name(*index), *now),
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
        lives in prop::collection::vec(life(), 1..5),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut machine = random_machine(policy, &lives);
        let (mut world, mut now) = (World::default(), 0);
        world.take(machine.run(0));
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
    #[test]
    fn no_pod_that_knows_an_end_waits_for_ever(
        policy in policy().prop_filter("knows an end", |policy| *policy != ExitPolicy::Never),
        lives in prop::collection::vec(life(), 1..5),
        events in prop::collection::vec(event(), 0..40),
    ) {
        // An app that was stopped by hand may be waited for until it is started by hand; one that
        // is always restarted may be so for ever.
        let lives: Vec<_> = lives
            .into_iter()
            .map(|(_, is_init, told, after)| (Restart::No, is_init, told, after))
            .collect();
        let mut machine = random_machine(policy.clone(), &lives);
        let (mut world, mut now) = (World::default(), 0);
        world.take(machine.run(now));
        let by_hand = |event: &&Event| matches!(event, Event::Stop(_) | Event::Remove(_));
        for event in events.iter().filter(|event| !by_hand(event)) {
            world.play(&mut machine, event, &mut now);
        }
        for _ in 0..20 {
            now += 1_000_000;
            let due = machine.tick(now);
            world.take(due);
            for index in 0..5 {
                world.play(&mut machine, &Event::Started(index), &mut now);
                world.play(&mut machine, &Event::Ended(index, 0), &mut now);
            }
        }
        let main_is_there = match &policy {
            ExitPolicy::Main(main) => (0..lives.len()).any(|index| name(index) == *main),
            _ => true,
        };
        prop_assert!(world.finished.is_some() || !main_is_there);
    }
}
