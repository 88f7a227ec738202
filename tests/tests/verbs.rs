//! The verbs that act on pods that are there: signals, restarts, waiting, watching, removing.
//!
//! What users of other tools expect of the words is tested as they would see it; the whole output
//! of each command stands in `cli.rs`.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
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

/// An app that tells which signals it hears.
const LISTENER: &str = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo rt' 37; \
                        trap 'exit 7' TERM; echo up; while :; do read -t 1 x; done";

#[test]
fn a_signal_goes_to_all_apps_or_to_one_by_name_or_number() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let args = [&image, "--name", "a", "sh", "-c", LISTENER, "---"];
    let more = [&image, "--name", "b", "sh", "-c", LISTENER];
    let pod = sandbox.detached("two", args.iter().chain(&more));
    pod.logs_until("up");
    for (flags, said) in [
        (&["-s", "HUP", "-c", "a"][..], "a | hup"),
        (&["--signal", "SIGUSR1", "--app", "b"], "b | usr1"),
        (&["-s", "1", "-c", "b"], "b | hup"),
        (&["-s", "RTMIN+3", "-c", "a"], "a | rt"),
        (&["-s", "sigusr1"], "a | usr1"),
    ] {
        let killed = sandbox.call().args(["kill"]).args(flags).args(["two"]).run();
        assert_eq!(killed.success(), "two\n");
        pod.logs_until(said);
    }
    let text = sandbox.pod(["logs", "two"]).success();
    assert_eq!(text.matches("a | hup").count(), 1, "{text}");
    sandbox.pod(["kill", "-c", "nosuch", "two"]).refuses(1, &["no app `nosuch`", "`a`, `b`"]);
    sandbox.pod(["kill", "-s", "NOPE", "two"]).refuses(2, &["`TERM`"]);
    // The first that fails ends the pod with its status.
    sandbox.pod(["kill", "-s", "TERM", "-c", "b", "two"]).success();
    assert_eq!(sandbox.pod(["wait", "two"]).success(), "7\n");
    sandbox.pod(["kill", "two"]).refuses(1, &["pod `two` does not run: it has ended"]);
}

#[test]
fn a_killed_pod_ends_with_137_and_is_not_restarted() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let stubborn = "trap '' TERM INT HUP; echo up; while :; do read -t 1 x; done";
    let args = [&image, "--restart", "always", "sh", "-c", stubborn];
    let pod = sandbox.detached("stubborn", args);
    pod.logs_until("up");
    let waiting = sandbox.call().args(["wait", "stubborn"]).start();
    assert_eq!(sandbox.pod(["kill", "stubborn"]).success(), "stubborn\n");
    assert_eq!(waiting.wait().success(), "137\n");
    let status = pod.status();
    assert_eq!((status.code, status.attempt, status.apps[0].restarts), (Some(137), 1, 0));
    assert_eq!(status.apps[0].pid, None);
    // A kill of one app is the app's business: its policy starts it again.
    sandbox.pod(["start", "-d", "stubborn"]).success();
    sandbox.pod(["kill", "-c", "app", "stubborn"]).success();
    let events = sandbox.call().args(["events", "-f", "--since", "1h", "stubborn"]).start();
    events.wait_for("app-backing-off");
}

#[test]
fn a_pod_is_restarted_in_the_background_as_it_was() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let script = "echo run >> /kept; cat /kept | wc -l; trap 'exit 0' TERM; \
                  while :; do read -t 1 x; done";
    let pod = sandbox.detached("web", [&image, "sh", "-c", script]);
    pod.logs_until("1");
    assert_eq!(sandbox.pod(["restart", "web"]).success(), "web\n");
    pod.logs_until("2");
    let status = pod.status();
    assert_eq!((status.attempt, status.ended), (2, None));
    // One that has ended is started.
    pod.stop(&[]).success();
    sandbox.pod(["restart", "-t", "0", "web"]).success();
    assert!(pod.is_running());
    // One that would be gone is left alone.
    let gone = sandbox.detached("gone", ["--rm", &image, "/probe", "wait"]);
    sandbox.pod(["restart", "gone"]).refuses(1, &["`--rm`", "cat-manifest"]);
    assert!(gone.is_running());
    sandbox.pod(["restart", "nosuch"]).refuses(1, &["there is no pod `nosuch`"]);
}

#[test]
fn waiting_needs_no_polling_and_no_pod_that_stays() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let until_told = "trap 'exit 5' TERM; echo up; while :; do read -t 1 x; done";
    // A pod that removes itself still tells how it ended.
    let pod = sandbox.detached("brief", ["--rm", &image, "sh", "-c", until_told]);
    pod.logs_until("up");
    let other = sandbox.detached("other", [&image, "/probe", "wait"]);
    let waiting = sandbox.call().args(["wait", "other", "brief"]).start();
    let args = ["events", "-f", "-o", "json", "--since", "1h", "other", "brief"];
    let following = sandbox.call().args(args).start();
    following.wait_for("\"name\":\"brief\",\"attempt\":1,\"event\":\"pod-ready\"");
    sandbox.pod(["wait", "--condition", "ready", "brief"]).success();
    sandbox.pod(["stop", "-t", "60", "brief"]).success();
    sandbox.pod(["status", "brief"]).refuses(1, &["there is no pod"]);
    sandbox.pod(["kill", "other"]).success();
    assert_eq!(waiting.wait().success(), "137\n0\n");
    following.wait_for("\"event\":\"pod-ended\",\"code\":137");
    // Its end comes whoever ends it, also if nobody can record it.
    sandbox.pod(["start", "-d", "other"]).success();
    let waiting = sandbox.call().args(["wait", "-o", "json", "other"]).start();
    following.wait_for("\"attempt\":2,\"event\":\"pod-ready\"");
    let supervisor = i32::try_from(other.status().supervisor).unwrap();
    sandbox.expect_debris();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    let waited: Value = waiting.wait().json();
    assert_eq!((&waited["name"], &waited["code"]), (&"other".into(), &137.into()));
    assert_eq!(sandbox.pod(["wait", "other"]).success(), "137\n");
    sandbox.pod(["rm", "other"]).success();
    let told = following.wait().success();
    assert_eq!(told.matches("\"event\":\"pod-removed\"").count(), 2, "{told}");
}

#[test]
fn what_cannot_come_is_not_waited_for() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["run", "--name", "done", &image, "/probe", "exit", "3"]).exits(3);
    assert_eq!(sandbox.pod(["wait", "done"]).success(), "3\n");
    for state in ["ready", "running"] {
        sandbox.pod(["wait", "--condition", state, "done"]).refuses(1, &["pod `done` has ended"]);
    }
    // A prepared pod may be started any time.
    sandbox.pod(["prepare", "--name", "later", &image, "/probe", "exit", "4"]).success();
    let running = sandbox.call().args(["wait", "--condition", "running", "later"]).start();
    let ended = sandbox.call().args(["wait", "later"]).start();
    sandbox.pod(["start", "later"]).exits(4);
    assert_eq!(ended.wait().success(), "4\n");
    let running = running.wait();
    assert!(running.code == 0 || running.stderr.contains("has ended"), "{running}");
    sandbox.pod(["prepare", "--name", "never", &image]).success();
    let waiting = sandbox.call().args(["wait", "never"]).start();
    sandbox.pod(["rm", "never"]).success();
    // It may have begun after the removal.
    waiting.wait().refuses(1, &["`never`"]);
}

#[test]
fn events_tell_the_story_of_all_pods() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "first", &image]).success();
    let args = ["events", "--follow", "-o", "json", "--since", "1h"];
    let following = sandbox.call().args(args).start();
    following.wait_for("\"first\""); // from here on it misses nothing
    let args = ["run", "--rm", "--name", "brief", "--label", "tier=front", &image, "/probe"];
    sandbox.call().args(args).args(["exit", "3"]).run().exits(3);
    following.wait_for("pod-removed");
    let pod = sandbox.detached("long", [&image, "/probe", "wait"]);
    following.wait_for("\"name\":\"long\",\"attempt\":1,\"event\":\"pod-ready\"");
    following.signal(Signal::SIGKILL);
    let lines = following.wait().raw;
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| -> Vec<String> {
        let events = events.iter().filter(|event| event["name"] == name);
        events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        of("brief"),
        [
            "pod-created",
            "pod-started",
            "app-started",
            "app-ready",
            "pod-ready",
            "app-ended",
            "pod-ended",
            "pod-removed"
        ]
    );
    let ended = events.iter().find(|event| event["event"] == "app-ended").unwrap();
    assert_eq!((&ended["app"], &ended["exit"]["exited"]["code"]), (&"app".into(), &3.into()));

    pod.stop(&[]).success();
    let past = |flags: &[&str]| sandbox.call().args(["events"]).args(flags).run().success();
    let all = past(&[]);
    assert!(all.contains("long pod-stopping\n") && all.contains("long pod-ended code=0"), "{all}");
    assert_eq!(past(&["--filter", "event=pod-ended", "long"]).lines().count(), 1);
    assert_eq!(past(&["--filter", "app=nosuch"]), "");
    assert_eq!(past(&["--until", "2026-01-01T00:00:00Z"]), "");
    assert_eq!(past(&["--since", "1h"]), all);
    sandbox.pod(["events", "--since", "soon"]).refuses(2, &["how long ago"]);
    sandbox.pod(["events", "--filter", "color=red"]).refuses(2, &["`label=KEY[=VALUE]`"]);
    sandbox.pod(["rm", "first"]).success();
}

#[test]
fn top_shows_processes_as_the_host_and_as_the_pod_see_them() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let script = "sleep 1000 & exec sh -c 'echo up; while :; do read -t 1 x; done' '\u{1b}[2J'";
    let args = [&image, "-u", "web", "--name", "web", "sh", "-c", script];
    let more = ["---", &image, "--name", "db", "/probe", "wait"];
    let pod = sandbox.detached("busy", args.iter().chain(&more));
    pod.logs_until("up");
    let processes: Vec<Value> = sandbox.pod(["top", "-o", "json", "busy"]).json();
    let of = |app: &'static str| processes.iter().filter(move |process| process["app"] == app);
    let main = of("web").find(|process| process["pidInside"] == 1).expect("process 1");
    assert_eq!(main["pid"], pod.app("web").pid.unwrap());
    assert_eq!((&main["user"], &main["uid"]), (&"web".into(), &1000.into()));
    assert!(of("web").any(|process| process["command"] == "sleep 1000"));
    assert!(of("db").all(|process| process["user"] == "root"));
    assert!(processes.iter().any(|process| process["app"].is_null()), "PID 1 of the pod");

    let text = sandbox.pod(["top", "busy", "web"]).success();
    assert!(!text.contains('\u{1b}') && text.contains("\u{fffd}[2J"), "{text}");
    assert!(!text.contains("/probe"), "{text}");
    sandbox.pod(["top", "busy", "nosuch"]).refuses(1, &["no app `nosuch`"]);
    pod.stop(&["-t", "0"]).success();
    sandbox.pod(["top", "busy"]).refuses(1, &["does not run: it has ended"]);
}

#[test]
fn force_removes_what_runs_and_all_is_all() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let wait = ["/probe", "wait"];
    let start = |name: &str, flags: &[&str]| {
        let call = sandbox.call().args(["run", "-d", "--name", name]).args(flags);
        call.args([&image]).args(wait).run().success();
    };
    start("one", &[]);
    sandbox.pod(["rm", "one"]).refuses(1, &["pod `one` runs", "`pod rm -f one`"]);
    assert_eq!(sandbox.pod(["rm", "-f", "one", "nosuch"]).success(), "one\n");
    start("one", &[]);
    start("two", &["--rm"]);
    sandbox.pod(["prepare", "--name", "three", &image]).success();
    // Without force, what runs is not meant.
    assert_eq!(sandbox.pod(["rm", "--all"]).success(), "[UUID]\n");
    assert_eq!(sandbox.pod(["ps", "-aq"]).success().lines().count(), 2);
    assert_eq!(sandbox.pod(["rm", "-af"]).success().lines().count(), 2);
    assert_eq!(sandbox.pod(["ps", "-aq"]).success(), "");
    start("one", &[]);
    start("two", &[]);
    assert_eq!(sandbox.pod(["stop", "-a", "-t", "0"]).success().lines().count(), 2);
    assert_eq!(sandbox.pod(["ps", "-q"]).success(), "");
    assert_eq!(sandbox.pod(["kill", "-a"]).success(), "");
    sandbox.pod(["rm", "-a", "one"]).refuses(2, &["`--all`"]);
    sandbox.pod(["rm"]).refuses(2, &[]);
}

#[test]
fn several_may_end_a_pod_at_once() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    for words in [&["rm", "-f"][..], &["stop", "-t", "0"]] {
        for _ in 0..3 {
            sandbox.pod(["run", "-d", "--name", "one", &image, "/probe", "wait"]).success();
            let calls = [(); 4].map(|()| sandbox.call().args(words).args(["one"]).start());
            calls.into_iter().for_each(|call| drop(call.wait().success()));
            sandbox.pod(["rm", "-f", "one"]).success();
        }
    }
}

#[test]
fn a_manifest_printed_is_one_that_runs() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let flags = ["--name", "web", "--label", "a=b", "--hostname", "box"];
    let app = ["-e", "A=b", "-w", "/tmp", &image, "--name", "x", "/probe", "report"];
    let first = sandbox.call().args(["run"]).args(flags).args(app).run();
    let spec = sandbox.pod(["cat-manifest", "web"]).raw;
    assert_eq!(sandbox.pod(["inspect", "--spec", "web"]).raw, spec);
    fs::write(sandbox.path("spec.json"), &spec).unwrap();
    let path = sandbox.path("spec.json").display().to_string();
    let second = sandbox.pod(["run", "--spec", &path]);
    let seen = |said: &str| -> Value {
        let mut report: Value = serde_json::from_str(said).unwrap();
        // Each pod has its own ids on the host and namespaces.
        let object = report.as_object_mut().unwrap();
        object.retain(|key, _| ["args", "env", "cwd", "hostname", "uid"].contains(&key.as_str()));
        assert!(!object.is_empty());
        report
    };
    assert_eq!(seen(&first.raw), seen(&second.raw));
    assert_eq!(sandbox.pod(["cat-manifest", "web"]).raw, spec);
    sandbox.pod(["cat-manifest", "nosuch"]).refuses(1, &["there is no pod"]);
}

#[test]
fn prepared_pods_that_nobody_starts_expire() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "later", &image]).success();
    sandbox.pod(["gc"]).success();
    sandbox.pod(["gc", "--expire-prepared", "1h"]).success();
    assert_eq!(sandbox.pod(["ps", "-aq"]).success().lines().count(), 1);
    let told = sandbox.pod(["gc", "--expire-prepared", "0s", "--dry-run"]).success();
    assert_eq!(told, "would remove pod [UUID]\n");
    assert_eq!(sandbox.pod(["gc", "--expire-prepared", "0s"]).success(), "removed pod [UUID]\n");
    assert_eq!(sandbox.pod(["ps", "-aq"]).success(), "");
}

#[test]
fn logs_can_be_cut_out_of_time() {
    let sandbox = sandbox!();
    let pod_image = sandbox.fixture(Fixture::App);
    let args =
        ["run", "--name", "talk", &pod_image, "--name", "a", "sh", "-c", "echo one; echo two"];
    sandbox.pod(args).success();
    let logs = |flags: &[&str]| sandbox.call().args(["logs"]).args(flags).args(["talk"]).run();
    assert_eq!(logs(&["--since", "1h"]).success(), "one\ntwo\n");
    assert_eq!(logs(&["--until", "1h"]).success(), "");
    assert_eq!(logs(&["-t", "-c", "a"]).success(), "[TIME] one\n[TIME] two\n");
    let times = logs(&["-t"]).raw;
    let times: Vec<&str> = times.lines().filter_map(|line| line.split(' ').next()).collect();
    let since = |time: &str| times.iter().filter(|written| **written >= time).count();
    let lines = logs(&["--since", times[1]]).success();
    assert_eq!(lines.lines().count(), since(times[1]), "{lines}");
    assert_eq!(logs(&["-n", "1", "--since", "1h"]).success(), "two\n");
    logs(&["-f", "--until", "1h"]).refuses(2, &["`--until"]);
}

#[test]
fn a_directory_that_is_not_there_is_not_made_by_exec() {
    let sandbox = sandbox!();
    let pod = sandbox.detached("box", [&sandbox.fixture(Fixture::App), "/probe", "wait"]);
    let said = pod.exec(&["-w", "/nosuch/dir"], &["true"]);
    said.refuses(125, &["cannot enter the working directory `/nosuch/dir`", "No such file"]);
    assert_ne!(pod.exec(&[], &["test", "-e", "/nosuch"]).code, 0);
    assert_eq!(pod.exec(&["-w", "/tmp"], &["pwd"]).success(), "/tmp\n");
}

#[test]
fn words_of_other_tools_are_understood() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    assert!(sandbox.pod(["pull", &image]).success().contains("[DIGEST]"));
    assert_eq!(sandbox.pod(["images"]).success(), sandbox.pod(["image", "ls"]).success());
    assert!(sandbox.pod(["list", "-a"]).success().starts_with("ID "));
    sandbox.pod(["rmi", &image]).success();
    assert_eq!(sandbox.pod(["images"]).success().lines().count(), 1);
}

#[test]
fn completions_are_scripts_the_shells_read() {
    let sandbox = sandbox!();
    let script = sandbox.pod(["completion", "bash"]).raw;
    assert!(script.contains("--exit-policy") && !script.contains("internal-unpack"));
    fs::write(sandbox.path("pod.bash"), &script).unwrap();
    let path = sandbox.path("pod.bash").display().to_string();
    let line = format!(
        ". {path}; COMP_WORDS=(pod restar); COMP_CWORD=1; _pod pod restar pod; COMP_WORDS=(pod image ins); \
         echo ${{COMPREPLY[*]}}; COMP_CWORD=2; _pod pod ins image; echo ${{COMPREPLY[*]}}"
    );
    let completed = sandbox.program("bash").args(["-c", &line]).run().success();
    assert_eq!(completed, "restart\ninspect\n");
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "web", &image]).success();
    sandbox.pod(["volume", "create", "data"]).success();
    let pod = sandbox.programs().path("pod").display().to_string();
    let (root, run_root) = (sandbox.path("root"), sandbox.path("run"));
    for (words, name) in [
        ("stop w", "web"),
        ("app stop ''", "web"),
        ("exec -i we", "web"),
        ("stop x", ""),
        ("exec web w", ""),
        ("volume rm d", "data"),
        ("image ls w", ""),
    ] {
        let words = format!("--root {} --run-root {} {words}", root.display(), run_root.display());
        let line = format!(
            ". {path}; COMP_WORDS=({pod} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _pod_names {pod} \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             for word in \"${{COMPREPLY[@]}}\"; do [[ $word == -* ]] || echo \"$word\"; done"
        );
        let completed = sandbox.program("bash").args(["-c", &line]).run().success();
        assert_eq!(completed.trim_end(), name, "{words}");
    }
    sandbox.pod(["rm", "web"]).success();
    for shell in ["zsh", "fish"] {
        assert!(sandbox.pod(["completion", shell]).success().contains("exit-policy"));
    }
    sandbox.pod(["completion", "tcsh"]).refuses(2, &["bash, zsh, fish"]);
}

#[test]
fn what_is_known_of_a_pod_stays_when_its_image_is_forgotten() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let file = sandbox.path("id").display().to_string();
    let args = ["prepare", "--name", "web", "--id-file", &file, &image, "/probe", "exit", "3"];
    let id = sandbox.pod(args).raw.trim().to_owned();
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), id);
    assert!(sandbox.pod(["status", &id]).success().contains("phase:   prepared"));
    sandbox.pod(["image", "rm", &image]).success();
    sandbox.pod(["image", "gc"]).success();
    sandbox.pod(["start", &id[..9]]).exits(3);
    let rows: Vec<Value> = sandbox.pod(["ps", "-a", "-o", "json"]).json();
    assert_eq!(rows[0]["images"][0].as_str(), Some(image.as_str()));
    let time = |key: &str| rows[0][key].as_str().unwrap().to_owned();
    assert!(time("created") < time("started") && time("started") < time("ended"), "{rows:?}");
    assert_eq!(rows[0]["code"], 3);
}

#[test]
fn a_pod_that_cannot_be_read_is_listed_and_removed_and_stops_nobody() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    for name in ["whole", "broken"] {
        sandbox.pod(["run", "--name", name, &image, "true"]).success();
    }
    let id =
        sandbox.pod(["ps", "-aq", "--no-trunc", "--filter", "name=broken"]).raw.trim().to_owned();
    let home = sandbox.path("root").join("pods/run").join(&id);
    for (file, text) in [("pod.json", "{"), ("status.json", "[]"), ("events.jsonl", "\0\n{}\n")] {
        fs::write(home.join(file), text).unwrap();
    }
    let listed = sandbox.pod(["ps", "-a"]).success();
    assert!(listed.contains("unreadable") && listed.contains("whole"), "{listed}");
    for verb in ["status", "inspect", "logs", "cat-manifest"] {
        sandbox.pod([verb, &id]).refuses(1, &["has no usable `pod.json`", "`pod rm "]);
    }
    assert!(sandbox.pod(["events"]).success().contains("whole pod-ended code=0"));
    assert!(sandbox.pod(["info"]).success().contains("2 exited"));
    sandbox.pod(["wait", &id]).refuses(1, &["no usable `status.json`"]);
    sandbox.pod(["restart", &id]).refuses(1, &["`pod.json`"]);
    sandbox.pod(["stop", &id]).success();
    sandbox.pod(["rm", &id]).success();
    assert_eq!(sandbox.pod(["ps", "-aq"]).success().lines().count(), 1);
}

#[test]
fn who_removes_a_pod_takes_its_cgroup_and_its_processes() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("busy", [&image, "sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    let processes: Vec<Value> = sandbox.pod(["top", "-o", "json", "busy"]).json();
    assert!(processes.len() >= 4, "{processes:?}");
    let recorded = pod.status().cgroup;
    sandbox.pod(["rm", "-f", "busy"]).success();
    for process in &processes {
        let path = format!("/proc/{}/comm", process["pid"]);
        let name = fs::read_to_string(path).unwrap_or_default();
        assert!(!["sleep\n", "sh\n"].contains(&name.as_str()), "{process}");
    }
    if let (Some(path), Some(cgroup)) = (recorded, sandbox.cgroup()) {
        let name = path.rsplit('/').find(|part| part.starts_with("pod-")).unwrap().to_owned();
        assert!(!cgroup.path().join(name).exists());
    }
}
