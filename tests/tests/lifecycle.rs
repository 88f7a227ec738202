//! The life of pods: how they start, what they exit with, how they are stopped, what is kept.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_abi::exit::Ended;
use pod_abi::status::AppState;
use pod_abi::time::Timestamp;
use serde_json::json;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
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

#[test]
fn the_exit_code_is_the_apps() {
    let sandbox = sandbox!();
    for code in ["0", "1", "42", "125", "127", "128", "255"] {
        let said = sandbox.run_app(&[], &["/probe", "exit", code]);
        assert_eq!(said.code.to_string(), code, "{said}");
        assert_eq!(said.stderr, "", "an app's own status is no error of ours");
    }
}

#[test]
fn a_signal_counts_from_128() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let run = sandbox.call().args(["run", "--name", "dying", &image, "/probe", "stay"]).start();
    run.wait_for("ready");
    let pod = sandbox.status("dying");
    let pid = pod.apps[0].pid.expect("it runs");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(run.wait().code, 137);

    let pod = sandbox.status("dying");
    assert_eq!(pod.apps[0].exit, Some(Ended::Signaled { signal: 9, oom: false }));
    assert_eq!(pod.code, Some(137));
}

#[test]
fn what_is_executed_in_an_app_exits_with_its_own_status() {
    let sandbox = sandbox!();
    let pod = sandbox.detached("box", [&sandbox.fixture(Fixture::App), "/probe", "wait"]);
    for code in [0, 1, 42, 255] {
        assert_eq!(pod.exec(&[], &["/probe", "exit", &code.to_string()]).code, code);
    }
    for (signal, code) in [("9", 137), ("15", 143), ("1", 129)] {
        assert_eq!(pod.exec(&[], &["/probe", "signal", signal]).code, code);
    }
    pod.exec(&[], &["/no/such"]).refuses(127, &["`/no/such`"]);
    pod.exec(&[], &["/etc/passwd"]).refuses(126, &["`/etc/passwd`"]);
    assert!(pod.is_running(), "a command that ended ends no app");
}

#[test]
fn a_program_that_is_missing_or_no_program_is_named() {
    let sandbox = sandbox!();
    let layer = Layer::new().file("text", 0o755, b"no program\n").dir("dir/", 0o755);
    let image = sandbox.image("odd", &Image::new().layer(layer).set("Cmd", json!(["/text"])));
    let run = |command: &str| sandbox.pod(["run", "--rm", &image, command]);
    run("/missing").refuses(127, &["`/missing`"]);
    run("missing").refuses(127, &["`missing`"]);
    run("/text").refuses(126, &["`/text`"]);
    run("/dir").refuses(126, &["`/dir`"]);
    sandbox.pod(["run", "--rm", &image]).refuses(126, &["`/text`"]);
}

#[test]
fn output_of_one_app_passes_byte_for_byte() {
    let sandbox = sandbox!();
    let said = sandbox.run_app(&[], &["sh", "-c", r"printf 'a\001b'; printf 'no end' >&2"]);
    assert_eq!((said.raw.as_str(), said.stderr.as_str()), ("a\u{1}b", "no end"));
    let said = sandbox.run_app(&[], &["sh", "-c", "dd if=/dev/zero bs=1k count=300 2>/dev/null"]);
    assert_eq!(said.raw.len(), 300 << 10, "nothing is lost at the end");
}

#[test]
fn output_of_several_apps_bears_their_names() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox
        .call()
        .args(["run", "--rm", &image, "--name", "one", "echo", "first"])
        .args(["---", &image, "--name", "two", "sh", "-c", "echo second >&2"])
        .run();
    let all = format!("{}{}", said.stdout, said.stderr);
    assert_eq!(said.code, 0, "{said}");
    for words in [("one", "first"), ("two", "second")] {
        let line = all.lines().find(|line| line.contains(words.1)).unwrap_or_default();
        assert!(line.starts_with(words.0), "{all}");
    }
}

#[test]
fn the_first_failure_ends_the_pod_with_its_code() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox
        .call()
        .args(["run", "--name", "both", &image, "--name", "stays", "/probe", "wait"])
        .args(["---", &image, "--name", "fails", "/probe", "exit", "7"])
        .run();
    assert_eq!(said.code, 7, "{said}");
    let pod = sandbox.status("both");
    let ends: Vec<_> = pod.apps.iter().map(|app| (app.name.as_str(), app.exit)).collect();
    assert_eq!(ends[1], ("fails", Some(Ended::Exited { code: 7 })));
    assert_eq!(pod.apps[0].state, AppState::Exited);
}

#[test]
fn with_policy_all_the_others_go_on() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox
        .call()
        .args(["run", "--rm", "--exit-policy", "all"])
        .args([&image, "--name", "fails", "/probe", "exit", "7"])
        .args(["---", &image, "--name", "goes-on", "sh", "-c", "sleep 0.3; echo still here"])
        .run();
    assert_eq!(said.code, 7, "{said}");
    assert!(said.stdout.contains("still here"), "{said}");
}

#[test]
fn with_a_main_app_its_end_is_the_pods() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox
        .call()
        .args(["run", "--rm", "--exit-policy", "main=main"])
        .args([&image, "--name", "side", "/probe", "wait"])
        .args(["---", &image, "--name", "main", "/probe", "exit", "3"])
        .run();
    assert_eq!(said.code, 3, "{said}");
}

#[test]
fn a_failing_app_is_started_again_as_often_as_asked() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let command = "echo try >>/tries; exit 9";
    let args = ["run", "--name", "again", &image, "--restart", "on-failure:2", "sh", "-c", command];
    assert_eq!(sandbox.pod(args).code, 9);
    let pod = sandbox.status("again");
    assert_eq!(pod.apps[0].restarts, 2);
    assert_eq!(pod.apps[0].exit, Some(Ended::Exited { code: 9 }));
}

#[test]
fn a_stopped_app_gets_its_signal_and_time_to_obey() {
    let sandbox = sandbox!();
    let pod = sandbox.detached("polite", [&sandbox.fixture(Fixture::App), "/probe", "wait"]);
    pod.logs_until("ready");
    pod.stop(&[]).success();
    let status = pod.status();
    assert_eq!(status.apps[0].exit, Some(Ended::Exited { code: 0 }));
    assert_eq!(status.code, Some(0), "a stop that was asked for is a success");
    let logs = sandbox.pod(["logs", "polite"]).success();
    assert!(logs.contains("bye"), "{logs}");
}

#[test]
fn an_app_that_does_not_obey_is_killed() {
    let sandbox = sandbox!();
    let pod = sandbox.detached("deaf", [&sandbox.fixture(Fixture::App), "/probe", "stay"]);
    pod.logs_until("ready");
    pod.stop(&["-t", "1"]).success();
    assert_eq!(pod.app("app").exit, Some(Ended::Signaled { signal: 9, oom: false }));
}

#[test]
fn an_interrupt_of_the_command_ends_the_pod() {
    let sandbox = sandbox!();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let image = sandbox.fixture(Fixture::App);
        let run = sandbox.call().args(["run", "--rm", &image, "/probe", "wait"]).start();
        run.wait_for("ready");
        run.signal(signal);
        let said = run.wait();
        assert_eq!(said.code, code, "{said}");
        assert!(said.stdout.contains("bye"), "it was asked, not killed: {said}");
    }
}

#[test]
fn a_detached_pod_is_listed_looked_into_and_stopped() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let web = ["sh", "-c", "echo serving; exec httpd -f -p 8080 -h /var/www"];
    let mut args = vec![image.as_str(), "--name", "web"];
    args.extend(web);
    args.extend(["---", &image, "--name", "worker", "sh", "-c", "echo working; exec sleep 1000"]);
    let pod = sandbox.detached("shop", args);

    let listed = sandbox.pod(["ps"]).success();
    for word in ["shop", "web", "worker", "running"] {
        assert!(listed.contains(word), "{word:?} is not in:\n{listed}");
    }
    pod.logs_until("working");
    let logs = sandbox.pod(["logs", "shop", "web"]).success();
    assert!(logs.contains("serving") && !logs.contains("working"), "{logs}");

    let page = pod.exec(&["--app", "worker"], &["wget", "-qO-", "http://127.0.0.1:8080/"]);
    assert_eq!(page.success(), "hello from a pod\n", "apps of a pod share their network");

    pod.stop(&["-t", "1"]).success();
    let listed = sandbox.pod(["ps"]).success();
    assert!(!listed.contains("running"), "{listed}");
    let all = sandbox.pod(["ps", "-a"]).success();
    assert!(all.contains("shop") && all.contains("exited"), "{all}");
}

#[test]
fn a_prepared_pod_starts_as_often_as_asked_and_keeps_what_it_wrote() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let command = "echo x >>/count; exec wc -l </count";
    let prepared = sandbox.pod(["prepare", "--name", "twice", &image, "sh", "-c", command]);
    assert_eq!(prepared.success().trim(), "[UUID]");
    assert!(sandbox.pod(["ps", "-a"]).success().contains("prepared"));
    for count in ["1", "2", "3"] {
        let said = sandbox.pod(["start", "twice"]);
        assert_eq!(said.success().trim(), count);
    }
    let status = sandbox.status("twice");
    assert_eq!(status.attempt, 3);
    sandbox.pod(["rm", "twice"]).success();
    sandbox.pod(["status", "twice"]).refuses(1, &["`twice`"]);
}

#[test]
fn a_living_pod_keeps_its_name_and_an_ended_one_yields_it() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("name", [&image, "/probe", "wait"]);
    let again = ["run", "--name", "name", &image, "true"];
    sandbox.pod(again).refuses(125, &["`name`"]);
    assert!(pod.is_running(), "the other pod is unharmed");
    pod.stop(&[]).success();
    sandbox.pod(again).success();
    let status = sandbox.status("name");
    assert_eq!(status.attempt, 1, "the name is the newer pod's");
}

#[test]
fn a_living_pod_is_not_removed() {
    let sandbox = sandbox!();
    let pod = sandbox.detached("alive", [&sandbox.fixture(Fixture::App), "/probe", "wait"]);
    sandbox.pod(["rm", "alive"]).refuses(1, &["`alive`"]);
    sandbox.pod(["gc"]).success();
    assert!(pod.is_running());
}

#[test]
fn a_pod_that_removes_itself_leaves_nothing() {
    let sandbox = sandbox!();
    sandbox.run_app(&["--name", "gone"], &["true"]).success();
    assert_eq!(sandbox.pod(["ps", "-a", "-q"]).success(), "");
}

#[test]
fn a_volume_is_shared_with_the_host_and_between_apps() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let shared = sandbox.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "hello").unwrap();
    let volume = format!("{}:/data", shared.display());
    let said = sandbox.run_app(&["-v", &volume], &["sh", "-c", "cat /data/from-host >/data/copy"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(fs::read_to_string(shared.join("copy")).unwrap(), "hello");

    let read_only = format!("{volume}:ro");
    let said = sandbox.run_app(&["-v", &read_only], &["touch", "/data/no"]);
    assert_ne!(said.code, 0, "{said}");
    assert!(said.stderr.contains("Read-only file system"), "{said}");
    assert!(!shared.join("no").exists());

    let said = sandbox
        .call()
        .args(["run", "--rm", &image, "--name", "a", "-v", &volume, "touch", "/data/by-a"])
        .args(["---", &image, "--name", "b", "-v", &volume, "sh", "-c"])
        .args(["until [ -e /data/by-a ]; do sleep 0.05; done"])
        .run();
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn flags_of_an_app_reach_it() {
    let sandbox = sandbox!();
    let report = sandbox.report(&["-e", "COLOUR=blue sky", "-w", "/var/www", "-u", "web"]);
    assert_eq!(report.variable("COLOUR"), Some("blue sky"));
    assert_eq!(report.cwd, "/var/www");
    assert_eq!(report.status("Uid"), "1000 1000 1000 1000");
    assert_eq!(report.status("Gid"), "1000 1000 1000 1000");
    assert_eq!(report.status("Groups").trim(), "2000");
    assert_eq!(report.variable("HOME"), Some("/home/web"));

    let said = sandbox.run_app(&["--entrypoint", "echo"], &["a", "b"]);
    assert_eq!(said.success(), "a b\n");
    let said = sandbox.run_app(&["--hostname", "here"], &["hostname"]);
    assert_eq!(said.success(), "here\n");
    let said = sandbox.run_app(&["--name", "named"], &["hostname"]);
    assert_eq!(said.success(), "named\n");
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let sandbox = sandbox!();
    let said = sandbox.run_app(&["--read-only"], &["touch", "/file"]);
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("Read-only file system"), "{said}");
}

#[test]
fn what_a_dry_run_prints_can_be_run() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox.pod(["run", "--dry-run", &image, "echo", "from a spec"]);
    let spec = said.raw.clone();
    said.success();
    assert_eq!(sandbox.pod(["ps", "-a", "-q"]).success(), "", "nothing was made");
    let file = sandbox.path("spec.json");
    fs::write(&file, spec).unwrap();
    let said = sandbox.call().args(["run", "--rm", "--spec"]).args([&file]).run();
    assert_eq!(said.success(), "from a spec\n");
}

#[test]
fn logs_are_kept_in_the_form_that_kubernetes_reads() {
    let sandbox = sandbox!();
    let command = "echo out; echo err >&2; printf 'no end'";
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["run", "--name", "logs", &image, "sh", "-c", command]).success();
    let log = sandbox.program("sh").args(["-c", "cat root/pods/run/*/apps/app/log/app.log"]).run();
    let raw = log.raw.clone();
    log.success();
    let mut lines: Vec<(&str, &str, &str)> = raw
        .lines()
        .filter_map(|line| {
            let mut words = line.splitn(4, ' ');
            let time = words.next()?;
            Timestamp::parse(time).ok()?;
            Some((words.next()?, words.next()?, words.next()?))
        })
        .collect();
    lines.sort_unstable();
    let expected = [("stderr", "F", "err"), ("stdout", "F", "out"), ("stdout", "P", "no end")];
    assert_eq!(lines, expected, "{raw}");
    let shown = sandbox.pod(["logs", "logs"]);
    assert!(shown.raw.contains("out") && shown.raw.contains("no end"), "{shown}");
    shown.success();
}

#[test]
fn what_is_written_to_the_files_of_standard_output_is_logged() {
    let sandbox = sandbox!();
    for user in ["0", "1000"] {
        let said = sandbox.run_app(&["-u", user], &["sh", "-c", "echo via file >/dev/stdout"]);
        assert_eq!(said.success(), "via file\n");
    }
}

#[test]
fn everything_shown_can_be_shown_as_json() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let _pod = sandbox.detached("json", [&image, "/probe", "wait"]);
    for args in [
        &["ps"][..],
        &["status", "json"],
        &["inspect", "json"],
        &["image", "ls"],
        &["image", "inspect", &image],
        &["image", "fsck"],
        &["version"],
        &["doctor"],
        &["gc", "--dry-run"],
    ] {
        let said = sandbox.call().args(args).args(["-o", "json"]).run();
        let _: serde_json::Value = said.json();
        let said = sandbox.call().args(args).args(["--json"]).run();
        let _: serde_json::Value = said.json();
    }
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_stop() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.programs().path("pod");
    // The reader takes one byte, then stops the pod without ever taking more. A supervisor that
    // waits for it is killed in the end: 137.
    let script = "{ \"$0\" run --rm --name stuck \"$1\" cat /dev/zero; echo $? >code; } \
         | { head -c 1 >/dev/null; \"$0\" stop -t 1 stuck; }; cat code";
    let said = sandbox.program("sh").args(["-c", script]).args([&pod]).args([&image]).run();
    assert_eq!(said.success(), "stuck\n0\n");
}
