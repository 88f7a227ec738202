//! Networks of pods in namespaces: many at once, killed ones, plugins of CNI, and somebody else's
//! namespace. Who reaches whom is promised behind both walls: `tests::parity::groups::network`.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::fixtures::Fixture;
use tests::random::Random;
use tests::require;
use tests::said::Running;
use tests::sandbox::Sandbox;

/// How many pods come and go, and how many of them at once.
const PODS: u16 = 200;
const AT_ONCE: u16 = 8;
/// How many processes are killed.
const KILLS: u16 = 24;

fn sandbox() -> Option<Sandbox> {
    require::root("a pod takes namespaces").then(Sandbox::new)
}

/// Starts a pod with a port of its own, which tells its addresses and waits a moment.
fn start(sandbox: &Sandbox, image: &str, number: u16) -> Running {
    let port = format!("{}:80", 10_000 + number);
    let flags = ["run", "--rm", "-q", "--net", "default", "-p", &port, image];
    let tells = ["sh", "-c", "ip -4 -o addr show eth0; sleep 0.2"];
    sandbox.call().args(flags).args(tells).start()
}

#[test]
fn two_hundred_pods_come_and_go_and_none_has_an_address_of_another() {
    let Some(sandbox) = sandbox() else { return };
    let image = sandbox.fixture(Fixture::App);
    let mut given = BTreeSet::new();
    for batch in 0..PODS / AT_ONCE {
        let numbers = batch * AT_ONCE..(batch + 1) * AT_ONCE;
        let pods: Vec<_> = numbers.map(|number| start(&sandbox, &image, number)).collect();
        for pod in pods {
            let said = pod.wait().success();
            let address = said.split(' ').find(|word| word.ends_with("/32"));
            let address = address.unwrap_or_else(|| panic!("no address: {said}")).to_owned();
            // One that is free again rests before anybody has it next.
            assert!(given.insert(address), "{said}");
        }
    }
    // The sandbox looks for links, entries and records; rules are in a table it does not know.
    let rules = sandbox.program("nft").args(["-j", "list", "ruleset"]).run().success();
    assert!(!rules.contains("10100") && !rules.contains("10199"), "{rules}");
}

#[test]
fn a_kill_while_a_pod_joins_its_network_leaves_nothing_that_gc_does_not_undo() {
    let Some(sandbox) = sandbox() else { return };
    sandbox.expect_debris();
    let image = sandbox.fixture(Fixture::App);
    let mut random = Random::of_the_environment();
    for number in 0..KILLS {
        let running = start(&sandbox, &image, number);
        let _ = sandbox.cgroup().is_none_or(|cgroup| cgroup.fills(1_000));
        thread::sleep(Duration::from_millis(random.below(60)));
        let processes = sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default();
        if !processes.is_empty() {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(*random.one_of(&processes)), Signal::SIGKILL);
        }
        let _ = running.wait();
    }
    sandbox.pod(["gc", "--grace", "0"]).success();
    let rules = sandbox.program("nft").args(["-j", "list", "ruleset"]).run().success();
    let ports = (0..KILLS).map(|number| (10_000 + number).to_string());
    ports.for_each(|port| assert!(!rules.contains(&port), "{port} is in {rules}"));
    // Whoever comes next finds everything free.
    start(&sandbox, &image, 0).wait().success();
}

/// Does something while the administrator of the sandbox has configured a network.
fn with_network<T>(sandbox: &Sandbox, list: &str, work: impl FnOnce() -> T) -> T {
    let (upper, side) = (sandbox.path("etc"), sandbox.path("etc-work"));
    let networks = upper.join("cni/net.d");
    fs::create_dir_all(&networks).expect("the sandbox can be written");
    fs::create_dir_all(&side).expect("the sandbox can be written");
    fs::write(networks.join("lan.conflist"), list).expect("the sandbox can be written");
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), side.display());
    let mounted = ["-t", "overlay", "overlay", "-o", &options, "/etc"];
    sandbox.program("mount").args(mounted).run().success();
    let done = work();
    sandbox.program("umount").args(["/etc"]).run().success();
    done
}

#[test]
fn plugins_of_cni_connect_a_pod_and_are_asked_to_undo_it() {
    let Some(sandbox) = sandbox() else { return };
    let (image, leases) = (sandbox.fixture(Fixture::App), sandbox.path("leases"));
    let ipam = json!({
        "type": "host-local", "dataDir": leases,
        "ranges": [[{ "subnet": "10.9.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let list = json!({
        "cniVersion": "1.0.0", "name": "lan", "plugins": [
            { "type": "bridge", "bridge": "lan0", "isGateway": true, "ipam": ipam },
            { "type": "tuning", "capabilities": { "mac": true } },
        ],
    });
    let list = list.to_string();
    let run = |flags: &[&str], command: &[&str]| {
        with_network(&sandbox, &list, || {
            let call = sandbox.call().args(["run", "--rm"]).args(flags);
            call.args([&image]).args(command).run()
        })
    };
    let look = "cat /sys/class/net/eth1/address; ip -4 -o addr; ip route; cat /etc/hosts";
    let said = run(&["--name", "both", "--net", "default,lan"], &["sh", "-c", look]).success();
    assert!(said.contains("10.9.0.2/24") && said.contains("10.9.0.2 both\n"), "{said}");
    let mac = ["--net", "lan", "--mac-address", "02:00:5e:00:00:09"];
    let said = run(&mac, &["cat", "/sys/class/net/eth0/address"]).success();
    assert_eq!(said, "02:00:5e:00:00:09\n");
    // What host-local has leased is free again; the rest of its directory is its own.
    let held = fs::read_dir(leases.join("lan")).expect("it has leased something").flatten();
    let held: Vec<_> = held.map(|entry| entry.file_name()).collect();
    assert!(!held.iter().any(|name| name.to_string_lossy().starts_with("10.9.")), "{held:?}");
    run(&["--net", "lan", "-p", "80:80"], &["true"]).refuses(125, &["`lan`", "portmap"]);
    let broken = list.replace("\"tuning\"", "\"no-such-plugin\"");
    let said = with_network(&sandbox, &broken, || sandbox.run_app(&["--net", "lan"], &["true"]));
    said.refuses(125, &["no-such-plugin"]);
    // The bridge stays, as it is for the pods of others, too.
    sandbox.program("ip").args(["link", "del", "lan0"]).run().success();
}

#[test]
fn a_pod_runs_in_a_network_namespace_of_somebody_else() {
    let Some(sandbox) = sandbox() else { return };
    let probe = sandbox.programs().path("probe").display().to_string();
    let other = sandbox.program("unshare").args(["--net", &probe, "stay"]).start();
    other.wait_for("ready");
    let path = format!("ns:/proc/{}/ns/net", other.pid());
    let its = fs::read_link(format!("/proc/{}/ns/net", other.pid())).expect("it lives");
    let said = sandbox.run_app(&["--net", &path], &["readlink", "/proc/self/ns/net"]).success();
    assert_eq!(said.trim_end(), its.display().to_string());
    other.signal(Signal::SIGKILL);
    let said = sandbox.run_app(&["--net", "ns:/run/netns/nobody"], &["true"]);
    said.refuses(125, &["/run/netns/nobody", "ip netns add"]);
}
