//! Limits of memory, processors and processes: in force, changed while the pod lives, and counted.

use pod_abi::exit::Ended;
use pod_abi::status::AppState;

use crate::parity::{Group, Place, World, nearly, so};

pub(super) const GROUP: Group = Group {
    name: "limits",
    place: Place::Controllers,
    boots: 1,
    promises: &[
        so(
            "limit-memory",
            "An app that takes more memory than it may is killed, and the record says so",
        ),
        so("limit-neighbour", "The app beside it lives on"),
        so("limit-processes", "An app makes no more processes than it may"),
        so("limit-processor", "An app gets no more of a processor than it may"),
        nearly(
            "limit-changed",
            "A limit that is changed is in force at once",
            "within the size the machine was made with: memory beyond it is refused",
        ),
        so("limit-seen", "An app sees its own limit"),
    ],
    run: limits,
};

pub(super) const MEMORY: Group = Group {
    name: "memory",
    place: Place::Controllers,
    boots: 1,
    promises: &[
        so("oom-stop", "With `--oom-policy stop` the pod ends, in order, with 137"),
        so("oom-history", "The history tells whose memory has run out"),
    ],
    run: memory,
};

fn limits(world: &World<'_>) {
    let forks = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done 2>&1; wait";
    let busy = "echo up; while :; do :; done";
    let apps = [
        world.shell("hog", &["-m", "24m"], "sleep 1; exec tail /dev/zero"),
        world.shell("neighbour", &["-m", "24m"], "exec sleep 1000"),
        world.shell("forks", &["--pids-limit", "8"], forks),
        world.shell("busy", &["--cpus", "0.3"], busy),
    ];
    let pod =
        world.detached("limits", &[&["--exit-policy", "all"], &apps.join(&"---")[..]].concat());
    let read = |app: &str, file: &str| {
        pod.exec(&["-c", app], &["cat", &format!("/sys/fs/cgroup/{file}")]).success()
    };
    let hog = world.end_of(&pod, "hog");
    world.holds("limit-memory", || {
        assert_eq!(hog.exit, Some(Ended::Signaled { signal: 9, oom: true }), "{hog:?}");
    });
    world.holds("limit-neighbour", || {
        assert_eq!(pod.app("neighbour").state, AppState::Running);
    });
    world.holds("limit-seen", || assert_eq!(read("neighbour", "memory.max"), "25165824\n"));
    world.holds("limit-processes", || {
        world.wait_for("a fork fails", || {
            world.logs("limits", "forks").contains("fork").then_some(())
        });
    });
    world.holds("limit-processor", || {
        assert_eq!(read("busy", "cpu.max"), "30000 100000\n");
        world.wait_for("it is held up", || {
            let text = read("busy", "cpu.stat");
            let held = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            (held != Some("0")).then_some(())
        });
    });
    world.holds("limit-changed", || {
        world.sandbox.pod(["update", "-c", "neighbour", "-m", "32m", "limits"]).success();
        assert_eq!(read("neighbour", "memory.max"), "33554432\n");
    });
    world.sandbox.pod(["stop", "-t", "0", "limits"]).success();
}

fn memory(world: &World<'_>) {
    let apps = [
        world.shell(
            "web",
            &["-m", "24m"],
            "sleep 1; tail /dev/zero; echo survived; exec sleep 1000",
        ),
        world.shell("other", &[], "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
    ];
    let words = apps.join(&"---");
    let said = world.run(&["--name", "memory", "--oom-policy", "stop"]).args(words).run();
    let pod = world.sandbox.status("memory");
    world.holds("oom-stop", || {
        assert_eq!((said.code, pod.code), (137, Some(137)), "{said}");
        assert_eq!(pod.apps[1].exit, Some(Ended::Exited { code: 0 }), "it was stopped in order");
    });
    world.holds("oom-history", || {
        let events = world.sandbox.pod(["events", "-o", "json", "memory"]).success();
        assert!(events.contains("app-out-of-memory"), "{events}");
    });
}
