//! The apps of a pod: the order they start in, when they are ready, who reaps, and how they come
//! and go while the pod runs.

use std::fs::{self, File};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_abi::exit::Ended;
use pod_abi::status::AppState;
use tests::fixtures::Fixture;
use tests::require;
use tests::said::Said;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// A volume in memory that apps of a pod share.
const SHARED: [&str; 2] = ["--mount", "type=tmpfs,src=memory,dst=/memory"];

/// Returns the words of an app that runs a line of shell.
fn shell<'w>(image: &'w str, name: &'w str, flags: &[&'w str], script: &'w str) -> Vec<&'w str> {
    let mut words = vec![image, "--name", name];
    words.extend(flags);
    words.extend(SHARED);
    words.extend(["sh", "-c", script]);
    words
}

#[test]
fn init_apps_run_to_their_end_and_an_app_starts_when_the_one_before_it_is_ready() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let first = shell(&image, "first", &["--init-app"], "echo one > /memory/first");
    let second = shell(&image, "second", &["--init-app"], "cat /memory/first > /memory/second");
    let served = "cat /memory/second && echo page > /tmp/page && exec httpd -f -p 80 -h /tmp";
    let server = shell(&image, "server", &["--readiness", "http:80/page"], served);
    let gate = "while ! test -e /memory/asked; do sleep 0.01; done; touch /memory/open; \
                exec sleep 1000";
    let probed = ["--readiness", "exec:test -e /memory/open", "--after", "server"];
    let gate = shell(&image, "gate", &probed, gate);
    let asking = "wget -q -O - http://127.0.0.1/page; touch /memory/asked; exec sleep 1000";
    let client = shell(&image, "client", &["--after", "server"], asking);
    // Named before those it waits for: the order of the line is not the order of the start.
    let apps = [client, gate, server, first, second];
    let pod = sandbox.detached("order", apps.join(&"---"));
    for name in ["client", "gate", "server"] {
        let app = pod.app(name);
        assert_eq!(app.state, AppState::Running);
        assert!(app.ready >= app.started, "{name} is ready: {app:?}");
    }
    for name in ["first", "second"] {
        assert_eq!(pod.app(name).exit, Some(Ended::Exited { code: 0 }));
    }
    assert!(pod.app("client").started >= pod.app("server").ready);
    assert!(pod.status().ready >= pod.app("gate").ready);
    assert!(sandbox.pod(["logs", "order", "client"]).success().contains("page"));
}

#[test]
fn an_init_app_that_fails_ends_the_pod_with_its_status() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let apps = [
        shell(&image, "main", &[], "echo never"),
        shell(&image, "first", &["--init-app"], "exit 7"),
    ];
    let said = sandbox.call().args(["run", "--rm", "--exit-policy", "all"]);
    let said = said.args(apps.join(&"---")).run();
    assert!(!said.exits(7).contains("never"));
}

#[test]
fn what_waits_for_an_app_that_was_never_ready_is_told_so() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let apps = [
        shell(&image, "server", &["--readiness", "notify"], "true"),
        shell(&image, "client", &["--after", "server"], "echo never"),
    ];
    let said = sandbox.call().args(["run", "--name", "gone"]).args(apps.join(&"---")).run();
    said.exits(125);
    let error = sandbox.status("gone").apps.remove(1).error.expect("it was not started");
    assert!(error.message.contains("`server` ended before it was ready"), "{error:?}");
}

#[test]
fn whoever_does_not_wait_for_a_pod_to_get_ready_leaves_it_running() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let script = "echo up; exec sleep 1000";
    let words = shell(&image, "slow", &["--readiness", "notify"], script);
    let run = sandbox.call().args(["run", "-d", "--name", "slow"]).args(words).start();
    // Nothing else is said before the end: wait until the app has been started.
    while !sandbox.pod(["logs", "slow"]).stdout.contains("up") {}
    run.signal(Signal::SIGINT);
    let said = run.wait();
    assert_eq!(said.code, 130, "{said}");
    assert!(said.stderr.contains("runs on and is not ready yet"), "{said}");
    assert_eq!(sandbox.status("slow").apps[0].state, AppState::Running);
    assert_eq!(sandbox.status("slow").ready, None);
    sandbox.pod(["stop", "-t", "0", "slow"]).success();
}

#[test]
fn nobody_outside_a_pod_says_that_its_app_is_ready() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let words = shell(&image, "app", &["--readiness", "notify"], "echo up; exec sleep 1000");
    let run = sandbox.call().args(["run", "-d", "--net", "host", "--name", "open"]).args(words);
    let run = run.start();
    while !sandbox.pod(["logs", "open"]).stdout.contains("up") {}
    let pid = sandbox.status("open").apps[0].pid.expect("it has a process on the host");
    let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let address = environ.split('\0').find_map(|var| var.strip_prefix("NOTIFY_SOCKET=@"));
    let address = SocketAddr::from_abstract_name(address.unwrap()).unwrap();
    let network = File::open(format!("/proc/{pid}/ns/net")).unwrap();
    // A thread of its own, for it stays in the network of the sandbox, which the pod shares.
    let stranger = thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address).unwrap();
    });
    stranger.join().unwrap();
    // PID 1 has looked at it once it has answered what came later.
    sandbox.pod(["exec", "open", "true"]).success();
    assert_eq!(sandbox.status("open").ready, None);
    sandbox.pod(["stop", "-t", "0", "open"]).success();
    let said = run.wait();
    assert!(said.stderr.contains("ended before it was ready"), "{said}");
}

#[test]
fn a_reaper_is_process_1_in_the_stead_of_its_app() {
    let sandbox = sandbox!();
    let said = sandbox.run_app(&["--init"], &["sh", "-c", "echo $$; exit 9"]);
    assert_eq!(said.exits(9), "2\n");
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("reaped", [&image, "--init", "-u", "33", "sleep", "1000"]);
    assert_eq!(pod.exec(&[], &["cat", "/proc/2/comm"]).success(), "sleep\n");
    let pid = pod.app("app").pid.expect("it has a process on the host");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "stage2-init\n", "the process of the app is its reaper");
    // Nothing is won by tracing it.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for rights in ["CapBnd:\t0000000000000020\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(rights), "{status}");
    }
    pod.stop(&[]).success();
    assert_eq!(pod.app("app").exit, Some(Ended::Exited { code: 143 }));
}

/// Runs `pod app add POD` with words behind it.
fn add(sandbox: &Sandbox, words: &[&str]) -> Said {
    sandbox.call().args(["app", "add"]).args(words).run()
}

fn apps(sandbox: &Sandbox, pod: &str) -> Vec<String> {
    let apps = sandbox.status(pod).apps;
    apps.into_iter().map(|app| app.name.to_string()).collect()
}

#[test]
fn a_sandbox_takes_apps_while_it_runs_and_has_them_when_it_is_started_again() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["sandbox", "--name", "shop"]).success();
    assert!(sandbox.status("shop").ready.is_some(), "an empty pod is ready at once");
    assert_eq!(apps(&sandbox, "shop"), [""; 0]);

    let script = "echo hello > /memory/word; touch /dev/shm/word; echo up; exec sleep 1000";
    let words = shell(&image, "one", &[], script);
    let said = add(&sandbox, &[&["--start", "shop"], &words[..]].concat());
    assert_eq!(said.success(), "one\n");
    sandbox.call().args(["logs", "-f", "shop"]).start().wait_for("up");
    let source = sandbox.path("data");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "of the host\n").unwrap();
    let mount = format!("{}:/host:ro", source.display());
    let script = "cat /memory/word; ls /dev/shm; cat /host/file; exec sleep 1000";
    let words = shell(&image, "two", &["-v", &mount, "--after", "one"], script);
    add(&sandbox, &[&["shop"], &words[..]].concat()).success();
    assert_eq!(sandbox.status("shop").apps[1].state, AppState::Waiting, "it was only added");
    sandbox.pod(["app", "start", "shop", "two"]).success();
    let follow = sandbox.call().args(["logs", "-f", "shop", "two"]).start();
    follow.wait_for("of the host");
    follow.signal(Signal::SIGTERM);
    let said = sandbox.pod(["logs", "shop", "two"]).success();
    assert_eq!(said, "hello\nword\nof the host\n", "memory is the pod's, whenever an app comes");
    let said = sandbox.pod(["exec", "-c", "two", "shop", "cat", "/host/file"]);
    assert_eq!(said.success(), "of the host\n");

    sandbox.pod(["app", "rm", "shop", "one"]).refuses(1, &["`one`", "stopped first"]);
    sandbox.pod(["app", "stop", "shop", "one", "two"]).success();
    sandbox.pod(["app", "rm", "shop", "one"]).refuses(1, &["`one`", "`two`"]);
    let inspected = sandbox.pod(["inspect", "shop"]).success();
    assert!(inspected.contains("\"apps\": [\n        \"one\",\n        \"two\""), "{inspected}");

    sandbox.pod(["stop", "shop"]).success();
    assert_eq!(sandbox.status("shop").code, Some(0));
    sandbox.pod(["start", "-d", "shop"]).success();
    let shop = sandbox.status("shop");
    assert!(shop.apps.iter().all(|app| app.state == AppState::Running), "{shop:?}");
    sandbox.pod(["app", "stop", "shop", "two"]).success();
    sandbox.pod(["app", "rm", "shop", "two"]).success();
    sandbox.pod(["app", "stop", "shop", "one"]).success();
    sandbox.pod(["app", "rm", "shop", "one"]).success();
    assert_eq!(apps(&sandbox, "shop"), [""; 0]);
    let left = fs::read_dir(pod_directory(&sandbox).join("apps")).unwrap().count();
    assert_eq!(left, 0, "what a removed app has written goes with it");
    let pins = fs::read_to_string(pod_directory(&sandbox).join("pins")).unwrap();
    assert_eq!(pins, "", "its image is kept no longer");
    sandbox.pod(["stop", "shop"]).success();
    let events = fs::read_to_string(pod_directory(&sandbox).join("events.jsonl")).unwrap();
    for event in ["app-added", "app-ready", "app-removed"] {
        assert!(events.matches(event).count() >= 2, "{event}: {events}");
    }
}

/// Returns the directory of the one pod of a sandbox.
fn pod_directory(sandbox: &Sandbox) -> std::path::PathBuf {
    let homes = sandbox.path("root").join("pods/run");
    let mut pods = fs::read_dir(homes).expect("a pod has run");
    pods.next().expect("there is one").expect("it can be read").path()
}

#[test]
fn an_app_that_cannot_be_added_leaves_the_pod_as_it_was() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("shop", [&image, "--name", "main", "/probe", "wait"]);
    let before = pod.status();
    add(&sandbox, &["shop", &image, "--name", "main", "true"]).refuses(1, &["`main`", "twice"]);
    let waiting = ["shop", &image, "--name", "x", "--after", "nobody", "true"];
    add(&sandbox, &waiting).refuses(1, &["`nobody`"]);
    let missing = ["shop", &image, "--name", "x", "-v", "/no/such/place:/x", "true"];
    add(&sandbox, &missing).refuses(1, &["/no/such/place"]);
    // Found out by the stage1, after the records were made.
    let hostile = ["shop", &image, "--name", "x", "-u", "70000", "true"];
    add(&sandbox, &hostile).refuses(1, &["70000"]);
    assert_eq!(pod.status(), before);
    let names: Vec<_> = fs::read_dir(pod_directory(&sandbox).join("apps"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(names, ["main"]);
    add(&sandbox, &["--start", "shop", &image, "--name", "x", "/probe", "wait"]).success();
    assert_eq!(pod.app("x").state, AppState::Running);
    // The policy counts those that came as it does those that were there.
    sandbox.pod(["app", "rm", "shop", "nobody"]).refuses(1, &["`nobody`", "`main`"]);
    assert_eq!(pod.exec(&["-c", "x"], &["sh", "-c", "kill -9 1; exit 3"]).code, 3);
}

#[test]
fn the_list_of_apps_is_whole_whoever_is_killed() {
    let sandbox = sandbox!();
    sandbox.expect_debris();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["sandbox", "--name", "shop"]).success();
    for round in 0..6 {
        let name = format!("app-{round}");
        let running = sandbox
            .call()
            .args(["app", "add", "shop", &image, "--name", &name, "/probe", "wait"])
            .start();
        if round % 2 == 0 {
            running.signal(Signal::SIGKILL);
            let _ = running.wait();
            continue;
        }
        let supervisor = i32::try_from(sandbox.status("shop").supervisor).unwrap();
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        let _ = running.wait();
        assert!(sandbox.cgroup().is_none_or(|cgroup| cgroup.drains(20_000)));
        sandbox.pod(["start", "-d", "shop"]).success();
        for app in sandbox.status("shop").apps {
            assert_eq!(app.state, AppState::Running, "{app:?}");
        }
    }
    for name in apps(&sandbox, "shop") {
        sandbox.pod(["app", "stop", "shop", &name]).success();
        sandbox.pod(["app", "rm", "shop", &name]).success();
    }
    sandbox.pod(["gc"]).success();
    add(&sandbox, &["--start", "shop", &image, "--name", "app-0", "/probe", "wait"]).success();
    sandbox.pod(["stop", "-t", "0", "shop"]).success();
}
