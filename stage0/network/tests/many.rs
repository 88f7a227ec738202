//! Many at once, and some of them killed: no address twice, nothing left.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

mod hosts;

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hosts::{Netns, link_names, on_a_host, said, state_directory, until};
use network::{Host, Namespace, Network, Protocol, Publication, Request};
use pod_abi::PodId;

/// How a child is told that it is one: the state directory and its number.
const STATE: &str = "NETWORK_TEST_STATE";
const NUMBER: &str = "NETWORK_TEST_NUMBER";

fn pod(number: u32) -> PodId {
    PodId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

/// A link of a pod that publishes a port of its own.
fn request(number: u32) -> Request {
    let port = Publication {
        host_address: None,
        host_port: 10_000 + u16::try_from(number).unwrap(),
        pod_port: 80,
        count: 1,
        protocol: Protocol::Udp,
    };
    Request { ports: vec![port], ..Request::new(pod(number), "eth0", Network::Default) }
}

fn everybody(_: &PodId) -> bool {
    true
}

fn nobody(_: &PodId) -> bool {
    false
}

fn host<'a>(state: &'a Path, living: &'a (dyn Fn(&PodId) -> bool + Sync)) -> Host<'a> {
    Host { state, table: "pod", living }
}

/// Starts this program again, as the process that attaches one pod and stays until it may go.
fn child(state: &Path, number: u32) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "one_of_many", "--nocapture"])
        .env(STATE, state)
        .env(NUMBER, number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// No test of its own, but what the others start.
#[test]
fn one_of_many() {
    let Some(state) = env::var_os(STATE) else { return };
    let number = env::var(NUMBER).unwrap().parse().unwrap();
    let netns = Netns::new();
    let attached =
        host(Path::new(&state), &everybody).attach(netns.fd(), &request(number)).unwrap();
    println!("\naddress {}", attached.v4.address);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    host(Path::new(&state), &everybody).detach(&attached.owner, Namespace::Ends).unwrap();
}

fn address(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let mut addresses = lines.filter_map(|line| line.strip_prefix("address ").map(str::to_owned));
    addresses.next().expect("every child gets an address")
}

fn published() -> usize {
    let map = said("nft", &["list", "map", "inet", "pod", "any4"]);
    map.matches(" : 10.").count()
}

#[test]
fn two_hundred_processes_get_two_hundred_addresses_and_leave_nothing() {
    on_a_host(|| {
        let (_kept, state) = state_directory();
        let mut children: Vec<Child> = (1..=200).map(|number| child(&state, number)).collect();
        let addresses: BTreeSet<String> = children.iter_mut().map(address).collect();
        assert_eq!(addresses.len(), 200);
        assert_eq!(host(&state, &everybody).entries().unwrap().len(), 200);
        assert_eq!((link_names().len(), published()), (201, 200));

        for child in &mut children {
            drop(child.stdin.take());
        }
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert!(host(&state, &everybody).entries().unwrap().is_empty());
        assert_eq!(published(), 0);
        until("all links have gone", || link_names() == ["lo"]);
    });
}

#[test]
fn whatever_a_kill_leaves_is_swept_and_a_start_is_possible_at_once() {
    on_a_host(|| {
        let (_kept, state) = state_directory();
        for round in 0..40 {
            let mut child = child(&state, 1);
            // A start takes some milliseconds; rounds are spread over them.
            thread::sleep(Duration::from_micros(1000 + 700 * round));
            child.kill().unwrap();
            child.wait().unwrap();

            if round % 2 == 0 {
                host(&state, &nobody).collect().unwrap();
                assert!(host(&state, &everybody).entries().unwrap().is_empty());
            }
            let netns = Netns::new();
            let attached = host(&state, &everybody).attach(netns.fd(), &request(1)).unwrap();
            host(&state, &everybody).check(netns.fd(), &attached.owner).unwrap();
            assert_eq!(published(), 1);
            host(&state, &everybody).detach(&attached.owner, Namespace::Stays).unwrap();
            assert_eq!(published(), 0);
        }
        until("all links have gone", || link_names() == ["lo"]);
    });
}

#[test]
fn a_ledger_that_a_power_cut_has_torn_is_set_aside() {
    on_a_host(|| {
        let (_kept, state) = state_directory();
        let netns = Netns::new();
        host(&state, &everybody).attach(netns.fd(), &request(1)).unwrap();
        std::fs::write(state.join("ledger.json"), "{\"versi").unwrap();
        let other = Netns::new();
        host(&state, &everybody).attach(other.fd(), &request(2)).unwrap();
        assert_eq!(host(&state, &everybody).entries().unwrap().len(), 1);
        assert!(state.join("ledger.json.unreadable").exists());

        // One that can be read, but not by us, is no torn one.
        let later = r#"{"version": 2, "something": "new"}"#;
        std::fs::write(state.join("ledger.json"), later).unwrap();
        let error = host(&state, &everybody).attach(other.fd(), &request(3)).unwrap_err();
        assert_eq!(error.to_string(), "`ledger.json` has version 2, which is not known here");
        assert_eq!(std::fs::read_to_string(state.join("ledger.json")).unwrap(), later);
    });
}
