//! A pod is a unit: how it looks to systemd, how it is started, stopped and ended through it, and what
//! its client in the foreground does.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use pod_abi::status::AppState;
use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;
use tests::terminal::Terminal;

/// Returns properties of a unit, as `NAME=VALUE` lines in the order they are named.
fn show(machine: &Sandbox, unit: &str, properties: &[&str]) -> Vec<String> {
    properties
        .iter()
        .map(|property| {
            let said = machine.program("systemctl").args(["show", "-p", property, unit]).run();
            said.success().trim().to_owned()
        })
        .collect()
}

/// Waits until a unit's property has a value.
fn await_property(machine: &Sandbox, unit: &str, line: &str) {
    let property = line.split('=').next().unwrap_or_default();
    for _ in 0..1000 {
        if show(machine, unit, &[property]) == [line] {
            return;
        }
    }
    panic!("{unit} never was {line}: {:?}", show(machine, unit, &[property]));
}

/// Tells whether systemd knows a unit.
fn is_loaded(machine: &Sandbox, unit: &str) -> bool {
    show(machine, unit, &["LoadState"]) == ["LoadState=loaded"]
}

/// Writes the file of a unit, which goes when this is dropped.
struct UnitFile(&'static str);

impl UnitFile {
    fn write(machine: &Sandbox, name: &'static str, text: &str) -> Self {
        fs::write(Path::new("/run/systemd/system").join(name), text).unwrap();
        machine.program("systemctl").args(["daemon-reload"]).run().success();
        Self(name)
    }
}

impl Drop for UnitFile {
    fn drop(&mut self) {
        let systemctl =
            |args: &[&str]| std::process::Command::new("systemctl").args(args).output().unwrap();
        systemctl(&["stop", self.0]);
        fs::remove_file(Path::new("/run/systemd/system").join(self.0)).unwrap();
        systemctl(&["daemon-reload"]);
        systemctl(&["reset-failed", self.0]);
    }
}

#[test]
fn systemctl_shows_the_state_the_text_and_the_tree_of_a_pod() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let line = [&image, "--name", "web", "/probe", "wait", "---", &image, "--name", "db", "/probe"];
    machine.pod([&["run", "-d", "--name", "shop"], &line[..], &["wait"]].concat()).success();
    let status = machine.program("systemctl").args(["status", "--no-pager", "pod-shop"]).run();
    let status = status.success();
    for words in ["Pod shop: web, db", "Active: active (running)", "Status: \"2/2 apps"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    let of = |words: &str| status.find(words).unwrap_or_else(|| panic!("{words}: {status}"));
    assert!(of("/machine.slice/machine-pods.slice/pod-shop.service") < of("─supervisor"));
    assert!(of("─app-web") > of("─pod") && of("─app-db") > of("─pod"));
    assert_eq!(machine.status("shop").unit.as_deref(), Some("pod-shop.service"));
    // Stopped by systemd, it ends in order and has not failed.
    machine.program("systemctl").args(["stop", "pod-shop"]).run().success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    let status = machine.status("shop");
    assert_eq!(status.code, Some(0));
    assert!(status.apps.iter().all(|app| app.state == AppState::Exited), "{status:?}");
    machine.pod(["rm", "shop"]).success();
}

#[test]
fn a_foreground_is_a_client_that_hears_all_apps_and_ends_with_the_pods_code() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let said = machine.pod(["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(said.stderr.trim(), "err");
    assert_eq!(said.exits(3), "out\n");
    let one = [&image, "--name", "a", "echo", "one", "---", &image, "--name", "b", "echo", "two"];
    let said = machine.pod([&["run", "--rm"], &one[..]].concat()).success();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a | one", "b | two"]);
    // A name is free as soon as its pod has ended.
    for _ in 0..5 {
        machine.pod(["run", "--rm", "--name", "again", &image, "true"]).success();
    }
    let long = machine.pod(["run", "--rm", &image, "seq", "1", "50000"]).success();
    assert!(long.lines().count() == 50_000 && long.ends_with("50000\n"));
    machine.pod(["run", "--rm", &image, "/nosuch"]).refuses(127, &["/nosuch"]);
    machine
        .pod(["run", "-d", "--rm", "--name", "no", &image, "/nosuch"])
        .refuses(127, &["/nosuch"]);
    assert!(!is_loaded(&machine, "pod-no.service"));
}

#[test]
fn signals_and_terminals_of_a_foreground_are_what_they_are_without_systemd() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    // Nobody takes input: the first wish ends the pod in order.
    let run = machine.call().args(["run", "--rm", &image, "/probe", "wait"]).start();
    run.wait_for("ready");
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait().exits(130), "ready\nbye\n");
    // A client that is killed, or whose terminal is closed, harms no pod.
    let run = machine.call().args(["run", "--name", "shop", &image, "/probe", "wait"]).start();
    run.wait_for("ready");
    run.signal(Signal::SIGKILL);
    drop(run);
    machine.pod(["stop", "shop"]).success();
    let window = Terminal::new(24, 80);
    let start = machine.call_in_session().args(["start", "shop"]).start_on(&window);
    window.wait_for("ready");
    window.hang_up();
    start.wait().exits(129);
    assert_eq!(show(&machine, "pod-shop.service", &["ActiveState"]), ["ActiveState=active"]);
    machine.pod(["rm", "-f", "shop"]).success();
    // Typed keys leave a pod.
    let terminal = Terminal::new(24, 80);
    let line = ["run", "-it", "--name", "shop", &image, "sh"];
    let run = machine.call_in_session().args(line).start_on(&terminal);
    terminal.wait_for("# ");
    terminal.types(b"echo $((20 + 3))\n");
    terminal.wait_for("23");
    terminal.types(b"\x10\x11");
    run.wait().success();
    assert_eq!(show(&machine, "pod-shop.service", &["ActiveState"]), ["ActiveState=active"]);
    machine.pod(["rm", "-f", "shop"]).success();
    // What is typed ends the app, and the pod.
    let run = machine.call_in_session().args(["run", "--rm", "-it", &image, "sh"]);
    let run = run.start_on(&terminal);
    terminal.wait_for("# ");
    terminal.types(b"exit 5\n");
    run.wait().exits(5);
}

#[test]
fn what_was_asked_to_end_is_not_started_again_and_what_was_killed_is() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let always = ["run", "-d", "--name", "shop", "--unit-property", "Restart=always"];
    machine.pod([&always[..], &[&image, "/probe", "wait"]].concat()).success();
    machine
        .program("systemctl")
        .args(["kill", "--signal=KILL", "--kill-who=main", "pod-shop"])
        .run()
        .success();
    await_property(&machine, "pod-shop.service", "NRestarts=1");
    await_property(&machine, "pod-shop.service", "ActiveState=active");
    assert_eq!(machine.status("shop").attempt, 2);
    machine.pod(["stop", "shop"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    machine.pod(["start", "-d", "shop"]).success();
    machine.pod(["kill", "shop"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    assert_eq!(machine.status("shop").code, Some(137));
    machine.pod(["start", "-d", "shop"]).success();
    machine.pod(["restart", "shop"]).success();
    assert_eq!(machine.status("shop").attempt, 5);
    machine.pod(["rm", "-f", "shop"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    let rm = ["run", "-d", "--rm", "--unit-property", "Restart=always", &image, "true"];
    machine.pod(rm).refuses(125, &["Restart"]);
}

#[test]
fn a_grace_that_is_asked_for_counts_beyond_the_units_own() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let slow = "trap 'sleep 8; echo done; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let line = ["run", "-d", "--name", "shop", "--stop-timeout", "1", &image, "sh", "-c", slow];
    machine.pod(line).success();
    machine.pod(["stop", "-t", "60", "shop"]).success();
    assert!(machine.pod(["logs", "shop"]).success().contains("done"));
    machine.pod(["start", "-d", "shop"]).success();
    machine.pod(["stop", "-t", "0", "shop"]).success();
    machine.pod(["rm", "shop"]).success();
}

#[test]
fn a_pod_that_failed_leaves_a_failed_unit_until_it_is_removed_or_replaced() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let fails = ["run", "--name", "shop", &image, "sh", "-c", "exit 9"];
    machine.pod(fails).exits(9);
    let result = || show(&machine, "pod-shop.service", &["ActiveState", "ExecMainStatus"]);
    assert_eq!(result(), ["ActiveState=failed", "ExecMainStatus=9"]);
    machine.pod(["run", "--name", "shop", &image, "true"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    machine.pod(fails).exits(9);
    machine.pod(["rm", "shop"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    machine.pod(["gc"]).success();
}

#[test]
fn names_of_units_that_are_taken_are_refused_and_nothing_of_others_is_touched() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    machine.pod(["run", "-d", "--name", "shop", &image, "/probe", "wait"]).success();
    machine.pod(["run", "-d", "--name", "shop", &image, "true"]).refuses(125, &["belongs to pod"]);
    let other = machine.path("other");
    let other = other.to_str().unwrap();
    let in_other = |args: &[&str]| machine.pod([&["--root", other], args].concat());
    let taken = ["pod-shop.service", "no pod's of this root"];
    in_other(&["run", "-d", "--name", "shop", &image, "true"]).refuses(125, &taken);
    assert_eq!(in_other(&["ps", "-aq"]).success(), "");
    assert_eq!(show(&machine, "pod-shop.service", &["ActiveState"]), ["ActiveState=active"]);
    machine.pod(["rm", "-f", "shop"]).success();
    // One that has failed is another root's to forget.
    in_other(&["run", "--name", "shop", &image, "false"]).exits(1);
    machine.pod(["run", "--name", "shop", &image, "true"]).refuses(125, &taken);
    assert_eq!(machine.pod(["ps", "-aq"]).success(), "");
    in_other(&["rm", "shop"]).success();
    // And one of somebody's own.
    let _file = UnitFile::write(&machine, "pod-shop.service", "[Service]\nExecStart=sleep 1000\n");
    machine.program("systemctl").args(["start", "pod-shop"]).run().success();
    machine.pod(["run", "--name", "shop", &image, "true"]).refuses(125, &taken);
    assert_eq!(show(&machine, "pod-shop.service", &["ActiveState"]), ["ActiveState=active"]);
}

#[test]
fn a_hand_written_unit_is_a_service_like_any_other() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let text = format!(
        "[Service]\nType=notify\nDelegate=yes\nKillMode=mixed\nRestart=on-failure\nRestartSec=0\n\
         ExecStart=pod run --rm --name hand {image} /probe wait\n"
    );
    let _file = UnitFile::write(&machine, "hand.service", &text);
    let systemctl = |args: &[&str]| machine.program("systemctl").args(args).run().success();
    let result = || show(&machine, "hand.service", &["ActiveState", "Result", "ExecMainStatus"]);
    let ended = ["ActiveState=inactive", "Result=success", "ExecMainStatus=0"];
    systemctl(&["start", "hand"]);
    let status = machine.status("hand");
    assert_eq!(status.unit.as_deref(), Some("hand.service"));
    let main = format!("MainPID={}", status.supervisor);
    assert_eq!(show(&machine, "hand.service", &["MainPID"]), [main]);
    systemctl(&["stop", "hand"]);
    assert_eq!(result(), ended);
    systemctl(&["start", "hand"]);
    machine.pod(["stop", "hand"]).success();
    assert_eq!(result(), ended);
    systemctl(&["start", "hand"]);
    let before = machine.status("hand").supervisor;
    machine.pod(["restart", "hand"]).success();
    assert_ne!(machine.status("hand").supervisor, before);
    systemctl(&["kill", "--signal=KILL", "--kill-who=main", "hand"]);
    await_property(&machine, "hand.service", "NRestarts=1");
    await_property(&machine, "hand.service", "ActiveState=active");
    systemctl(&["stop", "hand"]);
    // Its exit status is the pod's, and the journal has each line once.
    let text = text.replace("/probe wait", "sh -c 'echo from-hand; exit 7'");
    let text = text.replace("Type=notify", "Type=exec").replace("Restart=on-failure\n", "");
    fs::write("/run/systemd/system/hand.service", text).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["start", "hand"]);
    await_property(&machine, "hand.service", "ActiveState=failed");
    assert_eq!(result()[1..], ["Result=exit-code", "ExecMainStatus=7"]);
    let journal = ["-u", "hand", "-o", "cat", "--no-pager"];
    let journal = machine.program("journalctl").args(journal).run().success();
    assert_eq!(journal.matches("from-hand").count(), 1, "{journal}");
}

#[test]
fn a_shell_in_a_unit_is_a_client_of_a_pod_in_a_unit_of_its_own() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let line = format!("pod run --rm --name inner {image} sh -c 'echo in; exit 4'; echo after $?");
    let said = machine
        .program("systemd-run")
        .args(["--wait", "--pipe", "--quiet", "--collect", "sh", "-c", &line])
        .run()
        .success();
    assert_eq!(said, "in\nafter 4\n");
}

#[test]
fn a_manager_that_executes_itself_anew_harms_neither_a_start_nor_a_run() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let reexec = || machine.program("systemctl").args(["daemon-reexec"]).run().success();
    machine.pod(["run", "-d", "--name", "shop", &image, "/probe", "wait"]).success();
    let slow = ["--readiness", "exec:test -e /ready", "sh", "-c"];
    let line =
        [&["run", "-d", "--name", "late", &image], &slow[..], &["sleep 1; touch /ready; sleep 99"]];
    let late = machine.call().args(line.concat()).start();
    await_property(&machine, "pod-late.service", "ActiveState=activating");
    reexec();
    late.wait().success();
    let run = machine.call().args(["run", "--name", "fore", &image, "/probe", "wait"]).start();
    run.wait_for("ready");
    reexec();
    run.signal(Signal::SIGTERM);
    run.wait().exits(143);
    for name in ["shop", "late"] {
        machine.pod(["rm", "-f", name]).success();
    }
    machine.pod(["rm", "fore"]).success();
}

#[test]
fn systemd_hears_how_far_a_fetch_is() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let unit = ["--quiet", "--unit=fetches", "-p", "Type=oneshot", "-p", "RemainAfterExit=yes"];
    let fetch = ["-p", "NotifyAccess=main", "pod", "fetch", "--pull", "always", &image];
    machine.program("systemd-run").args([&unit[..], &fetch].concat()).run().success();
    let said = show(&machine, "fetches.service", &["StatusText"]).concat();
    let known = ["StatusText=resolving oci:", "StatusText=pulling oci:"];
    assert!(known.iter().any(|words| said.starts_with(words)), "{said}");
    machine.program("systemctl").args(["stop", "fetches"]).run().success();
}

#[test]
fn two_hundred_pods_in_a_row_leave_nothing() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    for _ in 0..200 {
        machine.pod(["run", "-d", "--rm", &image, "true"]).success();
    }
}

#[test]
fn without_a_service_manager_pods_run_in_sessions_of_their_own() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let none = |args: &[&str]| machine.pod([&["--manager", "none"], args].concat());
    assert_eq!(none(&["run", "--rm", &image, "echo", "one"]).success(), "one\n");
    none(&["run", "-d", "--name", "shop", &image, "/probe", "wait"]).success();
    assert!(!is_loaded(&machine, "pod-shop.service"));
    assert_eq!(machine.status("shop").unit, None);
    none(&["stop", "shop"]).success();
    let here = ["run", "--rm", "--in-place", &image, "echo", "two"];
    assert_eq!(machine.pod(here).success(), "two\n");
    machine.pod(["rm", "shop"]).success();
    let info = |args: &[&str]| {
        let said = machine.pod([args, &["info"]].concat()).success();
        said.lines().find(|line| line.starts_with("manager:")).map(str::to_owned)
    };
    assert!(info(&[]).is_some_and(|line| line.contains("systemd 252")));
    assert!(info(&["--manager", "none"]).is_some_and(|line| line.contains("none")));
}
