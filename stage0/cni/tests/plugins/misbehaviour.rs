//! Plugins that hang, that talk without end, that say what is no answer: none of them holds us up,
//! none of them stays.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use cni::{ErrorKind, Logged};

use crate::bench::{Bench, attachment, chain, network, request};

/// Has the only plugin do `script` for ADD, with `time` to do it, and returns what that became.
fn add(bench: &Bench, script: &str, time: Duration) -> Result<(), cni::Error> {
    bench.on("a", "ADD", script);
    let mut caller = bench.caller();
    caller.time = time;
    let added = bench.executor_of(caller).attach(&network("1.0.0", &["a"]), &request("pod-1"));
    if added.is_err() {
        assert_eq!(bench.asked(), ["a ADD", "a DEL"]);
        assert!(bench.left().is_empty());
    }
    added.map(drop)
}

const LONG: Duration = Duration::from_secs(60);

/// Whether the process whose number a plugin wrote down is no more, at once or soon.
fn is_gone(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap();
    let proc = format!("/proc/{}/stat", pid.trim());
    let runs = || fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z "));
    let end = Instant::now() + Duration::from_secs(5);
    while runs() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    !runs()
}

#[test]
fn one_that_hangs_is_killed_with_all_it_started() {
    let bench = Bench::new();
    let script =
        r#"echo $$ > "$here/pid"; sleep 1000 & echo $! > "$here/child"; echo waiting >&2; wait"#;
    let error = add(&bench, script, Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        chain(&error),
        "cannot attach `eth0` of `pod-1` on network `web`\n\
         plugin `a` had not ended ADD after 0.5 s and was killed\n\
         it logged: waiting"
    );
    assert!(is_gone(&bench.at("pid")) && is_gone(&bench.at("child")));
}

#[test]
fn one_that_talks_without_end_is_killed() {
    let bench = Bench::new();
    let script = r#"echo $$ > "$here/pid"; exec yes"#;
    let error = add(&bench, script, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Garbage);
    assert!(chain(&error).contains("with more than 1024 KiB and was killed"), "{}", chain(&error));
    assert!(is_gone(&bench.at("pid")));
}

#[test]
fn a_log_without_end_is_kept_to_its_end_and_holds_nobody_up() {
    let bench = Bench::new();
    let logged = Mutex::new(Vec::new());
    let log = |said: &Logged<'_>| logged.lock().unwrap().push(said.text.to_owned());
    let mut caller = bench.caller();
    caller.log = Some(&log);
    bench.on("a", "ADD", "seq 1 200000 >&2; echo '{}'");
    let executor = bench.executor_of(caller);
    executor.attach(&network("1.0.0", &["a"]), &request("pod-1")).unwrap();
    executor.detach(&attachment("pod-1"), None, None).unwrap();
    let logged = logged.lock().unwrap();
    assert_eq!(logged.len(), 1, "silence is not logged");
    assert!(logged[0].len() <= 16 << 10 && logged[0].ends_with("\n199999\n200000\n"));
}

#[test]
fn a_child_that_keeps_the_streams_does_not_keep_us() {
    let bench = Bench::new();
    let script = r#"sleep 1000 & echo $! > "$here/child"; echo '{"cniVersion":"1.0.0"}'"#;
    let began = Instant::now();
    add(&bench, script, LONG).unwrap();
    bench.executor().detach(&attachment("pod-1"), None, None).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "and it does not hold the lock either");
    let child = fs::read_to_string(bench.at("child")).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
    assert!(is_gone(&bench.at("child")));
}

#[test]
fn what_is_no_answer_is_told_as_it_was_said() {
    let deep = "printf '{\"a\":'; printf '[%.0s' $(seq 1 2000); echo";
    let cases = [
        ("", ErrorKind::Garbage, "plugin `a` answered ADD with nothing"),
        ("echo ' '", ErrorKind::Garbage, "plugin `a` answered ADD with nothing"),
        (
            "echo '[1]'",
            ErrorKind::Garbage,
            "plugin `a` answered ADD with what is no JSON object\nit said: [1]",
        ),
        (
            r"printf 'oops \033[2J'",
            ErrorKind::Garbage,
            "plugin `a` answered ADD with what is no JSON\nexpected value at line 1 column 1\nit said: oops \u{fffd}[2J",
        ),
        (deep, ErrorKind::Garbage, "plugin `a` answered ADD with what is no JSON\nrecursion limit"),
        (
            r#"echo '{"ips":[{"address":"here"}]}'"#,
            ErrorKind::Garbage,
            "plugin `a` answered ADD with what is no result\n`here` is no address with a prefix",
        ),
        (
            r#"echo '{"cniVersion":"0.2.0","ip4":{}}'"#,
            ErrorKind::Garbage,
            "plugin `a` answered ADD with what is no result\nit is a result of version 0.2.0",
        ),
        ("exit 7", ErrorKind::Plugin, "plugin `a` ended ADD with exit status: 7"),
        (
            "echo panic; exit 2",
            ErrorKind::Plugin,
            "plugin `a` ended ADD with exit status: 2\nit said: panic",
        ),
        ("kill -SEGV $$", ErrorKind::Plugin, "plugin `a` ended ADD with signal: 11"),
        (
            r#"echo '{"code":1,"msg":"incompatible"}'; exit 1"#,
            ErrorKind::Plugin,
            "plugin `a` refused ADD\nincompatible (code 1)",
        ),
    ];
    for (script, kind, expected) in cases {
        let bench = Bench::new();
        let error = add(&bench, script, LONG).unwrap_err();
        assert_eq!(error.kind(), kind, "{script}");
        let (_, causes) =
            chain(&error).split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(causes.starts_with(expected), "{script}: {causes}");
    }
}

#[test]
fn one_that_is_not_there_or_cannot_be_run_is_named() {
    let bench = Bench::new();
    let executor = bench.executor();
    let error = executor.attach(&network("1.0.0", &["a", "none"]), &request("pod-1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginMissing);
    assert!(chain(&error).contains("there is no plugin `none` in `/"), "{}", chain(&error));
    assert!(error.hints()[0].contains("containernetworking-plugins"));
    assert_eq!(bench.asked(), ["a ADD", "a DEL"]);
    assert!(bench.left().is_empty(), "what was never there has made nothing");

    executor.attach(&network("1.0.0", &["b", "a"]), &request("pod-1")).unwrap();
    fs::rename(bench.at("b"), bench.at("uninstalled")).unwrap();
    let error = executor.detach(&attachment("pod-1"), None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginMissing);
    assert_eq!(bench.left(), ["pod-1"], "what was there may have");
    fs::rename(bench.at("uninstalled"), bench.at("b")).unwrap();
    executor.detach(&attachment("pod-1"), None, None).unwrap();
    assert!(bench.left().is_empty());
}

#[test]
fn a_plugin_sees_a_clean_world() {
    let bench = Bench::new();
    let script = r#"env | cut -d= -f1 | grep -v '^_$\|^PWD$\|^SHLVL$\|^OLDPWD$' | sort | tr '\n' ' ' > "$here/env"
        pwd > "$here/cwd"; ls -l /proc/self/fd > "$here/fds"; echo '{}'"#;
    add(&bench, script, LONG).unwrap();
    let read = |name: &str| fs::read_to_string(bench.at(name)).unwrap();
    let names = "CNI_ARGS CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH PATH";
    assert_eq!(read("env").trim(), names);
    assert_eq!(read("cwd"), "/\n");
    assert!(read("fds").contains("pod-1/lock"), "{}", read("fds"));
    bench.executor().detach(&attachment("pod-1"), None, None).unwrap();
}
