//! Pods that belong to the host: enabled, described by a file, run by the template; and what a unit is
//! told to be.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

const FILE: &str = "/etc/pods/kept.json";
const DROP_IN: &str = "/etc/systemd/system/pod@kept.service.d/10-pod.conf";
/// Writes a line to a file of the app at each start, and stays.
const WRITES: [&str; 3] = ["sh", "-c", "echo >>/file; echo run $(wc -l </file); exec sleep 1000"];

fn systemctl(machine: &Sandbox, words: &[&str]) -> String {
    machine.program("systemctl").args(words).run().success()
}

fn shown(machine: &Sandbox, unit: &str, property: &str) -> String {
    let value = format!("--property={property}");
    systemctl(machine, &["show", "--value", &value, unit]).trim().to_owned()
}

/// Waits until the pod's app has said that this is its `count`th start with the files it has.
fn await_start(machine: &Sandbox, count: u32) {
    machine.call().args(["logs", "-f", "kept"]).start().wait_for(&format!("run {count}\n"));
}

#[test]
fn a_pod_of_the_host_keeps_its_files_as_long_as_its_description_holds() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let line = ["run", "-d", "--name", "kept", &image].into_iter().chain(WRITES);
    machine.pod(line).success();
    let first = machine.status("kept").supervisor;
    // It runs in a unit of its own, and is not taken out of it.
    machine.pod(["enable", "--now", "kept"]).refuses(1, &["runs already", "`pod stop kept` first"]);
    assert!(!Path::new(FILE).exists(), "a refusal writes nothing");
    machine.pod(["stop", "kept"]).success();
    assert_eq!(machine.pod(["enable", "--now", "kept"]).success(), format!("{FILE}\n"));
    assert_eq!(systemctl(&machine, &["is-enabled", "pod@kept"]), "enabled\n");
    await_start(&machine, 2);
    let main = shown(&machine, "pod@kept", "MainPID");
    assert_eq!(main, machine.status("kept").supervisor.to_string());
    assert_ne!(main, first.to_string());
    assert_eq!(shown(&machine, "pod@kept", "Slice"), "machine-pods.slice");

    systemctl(&machine, &["restart", "pod@kept"]);
    await_start(&machine, 3);
    systemctl(&machine, &["stop", "pod@kept"]);
    assert_eq!(shown(&machine, "pod@kept", "Result"), "success");
    machine.pod(["gc"]).success();
    systemctl(&machine, &["start", "pod@kept"]);
    await_start(&machine, 4); // `pod gc` keeps a pod of the host

    // Another description is another pod, and the old one goes.
    systemctl(&machine, &["stop", "pod@kept"]);
    let text = fs::read_to_string(FILE).unwrap();
    fs::write(FILE, text.replace("sleep 1000", "sleep 1001")).unwrap();
    systemctl(&machine, &["start", "pod@kept"]);
    await_start(&machine, 1);
    assert_eq!(machine.pod(["logs", "kept"]).success(), "run 1\n");
    let pods = machine.pod(["ps", "-a", "-q"]).success();
    assert_eq!(pods.lines().count(), 1, "{pods}");
    // What was written by hand is not overwritten.
    fs::write(FILE, &text).unwrap();
    machine.pod(["enable", "kept"]).refuses(1, &["describes another pod"]);
    fs::write(FILE, text.replace("sleep 1000", "sleep 1001")).unwrap();

    machine.pod(["disable", "--now", "kept"]).success();
    assert_eq!(shown(&machine, "pod@kept", "ActiveState"), "inactive");
    assert!(!Path::new(FILE).exists() && !Path::new(DROP_IN).exists());
    machine.pod(["disable", "kept"]).refuses(1, &["does not belong to this host"]);
    machine.pod(["rm", "kept"]).success();
}

#[test]
fn a_file_alone_is_enabled_and_what_is_wrong_with_it_stands_in_the_status() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["prepare", "--name", "kept", &image, "/probe", "wait"]).success();
    machine.pod(["enable", "kept"]).success();
    machine.pod(["rm", "kept"]).success();
    machine.pod(["disable", "kept"]).success();
    assert_eq!(machine.pod(["enable", "--now", "kept"]).success(), format!("{FILE}\n"));
    assert_eq!(systemctl(&machine, &["is-enabled", "pod@kept"]), "enabled\n");
    systemctl(&machine, &["stop", "pod@kept"]);
    fs::write(FILE, "{}").unwrap();
    machine.pod(["enable", "--now", "kept"]).refuses(1, &["describes another pod"]);
    machine.program("systemctl").args(["start", "pod@kept"]).run().exits(1);
    assert_eq!(
        shown(&machine, "pod@kept", "StatusText"),
        format!("`{FILE}` is no specification of a pod")
    );
    machine.pod(["rm", "kept"]).success();
    machine.pod(["enable", "kept"]).refuses(1, &["is no specification of a pod"]);
    machine.pod(["disable", "--now", "kept"]).success();
    fs::remove_file(FILE).unwrap();
    fs::remove_dir_all(Path::new(DROP_IN).parent().unwrap()).unwrap();
}

#[test]
fn a_pod_that_cannot_be_kept_is_not_enabled() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--rm", "--name", "gone", &image, "sleep", "1000"]).success();
    machine.pod(["enable", "gone"]).refuses(1, &["removed when it ends", "hint: make it without"]);
    machine.pod(["stop", "gone"]).success();
    let elsewhere = machine.path("elsewhere").display().to_string();
    machine.pod(["--root", &elsewhere, "prepare", "--name", "far", &image, "true"]).success();
    machine
        .pod(["--root", &elsewhere, "enable", "far"])
        .refuses(1, &["runs pods of `/var/lib/pod` only", "`pod generate systemd` prints a unit"]);
    // Without the template there is nothing to enable.
    machine.pod(["prepare", "--name", "near", &image, "true"]).success();
    let template = "/usr/lib/systemd/system/pod@.service";
    let text = fs::read(template).unwrap();
    fs::remove_file(template).unwrap();
    systemctl(&machine, &["daemon-reload"]);
    let said = machine.pod(["enable", "near"]);
    fs::write(template, text).unwrap();
    systemctl(&machine, &["daemon-reload"]);
    said.refuses(1, &["`pod@.service` is not installed", "hint: it comes with the package"]);
    machine.pod(["rm", "near"]).success();
}

#[test]
fn a_generated_unit_runs_its_pod() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let spec = machine.path("made.json");
    let asked = ["--unit-property", "OOMScoreAdjust=100", "--unit-property", "Nice=5"];
    let mut line = vec!["run", "--dry-run", "--name", "made"];
    line.extend(asked);
    line.extend([image.as_str(), "sleep", "1000"]);
    fs::write(&spec, machine.pod(line).raw).unwrap();
    let path = spec.display().to_string();
    let unit = machine.pod(["generate", "systemd", "--spec", &path]);
    let unit = unit.raw;
    let file = "/etc/systemd/system/pod-made.service";
    fs::write(file, &unit).unwrap();
    let verified = machine.program("systemd-analyze").args(["verify", "--man=no", file]).run();
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{unit}");
    systemctl(&machine, &["daemon-reload"]);
    systemctl(&machine, &["start", "pod-made"]);
    assert_eq!(shown(&machine, "pod-made", "OOMScoreAdjust"), "100");
    assert_eq!(shown(&machine, "pod-made", "Nice"), "5");
    assert_eq!(
        shown(&machine, "pod-made", "MainPID"),
        machine.status("made").supervisor.to_string()
    );
    systemctl(&machine, &["stop", "pod-made"]);
    assert_eq!(shown(&machine, "pod-made", "Result"), "success");
    fs::remove_file(file).unwrap();
    systemctl(&machine, &["daemon-reload"]);
    machine.pod(["rm", "made"]).success();
}

#[test]
fn a_unit_is_what_it_was_asked_to_be() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let asked = [
        "Description=a 100% pod, with $HOME",
        "OOMScoreAdjust=-200",
        "TimeoutStartSec=1min 30s",
        "LimitNOFILE=1000:2000",
        "After=network.target",
        "LogExtraFields=TEAM=web",
        "SuccessExitStatus=7 SIGUSR1",
        "Slice=machine-pods-extra.slice",
    ];
    let flags = asked.iter().flat_map(|text| ["--unit-property", text]);
    let mut line = vec!["run", "-d", "--name", "asked"];
    line.extend(flags);
    line.extend([image.as_str(), "sleep", "1000"]);
    machine.pod(line).success();
    let table = [
        ("Description", "a 100% pod, with $HOME"),
        ("OOMScoreAdjust", "-200"),
        ("TimeoutStartUSec", "1min 30s"),
        ("LimitNOFILE", "2000"),
        ("LimitNOFILESoft", "1000"),
        ("SuccessExitStatus", "7 USR1"),
        ("Slice", "machine-pods-extra.slice"),
        ("Type", "notify"),
        ("KillMode", "mixed"),
        ("Delegate", "yes"),
        ("OOMPolicy", "continue"),
        ("TimeoutStopUSec", "15s"),
    ];
    for (property, value) in table {
        assert_eq!(shown(&machine, "pod-asked", property), value, "{property}");
    }
    assert!(shown(&machine, "pod-asked", "After").contains("network.target"));
    let fields = shown(&machine, "pod-asked", "LogExtraFields");
    assert!(fields.contains("TEAM=web") && fields.contains("POD_UUID="), "{fields}");
    machine.pod(["rm", "-f", "asked"]).success();
    systemctl(&machine, &["stop", "machine-pods-extra.slice"]);
}

#[test]
fn a_pod_costs_one_transient_unit() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let rule = "type='method_call',interface='org.freedesktop.systemd1.Manager',member='StartTransientUnit'";
    let line = format!("exec busctl monitor --json=short --match \"{rule}\" 2>&1");
    let monitor = machine.program("sh").args(["-c", &line]).start();
    monitor.wait_for("Monitoring bus message stream");
    machine.pod(["run", "-d", "--name", "counted", &image, "sleep", "1000"]).success();
    machine.pod(["run", "--rm", "--name", "foreground", &image, "true"]).success();
    machine.pod(["rm", "-f", "counted"]).success();
    machine
        .program("systemd-run")
        .args(["--quiet", "--wait", "--unit=last", "true"])
        .run()
        .success();
    monitor.wait_for("\"last.service\"");
    monitor.signal(Signal::SIGTERM);
    let said = monitor.wait().raw;
    let made = |unit: &str| said.matches(&format!("\"{unit}\"")).count();
    assert_eq!((made("pod-counted.service"), made("pod-foreground.service")), (1, 1), "{said}");
    assert_eq!(said.matches("\"StartTransientUnit\"").count(), 3, "{said}");
}
