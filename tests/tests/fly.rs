//! Pods without walls: what they share with the host, what they are refused, and that they end
//! like any other, whoever is killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_abi::status::AppState;
use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod of `fly` is the host's root") {
            return;
        }
        Sandbox::new()
    }};
}

const FLY: [&str; 2] = ["--stage1", "fly"];

#[test]
fn an_app_that_flies_has_its_own_files_and_everything_else_of_the_host() {
    let sandbox = sandbox!();
    let script = "for kind in net ipc uts user pid cgroup mnt; do readlink /proc/self/ns/$kind; done; \
                  cat /etc/passwd | head -1; test -c /dev/kmsg -o -c /dev/loop-control -o -c /dev/fuse \
                  -o -c /dev/mem -o -b /dev/loop0 -o -d /dev/pts && echo devices; \
                  test -d /proc/2 -o -d /proc/1 && echo processes; grep CapEff /proc/self/status; \
                  grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status";
    let said = sandbox.run_app(&FLY, &["sh", "-c", script]).success();
    let lines: Vec<&str> = said.lines().collect();
    for (line, kind) in lines.iter().zip(["net", "ipc", "uts", "user", "pid", "cgroup"]) {
        assert_eq!(*line, sandbox.namespace(kind), "{said}");
    }
    assert_ne!(lines[6], sandbox.namespace("mnt"), "{said}");
    assert_eq!(lines[7], "root:x:0:0:root:/root:/bin/sh");
    assert_eq!(lines[8..10], ["devices", "processes"]);
    let host = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let held = host.lines().find(|line| line.starts_with("CapEff")).expect("it is there");
    assert_eq!(lines[10], held, "all the caller has");
    assert_eq!(lines[11..], ["NoNewPrivs:\t0", "Seccomp:\t0"]);
}

#[test]
fn apps_that_fly_are_run_logged_entered_and_stopped_like_others() {
    let sandbox = sandbox!();
    sandbox.run_app(&FLY, &["/probe", "exit", "42"]).exits(42);
    sandbox.run_app(&FLY, &["nowhere"]).refuses(127, &["`nowhere` in `PATH`"]);
    let image = sandbox.fixture(Fixture::App);
    let one = ["--stage1", "fly", &image, "--name", "one", "/probe", "wait"];
    let two = ["---", &image, "--name", "two", "--user", "1000:1000", "--cap-drop", "ALL"];
    let pod = sandbox.detached("both", one.iter().chain(&two).chain(&["/probe", "wait"]));
    pod.logs_until("ready");
    assert_eq!(pod.exec(&["--app", "two"], &["id", "-u"]).success(), "1000\n");
    let seen = pod.exec(&["--app", "one"], &["sh", "-c", "readlink /proc/self/ns/mnt"]).success();
    assert_ne!(seen.trim(), sandbox.namespace("mnt"));
    pod.stop(&[]).success();
    let apps = sandbox.status("both").apps;
    assert!(apps.iter().all(|app| app.state == AppState::Exited), "{apps:?}");
    sandbox.pod(["start", "-d", "both"]).success();
    assert!(pod.is_running());
}

#[test]
fn nothing_of_a_pod_that_flies_outlives_it() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let orphans =
        "(setsid sh -c '(sleep 1000 &) ; exec sleep 1000' &) ; echo ready; exec sleep 1000";
    for killed in ["nobody", "init", "supervisor"] {
        let orphans = ["--stage1", "fly", &image, "sh", "-c", orphans];
        let pod = sandbox.detached("left", orphans);
        pod.logs_until("ready");
        let status = pod.status();
        let pid = match killed {
            "init" => status.init,
            "supervisor" => Some(status.supervisor),
            _ => None,
        };
        match pid {
            Some(pid) => {
                sandbox.expect_debris();
                let pid = Pid::from_raw(i32::try_from(pid).expect("process ids are small"));
                let log = pod.follow();
                kill(pid, Signal::SIGKILL).expect("it lives");
                // The log ends when the last process that holds it has.
                let _ = log.wait();
            }
            None => drop(pod.stop(&["-t", "0"])),
        }
        sandbox.pod(["rm", "left"]).success();
        sandbox.pod(["gc"]).success();
        assert_eq!(sandbox.leaks(), Vec::<String>::new(), "after `{killed}` was killed");
    }
}

#[test]
fn what_only_a_wall_could_give_is_refused() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let run = |flags: &[&str]| {
        let call = sandbox.call().args(["run", "--rm", "--stage1", "fly"]).args(flags);
        call.args([&image, "/probe", "exit", "0"]).run()
    };
    run(&["--net", "none"]).refuses(125, &["`--net none` and `--stage1 fly` contradict", "ns"]);
    run(&["--hostname", "mine"]).refuses(125, &["`--hostname` and `--stage1 fly`"]);
    let spec = sandbox.pod(["run", "--dry-run", "--net", "host", &image, "true"]).raw;
    let spec = spec.replace("\"stage1\": \"ns\"", "\"stage1\": \"fly\"");
    let path = sandbox.path("spec.json");
    std::fs::write(&path, spec).expect("the sandbox can be written");
    let said = sandbox.call().args(["run", "--rm", "--spec"]).args([&path]).run();
    said.refuses(125, &["user ids of its own", "which stage1 `fly` does not give"]);
}
