//! PID 1 under a supervisor made of a few lines: real namespaces, a root of busybox, no stage1.
//!
//! What is promised of every process in an app is asked of the process itself. Without a test
//! harness, for that runs tests on threads and `clone3` refuses to be called beside any; the
//! promises are named and reported one by one all the same. Needs root and `busybox-static`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test, though not of the harness")]

mod order;
mod pod;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::panic;
use std::process::ExitCode;

use pod_abi::app::{AppSpec, PidMode, Restart, Stop};
use pod_abi::exit::Ended;
use pod_abi::inner::{FromInit, Target, ToInit};
use pod_abi::isolators::{Capabilities, Capability, Rlimit, RlimitKind, Seccomp};
use pod_abi::manifest::ExitPolicy;
use pod_abi::path::PodPath;
use pod_abi::readiness::Readiness;
use rustix::event::epoll;
use stage2_init::readiness::{TAG, Watches};

use pod::{Ids, Pod, shell};

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/bin/busybox").exists() {
        println!("skipped: needs root and /bin/busybox");
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    let mut failed = 0;
    for (name, promise) in PROMISES {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let kept = panic::catch_unwind(promise).is_ok();
        println!("test {name} ... {}", if kept { "ok" } else { "FAILED" });
        failed += u8::from(!kept);
    }
    ExitCode::from(failed)
}

macro_rules! promises {
    ($($($path:ident)::+),* $(,)?) => {
        const PROMISES: &[(&str, fn())] =
            &[$((stringify!($($path)::+), $($path)::+),)*];
    };
}

promises! {
    what_was_said_before_a_start_is_not_heard_after_it,
    an_app_has_exactly_what_its_specification_gives,
    the_status_of_an_app_is_the_pods,
    a_program_that_cannot_be_executed_is_told_apart,
    exec_equals_start,
    masked_paths_read_as_empty_and_read_only_ones_cannot_be_written,
    an_app_that_ignores_its_stop_signal_is_killed_after_its_grace,
    an_app_without_a_handler_ends_at_once_by_its_stop_signal,
    what_an_app_leaves_in_the_pods_pid_namespace_is_killed,
    apps_are_stopped_the_last_first,
    an_app_is_restarted,
    an_app_sees_its_own_cgroup_as_the_root_and_cannot_write_it,
    nothing_is_left_in_pid_1_by_a_hundred_execs,
    a_pod_ends_with_its_channel,
    orphans_are_reaped,
    a_missing_working_directory_is_made,
    a_specification_that_cannot_be_met_is_refused,
    order::an_app_is_ready_when_a_process_of_its_pod_says_so,
    order::a_probe_runs_in_the_app_until_it_succeeds,
    order::a_server_is_ready_when_it_answers_well,
    order::a_reaper_is_process_1_and_the_app_its_child,
    order::an_app_that_was_removed_can_come_back,
}

fn ended(news: &FromInit) -> Option<(&str, Ended)> {
    match news {
        FromInit::AppEnded { app, exit, .. } => Some((app.as_str(), *exit)),
        _ => None,
    }
}

/// Runs one app to its end; returns its output, its end and the pod's status.
fn run(spec: AppSpec) -> (String, Ended, u8) {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let output = pod.add(spec);
    pod.tell(&ToInit::Run);
    let exit = pod.until(|news| ended(news).map(|(_, exit)| exit));
    let code =
        pod.until(|news| if let FromInit::PodEnded { code } = news { Some(*code) } else { None });
    (output.read(), exit, code)
}

fn fields(status: &str) -> BTreeMap<String, String> {
    let pairs = status.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn what_was_said_before_a_start_is_not_heard_after_it() {
    /// More than are taken at once, where the kernel's queue is as long.
    const MANY: usize = 100;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut watches = Watches::default();
    let mut spec = shell("app", "true");
    spec.readiness = Readiness::Notify;
    watches.add(&mut spec, epoll.as_fd()).unwrap();
    let address = |spec: &AppSpec| {
        let values = spec.process.env.iter().filter(|var| var.name() == "NOTIFY_SOCKET");
        let values: Vec<&str> = values.map(|var| var.as_str()).collect();
        let [value] = values[..] else { panic!("{values:?}") };
        SocketAddr::from_abstract_name(value.strip_prefix("NOTIFY_SOCKET=@").unwrap()).unwrap()
    };
    let app = UnixDatagram::unbound().unwrap();
    app.set_nonblocking(true).unwrap();
    let say = |to: &SocketAddr| app.send_to_addr(b"READY=1", to).is_ok();
    let heard = |watches: &mut Watches| watches.look(TAG, epoll.as_fd(), 0).is_some();
    let old = address(&spec);
    let said = (0..MANY).take_while(|_| say(&old)).count();
    assert!(said > 0);
    watches.starts(&mut spec, epoll.as_fd()).unwrap();
    assert!(!heard(&mut watches), "{said} messages");
    assert!(!say(&old), "nobody listens there any more");
    assert!(say(&address(&spec)) && heard(&mut watches));
}

fn an_app_has_exactly_what_its_specification_gives() {
    let mut spec = shell(
        "a",
        "cat /proc/self/status; echo fds: $(ls /proc/self/fd | tr '\\n' ' '); echo cwd: $PWD; \
         echo hostname: $(hostname); echo env: $(env | sort | tr '\\n' ' '); \
         echo pid: $$; echo limit: $(ulimit -n); echo session: $(cut -d' ' -f6 /proc/1/stat); \
         echo mask: $(umask); echo lo: $(cat /sys/class/net/lo/flags)",
    );
    spec.process.user.uid = 1000;
    spec.process.user.gid = 100;
    spec.process.user.additional_gids = vec![7, 8];
    spec.process.user.umask = Some(0o27);
    spec.process.cwd = PodPath::parse("/tmp").unwrap();
    spec.process.rlimits = vec![Rlimit { kind: RlimitKind::Nofile, soft: 64, hard: 65 }];
    let (output, exit, code) = run(spec);
    assert_eq!((exit, code), (Ended::Exited { code: 0 }, 0), "{output}");
    let is = fields(&output);
    let default = format!("{:016x}", Capabilities::default_set().bits());
    for (key, value) in [
        ("Uid", "1000\t1000\t1000\t1000"),
        ("Gid", "100\t100\t100\t100"),
        ("Groups", "7 8"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", default.as_str()),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Seccomp_filters", "1"),
        ("SigBlk", "0000000000000000"),
        ("SigIgn", "0000000000000000"),
        ("fds", "0 1 2 3"),
        ("cwd", "/tmp"),
        ("hostname", "host-of-pod"),
        ("env", "HOME=/ PATH=/bin PWD=/tmp SHLVL=1"),
        ("pid", "1"),
        ("limit", "64"),
        ("session", "1"),
        ("mask", "0027"),
        ("lo", "0x9"),
    ] {
        assert_eq!(is.get(key).map(String::as_str), Some(value), "{key}\n{output}");
    }
}

fn the_status_of_an_app_is_the_pods() {
    for (script, exit, status) in [
        ("exit 0", Ended::Exited { code: 0 }, 0),
        ("exit 7", Ended::Exited { code: 7 }, 7),
        ("exit 255", Ended::Exited { code: 255 }, 255),
    ] {
        assert_eq!(run(shell("a", script)), (String::new(), exit, status), "{script}");
    }
    let mut pod_pids = shell("a", "kill -9 $$");
    pod_pids.pid = PidMode::Pod;
    let killed = Ended::Signaled { signal: 9, oom: false };
    assert_eq!(run(pod_pids), (String::new(), killed, 137));
}

fn a_program_that_cannot_be_executed_is_told_apart() {
    for (args, code, word) in [
        (&["nowhere"][..], 127, "app.not-found"),
        (&["/bin/nowhere"], 127, "app.not-found"),
        (&["/etc/plain"], 126, "app.not-executable"),
        (&["/etc"], 126, "app.not-executable"),
        (&["/bin/orphan-script"], 126, "app.no-interpreter"),
        (&["orphan-script"], 126, "app.no-interpreter"),
        (&["/etc/garbage"], 126, "app.not-executable"),
    ] {
        let mut spec = shell("a", "");
        spec.process.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut pod = Pod::new(ExitPolicy::AnyFailure);
        let _output = pod.add(spec);
        pod.tell(&ToInit::Run);
        let news = pod.until(|news| match news {
            FromInit::AppEnded { exit, error, .. } => Some((*exit, error.clone())),
            _ => None,
        });
        let report = news.1.unwrap();
        assert_eq!(news.0, Ended::NotStarted { code }, "{args:?} {report:?}");
        assert_eq!((report.code.as_str(), report.exit), (word, code), "{report:?}");
        assert!(report.message.contains(args[0].rsplit('/').next().unwrap()), "{report:?}");
    }
}

/// What a process says of itself that must not depend on how it came to life.
const SELF_PORTRAIT: &str = "grep -vE '^(Name|State|Tgid|Pid|PPid|NSpid|NStgid|NSpgid|NSsid|Vm|Rss|\
     Hugetlb|voluntary|nonvoluntary|Threads|SigQ|Mems_allowed|Cpus_allowed|Kthread)' \
     /proc/self/status; cd /proc/self/ns; ls -l | sed 's/.* -> //' | sort; cat /proc/self/limits; \
     cat /proc/self/cgroup; cat /proc/self/mountinfo; env | sort; umask; ls /proc/self/fd; \
     cat /proc/self/oom_score_adj; pwd";

fn exec_equals_start() {
    for (ids, uid, no_new_privileges, pid, seccomp) in [
        (Ids::Own, 0, true, PidMode::App, Seccomp::Default),
        (Ids::Own, 1000, true, PidMode::App, Seccomp::Default),
        (Ids::Own, 1000, false, PidMode::App, Seccomp::Default),
        (Ids::Own, 0, false, PidMode::Pod, Seccomp::Default),
        (Ids::Own, 1000, false, PidMode::Pod, Seccomp::Unconfined),
        (Ids::Host, 0, true, PidMode::App, Seccomp::Default),
        (Ids::Host, 1000, false, PidMode::Pod, Seccomp::Default),
    ] {
        let mut spec = shell("a", &format!("({SELF_PORTRAIT}); echo end; exec sleep 1000"));
        spec.process.user.uid = uid;
        spec.process.user.additional_gids = vec![4, 27];
        spec.process.no_new_privileges = no_new_privileges;
        spec.process.seccomp = seccomp;
        spec.process.capabilities.0.insert(Capability::NetRaw);
        spec.process.oom_score_adj = Some(500);
        spec.pid = pid;
        spec.masked_paths = vec![PodPath::parse("/proc/timer_list").unwrap()];
        let mut pod = Pod::with(ExitPolicy::AnyFailure, ids);
        let mut process = spec.process.clone();
        process.args[2] = SELF_PORTRAIT.to_owned();
        let started = pod.add(spec);
        pod.tell(&ToInit::Run);
        pod.until(|news| matches!(news, FromInit::PodReady).then_some(()));
        let started = started.wait_for("end").replace("end\n", "");
        let joined = pod.exec(1, "a", process);
        let exit = pod.until(|news| match news {
            FromInit::ExecEnded { id: 1, exit, error } => Some((*exit, error.clone())),
            _ => None,
        });
        assert_eq!(exit, (Ended::Exited { code: 0 }, None));
        pod.tell(&ToInit::Shutdown { grace_ms: Some(0) });
        pod.until(|news| matches!(news, FromInit::PodEnded { .. }).then_some(()));
        let joined = joined.read();
        assert!(started.contains("CapBnd"), "{started}");
        let different: Vec<_> =
            started.lines().zip(joined.lines()).filter(|(one, other)| one != other).collect();
        assert_eq!(different, [], "{uid} {no_new_privileges} {pid:?}");
        assert_eq!(started, joined, "{uid} {no_new_privileges} {pid:?}");
    }
}

fn masked_paths_read_as_empty_and_read_only_ones_cannot_be_written() {
    for pid in [PidMode::App, PidMode::Pod] {
        let mut spec = shell(
            "a",
            "stat -c '%t:%T %n' /proc/timer_list /proc/keys; ls -a /proc/scsi /etc/secret /proc/asound 2>/dev/null; \
             touch /proc/sys/x /etc/frozen/x /etc/secret/x 2>&1 | grep -c 'Read-only file system'; \
             echo 0 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused; touch /etc/x && echo free",
        );
        let path = |path: &str| PodPath::parse(path).unwrap();
        let masked =
            ["/proc/timer_list", "/proc/keys", "/proc/scsi", "/etc/secret", "/no/such/path"];
        spec.masked_paths = masked.map(path).to_vec();
        spec.read_only_paths = ["/proc/sys", "/etc/frozen", "/nor/this"].map(path).to_vec();
        spec.pid = pid;
        let (output, exit, _) = run(spec);
        assert_eq!(exit, Ended::Exited { code: 0 }, "{output}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..2], ["1:3 /proc/timer_list", "1:3 /proc/keys"], "{output}");
        assert!(!output.contains("password"), "{output}");
        assert_eq!(lines[lines.len() - 2..], ["refused", "free"], "{output}");
        assert!(lines.contains(&"3") || lines.contains(&"2"), "{output}");
    }
}

fn an_app_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let mut spec = shell("a", "trap '' TERM; echo up; while :; do sleep 1000; done");
    spec.stop = Stop { signal: 15, grace_ms: 50 };
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let output = pod.add(spec);
    pod.tell(&ToInit::Run);
    output.wait_for("up");
    pod.tell(&ToInit::Shutdown { grace_ms: None });
    let end = pod.until(|news| ended(news).map(|(_, exit)| exit));
    assert_eq!(end, Ended::Signaled { signal: 9, oom: false });
    assert_eq!(
        pod.until(|news| if let FromInit::PodEnded { code } = news { Some(*code) } else { None }),
        0
    );
    pod.gone();
}

fn an_app_without_a_handler_ends_at_once_by_its_stop_signal() {
    let mut spec = shell("a", "echo up; exec sleep 1000");
    spec.stop = Stop { signal: 15, grace_ms: 3_600_000 };
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let output = pod.add(spec);
    pod.tell(&ToInit::Run);
    output.wait_for("up");
    pod.tell(&ToInit::Shutdown { grace_ms: None });
    let end = pod.until(|news| ended(news).map(|(_, exit)| exit));
    assert_eq!(end, Ended::Signaled { signal: 15, oom: false });
}

fn what_an_app_leaves_in_the_pods_pid_namespace_is_killed() {
    let mut left = shell("a", "sleep 1000 & sleep 1000 & echo up; exit 0");
    left.pid = PidMode::Pod;
    let mut pod = Pod::new(ExitPolicy::All);
    let _output = pod.add(left);
    let _other = pod.add(shell("b", "exec sleep 1000"));
    pod.tell(&ToInit::Run);
    pod.until(|news| ended(news).map(|_| ()));
    pod.wait_until_empty("a");
}

fn apps_are_stopped_the_last_first() {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done";
    let outputs: Vec<_> = ["a", "b", "c"].map(|name| pod.add(shell(name, script))).into();
    pod.tell(&ToInit::Run);
    for output in &outputs {
        output.wait_for("up");
    }
    pod.tell(&ToInit::Signal { target: Target::AllApps, signal: 18 });
    pod.tell(&ToInit::Shutdown { grace_ms: None });
    let mut order = Vec::new();
    let code = pod.until(|news| {
        order.extend(ended(news).map(|(name, exit)| (name.to_owned(), exit.code())));
        if let FromInit::PodEnded { code } = news { Some(*code) } else { None }
    });
    let names: Vec<(&str, u8)> = order.iter().map(|(name, code)| (name.as_str(), *code)).collect();
    assert_eq!((names, code), (vec![("c", 3), ("b", 3), ("a", 3)], 0));
}

fn an_app_is_restarted() {
    let mut spec = shell("a", "echo again; exit 3");
    spec.restart = Restart::OnFailure { max: Some(2) };
    spec.masked_paths = vec![PodPath::parse("/proc/timer_list").unwrap()];
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let output = pod.add(spec);
    pod.tell(&ToInit::Run);
    let mut waits = Vec::new();
    let code = pod.until(|news| match news {
        FromInit::AppEnded { restart_in_ms, .. } => {
            waits.push(*restart_in_ms);
            None
        }
        FromInit::PodEnded { code } => Some(*code),
        _ => None,
    });
    assert_eq!((waits, code), (vec![Some(100), Some(200), None], 3));
    assert_eq!(output.read(), "again\nagain\nagain\n");
}

fn an_app_sees_its_own_cgroup_as_the_root_and_cannot_write_it() {
    let spec = shell(
        "a",
        "exec 2>&1; grep ^0: /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; \
         (echo $$ > /sys/fs/cgroup/cgroup.procs); mkdir /sys/fs/cgroup/x; true",
    );
    let (output, exit, _) = run(spec);
    assert_eq!(exit, Ended::Exited { code: 0 }, "{output}");
    let lines: Vec<&str> = output.lines().collect();
    if lines[1].contains("No such file") {
        println!("  (no cgroup2 file system here)");
        return;
    }
    assert_eq!(lines[0], "0::/", "{output}");
    assert_eq!(lines[1], "1", "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
}

fn nothing_is_left_in_pid_1_by_a_hundred_execs() {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let spec = shell("a", "exec sleep 1000");
    let mut process = spec.process.clone();
    process.args[2] = "exit 5".to_owned();
    let _output = pod.add(spec);
    pod.tell(&ToInit::Run);
    pod.until(|news| matches!(news, FromInit::PodReady).then_some(()));
    let before = pod.descriptors();
    for id in 0..100 {
        let output = pod.exec(id, "a", process.clone());
        let exit = pod.until(|news| match news {
            FromInit::ExecEnded { exit, .. } => Some(*exit),
            _ => None,
        });
        assert_eq!(exit, Ended::Exited { code: 5 });
        output.read();
    }
    assert_eq!(pod.descriptors(), before);
}

fn a_pod_ends_with_its_channel() {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let output = pod.add(shell("a", "echo up; exec sleep 1000"));
    pod.tell(&ToInit::Run);
    output.wait_for("up");
    pod.hang_up();
    pod.gone();
    output.read();
}

fn orphans_are_reaped() {
    let mut spec = shell("a", "(sleep 0 & sleep 0 &) ; ls / >/dev/null; kill -0 1; exit 4");
    spec.pid = PidMode::Pod;
    assert_eq!(run(spec).2, 4);
}

fn a_missing_working_directory_is_made() {
    let mut spec = shell("a", "pwd; stat -c '%u %a' /made /made/for/me");
    spec.process.cwd = PodPath::parse("/made/for/me").unwrap();
    spec.process.user.uid = 1000;
    let (output, ..) = run(spec);
    assert_eq!(output, "/made/for/me\n0 755\n0 755\n");
    // A link out of the root stays in it.
    let mut spec = shell("a", "pwd");
    spec.process.cwd = PodPath::parse("/link/in/it").unwrap();
    assert_eq!(run(spec).0, "/tmp/in/it\n");
}

fn a_specification_that_cannot_be_met_is_refused() {
    let mut spec = shell("a", "echo never");
    spec.process.oom_score_adj = Some(-900);
    spec.process.rlimits =
        vec![Rlimit { kind: RlimitKind::Nofile, soft: u64::MAX, hard: u64::MAX }];
    assert_eq!(run(spec), (String::new(), Ended::NotStarted { code: 125 }, 125));
    let mut spec = shell("a", "echo never");
    spec.process.args = vec![];
    assert_eq!(run(spec), (String::new(), Ended::NotStarted { code: 125 }, 125));
}
