//! What can be done with a pod that lives: commands in it, copies, signals, clients, pauses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pod_abi::exit::Ended;
use probe::Report;
use serde_json::Value;

use crate::parity::{Group, Place, Wall, World, nearly, so};
use crate::pods::Pod;
use crate::terminal::Terminal;

pub(super) const GROUP: Group = Group {
    name: "living",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("exec-codes", "A command in an app exits with its own code, or 128+n"),
        so("exec-missing", "A command that is missing or no program is 127 or 126, and named"),
        so(
            "exec-environment",
            "A command has the app's environment and directory, and what was asked",
        ),
        so("exec-user", "A command runs as the user asked for"),
        so("exec-input", "A command with `-i` reads what it is given, and its end"),
        nearly(
            "exec-input-left",
            "What a command leaves of its caller's input is there for whoever reads on",
            "with `-i` input is read ahead, up to 256 KiB: what is to be left for others is kept from a \
             command by leaving `-i` out, or by `</dev/null`",
        ),
        so("exec-output", "All that a command writes comes before its end"),
        so("exec-terminal", "A command with `-it` has a terminal with the caller's size, resized"),
        so("copy-in", "`pod cp` brings files and trees in, with their rights"),
        so("copy-out", "`pod cp` brings them out"),
        so("copy-archive", "`pod cp` streams archives"),
        so("attach", "A client that attaches is heard and hears"),
        so("logs", "Logs hold every line in order"),
        so("logs-follow", "Logs can be followed"),
        so("signal", "A signal goes to one app by name"),
        so("status", "`ps` and `status` tell of the pod and its apps"),
        nearly(
            "top",
            "`top` shows the processes of the apps",
            "as the guest numbers them: on the host there is the monitor alone",
        ),
        so("stats", "`stats` counts what the pod uses"),
        so("events", "The history tells of starts and ends"),
        so("pause", "A paused pod stands still, refuses commands, and goes on"),
        so("name-taken", "A living pod keeps its name"),
        so("not-removed", "A living pod is not removed"),
        so("stop-asks", "A stop asks each app with its signal and gives it time"),
        so("stop-kills", "An app that does not obey is killed after its time"),
        so("stop-code", "A stop that was asked for is a success"),
        so(
            "logs-last-words",
            "The last words of an app that is stopped are kept, with an end or without",
        ),
    ],
    run: living,
};

fn living(world: &World<'_>) {
    let sandbox = world.sandbox;
    let counts = "trap 'echo hup' HUP; trap 'echo counted; printf no-end; exit 0' TERM; \
        for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done; echo up; \
        while :; do sleep 0.1; done";
    let apps = [
        world.app("main", &["-e", "A=1", "-e", "B=two words", "-w", "/var"], &["/probe", "wait"]),
        world.app("deaf", &["--stop-timeout", "1"], &["/probe", "stay"]),
        world.app("echo", &["-i"], &["cat"]),
        world.shell("counts", &[], counts),
    ];
    let pod =
        world.detached("living", &[&["--exit-policy", "all"], &apps.join(&"---")[..]].concat());
    commands(world, &pod);
    terminal(world, &pod);
    copies(world, &pod);
    looks(world, &pod);
    world.holds("attach", || {
        let client =
            sandbox.call().args(["attach", "living", "-c", "echo"]).input(b"one\n").start();
        client.wait_for("one");
    });
    world.holds("signal", || {
        sandbox.pod(["kill", "-s", "HUP", "-c", "counts", "living"]).success();
        let follow = sandbox.call().args(["logs", "-f", "living", "counts"]).start();
        follow.wait_for("hup");
    });
    world.holds("pause", || {
        sandbox.pod(["pause", "living"]).success();
        sandbox.pod(["exec", "-c", "main", "living", "true"]).refuses(125, &["is paused"]);
        assert!(sandbox.pod(["ps"]).success().contains(", paused"));
        sandbox.pod(["unpause", "living"]).success();
        sandbox.pod(["exec", "-c", "main", "living", "true"]).success();
    });
    world.holds("name-taken", || {
        let other = world.app("app", &[], &["true"]);
        let taken = sandbox.call().args(["run", "--name", "living"]).args(other).run();
        taken.refuses(125, &["`living`"]);
    });
    world.holds("not-removed", || {
        sandbox.pod(["rm", "living"]).refuses(1, &["`living`"]);
        sandbox.pod(["gc"]).success();
        assert!(pod.is_running());
    });
    sandbox.pod(["stop", "living"]).success();
    let status = pod.status();
    world.holds("stop-asks", || {
        assert_eq!(pod.app("main").exit, Some(Ended::Exited { code: 0 }));
        assert_eq!(pod.app("counts").exit, Some(Ended::Exited { code: 0 }));
    });
    world.holds("stop-kills", || {
        assert_eq!(pod.app("deaf").exit, Some(Ended::Signaled { signal: 9, oom: false }));
    });
    world.holds("stop-code", || assert_eq!(status.code, Some(0), "{status:?}"));
    world.holds("logs-last-words", || {
        assert!(world.logs("living", "main").contains("bye"));
        assert!(world.logs("living", "counts").contains("counted\nno-end"));
    });
    world.holds("events", || {
        let events = sandbox.pod(["events", "living"]).success();
        for word in ["app-started", "pod-ready", "app-ended", "pod-ended"] {
            assert!(events.contains(word), "{word}: {events}");
        }
    });
}

fn commands(world: &World<'_>, pod: &Pod<'_>) {
    let exec =
        |flags: &[&str], command: &[&str]| pod.exec(&[&["-c", "main"], flags].concat(), command);
    world.holds("exec-codes", || {
        for code in [0, 42, 255] {
            exec(&[], &["/probe", "exit", &code.to_string()]).exits(code);
        }
        exec(&[], &["/probe", "signal", "9"]).exits(137);
        assert!(pod.is_running(), "a command that ended ends no app");
    });
    world.holds("exec-missing", || {
        exec(&[], &["/no/such"]).refuses(127, &["`/no/such`"]);
        exec(&[], &["/etc/passwd"]).refuses(126, &["`/etc/passwd`"]);
    });
    world.holds("exec-environment", || {
        let report: Report = exec(&["-e", "B=other"], &["/probe", "report"]).json();
        assert_eq!((report.variable("A"), report.variable("B")), (Some("1"), Some("other")));
        assert_eq!(report.cwd, "/var");
    });
    world.holds("exec-user", || {
        let report: Report = exec(&["-u", "web"], &["/probe", "report"]).json();
        assert_eq!(report.status("Uid"), "1000 1000 1000 1000");
        assert_eq!((report.status("NoNewPrivs"), report.capabilities().effective), ("1", 0));
    });
    world.holds("exec-input", || {
        let call = world.sandbox.call().args(["exec", "-i", "-c", "main", "living"]);
        let said = call.args(["sh", "-c", "cat; echo err >&2; exit 4"]).input(b"typed\n").run();
        assert_eq!((said.code, said.raw.as_str(), said.stderr.as_str()), (4, "typed\n", "err\n"));
    });
    world.holds("exec-input-left", || {
        let left = |flags: &str, from: &str| {
            let script = format!(r#"{{ "$0" exec {flags} -c main living true {from}; cat; }}"#);
            let program = world.sandbox.programs().path("pod");
            let call = world.sandbox.program("sh").args(["-c", &script]).args([program]);
            call.input(b"one\ntwo\n").run().success()
        };
        assert_eq!(left("", ""), "one\ntwo\n");
        assert_eq!(left("-i", "</dev/null"), "one\ntwo\n");
        if world.wall == Wall::Namespaces {
            assert_eq!(left("-i", ""), "one\ntwo\n");
        }
    });
    world.holds("exec-output", || {
        let long = exec(&[], &["seq", "1", "20000"]).success();
        assert!(long.lines().count() == 20_000 && long.ends_with("20000\n"));
    });
}

fn terminal(world: &World<'_>, pod: &Pod<'_>) {
    world.holds("exec-terminal", || {
        let screen = Terminal::new(20, 60);
        let before = screen.setup();
        let line = ["exec", "-it", "-c", "main", pod.name(), "sh"];
        let exec = world.sandbox.call_in_session().args(line).start_on(&screen);
        screen.wait_for("# ");
        screen.types(b"busybox stty size; echo $TERM\n");
        screen.wait_for("20 60\r\nxterm\r\n");
        screen.resize(30, 90);
        screen.types(b"until [ \"$(busybox stty size)\" = '30 90' ]; do :; done; echo re''sized\n");
        screen.wait_for("resized");
        screen.types(b"exit 3\n");
        exec.wait().exits(3);
        assert_eq!(screen.setup(), before);
    });
}

fn copies(world: &World<'_>, pod: &Pod<'_>) {
    let sandbox = world.sandbox;
    let top = sandbox.path("tree");
    fs::create_dir_all(top.join("sub")).expect("the sandbox can be written");
    fs::write(top.join("sub/file"), b"deep\n").expect("the sandbox can be written");
    fs::write(top.join("run"), b"#!/bin/sh\necho ran\n").expect("the sandbox can be written");
    fs::set_permissions(top.join("run"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let tree = top.display().to_string();
    world.holds("copy-in", || {
        sandbox.pod(["cp", &tree, "living/main:/tmp/new"]).success();
        let said = pod.exec(&["-c", "main"], &["sh", "-c", "/tmp/new/run; cat /tmp/new/sub/file"]);
        assert_eq!(said.success(), "ran\ndeep\n");
    });
    world.holds("copy-out", || {
        let back = sandbox.path("back");
        sandbox.pod(["cp", "living/main:/tmp/new", &back.display().to_string()]).success();
        assert_eq!(fs::read(back.join("sub/file")).ok().as_deref(), Some(&b"deep\n"[..]));
        let mode = fs::metadata(back.join("run")).expect("it was copied").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    });
    world.holds("copy-archive", || {
        let script = "\"$0\" cp living/main:/tmp/new - | \"$0\" cp - living/deaf:/tmp";
        let program = sandbox.programs().path("pod");
        sandbox.program("sh").args(["-c", script]).args([&program]).run().success();
        let said = pod.exec(&["-c", "deaf"], &["cat", "/tmp/new/sub/file"]);
        assert_eq!(said.success(), "deep\n");
    });
}

fn looks(world: &World<'_>, pod: &Pod<'_>) {
    let sandbox = world.sandbox;
    world.holds("logs-follow", || {
        let follow = sandbox.call().args(["logs", "-f", "living", "counts"]).start();
        follow.wait_for("up");
    });
    world.holds("logs", || {
        let said = sandbox.pod(["logs", "living", "counts"]);
        let of = |word: &str, text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect()
        };
        let all = format!("{}{}", said.raw, said.stderr);
        for word in ["out ", "err "] {
            assert_eq!(of(word, &all), ["1", "2", "3", "4", "5"], "{said}");
        }
    });
    world.holds("status", || {
        let listed = sandbox.pod(["ps"]).success();
        for word in ["living", "main", "deaf", "running"] {
            assert!(listed.contains(word), "{word:?} is not in:\n{listed}");
        }
        assert!(pod.is_running());
    });
    world.holds("top", || {
        let text = sandbox.pod(["top", "living"]).success();
        assert!(text.contains("probe wait") && text.contains("cat"), "{text}");
        let processes: Vec<Value> = sandbox.pod(["top", "-o", "json", "living"]).json();
        let main = processes.iter().find(|one| one["app"] == "main" && one["pidInside"] == 1);
        assert_eq!(main.expect("process 1")["user"], "root", "{text}");
        assert!(processes.iter().any(|one| one["app"].is_null()), "PID 1 of the pod");
        let echo = sandbox.pod(["top", "living", "echo"]).success();
        assert!(echo.contains("cat") && !echo.contains("probe"), "{echo}");
    });
    world.holds("stats", || {
        let text = sandbox.pod(["stats", "--no-stream", "living"]).success();
        assert!(text.contains("living"), "{text}");
    });
}
