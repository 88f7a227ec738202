//! What a pod promises, in a virtual machine of its own: the checks are those that run in namespaces
//! (`tests/tests/parity.rs`), and here for both walls where only this machine has the controllers.

use tests::parity::{Group, Place, Wall, World, missing};
use tests::sandbox::Sandbox;

fn holds(group: &str) {
    let group = Group::named(group);
    if group.place == Place::Controllers {
        World::run_group(group, Wall::Namespaces, &Sandbox::of_this_machine());
    }
    // A group of which nothing holds yet would only take time; the document says so of each.
    if group.promises.iter().any(|promise| missing(promise.name).is_none()) {
        World::run_group(group, Wall::Machine, &Sandbox::of_this_machine());
    }
}

macro_rules! groups {
    ($($test:ident $group:literal),* $(,)?) => {
        $(#[test] fn $test() { holds($group); })*

        #[test]
        fn every_group_runs() {
            let groups = tests::parity::GROUPS.iter().map(|group| group.name);
            assert_eq!(groups.collect::<Vec<_>>(), [$($group),*]);
        }
    };
}

groups! {
    endings "endings",
    an_interrupt "interrupt",
    a_foreground "foreground",
    a_terminal "terminal",
    a_process "process",
    surroundings "surroundings",
    volumes "volumes",
    a_living_pod "living",
    order "order",
    restarts "restarts",
    starts "starts",
    apps_that_come "comings",
    networks "network",
    limits "limits",
    memory "memory",
    a_storm "storm",
    kills "kills",
}
