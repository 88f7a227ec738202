//! Limits of memory and of swap, and what follows when memory runs out.

use std::fs;

use pod_abi::exit::Ended;
use pod_abi::status::AppState;
use serde_json::json;
use tests::sandbox::Sandbox;

use super::limited::Wanted;

const MIB: u64 = 1 << 20;
const SLEEPS: &str = "sleep 1000";
/// Holds on to memory without end.
const HOGS: &str = "sleep 1; exec tail /dev/zero";
/// Is killed by the kernel in a child, and lives on.
const CHILD_HOGS: &str = "tail /dev/zero; echo survived; exec sleep 1000";

/// What the history says when memory has run out.
const RAN_OUT: &str = "app-out-of-memory";

#[test]
fn memory_runs_out_in_one_app_and_the_other_lives_on() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "hog")
        .app("hog", json!({ "memory": 24 * MIB }), HOGS)
        .app("neighbour", json!({ "memory": 24 * MIB }), SLEEPS)
        .start();
    let hog = pod.end_of("hog");
    assert_eq!(hog.exit, Some(Ended::Signaled { signal: 9, oom: true }));
    assert!(pod.has(RAN_OUT, Some("hog")) && !pod.has(RAN_OUT, Some("neighbour")));
    let neighbour = pod.app("neighbour");
    assert_eq!(neighbour.state, AppState::Running);
    assert_eq!(pod.count("neighbour", "memory.events", "oom_kill"), 0);
    // So does the unit: it is the pod that decides what an app's end means.
    assert_eq!(pod.status().ended, None);
}

#[test]
fn a_child_that_was_killed_for_memory_is_told_of() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "child")
        .app("web", json!({ "memory": 24 * MIB }), CHILD_HOGS)
        .start();
    pod.wait_for("it is recorded", || pod.has(RAN_OUT, Some("web")).then_some(()));
    assert_eq!(pod.app("web").state, AppState::Running, "the policy is `continue`");
}

#[test]
fn with_the_policy_kill_an_app_goes_as_a_whole() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "group")
        .field("oomPolicy", json!("kill"))
        .app("web", json!({ "memory": 24 * MIB }), CHILD_HOGS)
        .app("other", json!({}), SLEEPS)
        .start();
    assert_eq!(pod.leaf("other", "memory.oom.group"), "1");
    let web = pod.end_of("web");
    assert_eq!(web.exit, Some(Ended::Signaled { signal: 9, oom: true }));
    assert_eq!(pod.app("other").state, AppState::Running);
}

#[test]
fn with_the_policy_stop_the_pod_ends_and_has_failed() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "stopped")
        .field("oomPolicy", json!("stop"))
        .app("web", json!({ "memory": 24 * MIB }), CHILD_HOGS)
        .app("other", json!({}), "trap 'exit 0' TERM; while true; do sleep 1; done")
        .start();
    let status = pod.end();
    assert_eq!(status.code, Some(137));
    assert!(pod.has(RAN_OUT, Some("web")) && pod.has("pod-stopping", None));
    assert_eq!(pod.app("other").exit, Some(Ended::Exited { code: 0 }), "it was stopped in order");
}

/// A file that the machine swaps to; switched off and removed when dropped.
struct Swap<'m>(&'m Sandbox);

impl<'m> Swap<'m> {
    fn on(machine: &'m Sandbox) -> Self {
        let make = "dd if=/dev/zero of=/var/swap bs=1M count=128 && chmod 600 /var/swap && \
                    mkswap /var/swap && swapon /var/swap";
        machine.program("sh").args(["-c", make]).run().success();
        Self(machine)
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        let _ = self.0.program("swapoff").args(["/var/swap"]).run(); // the file is gone either way
        let _ = fs::remove_file("/var/swap");
    }
}

#[test]
fn swap_is_what_was_given_and_none_otherwise() {
    let machine = Sandbox::of_this_machine();
    let _swap = Swap::on(&machine);
    // Files in memory are not given back but to swap.
    let fills = "dd if=/dev/zero of=/dev/shm/NAME bs=1M count=40 || exit 9; exec sleep 1000";
    let fills = |name: &str| -> &'static str { fills.replace("NAME", name).leak() };
    let pod = Wanted::new(&machine, "swap")
        .app("with", json!({ "memory": 24 * MIB, "swap": 48 * MIB }), fills("with"))
        .app("without", json!({ "memory": 24 * MIB }), fills("without"))
        .start();
    pod.end_of("without");
    assert!(pod.count("without", "memory.events", "oom_kill") > 0);
    assert_eq!(pod.leaf("without", "memory.swap.max"), "0");
    pod.wait_for("it swaps", || {
        let swapped: u64 = pod.leaf("with", "memory.swap.current").parse().ok()?;
        (swapped >= 8 * MIB).then_some(())
    });
    assert_eq!(pod.app("with").state, AppState::Running);
}

#[test]
fn above_its_high_mark_an_app_is_made_to_give_back() {
    let machine = Sandbox::of_this_machine();
    let pod = Wanted::new(&machine, "high")
        .app(
            "web",
            json!({ "memoryHigh": 16 * MIB, "memoryLow": 4 * MIB }),
            "dd if=/dev/zero of=/file bs=1M count=48 && exec sleep 1000",
        )
        .start();
    pod.wait_for("it is slowed down", || {
        (pod.count("web", "memory.events", "high") > 0).then_some(())
    });
    assert_eq!(pod.count("web", "memory.events", "oom_kill"), 0);
    assert_eq!(pod.leaf("web", "memory.low"), (4 * MIB).to_string());
    let passed_on = fs::read_to_string(pod.leaves().join("memory.low"));
    assert_eq!(passed_on.ok().as_deref(), Some("max\n"), "what stands above it passes it on");
}
