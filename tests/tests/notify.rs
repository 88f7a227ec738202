//! What whoever watches over a pod hears of it (`sd_notify(3)`), and what its apps can make it hear.
//! The tests are the service manager: `NOTIFY_SOCKET` is theirs. What systemd makes of it is asked in
//! `machine/notify.rs`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::fixtures::Fixture;
use tests::require;
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

/// Hears until a message fits, and returns it with those before it.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn of(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("notify");
        let socket = UnixDatagram::bind(path).expect("a socket can be made");
        let timeout = Some(Duration::from_millis(100));
        socket.set_read_timeout(timeout).expect("it can be set");
        Self { socket, heard: Vec::new() }
    }

    /// Waits until a line has been heard that is `fits`; returns the message it stands in.
    fn hears(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        let mut bytes = [0; 4096];
        while begin.elapsed() < Duration::from_secs(30) {
            let Ok(count) = self.socket.recv(&mut bytes) else { continue };
            let message = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let found = message.lines().any(&fits);
            self.heard.push(message.clone());
            if found {
                return message;
            }
        }
        panic!("it was not heard: {:#?}", self.heard);
    }
}

#[test]
fn a_pod_tells_how_it_is_from_its_start_to_its_end() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let mut manager = Manager::of(&sandbox);
    let socket = sandbox.path("notify");
    let go = "mkdir -p /data; until [ -e /data/go ]; do sleep 0.1; done";
    let run = sandbox
        .call()
        .env("NOTIFY_SOCKET", socket.to_str().unwrap())
        .args(["run", "--name", "shop", "--exit-policy", "all"])
        .args([&image, "--name", "web", "--readiness", "notify", "--stop-timeout", "7"])
        .args(["sh", "-c", &format!("/probe notify STATUS=loading; {go}; /probe notify READY=1 STATUS=up; exec sleep 1000")])
        .args(["---", &image, "--name", "job", "--restart", "on-failure", "--stop-timeout", "5"])
        .args(["sh", "-c", "[ -e /ran ] && exec sleep 1000; touch /ran; sleep 1; exit 3"])
        .start();
    manager.hears(|line| line == "STATUS=0/2 apps ready" || line == "STATUS=1/2 apps ready");
    manager.hears(|line| line == "STATUS=1/2 apps ready; web: loading");
    assert!(manager.heard.iter().all(|said| !said.contains("READY=1")), "{:?}", manager.heard);
    manager.hears(|line| line == "STATUS=0/2 apps ready, job restarts in 1 s; web: loading");
    sandbox.pod(["exec", "-c", "web", "shop", "touch", "/data/go"]).success();
    manager.hears(|line| line == "READY=1");
    manager.hears(|line| line == "STATUS=2/2 apps running; web: up");
    // What apps say is in the record a second later: they may say it often.
    let begin = Instant::now();
    while sandbox.status("shop").apps[0].said.as_deref() != Some("up") {
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", sandbox.status("shop"));
    }
    assert!(sandbox.pod(["status", "shop"]).success().contains("web says: up\n"));
    run.signal(Signal::SIGTERM);
    let stopping = manager.hears(|line| line == "STOPPING=1");
    // Both graces, for apps are stopped one after the other, and five seconds.
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=17000000"), "{stopping}");
    assert!(run.wait().code != 0);
    sandbox.pod(["rm", "shop"]).success();
    fs::remove_file(socket).unwrap();
}

#[test]
fn an_app_that_talks_without_end_is_heard_now_and_then() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let mut manager = Manager::of(&sandbox);
    let socket = sandbox.path("notify");
    let flood = "/probe notify READY=1; while :; do /probe notify STATUS=1 MAINPID=1 STATUS=2 \
                 RELOADING=1 READY=1 FDSTORE=1 STOPPING=1 EXTEND_TIMEOUT_USEC=99999999999; done";
    let run = sandbox
        .call()
        .env("NOTIFY_SOCKET", socket.to_str().unwrap())
        .args(["run", "--name", "loud"])
        .args([&image, "--name", "web", "--readiness", "notify", "sh", "-c", flood])
        .start();
    manager.hears(|line| line == "READY=1");
    let before = manager.heard.len();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        manager.hears(|_| true);
    }
    let heard = manager.heard.split_off(before);
    // Four statuses and five reloads a second, each a message or two, and some slack.
    assert!(heard.len() < 3 * 20, "{}", heard.len());
    for word in ["MAINPID", "FDSTORE", "STOPPING", "EXTEND_TIMEOUT"] {
        assert!(heard.iter().all(|said| !said.contains(word)), "{word}: {heard:#?}");
    }
    assert!(heard.iter().any(|said| said.contains("RELOADING=1")), "{heard:#?}");
    // The pod is served as ever.
    assert_eq!(sandbox.pod(["exec", "loud", "echo", "yes"]).success(), "yes\n");
    sandbox.pod(["stop", "-t", "0", "loud"]).success();
    let _ = run.wait();
    sandbox.pod(["rm", "loud"]).success();
    fs::remove_file(socket).unwrap();
}
