//! What a start pays for its network: ours against CNI's `bridge` + `host-local` + `portmap` of
//! Debian's `containernetworking-plugins`, in turns in one run, each on a host of its own that is a
//! namespace.
//!
//! ```text
//! cargo build --release -p network --example cost && sudo target/…/release/examples/cost [ROUNDS]
//! ```

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement, run by hand")]

#[path = "../tests/hosts/mod.rs"]
mod hosts;

use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use hosts::{Netns, on_a_host, state_directory};
use network::{Host, Namespace, Network, Protocol, Publication, Request};
use pod_abi::PodId;

const PLUGINS: &str = "/usr/lib/cni";

fn pod(number: u16) -> PodId {
    PodId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

/// How long our ADD takes, with a port published or without.
fn ours(state: &Path, number: u16, publish: Option<u16>) -> Duration {
    let host = Host { state, table: "pod", living: &|_| true };
    let ports = publish.map(|host_port| Publication {
        host_address: None,
        host_port,
        pod_port: 80,
        count: 1,
        protocol: Protocol::Tcp,
    });
    let request = Request {
        ports: ports.into_iter().collect(),
        ..Request::new(pod(number), "eth0", Network::Default)
    };
    let netns = Netns::new();
    let start = Instant::now();
    let attached = host.attach(netns.fd(), &request).unwrap();
    let taken = start.elapsed();
    host.detach(&attached.owner, Namespace::Ends).unwrap();
    taken
}

fn plugin(kind: &str, verb: &str, netns: &str, number: u16, stdin: &str) -> String {
    let mut child = Command::new(format!("{PLUGINS}/{kind}"))
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", pod(number).as_str())
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", PLUGINS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{kind} {verb}: {said}");
    said
}

/// How long CNI's ADD takes, by the plugins that do the same.
fn theirs(state: &Path, number: u16, publish: Option<u16>) -> Duration {
    let head = r#""cniVersion":"1.0.0","name":"peer""#;
    let leases = state.join("host-local");
    let bridge = format!(
        r#"{{{head},"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
            "ipam":{{"type":"host-local","dataDir":"{}","routes":[{{"dst":"0.0.0.0/0"}}],
            "ranges":[[{{"subnet":"10.77.0.0/16"}}],[{{"subnet":"fd77::/64"}}]]}}}}"#,
        leases.display()
    );
    let portmap = |previous: &str| {
        let mut text = format!(r#"{{{head},"type":"portmap","prevResult":{previous}"#);
        if let Some(port) = publish {
            let mapping = format!(r#"{{"hostPort":{port},"containerPort":80,"protocol":"tcp"}}"#);
            write!(text, r#","runtimeConfig":{{"portMappings":[{mapping}]}}"#).unwrap();
        }
        text + "}"
    };
    let namespace = Netns::new();
    let netns = format!("/proc/{}/fd/{}", process::id(), namespace.fd().as_raw_fd());
    let start = Instant::now();
    let result = plugin("bridge", "ADD", &netns, number, &bridge);
    let result = plugin("portmap", "ADD", &netns, number, &portmap(&result));
    let taken = start.elapsed();
    plugin("portmap", "DEL", &netns, number, &portmap(&result));
    plugin("bridge", "DEL", &netns, number, &bridge);
    taken
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn main() {
    let rounds: u16 = env::args().nth(1).map_or(20, |rounds| rounds.parse().unwrap());
    on_a_host(|| {
        let (_kept, state) = state_directory();
        for publish in [None, Some(20_000)] {
            let (mut own, mut peer) = (Vec::new(), Vec::new());
            for round in 0..=rounds {
                let publish = publish.map(|port| port + round);
                let taken = (ours(&state, round, publish), theirs(&state, round, publish));
                // The first makes what lasts: the table, the bridge.
                if round > 0 {
                    own.push(taken.0);
                    peer.push(taken.1);
                }
            }
            let (own, peer) = (median(own), median(peer));
            let what = if publish.is_some() { "one port published" } else { "no port" };
            let share = own.as_secs_f64() / peer.as_secs_f64();
            println!(
                "{what}: ours {own:.2?}, bridge+host-local+portmap {peer:.2?}, {share:.3} of it"
            );
        }
    });
}
