//! Sockets that a service manager hands to a pod: who gets which, what an app sees of them, and
//! that nobody else sees anything.
//!
//! The service manager is the helper `activate`; real socket units are in the machine's tests.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe::Report;
use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::{Call, Sandbox};

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes user ids and directories of root") {
            return;
        }
        Sandbox::new()
    }};
}

/// Prepares a call of `pod` with these sockets, which lie in the sandbox.
fn activated<'s>(sandbox: &'s Sandbox, sockets: &[&str]) -> Call<'s> {
    let helper = sandbox.programs().path("activate");
    let pod = sandbox.programs().path("pod");
    let call = sandbox.program(&helper.display().to_string()).args(sockets);
    call.args(["--".as_ref(), pod.as_os_str()])
}

/// Connects, and returns what the other side says until it hangs up.
fn told_by(path: &Path) -> String {
    let mut connection = UnixStream::connect(path).expect("somebody listens");
    connection.set_read_timeout(Some(Duration::from_secs(30))).expect("it is more than nothing");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("it is answered");
    text
}

/// What a report says of sockets: the numbers of descriptors, and the variables.
fn seen(report: &Report) -> (Vec<i32>, [Option<&str>; 3]) {
    let variables = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
    (report.descriptors.keys().copied().collect(), variables.map(|name| report.variable(name)))
}

#[test]
fn the_only_app_gets_all_sockets_from_3_on_and_they_are_its_own() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let sockets =
        ["http=unix:http", "admin=tcp:127.0.0.1:0", "http=nonblocking:more", "log=file:fifo"];
    sandbox.program("mkfifo").args(["fifo"]).run().success();
    // How the app is placed, and its process id as it sees it.
    for (flags, pid) in [
        (&[][..], Some("1")),
        (&["--init"], Some("2")),
        (&["--pid", "pod"], None),
        (&["-u", "web"], Some("1")),
        (&["--stage1", "fly"], None),
        (&["--userns", "host"], Some("1")),
    ] {
        let run = ["run", "--rm"].iter().chain(flags);
        let run = run.copied().chain([image.as_str(), "/probe", "report"]);
        let report: Report = activated(&sandbox, &sockets).args(run).run().json();
        let own = report.pid.to_string();
        let (descriptors, variables) = seen(&report);
        assert_eq!(descriptors, [0, 1, 2, 3, 4, 5, 6], "{flags:?}: {:?}", report.descriptors);
        let expected = [Some("4"), Some("http:http:admin:log"), Some(own.as_str())];
        assert_eq!(variables, expected, "{flags:?}");
        assert_eq!(pid.unwrap_or(&own), own, "{flags:?}");
        for number in 3..6 {
            assert!(report.descriptors[&number].starts_with("socket:"), "{:?}", report.descriptors);
        }
        for name in ["http", "more"] {
            std::fs::remove_file(sandbox.path(name)).expect("it was bound");
        }
    }
}

#[test]
fn an_app_that_is_started_again_has_the_same_sockets_and_what_is_executed_beside_it_has_none() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let args = ["run", "--name", "web", &image, "--restart", "always", "/probe", "serve"];
    let running = activated(&sandbox, &["http=unix:http", "admin=unix:admin"]).args(args).start();
    running.wait_for("ready");
    sandbox.pod(["wait", "--condition", "ready", "web"]).success();
    assert_eq!(told_by(&sandbox.path("http")), "http");
    assert_eq!(told_by(&sandbox.path("admin")), "admin");

    let executed: Report = sandbox.pod(["exec", "web", "/probe", "report"]).json();
    assert_eq!(seen(&executed), (vec![0, 1, 2], [None; 3]), "{:?}", executed.descriptors);

    let pid = sandbox.status("web").apps[0].pid.expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("process ids are positive"));
    kill(pid, Signal::SIGKILL).expect("it runs");
    // A call before its end might still be its own to answer.
    running.wait_for("ready\nready\n");
    assert_eq!(told_by(&sandbox.path("http")), "http");
    assert_eq!(told_by(&sandbox.path("admin")), "admin");
    assert!(sandbox.status("web").apps[0].restarts > 0);
    sandbox.pod(["stop", "-t", "0", "web"]).success();
    let _ = running.wait();
}

#[test]
fn each_app_gets_the_sockets_it_names_in_its_order_and_no_others() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let report = "/probe report >/tmp/report; echo written; exec /probe wait";
    let app = |name: &'static str, sockets: &'static [&'static str]| {
        let named = sockets.iter().flat_map(|socket| ["--socket", socket]);
        let head = [image.as_str(), "--name", name];
        let tail = ["sh", "-c", report, "---"];
        head.into_iter().chain(named).chain(tail).collect::<Vec<_>>()
    };
    let mut args = vec!["run", "--name", "three"];
    args.extend(app("a", &["admin", "http"]));
    args.extend(app("b", &["http"]));
    args.extend(app("none", &[]));
    args.pop();
    let running =
        activated(&sandbox, &["http=unix:x", "admin=unix:y", "http=unix:z"]).args(args).start();
    running.wait_for("written");
    for (app, count, names) in
        [("a", 3, Some("admin:http:http")), ("b", 2, Some("http:http")), ("none", 0, None)]
    {
        sandbox.call().args(["logs", "-f", "three", app]).start().wait_for("written");
        let said = sandbox.pod(["exec", "--app", app, "three", "cat", "/tmp/report"]);
        let report: Report = said.json();
        let (_, [_, told, _]) = seen(&report);
        assert_eq!(told, names, "{app}");
        // A shell of the image may keep its script open.
        let sockets = report.descriptors.values().filter(|what| what.starts_with("socket:"));
        assert_eq!(sockets.count(), count, "{app}: {:?}", report.descriptors);
    }
    sandbox.pod(["stop", "-t", "0", "three"]).success();
    let _ = running.wait();
}

#[test]
fn sockets_and_apps_that_do_not_match_are_refused_by_name() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let refused = |sockets: &[&str], args: &[&str], words: &[&str]| {
        let said = activated(&sandbox, sockets).args(["run", "--rm"]).args(args).run();
        said.refuses(125, words);
        for name in sockets.iter().filter_map(|socket| socket.split_once("=unix:")) {
            // A name beneath the sandbox and nothing else: an absolute path would be the host's.
            assert!(!name.1.contains('/'), "{name:?}");
            std::fs::remove_file(sandbox.path(name.1)).expect("it was bound");
        }
    };
    std::fs::write(sandbox.path("plain"), "a file").expect("the sandbox can be written");
    let image = image.as_str();
    let two = [image, "true", "---", image, "--name", "b", "true"];
    refused(
        &["http=unix:s"],
        &two,
        &["socket `http` was handed over, and no app asks", "--socket http"],
    );
    refused(
        &["http=unix:s"],
        &[image, "--socket", "https", "true"],
        &["app `app` asks for socket `https`", "these were: `http`"],
    );
    refused(&["a=unix:s", "b=unix:t"], &[image, "--socket", "a", "true"], &["socket `b`"]);
    refused(&["dir=file:."], &[image, "true"], &["`dir`, at descriptor 3, is no socket"]);
    refused(&["a=file:plain"], &[image, "true"], &["is no socket"]);
    refused(&["a b=unix:s"], &[image, "true"], &["`a b` is no name of a socket"]);
    refused(&["a=unix:s"], &["-d", image, "true"], &["handed to this process", "--detach"]);
    refused(
        &[],
        &[image, "--socket", "http", "true"],
        &["app `app` asks for socket `http`", "FileDescriptorName=http"],
    );
    sandbox.pod(["run", "-d", "--rm", image, "--socket", "http", "true"]).refuses(125, &["`http`"]);
    sandbox.pod(["run", image, "--socket", "a/b", "true"]).refuses(125, &["`a/b` is no name"]);
    // Those of somebody else are nobody's here.
    let call = sandbox.call().env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    call.args(["run", "--rm", image, "true"]).run().success();
    // A pod laid out may wait for its sockets; it is refused when it starts.
    sandbox
        .pod(["prepare", "--name", "later", image, "--socket", "http", "/probe", "report"])
        .success();
    sandbox.pod(["start", "later"]).refuses(125, &["app `app` asks for socket `http`"]);
    let report: Report =
        activated(&sandbox, &["http=unix:s"]).args(["start", "later"]).run().json();
    assert_eq!(report.variable("LISTEN_FDNAMES"), Some("http"));
}

#[test]
fn an_app_that_comes_later_may_take_a_socket_of_its_pod() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let args = ["run", "--name", "shop", &image, "--name", "a", "/probe", "serve"];
    let running = activated(&sandbox, &["http=unix:http"]).args(args).start();
    running.wait_for("ready");
    let add = [
        "app", "add", "--start", "shop", &image, "--name", "b", "--socket", "http", "/probe",
        "serve",
    ];
    sandbox.pod(add).success();
    sandbox.call().args(["logs", "-f", "shop", "b"]).start().wait_for("ready");
    sandbox.pod(["app", "stop", "-t", "0", "shop", "a"]).success();
    assert_eq!(told_by(&sandbox.path("http")), "http");
    let add = ["app", "add", "shop", &image, "--name", "c", "--socket", "ftp", "true"];
    sandbox.pod(add).refuses(1, &["app `c` asks for socket `ftp`, which the pod was not handed"]);
    sandbox.pod(["stop", "-t", "0", "shop"]).success();
    let _ = running.wait();
}

#[test]
fn as_many_sockets_as_there_can_be_arrive_and_no_more() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let sockets: Vec<String> = (0..129).map(|number| format!("s{number}=unix:s{number}")).collect();
    let mut sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
    let args = ["run", "--rm", &image, "/probe", "report"];
    let said = activated(&sandbox, &sockets).args(args).run();
    said.refuses(125, &["`LISTEN_FDS=129` is no number of sockets up to 128"]);
    for socket in sockets.drain(..) {
        let name = socket.split_once("=unix:").expect("it is one").1;
        std::fs::remove_file(sandbox.path(name)).expect("it was bound");
    }
    let sockets: Vec<String> = (0..128).map(|number| format!("s{number}=unix:s{number}")).collect();
    let sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
    let report: Report = activated(&sandbox, &sockets).args(args).run().json();
    assert_eq!(report.descriptors.len(), 131);
    let names: Vec<&str> = sockets.iter().filter_map(|one| Some(one.split_once('=')?.0)).collect();
    assert_eq!(report.variable("LISTEN_FDNAMES"), Some(names.join(":").as_str()));
}
