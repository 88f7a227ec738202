//! What a pod promises, in namespaces: the same checks run in a virtual machine
//! (`tests/machine/vm/parity.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tests::parity::inventory::{self, Answer, REASONS};
use tests::parity::{GROUPS, Group, NOT_YET, Place, Shown, Wall, World, missing};
use tests::programs::Programs;
use tests::require;
use tests::sandbox::Sandbox;

fn holds(group: &str) {
    let group = Group::named(group);
    assert_eq!(group.place, Place::Anywhere, "it runs in the machine");
    if require::root("a pod takes namespaces") {
        World::run_group(group, Wall::Namespaces, &Sandbox::new());
    }
}

macro_rules! groups {
    ($($test:ident $group:literal),* $(,)?) => {
        $(#[test] fn $test() { holds($group); })*

        #[test]
        fn every_group_runs() {
            let named = [$($group),*];
            for group in GROUPS {
                let runs = named.contains(&group.name) || group.place == Place::Controllers;
                assert!(runs, "`{}` runs nowhere", group.name);
            }
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
    a_storm "storm",
    kills "kills",
}

/// The tests in the files of a directory beneath `tests/`: file and function.
fn tests_in(directory: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(top).expect("it is there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".rs") else { continue };
        let text = fs::read_to_string(entry.path()).expect("it can be read");
        let mut lines = text.lines();
        while lines.by_ref().any(|line| line == "#[test]") {
            let named = lines.by_ref().find_map(|line| line.strip_prefix("fn "));
            let test = named.and_then(|line| line.split_once('(')).expect("a test is a function").0;
            found.push((format!("{directory}/{name}"), test.to_owned()));
        }
    }
    found
}

#[test]
fn every_test_of_namespaces_is_answered() {
    let directories = ["tests", "tests/cli", "machine", "machine/controllers"];
    let all: BTreeSet<_> = directories.iter().flat_map(|directory| tests_in(directory)).collect();
    let rows = inventory::all();
    let answered: BTreeSet<_> =
        rows.iter().map(|row| (row.file.to_owned(), row.test.to_owned())).collect();
    assert_eq!(answered.len(), rows.len(), "a test is answered once");
    let ours = |(file, _): &&(String, String)| file != "tests/parity";
    let missing: Vec<_> = all.difference(&answered).filter(ours).collect();
    let gone: Vec<_> = answered.difference(&all).collect();
    assert!(missing.is_empty() && gone.is_empty(), "no answer: {missing:#?}; gone: {gone:#?}");
    let promises: BTreeSet<_> =
        GROUPS.iter().flat_map(|group| group.promises).map(|promise| promise.name).collect();
    for row in rows {
        match row.answer {
            Answer::Carried(names) => {
                assert!(
                    names.iter().all(|name| promises.contains(name)),
                    "{}: {names:?}",
                    row.test
                );
            }
            Answer::Stays(reason) => {
                assert!(REASONS.iter().any(|(name, _)| *name == reason), "{}: {reason}", row.test);
            }
        }
    }
}

#[test]
fn the_document_is_that_of_the_promises() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/parity.md");
    let text = fs::read_to_string(path).expect("it can be read");
    let shown = Shown::of(&Programs::of_this_build()).expect("stage1-kvm answers").read(&text);
    assert!(text == shown.document(), "`cargo xtask parity` writes it anew");
    let on_hosts = GROUPS.iter().filter(|group| group.place == Place::Anywhere);
    let open = on_hosts
        .flat_map(|group| group.promises)
        .filter(|promise| shown.namespaces.get(promise.name) != Some(&true));
    assert_eq!(open.map(|promise| promise.name).collect::<Vec<_>>(), [""; 0]);
    let told: Vec<_> =
        shown.machine.iter().filter(|(_, holds)| !**holds).map(|(name, _)| name).collect();
    let known: Vec<_> = told.iter().filter(|name| missing(name).is_some()).copied().collect();
    assert_eq!((told.len(), &told), (NOT_YET.len(), &known), "what does not hold yet is listed");
}
