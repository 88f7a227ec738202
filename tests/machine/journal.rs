//! What the journal has of a pod, and that nobody needs it: the lines of apps with their fields, what
//! happens to the pod, and a journald that does not listen.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

/// An entry: its fields.
type Entry = BTreeMap<String, Value>;

/// Returns the entries that fit, the oldest first.
fn entries(machine: &Sandbox, matches: &[&str]) -> Vec<Entry> {
    machine.program("journalctl").args(["--sync"]).run().success();
    let call = machine.program("journalctl").args(["--quiet", "--boot", "--output=json"]);
    let said = call.args(matches).start().wait();
    said.success().lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

fn messages(entries: &[Entry]) -> Vec<&str> {
    entries.iter().filter_map(|entry| entry.get("MESSAGE")?.as_str()).collect()
}

#[test]
fn every_line_is_an_entry_of_its_app_and_there_once() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let script = "echo plain; echo wrong >&2; echo '<4>odd'; printf 'b\\001nary\\n'; sleep 1000";
    let lines = ["sh", "-c", script];
    machine
        .call()
        .args(["run", "-d", "--name", "ledger", &image, "--name", "web"])
        .args(lines)
        .args(["---", &image, "--name", "worker", "sh", "-c", "echo working; sleep 1000"])
        .run()
        .success();
    until(|| entries(&machine, &["POD_APP=web", "PRIORITY=4"]).len() == 1);
    until(|| entries(&machine, &["MESSAGE=working"]).len() == 1);

    let of_unit = entries(&machine, &["--unit=pod-ledger"]);
    for text in ["plain", "wrong", "odd", "working"] {
        let found: Vec<&Entry> =
            of_unit.iter().filter(|entry| entry["MESSAGE"].as_str() == Some(text)).collect();
        assert_eq!(found.len(), 1, "{text}: {:?}", messages(&of_unit));
    }
    let uuid = machine.pod(["inspect", "ledger"]).json::<Value>()["manifest"]["uuid"].clone();
    let uuid = uuid.as_str().unwrap();
    for (text, app, priority) in [
        ("plain", "web", "6"),
        ("wrong", "web", "3"),
        ("odd", "web", "4"),
        ("working", "worker", "6"),
    ] {
        let found = entries(&machine, &[&format!("MESSAGE={text}"), "POD_NAME=ledger"]);
        assert_eq!(found.len(), 1, "{text}");
        for (field, value) in [
            ("PRIORITY", priority),
            ("SYSLOG_IDENTIFIER", app),
            ("POD_NAME", "ledger"),
            ("POD_UUID", uuid),
            ("POD_APP", app),
            ("CONTAINER_NAME", "ledger"),
            ("CONTAINER_ID", &uuid[..8]),
            ("CONTAINER_ID_FULL", uuid),
            ("CONTAINER_TAG", app),
            ("IMAGE_NAME", &image),
            ("_SYSTEMD_UNIT", "pod-ledger.service"),
        ] {
            assert_eq!(found[0][field].as_str(), Some(value), "{text}: {field}");
        }
    }
    // What is no text comes as bytes.
    let bytes: Vec<u8> = b"b\x01nary".to_vec();
    let all = entries(&machine, &["POD_APP=web", "POD_NAME=ledger"]);
    let binary = all.iter().any(|entry| entry["MESSAGE"] == Value::from(bytes.clone()));
    assert!(binary, "{all:#?}");

    machine.pod(["stop", "-t", "0", "ledger"]).success();
    for (event, count) in [
        ("pod-started", 1),
        ("app-started", 2),
        ("app-ready", 2),
        ("pod-ready", 1),
        ("pod-stopping", 1),
        ("app-ended", 2),
        ("pod-ended", 1),
    ] {
        let found = entries(&machine, &["--unit=pod-ledger", &format!("POD_EVENT={event}")]);
        assert_eq!(found.len(), count, "{event}: {found:#?}");
        assert!(found[0]["MESSAGE_ID"].as_str().is_some_and(|id| id.len() == 32));
    }
    machine.pod(["rm", "ledger"]).success();
}

#[test]
fn logs_are_the_same_with_and_without_the_journal() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let script = "i=0; while [ $i -lt 500 ]; do echo line $i; echo err $i >&2; i=$((i+1)); done; \
                  head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'b\\001nary\\nno end'";
    for (name, journal) in [("with", "auto"), ("without", "off")] {
        let words = ["run", "-d", "--name", name, "--journal", journal, &image, "sh", "-c", script];
        machine.pod(words).success();
        machine.pod(["wait", name]).success();
    }
    let logs = |name| {
        let said = machine.call().args(["logs", name]).start().wait();
        assert_eq!(said.code, 0, "{said}");
        (said.stdout, said.stderr)
    };
    let (with, without) = (logs("with"), logs("without"));
    assert!(with.0.contains("line 499\n") && with.0.ends_with("no end"), "{}", with.0);
    assert!(with == without, "{with:?}\n{without:?}");
    assert_eq!(entries(&machine, &["POD_NAME=with", "POD_EVENT=pod-ended"]).len(), 1);
    assert_eq!(entries(&machine, &["POD_NAME=without", "POD_EVENT=pod-ended"]).len(), 0);
    assert_eq!(
        entries(&machine, &["_SYSTEMD_UNIT=pod-without.service", "MESSAGE=line 1"]).len(),
        0
    );
    machine.pod(["rm", "with", "without"]).success();
}

#[test]
fn a_journald_that_stands_still_holds_up_nobody() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let script = "until [ -e /tmp/go ]; do sleep 0.1; done; \
                  i=0; while [ $i -lt 9000 ]; do echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; \
                  echo done; sleep 1000";
    machine
        .pod(["run", "-d", "--name", "loud", &image, "--name", "web", "sh", "-c", script])
        .success();
    let journald = |signal| {
        let words = ["kill", "--kill-who=main", "--signal", signal, "systemd-journald"];
        machine.program("systemctl").args(words).run().success();
    };
    journald("STOP");
    machine.pod(["exec", "loud", "touch", "/tmp/go"]).success();
    let begin = Instant::now();
    let last = || machine.call().args(["logs", "--tail", "1", "loud"]).start().wait().stdout;
    while last() != "done\n" && begin.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(100));
    }
    let (last, logged) = (last(), machine.call().args(["logs", "loud"]).start().wait().stdout);
    journald("CONT");
    assert_eq!(last, "done\n");
    assert_eq!(logged.lines().count(), 9001);
    let lost = || entries(&machine, &["POD_NAME=loud", "POD_EVENT=entries-lost"]);
    until(|| !lost().is_empty());
    let told = lost();
    assert_eq!(told.len(), 1, "{told:#?}");
    let count: usize =
        told[0]["MESSAGE"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    let lines = entries(&machine, &["POD_NAME=loud", "POD_APP=web", "CONTAINER_TAG=web"]).len();
    assert_eq!(lines + count, 9001);
    machine.pod(["rm", "-f", "loud"]).success();
}
