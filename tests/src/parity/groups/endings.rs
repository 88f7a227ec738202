//! How apps and pods end: exit codes, signals, programs that cannot run, and an interrupt.

use nix::sys::signal::Signal;
use pod_abi::exit::Ended;

use crate::parity::{Group, Place, World, so};

pub(super) const GROUP: Group = Group {
    name: "endings",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("exit-code", "An app's exit code is recorded as it is, 0 to 255"),
        so("exit-signal", "An app that a signal ended is recorded so, and counts as 128+n"),
        so("program-missing", "A program that is not there is named"),
        so("program-none", "A file that is no program is named"),
        so("policy-all", "With `--exit-policy all` the others go on when an app fails"),
        so("first-failure", "The exit code of the pod is that of an app that failed"),
        so("output-names", "Of several apps each line bears the name of its app"),
        so("restarts-none", "An app is not started again unless that was asked for"),
    ],
    run: endings,
};

pub(super) const INTERRUPT: Group = Group {
    name: "interrupt",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("interrupt", "SIGINT to the command asks the apps to end, and the code is 130"),
        so("removes-itself", "A pod with `--rm` is gone with its end"),
    ],
    run: interrupt,
};

fn endings(world: &World<'_>) {
    let apps = [
        world.app("zero", &[], &["/probe", "exit", "0"]),
        world.app("fortytwo", &[], &["/probe", "exit", "42"]),
        world.app("most", &[], &["/probe", "exit", "255"]),
        world.app("ours", &[], &["/probe", "exit", "125"]),
        world.app("killed", &["--pid", "pod"], &["/probe", "signal", "9"]),
        world.app("hung-up", &["--pid", "pod"], &["/probe", "signal", "1"]),
        world.app("missing", &[], &["/missing"]),
        world.app("text", &[], &["/etc/passwd"]),
        world.shell("late", &[], "echo first >&2; sleep 2; echo still here"),
    ];
    let words = apps.join(&"---");
    let said = world.run(&["--name", "endings", "--exit-policy", "all"]).args(&words).run();
    let pod = world.sandbox.status("endings");
    let end =
        |name: &str| pod.apps.iter().find(|app| app.name.as_str() == name).and_then(|app| app.exit);
    world.holds("exit-code", || {
        for (app, code) in
            [("zero", 0), ("fortytwo", 42), ("most", 255), ("ours", 125), ("late", 0)]
        {
            assert_eq!(end(app), Some(Ended::Exited { code }), "{app}: {pod:#?}");
        }
    });
    world.holds("exit-signal", || {
        for (app, signal) in [("killed", 9), ("hung-up", 1)] {
            assert_eq!(end(app), Some(Ended::Signaled { signal, oom: false }), "{app}");
        }
    });
    for (promise, app, path) in
        [("program-missing", "missing", "/missing"), ("program-none", "text", "/etc/passwd")]
    {
        world.holds(promise, || {
            let app = pod.apps.iter().find(|known| known.name.as_str() == app);
            let error = app.and_then(|app| app.error.as_ref()).expect("it could not be started");
            assert!(error.message.contains(path), "{error:?}");
        });
    }
    world.holds("program-missing", || {
        // The first that failed is the one the command tells of.
        let named = ["/missing", "/etc/passwd"].iter().any(|path| said.stderr.contains(path));
        assert!(named, "{said}");
    });
    world.holds("policy-all", || assert!(said.stdout.contains("still here"), "{said}"));
    world.holds("first-failure", || {
        let codes = [42, 255, 125, 137, 129, 127, 126];
        assert!(codes.contains(&said.code) && pod.code == u8::try_from(said.code).ok(), "{said}");
    });
    world.holds("output-names", || {
        let all = format!("{}{}", said.stdout, said.stderr);
        for word in ["first", "still here"] {
            let line = all.lines().find(|line| line.contains(word)).unwrap_or_default();
            assert!(line.starts_with("late"), "{all}");
        }
    });
    world.holds("restarts-none", || {
        assert!(pod.apps.iter().all(|app| app.restarts == 0), "{pod:#?}");
    });
}

fn interrupt(world: &World<'_>) {
    let app = world.app("app", &[], &["/probe", "wait"]);
    let run = world.run(&["--rm", "--name", "interrupted"]).args(app).start();
    run.wait_for("ready");
    run.signal(Signal::SIGINT);
    let said = run.wait();
    world.holds("interrupt", || {
        assert_eq!(said.code, 130, "{said}");
        assert!(said.stdout.contains("bye"), "it was asked, not killed: {said}");
    });
    world.holds("removes-itself", || {
        assert_eq!(world.sandbox.pod(["ps", "-a", "-q"]).success(), "");
    });
}
