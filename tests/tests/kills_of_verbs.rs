//! Two hundred SIGKILLs at random moments of every verb, to any process of ours.
//!
//! Each round lays out what its verb needs, begins the verb, kills one process of the sandbox - the
//! command line, a supervisor, PID 1, a helper, an app - and lets the rest end. Afterwards whatever
//! can be listed can be removed, and nothing is left. The choices come from a seeded generator and
//! are named by a failure.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::fixtures::Fixture;
use tests::random::Random;
use tests::require;
use tests::sandbox::Sandbox;

/// How many processes are killed, in all rounds together.
const KILLS: u32 = 200;
/// Milliseconds within which the kill comes: longer than a start takes.
const WINDOW: u64 = 60;

/// What must be there for a verb to have work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing but the image.
    Nothing,
    /// A pod `home` that runs.
    Living,
    /// A pod `home` that was laid out.
    Prepared,
    /// A pod `home` that has ended.
    Exited,
}

use Needs::{Exited, Living, Nothing, Prepared};

/// Every verb that changes something, or holds on to something. `IMAGE` is the fixture, `ARCHIVE`
/// a file that holds it, `OUT` a path where nothing is yet.
#[rustfmt::skip]
const VERBS: &[(Needs, &[&str])] = &[
    (Nothing, &["run", "--rm", "IMAGE", "/probe", "wait"]),
    (Nothing, &["run", "-i", "--rm", "IMAGE", "/probe", "wait"]),
    (Nothing, &["run", "--name", "home", "IMAGE", "/probe", "exit", "3"]),
    (Nothing, &["run", "-d", "--name", "home", "IMAGE", "/probe", "wait"]),
    (Nothing, &["run", "-d", "--restart", "always", "IMAGE", "/probe", "exit", "1"]),
    (Nothing, &["run", "-d", "IMAGE", "/probe", "wait", "---", "IMAGE", "--name", "two", "/probe", "stay"]),
    (Nothing, &["run", "-d", "--userns", "host", "-v", "kept:/data", "IMAGE", "/probe", "wait"]),
    (Nothing, &["prepare", "--name", "home", "IMAGE", "true"]),
    (Nothing, &["fetch", "IMAGE"]),
    (Nothing, &["image", "rm", "IMAGE"]),
    (Nothing, &["image", "gc"]),
    (Nothing, &["image", "tag", "IMAGE", "localhost/tagged:1"]),
    (Nothing, &["image", "export", "IMAGE", "OUT"]),
    (Nothing, &["image", "import", "ARCHIVE", "localhost/imported:1"]),
    (Nothing, &["volume", "create", "fresh"]),
    (Nothing, &["volume", "rm", "fresh"]),
    (Nothing, &["volume", "prune"]),
    (Nothing, &["gc"]),
    (Nothing, &["sandbox", "--name", "home"]),
    (Prepared, &["start", "home"]),
    (Prepared, &["start", "-d", "home"]),
    (Prepared, &["rm", "home"]),
    (Prepared, &["bundle", "home", "OUT"]),
    (Living, &["exec", "home", "/probe", "wait"]),
    (Living, &["exec", "home", "true"]),
    (Living, &["attach", "home"]),
    (Living, &["logs", "-f", "home"]),
    (Living, &["stop", "home"]),
    (Living, &["stop", "-t", "0", "home"]),
    (Living, &["status", "home"]),
    (Living, &["kill", "home"]),
    (Living, &["kill", "-s", "TERM", "home"]),
    (Living, &["restart", "home"]),
    (Living, &["wait", "home"]),
    (Living, &["events", "-f", "home"]),
    (Living, &["top", "home"]),
    (Living, &["rm", "-f", "home"]),
    (Living, &["app", "add", "--start", "home", "IMAGE", "--name", "extra", "/probe", "wait"]),
    (Living, &["app", "stop", "home", "app"]),
    (Living, &["app", "ls", "home"]),
    (Living, &["gc"]),
    (Living, &["run", "--rm", "IMAGE", "true"]),
    (Exited, &["start", "-d", "home"]),
    (Exited, &["start", "home"]),
    (Exited, &["rm", "home"]),
    (Exited, &["gc"]),
    (Exited, &["run", "-d", "--name", "home", "IMAGE", "/probe", "wait"]),
];

fn lay_out(sandbox: &Sandbox, needs: Needs, image: &str) {
    let home = |verb: &[&str], command: &[&str]| {
        let call = sandbox.call().args(verb).args(["--name", "home", image]);
        call.args(command).run().success();
    };
    match needs {
        Nothing => {}
        Living => home(&["run", "-d"], &["/probe", "wait"]),
        Prepared => home(&["prepare"], &["/probe", "wait"]),
        Exited => home(&["run"], &["true"]),
    }
}

fn processes(sandbox: &Sandbox) -> Vec<i32> {
    sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default()
}

/// Kills one process of the sandbox, if there is one.
fn strike(sandbox: &Sandbox, random: &mut Random) -> bool {
    let all = processes(sandbox);
    !all.is_empty() && kill(Pid::from_raw(*random.one_of(&all)), Signal::SIGKILL).is_ok()
}

/// Asks all processes of the sandbox to end until they have: one may just have begun another.
fn end(sandbox: &Sandbox, what: &str) {
    const OFTEN: u32 = 100;
    let drained = (0..OFTEN).any(|_| {
        for pid in processes(sandbox) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM); // it may be gone by now
        }
        sandbox.cgroup().is_none_or(|cgroup| cgroup.drains(200))
    });
    let left: Vec<String> = processes(sandbox).into_iter().map(described).collect();
    assert!(drained, "{what}: these do not end:\n  {}", left.join("\n  "));
}

fn described(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let state = read("stat").rsplit(')').next().and_then(|rest| rest.chars().nth(1));
    format!("{pid} {state:?} {}", read("cmdline").replace('\0', " "))
}

/// Removes what may be there, and says what stays all the same.
fn heal(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.pod(["ps", "-a", "-q"]);
    let ids: Vec<String> = listed.raw.lines().map(str::to_owned).collect();
    listed.success();
    for id in ids {
        let _ = sandbox.pod(["rm", &id]); // what stays is a leak below
    }
    let out = sandbox.path("out");
    let _ = if out.is_dir() { fs::remove_dir_all(out) } else { fs::remove_file(out) }; // mostly nothing
    sandbox.leaks()
}

#[test]
fn two_hundred_kills_of_all_verbs_leave_nothing_that_can_not_be_removed() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.expect_debris();
    let image = sandbox.fixture(Fixture::App);
    let path = |name: &str| sandbox.path(name).display().to_string();
    let (out, archive) = (path("out"), path("archive"));
    sandbox.pod(["image", "export", &image, &archive]).success();
    let mut random = Random::of_the_environment();
    let (mut killed, mut round) = (0, 0);
    while killed < KILLS {
        round += 1;
        assert!(round < 5 * KILLS, "only {killed} processes could be killed");
        let (needs, verb) = random.one_of(VERBS);
        lay_out(&sandbox, *needs, &image);
        let word = |word: &&str| match *word {
            "IMAGE" => image.clone(),
            "OUT" => out.clone(),
            "ARCHIVE" => archive.clone(),
            other => other.to_owned(),
        };
        let running = sandbox.call().args(verb.iter().map(word)).start();
        let moment = random.below(WINDOW * 1000);
        let what = format!("round {round}, `{}`, {moment} us", verb.join(" "));
        // The moment is the point of the test; nothing can be waited for.
        thread::sleep(Duration::from_micros(moment));
        killed += u32::from(strike(&sandbox, &mut random));
        // A verb that had not even begun when it was struck is not in the cgroup yet; once it has
        // ended, what it began in the background is.
        let _ = kill(running.pid(), Signal::SIGTERM); // it may have ended
        end(&sandbox, &what);
        let _ = running.wait();
        end(&sandbox, &what);
        let leaks = heal(&sandbox);
        assert!(leaks.is_empty(), "{what}:\n  {}", leaks.join("\n  "));
        if round % 20 == 0 {
            sandbox.pod(["image", "fsck"]).success();
        }
    }
    // What was listed all the time still works.
    assert_eq!(sandbox.pod(["run", "--rm", &image, "echo", "alive"]).success(), "alive\n");
}
