//! Pods that wreck their machine, or lose a part of it: each end is told by its class, and nothing of
//! it stays on the host. The leak check of the sandbox looks for processes, cgroups, units and mounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::fixtures::Fixture;
use tests::image::digest;
use tests::sandbox::Sandbox;

/// Runs an app that has every power over its machine and uses it; returns what the record says.
fn wreck(machine: &Sandbox, name: &str, key: &str) -> Value {
    let image = machine.fixture(Fixture::App);
    let script = format!("echo before; sync; echo {key} >/proc/sysrq-trigger; sleep 1000");
    let words = ["run", "--name", name, "--stage1", "kvm", "--privileged", &image];
    let said = machine.call().args(words).args(["sh", "-c", &script]).run();
    assert_eq!(said.code, 125, "{said}");
    assert!(said.stdout.contains("before"), "what it said before is heard: {said}");
    ended(machine, name)
}

/// Returns the record of a pod that has ended, and removes it.
fn ended(machine: &Sandbox, name: &str) -> Value {
    machine.pod(["wait", name]).success();
    let shown: Value = machine.pod(["status", "-o", "json", name]).json();
    // Its unit may not have noticed yet that the pod is over.
    machine.pod(["rm", "-f", name]).success();
    shown
}

#[track_caller]
fn is(record: &Value, class: &str) {
    assert!(record.to_string().contains(&format!("\"{class}\"")), "{class}: {record:#}");
}

#[test]
fn a_kernel_that_crashes_is_told_with_its_console() {
    let machine = Sandbox::of_this_machine();
    let record = wreck(&machine, "panics", "c");
    is(&record, "vm.crashed");
    assert!(record.to_string().contains("console: "), "{record:#}");
}

#[test]
fn a_machine_that_is_switched_off_from_inside_is_told() {
    is(&wreck(&Sandbox::of_this_machine(), "off", "o"), "vm.powered-off");
}

#[test]
fn a_machine_that_is_reset_from_inside_is_told() {
    is(&wreck(&Sandbox::of_this_machine(), "resets", "b"), "vm.reset");
}

/// Returns the one process of this machine that runs the program `name` of ours.
fn process(name: &str) -> Pid {
    let entries = fs::read_dir("/proc").expect("there is one").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let runs = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim() == name
    };
    let found: Vec<i32> = pids.filter(runs).collect();
    let [pid] = found[..] else { panic!("`{name}` runs as {found:?}") };
    Pid::from_raw(pid)
}

/// Kills the program `name` of a pod that has a volume of the host, and returns the pod's record.
fn kill_part(machine: &Sandbox, pod: &str, name: &str) -> Value {
    let image = machine.fixture(Fixture::App);
    let volume = machine.path("volume");
    fs::create_dir(&volume).expect("the sandbox can be written");
    let volume = format!("{}:/volume", volume.display());
    let words = ["run", "-d", "--name", pod, "--stage1", "kvm", &image, "-v", &volume];
    machine.call().args(words).args(["sh", "-c", "echo up; exec sleep 1000"]).run().success();
    kill(process(name), Signal::SIGKILL).expect("it runs");
    ended(machine, pod)
}

#[test]
fn a_monitor_that_is_killed_ends_its_pod() {
    is(&kill_part(&Sandbox::of_this_machine(), "orphan", "vmm"), "vm.killed");
}

#[test]
fn a_server_of_a_volume_that_is_killed_ends_its_pod() {
    is(&kill_part(&Sandbox::of_this_machine(), "bereft", "fsd"), "volume.server-died");
}

/// Returns the digest of every image behind a machine's disk.
fn images(store: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("it is there");
        if kind.is_dir() {
            found.extend(images(&path));
        } else if path.extension().is_some_and(|extension| extension == "erofs") {
            let bytes = fs::read(&path).expect("the store is ours");
            found.insert(path.display().to_string(), digest(&bytes));
        }
    }
    found
}

/// Checks how an app without a filter fared that called the host by `AF_VSOCK`. One with a filter
/// has no such socket: promise `denied` of the parity.
#[track_caller]
fn reaches_nobody(answers: &BTreeMap<String, String>) {
    /// The port where a stream's name is told. It is answered, and a name nobody has ends it.
    const STREAM: &str = "2:3";
    println!("{answers:#?}");
    assert_eq!(answers.get("listening").map(String::as_str), Some("nobody"), "{answers:#?}");
    assert!(answers.len() > 40 && answers.contains_key(STREAM), "{answers:#?}");
    for (called, answer) in answers {
        assert!(!answer.contains("heard"), "{called}: {answer}");
        assert!(!answer.starts_with("connected") || called == STREAM, "{called}: {answer}");
    }
}

#[test]
fn whoever_eats_up_the_machine_harms_neither_its_pod_nor_the_host() {
    // Makes nodes for all disks there are, where nodes count, and writes to those of such a name.
    const WRITES: &str = "n=0; while read -r major minor _ name; do \
        case $name in $0) ;; *) continue ;; esac; n=$((n + 1)); \
        mknod /dev/disk-$n b $major $minor && echo made $name || continue; \
        blockdev --setrw /dev/disk-$n; dd if=/dev/zero of=/dev/disk-$n bs=4096 count=4 conv=notrunc,fsync && echo written $name; \
        done </proc/partitions; echo tried $n";
    // CVE-2020-28914: what the guest makes of its own mount is no matter of the server's.
    const REMOUNTS: &str = "mount -o remount,rw /shared && echo remounted; cat /shared/file; \
        echo changed >/shared/file && echo written; echo new >/shared/new && echo written; \
        rm /shared/file && echo written; chmod 777 /shared && echo written; echo tried";
    const FORKS: &str = "f() { f | f & }; f; while :; do sleep 1; done";
    const FILLS: &str = "dd if=/dev/zero of=/file bs=1M; echo full; exec sleep 1000";
    const EATS: &str = "tail /dev/zero; echo eaten; exec sleep 1000";

    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let app = |name: &'static str, flags: &[&'static str], script: &'static str| {
        [&[image.as_str(), "--name", name], flags, &["sh", "-c", script]].concat()
    };
    let shared = machine.path("shared");
    fs::create_dir(&shared).expect("the sandbox can be written");
    fs::write(shared.join("file"), "kept\n").expect("the sandbox can be written");
    let volume = format!("{}:/shared:ro", shared.display());
    let streams = [&image, "--name", "calls", "--init-app", "--privileged", "/probe", "streams"];
    let remounts = ["--init-app", "--privileged", "-v", &volume, "sh", "-c", REMOUNTS];
    let remounts = [&[&image, "--name", "remounts"], &remounts[..]].concat();
    // The images are made for a pod that does nothing, and looked at before any app has run.
    let words = ["prepare", "--name", "first", "--stage1", "kvm", &image, "true"];
    machine.pod(words).success();
    machine.pod(["commit", "first", "made:1"]).refuses(1, &["lies in its virtual machine"]);
    let before = images(Path::new("/var/lib/pod"));
    assert!(!before.is_empty(), "the layers lie in images");
    let apps = [
        streams.to_vec(),
        remounts,
        app("calm", &[], "echo up; exec sleep 1000"),
        [app("writes", &["--init-app", "--cap-add", "MKNOD"], WRITES), vec!["[sv]d*"]].concat(),
        // The writable disk is its own to wreck.
        [app("privileged", &["--init-app", "--privileged"], WRITES), vec!["vda*"]].concat(),
        app("forks", &["--pids-limit", "100"], FORKS),
        app("fills", &["-m", "96m"], FILLS),
        app("eats", &["-m", "64m"], EATS),
    ];
    let flags = ["run", "-d", "--name", "wreckers", "--stage1", "kvm", "--exit-policy", "never"];
    let said = machine.call().args(flags).args(apps.join(&"---")).run();
    said.success();
    let logs = |app: &str| machine.pod(["logs", "wreckers", app]).success();
    for app in ["writes", "privileged"] {
        let text = logs(app);
        assert!(text.contains("tried ") && !text.contains("tried 0"), "{app}: {text}");
        assert!(!text.contains("written"), "{app}: {text}");
    }
    // A node is made where that is allowed: what cannot be is opening it, or writing.
    assert!(logs("privileged").contains("made vda"), "{}", logs("privileged"));
    let text = logs("remounts");
    assert!(text.contains("remounted") && text.contains("kept\n"), "{text}");
    assert!(text.contains("tried") && !text.contains("written"), "{text}");
    assert_eq!(fs::read_to_string(shared.join("file")).ok().as_deref(), Some("kept\n"));
    assert_eq!(fs::read_dir(&shared).map(Iterator::count).ok(), Some(1));
    reaches_nobody(&machine.pod(["logs", "wreckers", "calls"]).json());
    let follow = machine.call().args(["logs", "-f", "wreckers", "eats"]).start();
    follow.wait_for("eaten");
    let calm =
        machine.pod(["exec", "-c", "calm", "wreckers", "sh", "-c", "echo calm; cat /etc/hostname"]);
    assert_eq!(calm.success(), "calm\nwreckers\n");
    machine.pod(["stop", "-t", "1", "wreckers"]).success();
    assert_eq!(images(Path::new("/var/lib/pod")), before, "what lies behind the disk is as it was");
    machine.pod(["rm", "wreckers", "first"]).success();
}
