//! What an app sees and reaches, as the probe reports it from inside.
//!
//! Each test is written so that it fails when the defence it is named after is taken out; attacks
//! proper are in `escapes.rs`.

use pod_abi::isolators::Capabilities;
use probe::Report;
use probe::attempts::Reach;
use std::collections::BTreeMap;
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

#[test]
fn every_namespace_is_the_pods_own() {
    let sandbox = sandbox!();
    let report = sandbox.report(&[]);
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let inside = report.namespaces.get(kind).unwrap_or_else(|| panic!("no {kind}"));
        assert_ne!(*inside, sandbox.namespace(kind), "{kind}");
    }
    assert_eq!(report.pid, 1, "an app is process 1 of its pid namespace");
    assert_eq!(report.processes.len(), 1, "{:?}", report.processes);
    assert_eq!(report.links, ["lo"]);
}

#[test]
fn root_of_the_pod_is_nobody_on_the_host() {
    let sandbox = sandbox!();
    let report = sandbox.report(&[]);
    let map: Vec<u32> = report.uid_map.split(' ').map(|word| word.parse().unwrap()).collect();
    assert_eq!((map[0], map[2]), (0, 65_536), "{map:?}");
    assert!(map[1] >= 524_288, "{map:?}");
    assert_eq!(report.uid_map, report.gid_map);
    assert_eq!(report.status("Uid"), "0 0 0 0");
}

#[test]
fn two_pods_never_share_their_user_ids() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let one = sandbox.detached("one", [&image, "/probe", "wait"]);
    let two = sandbox.detached("two", [&image, "/probe", "wait"]);
    let (one, two) = (one.status().ids.unwrap(), two.status().ids.unwrap());
    assert!(one.base.abs_diff(two.base) >= one.count, "{one:?} {two:?}");
}

#[test]
fn without_a_user_namespace_everything_else_still_holds() {
    let sandbox = sandbox!();
    let report = sandbox.report(&["--userns", "host"]);
    assert_eq!(report.namespaces["user"], sandbox.namespace("user"));
    assert_eq!(report.capabilities().bounding, Capabilities::default_set().bits());
    assert_eq!(report.status("Seccomp"), "2");
    assert_ne!(report.namespaces["mnt"], sandbox.namespace("mnt"));
}

#[test]
fn root_holds_the_default_capabilities_and_no_more() {
    let sandbox = sandbox!();
    let sets = sandbox.report(&[]).capabilities();
    let default = Capabilities::default_set().bits();
    assert_eq!((sets.permitted, sets.effective, sets.bounding), (default, default, default));
    assert_eq!((sets.inheritable, sets.ambient), (0, 0), "T-D1");
}

#[test]
fn another_user_holds_no_capability_and_can_gain_none() {
    let sandbox = sandbox!();
    let report = sandbox.report(&["-u", "1000:1000"]);
    let sets = report.capabilities();
    assert_eq!((sets.permitted, sets.effective, sets.inheritable, sets.ambient), (0, 0, 0, 0));
    assert_eq!(report.status("NoNewPrivs"), "1");
}

#[test]
fn capabilities_are_added_and_dropped_by_name() {
    let sandbox = sandbox!();
    let sets = sandbox.report(&["--cap-drop", "ALL", "--cap-add", "CAP_NET_RAW"]).capabilities();
    assert_eq!(sets.bounding, 1 << 13);
    assert_eq!((sets.permitted, sets.effective), (1 << 13, 1 << 13));
    assert_eq!((sets.inheritable, sets.ambient), (0, 0), "T-D1");
}

#[test]
fn the_groups_are_exactly_those_of_the_user() {
    let sandbox = sandbox!();
    // T-D2: none is left over from the caller, also where the list is empty.
    assert_eq!(sandbox.report(&[]).status("Groups"), "");
    assert_eq!(sandbox.report(&["-u", "1000:1000"]).status("Groups"), "");
    assert_eq!(sandbox.report(&["-u", "web"]).status("Groups"), "2000");
}

#[test]
fn ids_that_are_no_numbers_are_refused() {
    let sandbox = sandbox!();
    // T-D3: a slip in parsing must never become uid 0.
    for user in
        ["2147483648", "4294967296", "-1", "0x1", "1:", ":1", "1 ", "no-such-user", "root\n"]
    {
        let said = sandbox.run_app(&[&format!("--user={user}")], &["true"]);
        assert_eq!(said.code, 125, "{user:?}: {said}");
    }
}

#[test]
fn the_mounts_are_those_of_the_plan() {
    let sandbox = sandbox!();
    let report = sandbox.report(&[]);
    let root = report.mount("/").expect("there is a root");
    assert_eq!(root.kind, "overlay");
    assert!(root.propagation.is_empty(), "nothing propagates to or from the host: {root:?}");
    for mount in &report.mounts {
        let shared = mount.propagation.iter().any(|word| word.starts_with("shared"));
        assert!(!shared, "{mount:?}");
    }
    for (point, kind, options) in [
        ("/proc", "proc", &["nosuid", "nodev", "noexec"][..]),
        ("/dev", "tmpfs", &["nosuid"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let mount = report.mount(point).unwrap_or_else(|| panic!("no {point}: {report:#?}"));
        assert_eq!(mount.kind, kind, "{point}");
        for option in options {
            assert!(mount.has(option), "{point} lacks {option}: {mount:?}");
        }
    }
    if let Some(cgroup) = report.mount("/sys/fs/cgroup") {
        assert!(cgroup.kind != "cgroup", "v1 is never mounted in pods: {cgroup:?}");
        assert!(cgroup.has("ro"), "{cgroup:?}");
    }
    assert_eq!(report.cgroup.lines().last(), Some("0::/"), "{}", report.cgroup);
}

fn reach(sandbox: &Sandbox, flags: &[&str], paths: &[&str]) -> BTreeMap<String, Reach> {
    let command = [&["/probe", "reach"], paths].concat();
    sandbox.run_app(flags, &command).json()
}

#[test]
fn masked_paths_read_as_empty() {
    let sandbox = sandbox!();
    // T-B6: the runtime-spec's defaults and moby's.
    let paths = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    for flags in [&[][..], &["--userns", "host"]] {
        for (path, reached) in reach(&sandbox, flags, &paths) {
            let hidden = matches!(reached.read.as_str(), "" | "0 entries" | "ENOENT" | "EACCES");
            assert!(hidden, "{path} {flags:?}: {reached:?}");
        }
    }
}

#[test]
fn what_steers_the_kernel_cannot_be_written() {
    let sandbox = sandbox!();
    let paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/proc/irq",
        "/proc/bus",
        "/proc/fs",
        "/sys/kernel",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/cgroup.procs",
    ];
    for flags in [&[][..], &["--userns", "host"]] {
        for (path, reached) in reach(&sandbox, flags, &paths) {
            assert_ne!(reached.write, "ok", "{path} {flags:?}");
        }
    }
}

#[test]
fn only_harmless_devices_are_there() {
    let sandbox = sandbox!();
    let said = sandbox.run_app(&[], &["sh", "-c", "ls /dev"]);
    let mut names: Vec<String> = said.success().lines().map(str::to_owned).collect();
    names.sort();
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    for name in &names {
        assert!(known.contains(&name.as_str()), "/dev/{name}");
    }
    for name in ["fd", "full", "null", "ptmx", "pts", "random", "shm", "urandom", "zero"] {
        assert!(names.iter().any(|there| there == name), "no /dev/{name}: {names:?}");
    }
    for user in ["0", "1000"] {
        let devices = ["/dev/null", "/dev/zero", "/dev/full"];
        for (path, reached) in reach(&sandbox, &["-u", user], &devices) {
            assert_eq!(
                (reached.kind.as_str(), reached.write.as_str()),
                ("character-device", "ok"),
                "{path}"
            );
        }
    }
    let said =
        sandbox.run_app(&[], &["sh", "-c", "echo x >/dev/null && head -c 4 /dev/urandom | wc -c"]);
    assert_eq!(said.success().trim(), "4");
}

#[test]
fn what_an_app_must_not_do_is_denied() {
    let sandbox = sandbox!();
    // T-B5, T-D6.
    let denied = [
        "clock-settime",
        "delete-module",
        "init-module",
        "mknod-kmem",
        "mount-cgroup",
        "mount-proc",
        "mount-tmpfs",
        "pivot-root",
        "remount-root-rw",
        "remount-sys-rw",
        "sethostname",
        "setns-own",
        "socket-alg",
        "socket-inet-raw",
        "socket-packet",
        "socket-vsock",
        "umount-proc",
        "unshare-cgroup",
        "unshare-ipc",
        "unshare-mount",
        "unshare-net",
        "unshare-pid",
        "unshare-user",
        "unshare-uts",
    ];
    let allowed = ["chroot", "socket-inet-stream", "socket-netlink", "socket-unix"];
    for flags in [&[][..], &["--userns", "host"], &["-u", "1000:1000"]] {
        let command = [&["/probe", "attempt"], &denied[..], &allowed[..]].concat();
        let answers: BTreeMap<String, String> = sandbox.run_app(flags, &command).json();
        for name in denied {
            let refused =
                matches!(answers[name].as_str(), "EPERM" | "EACCES" | "ENOSYS" | "EAFNOSUPPORT");
            assert!(refused, "{name} {flags:?}: {}", answers[name]);
        }
        for name in
            allowed.iter().filter(|name| **name != "chroot" || flags[..] != ["-u", "1000:1000"])
        {
            assert_eq!(answers[*name], "ok", "{name} {flags:?}");
        }
    }
}

#[test]
fn the_filter_of_system_calls_is_in_force() {
    let sandbox = sandbox!();
    let report = sandbox.report(&[]);
    assert_eq!(report.status("Seccomp"), "2");
    assert_eq!(report.status("Seccomp_filters"), "1");
}

/// What must be the same for the app and for what is executed in it (T-C4): all of
/// `/proc/self/status` but what names the process itself or counts what it has done.
fn comparable(report: &Report) -> BTreeMap<String, String> {
    let own = [
        "Pid",
        "Tgid",
        "Ngid",
        "PPid",
        "NSpid",
        "NStgid",
        "NSsid",
        "NSpgid",
        "FDSize",
        // Signals queued for the user: with the host's ids, those of the whole host.
        "SigQ",
        "voluntary_ctxt_switches",
        "nonvoluntary_ctxt_switches",
        "State",
        "Cpus_allowed",
    ];
    let memory = |field: &str| field.starts_with("Vm") || field.starts_with("Rss");
    report
        .status
        .iter()
        .filter(|(field, _)| !own.contains(&field.as_str()) && !memory(field))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

#[test]
fn what_is_executed_in_an_app_is_as_confined_as_the_app() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    for flags in [
        &[][..],
        &["-u", "web"],
        &["--userns", "host"],
        &["--cap-add", "CAP_SYS_PTRACE"],
        &["--credential", "key=/etc/hostname", "-u", "web"],
    ] {
        let (pod_flags, app_flags) =
            if flags.first() == Some(&"--userns") { (flags, &[][..]) } else { (&[][..], flags) };
        let mut args = pod_flags.to_vec();
        args.push(&image);
        args.extend(app_flags);
        args.extend(["sh", "-c", "/probe report >/tmp/report; echo written; exec /probe wait"]);
        let pod = sandbox.detached("same", args);
        pod.logs_until("written");
        let started: Report = pod.exec(&[], &["cat", "/tmp/report"]).json();
        let executed: Report = pod.exec(&[], &["/probe", "report"]).json();

        assert_eq!(comparable(&started), comparable(&executed), "{flags:?}");
        assert_eq!(started.namespaces, executed.namespaces, "{flags:?}");
        assert_eq!(started.limits, executed.limits, "{flags:?}");
        assert_eq!(started.cgroup, executed.cgroup, "{flags:?}");
        assert_eq!(started.oom_score_adj, executed.oom_score_adj, "{flags:?}");
        assert_eq!(started.mounts, executed.mounts, "{flags:?}");
        assert_eq!(
            started.descriptors.keys().collect::<Vec<_>>(),
            executed.descriptors.keys().collect::<Vec<_>>(),
            "{flags:?}"
        );
        let mut environments = [started.environment, executed.environment];
        for environment in &mut environments {
            // What a shell sets for what it starts is not ours.
            environment.retain(|entry| {
                !["SHLVL=", "PWD=", "OLDPWD=", "_="].iter().any(|s| entry.starts_with(s))
            });
            environment.sort();
        }
        assert_eq!(environments[0], environments[1], "{flags:?}");
    }
}

#[test]
fn files_of_ours_lie_over_those_of_the_image() {
    let sandbox = sandbox!();
    let said = sandbox.run_app(&["--name", "mine"], &["cat", "/etc/hostname", "/etc/hosts"]);
    let said = said.success();
    assert!(said.starts_with("mine\n"), "{said}");
    assert!(said.contains("127.0.0.1") && said.contains("localhost"), "{said}");
}

#[test]
fn apps_of_a_pod_share_network_ipc_and_hostname_and_nothing_else() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let report = "/probe report >/tmp/report; echo written; exec /probe wait";
    let args = [&image, "--name", "a", "sh", "-c", report];
    let pod = sandbox.detached(
        "two",
        args.iter().copied().chain(["---", &image, "--name", "b", "sh", "-c", report]),
    );
    for app in ["a", "b"] {
        let logs = sandbox.call().args(["logs", "-f", "two", app]).start();
        logs.wait_for("written");
    }
    let [a, b] =
        ["a", "b"].map(|app| pod.exec(&["--app", app], &["cat", "/tmp/report"]).json::<Report>());
    for kind in ["ipc", "net", "user", "uts"] {
        assert_eq!(a.namespaces[kind], b.namespaces[kind], "{kind}");
    }
    for kind in ["mnt", "pid", "cgroup"] {
        assert_ne!(a.namespaces[kind], b.namespaces[kind], "{kind}");
    }
    pod.exec(&["--app", "a"], &["touch", "/dev/shm/shared"]).success();
    pod.exec(&["--app", "b"], &["ls", "/dev/shm/shared"]).success();
    pod.exec(&["--app", "a"], &["touch", "/tmp/private"]).success();
    assert_ne!(pod.exec(&["--app", "b"], &["ls", "/tmp/private"]).code, 0);
}
