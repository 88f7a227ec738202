//! Limits of processors and of the number of processes.

use std::thread;
use std::time::{Duration, Instant};

use pod_abi::status::AppState;
use serde_json::json;
use tests::sandbox::Sandbox;

use super::limited::{Limited, Wanted};

const SPINS: &str = "while true; do true; done";
const SLEEPS: &str = "sleep 1000";

/// Returns how many microseconds each app was on a processor, and how many have gone by.
fn spent(pod: &Limited<'_>, apps: &[&str], time: Duration) -> (Vec<u64>, u64) {
    let usage = || apps.iter().map(|app| pod.count(app, "cpu.stat", "usage_usec"));
    let (before, start): (Vec<u64>, _) = (usage().collect(), Instant::now());
    thread::sleep(time);
    let after: Vec<u64> = usage().collect();
    let gone = u64::try_from(start.elapsed().as_micros()).expect("a test is short");
    (after.iter().zip(before).map(|(after, before)| after - before).collect(), gone)
}

#[test]
fn an_app_gets_no_more_than_its_quota() {
    let machine = Sandbox::of_this_machine();
    let cpu = json!({ "quotaUs": 20_000, "periodUs": 100_000 });
    let pod = Wanted::new(&machine, "quota").app("web", json!({ "cpu": cpu }), SPINS).start();
    let (spent, gone) = spent(&pod, &["web"], Duration::from_secs(4));
    assert!(pod.count("web", "cpu.stat", "nr_throttled") > 0);
    // A fifth, and what a few periods at the ends make.
    assert!(spent[0] * 5 <= gone + gone / 2, "{spent:?} of {gone}");
}

#[test]
fn shares_of_a_processor_are_as_the_weights() {
    let machine = Sandbox::of_this_machine();
    let limits = |weight: u32| json!({ "cpuWeight": weight, "cpusetCpus": "1" });
    let pod = Wanted::new(&machine, "weights")
        .app("light", limits(100), SPINS)
        .app("heavy", limits(500), SPINS)
        .start();
    let (spent, _) = spent(&pod, &["light", "heavy"], Duration::from_secs(6));
    let (light, heavy) = (spent[0].max(1), spent[1]);
    assert!(heavy >= 2 * light && heavy <= 15 * light, "{heavy} beside {light}");
}

#[test]
fn an_app_runs_on_its_processors_and_on_those_alone() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "sets")
        .app("one", json!({ "cpusetCpus": "1", "cpusetMems": "0" }), SLEEPS)
        .app("all", json!({}), SLEEPS)
        .start();
    // What sched_getaffinity(2) answers.
    let allowed = |app: &str| {
        let said =
            pod.pod(&["exec", "--app", app, "sets", "grep", "_allowed_list", "/proc/self/status"]);
        said.success().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(allowed("one"), ["Cpus_allowed_list:", "1", "Mems_allowed_list:", "0"]);
    assert_eq!(allowed("all")[1], "0-1");
}

#[test]
fn processors_that_are_not_there_are_refused() {
    let machine = Sandbox::of_this_machine();
    let said =
        Wanted::new(&machine, "far").app("web", json!({ "cpusetCpus": "1,7" }), SLEEPS).refused();
    assert!(
        said.contains("app `web` cannot be limited: processors 1,7 are not all there"),
        "{said}"
    );
    assert!(said.contains("hint: choose from 0-1"), "{said}");
}

#[test]
fn an_app_makes_no_more_processes_than_it_may() {
    let machine = Sandbox::of_this_machine();
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait";
    let pod = Wanted::new(&machine, "forks")
        .app("web", json!({ "pids": 6 }), forks)
        .app("other", json!({}), SLEEPS)
        .start();
    pod.wait_for("a process is refused", || {
        (pod.count("web", "pids.events", "max") > 0).then_some(())
    });
    let there: u64 = pod.leaf("web", "pids.current").parse().expect("it is a number");
    assert!(there <= 6, "{there}");
    assert_eq!(pod.app("other").state, AppState::Running);
}
