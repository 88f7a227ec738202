//! What a boot costs in exits: a stock kernel in the monitor alone, until the guest says hello.
//!
//! Counted rather than timed: a register that is read too often, or a port that is nobody's and is
//! asked again and again, costs seconds on some hosts and nothing on others, and shows here on all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::sandbox::Sandbox;

const PROGRAMS: &str = "/usr/lib/pod/stage1/kvm";

/// Exits for ports, console included; 206 were seen of a kernel that is quiet, 446 of one that is
/// not.
const MOST_PORTS: u64 = 600;
/// Exits for registers of a device of one queue until its driver has it; 40 were seen of a disk.
const MOST_PROBING: u64 = 50;
/// Registers that Linux's driver reads and writes for each queue more (`vm_setup_vq`).
const EACH_QUEUE: u64 = 11;
/// The devices, and how many queues each has.
const DEVICES: [(&str, u64); 3] = [("images", 1), ("streams", 3), ("the writable disk", 1)];
/// What is asked, and what is acknowledged.
const EACH_INTERRUPT: u64 = 2;

/// How long the guest may take to say hello: it boots in a machine that is translated itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// Places descriptors as `vmm::description` has them: standard streams are the helm and both ports.
const PLACING: &str = r#"exec "$0/vmm" 3<"$1/description" 4<&0 5<>/dev/kvm 6<"$2/vmlinux" \
    7<"$2/initramfs" 8<&1 9<&2 16<"$1/image" 17<>"$1/scratch" 0</dev/null 1>/dev/null 2>"$1/said""#;

/// A monitor that ends with the test.
struct Monitor(Child);

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the command line that kernels of pods are given.
fn command_line() -> String {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = json!({ "reference": "x", "manifest": digest, "config": digest,
        "layers": [digest], "verified": "digest" });
    let user = json!({ "uid": 0, "gid": 0 });
    let process = json!({ "args": ["x"], "cwd": "/", "user": user, "noNewPrivileges": true });
    let order = json!({
        "abi": 4, "attempt": 1, "ids": { "base": 65536, "count": 65536 }, "output": "shown", "resolvConf": "", "hosts": "",
        "pod": { "version": 4, "uuid": "abababab-abab-4bab-abab-abababababab", "name": "shop",
            "created": "2026-01-01T00:00:00Z", "remove": false,
            "sandbox": { "stage1": "kvm", "apps": ["web"] } },
        "apps": [{ "layers": ["a/layer.erofs"], "spec": { "version": 4, "name": "web",
            "image": image, "process": process } }],
    });
    let mut plan = Command::new(format!("{PROGRAMS}/stage1-kvm"))
        .arg("plan")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut stdin = plan.stdin.take().expect("it is a pipe");
    stdin.write_all(order.to_string().as_bytes()).expect("it reads its order");
    drop(stdin);
    let output = plan.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("kernel: "));
    line.unwrap_or_else(|| panic!("{output:?}")).to_owned()
}

/// Boots a guest until it says hello, and returns what its monitor has counted.
fn boot(place: &str) -> Value {
    let setup = Command::new(format!("{PROGRAMS}/stage1-kvm")).arg("setup").output();
    let setup = setup.expect("it is installed");
    let kernel = String::from_utf8_lossy(&setup.stdout).trim().to_owned();
    let length = 1_u64 << 20;
    for name in ["image", "scratch"] {
        let file = File::create(format!("{place}/{name}")).expect("the sandbox can be written");
        file.set_len(length).expect("it is an empty file");
    }
    let description = json!({
        "memory": 256 << 20, "vcpus": 1, "commandLine": command_line(),
        "images": [{ "offset": 0, "length": length }], "scratch": true, "nics": [],
        "shares": [],
    });
    fs::write(format!("{place}/description"), description.to_string()).expect("it can be written");
    let (helm, its_helm) = UnixDatagram::pair().expect("a pair of sockets");
    let (mut wall, its_wall) = UnixStream::pair().expect("a pair of sockets");
    let (inner, its_inner) = UnixStream::pair().expect("a pair of sockets");
    let said = || fs::read_to_string(format!("{place}/said")).unwrap_or_default();
    let monitor = Command::new("bash")
        .args(["-c", PLACING, PROGRAMS, place, &kernel])
        .stdin(OwnedFd::from(its_helm))
        .stdout(OwnedFd::from(its_wall))
        .stderr(OwnedFd::from(its_inner))
        .spawn();
    let _monitor = Monitor(monitor.expect("there is a bash"));
    wall.set_read_timeout(Some(PATIENCE)).expect("it is no time of zero");
    let mut hello = [0; 4096];
    let length = wall.read(&mut hello).unwrap_or_else(|error| panic!("{error}: {}", said()));
    assert!(length > 0, "the monitor has ended: {}", said());
    helm.send(b"\"count\"").expect("the monitor is there");
    helm.set_read_timeout(Some(PATIENCE)).expect("it is no time of zero");
    let mut packet = vec![0; 128 << 10];
    let length = helm.recv(&mut packet).unwrap_or_else(|error| panic!("{error}: {}", said()));
    // Nobody has ended what a guest waits for before.
    inner.shutdown(Shutdown::Both).expect("it is connected");
    let told: Value = serde_json::from_slice(&packet[..length]).expect("it tells in JSON");
    told["counted"].clone()
}

#[test]
fn a_boot_takes_as_many_exits_as_it_may_and_none_that_is_nobodys() {
    let machine = Sandbox::of_this_machine();
    let place = machine.path("budget");
    fs::create_dir(&place).expect("the sandbox can be written");
    let counted = boot(&place.display().to_string());
    println!("{counted:#}");
    let number = |value: &Value| value.as_u64().expect("it is a count");
    assert!(counted["helloUs"].is_u64(), "{counted:#}");
    assert!(number(&counted["portExits"]) <= MOST_PORTS, "{counted:#}");
    // The configuration of PCI and what firmware is told before a reset are not counted as such.
    assert_eq!((number(&counted["unclaimed"]), &counted["strangers"]), (0, &json!([])));
    let devices = counted["devices"].as_array().expect("it is a list");
    assert_eq!(devices.len(), DEVICES.len());
    for (device, (name, queues)) in devices.iter().zip(DEVICES) {
        let (exits, interrupts) = (number(&device["exits"]), number(&device["interrupts"]));
        let most = MOST_PROBING + EACH_QUEUE * (queues - 1) + EACH_INTERRUPT * interrupts;
        assert!(exits <= most, "{name}: {counted:#}");
        assert!(exits > 10, "{name} was not found: {counted:#}");
        assert_eq!(number(&device["violations"]), 0, "{counted:#}");
    }
    // The hello went through the second.
    assert!(number(&devices[1]["interrupts"]) > 0, "{counted:#}");
}
