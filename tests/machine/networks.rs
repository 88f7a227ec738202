//! What units of ours do for networks of pods: answer for names, and put rules back.

use std::thread;
use std::time::Duration;

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

fn systemctl(machine: &Sandbox, words: &[&str]) -> String {
    machine.program("systemctl").args(words).run().success()
}

#[test]
fn names_are_answered_for_by_a_service_that_is_started_when_a_pod_asks() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let state = |unit: &str| machine.program("systemctl").args(["is-active", unit]).run().stdout;
    systemctl(&machine, &["start", "pod-dns.socket"]);
    assert_eq!(state("pod-dns.service"), "inactive\n");
    let web = machine.detached("web", ["--net", "default", &image, "sh", "-c", "sleep 1000"]);
    let address = web.status().joined.expect("it has").interfaces[0].addresses[0].to_string();
    let asks = "cat /etc/resolv.conf; nslookup web.pod; nslookup other.pod";
    let ask = ["run", "--rm", "--net", "default", &image, "sh", "-c", asks];
    let said = machine.pod(ask).stdout;
    assert!(said.starts_with("nameserver 10.187.0.1\n"), "{said}");
    assert!(said.contains(&format!(": {address}\n")) && said.contains("NXDOMAIN"), "{said}");
    assert_eq!(state("pod-dns.service"), "active\n");
    systemctl(&machine, &["stop", "pod-dns.socket", "pod-dns.service"]);
    // Nobody answers: pods ask whom the host asks.
    let said = machine.pod(["run", "--rm", "--net", "default", &image, "cat", "/etc/resolv.conf"]);
    assert!(!said.stdout.contains("10.187.0.1"), "{said}");
}

#[test]
fn rules_are_back_when_the_administrators_firewall_was_started_anew() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let web = machine.detached("web", ["-p", "8080:80", &image, "sh", "-c", "sleep 1000"]);
    let published = || {
        let table = machine.program("nft").args(["list", "table", "inet", "pod"]).run();
        table.stdout.contains("8080")
    };
    assert!(published());
    systemctl(&machine, &["enable", "pod-network-reload.service"]);
    for _ in 0..2 {
        systemctl(&machine, &["restart", "nftables.service"]);
        // It follows, and nobody waits for it but us.
        let mut looks = (0..200).map(|_| thread::sleep(Duration::from_millis(50)));
        assert!(looks.any(|()| published()));
    }
    systemctl(&machine, &["disable", "pod-network-reload.service"]);
    systemctl(&machine, &["restart", "nftables.service"]);
    assert!(!published(), "it was the unit that put them back");
    machine.pod(["network", "reload"]).success();
    assert!(published());
    systemctl(&machine, &["stop", "nftables.service", "network-pre.target"]);
    drop(web);
}
