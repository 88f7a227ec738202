//! What a process of an app is: its identity, rights and limits, as asked for and as confined.

use std::collections::BTreeMap;
use std::fs;

use pod_abi::isolators::{Capabilities, Capability};
use probe::Report;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::parity::{Group, Place, World, nearly, so};

pub(super) const GROUP: Group = Group {
    name: "process",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("environment", "Variables of the image, of flags and of files reach the app"),
        so("working-directory", "The working directory is what was asked for"),
        so("user-and-groups", "User, group and further groups are those asked for, and no others"),
        so("umask-and-oom-score", "The mask for new files and the score for killing are set"),
        so("rlimits", "Limits of processes (`--ulimit`) are in force"),
        so("capabilities-default", "Root holds the default capabilities and no more"),
        so("capabilities-named", "Capabilities are added and dropped by name"),
        so("capabilities-of-others", "Another user holds none, and can gain none"),
        so("system-calls", "The filter of system calls is in force, once"),
        so("system-calls-own", "A profile of one's own takes its place, or none"),
        nearly(
            "denied",
            "What could leave the pod is denied: mounts, namespaces, modules, raw sockets, the clock",
            "what the filter leaves to the kernel is decided by the capabilities the app holds over \
             the guest: there is no user namespace between them",
        ),
        so("privileged", "`--privileged` is every capability, no filter and no masks"),
        so("process-1", "An app is process 1 of its own processes and sees no others"),
        so("reaper", "With `--init` a process of ours is process 1 and reaps"),
        so("pid-pod", "With `--pid pod` apps see the processes of the pod"),
        so("descriptors", "Only the standard streams are open"),
        so("exec-confined", "What is executed in an app is as confined as the app"),
        so("init-apps", "Init apps run to their end, one after the other, before all others"),
    ],
    run: process,
};

const ATTEMPTS: [&str; 17] = [
    "clock-settime",
    "delete-module",
    "init-module",
    "mknod-kmem",
    "mount-cgroup",
    "mount-proc",
    "mount-tmpfs",
    "remount-root-rw",
    "remount-sys-rw",
    "sethostname",
    "socket-alg",
    "socket-packet",
    "socket-vsock",
    "umount-proc",
    "unshare-mount",
    "unshare-net",
    "unshare-user",
];

/// Reads what an app has reported.
fn said<T: DeserializeOwned>(world: &World<'_>, app: &str) -> T {
    world.sandbox.pod(["logs", "process", app]).json()
}

fn process(world: &World<'_>) {
    let sandbox = world.sandbox;
    let file = sandbox.path("vars");
    fs::write(&file, "# ours\nA=file\nB=file \n").expect("the sandbox can be written");
    let file = file.display().to_string();
    let profile = sandbox.path("profile.json");
    let rules =
        json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }]);
    let rules = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    fs::write(&profile, rules.to_string()).expect("the sandbox can be written");
    let profile = format!("seccomp={}", profile.display());
    let report = |name, flags: &[&'static str]| {
        world.app(name, &[&["--init-app"], flags].concat(), &["/probe", "report"])
    };
    let plain = "/probe report >/tmp/report; echo written; exec /probe wait";
    let asked = [
        "--init-app",
        "--env-file",
        &file,
        "-e",
        "A=word",
        "-e",
        "C=two words",
        "-w",
        "/tmp",
        "-u",
        "web",
        "--group-add",
        "extra",
        "--group-add",
        "3000",
        "--umask",
        "027",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--oom-score-adj",
        "300",
    ];
    let own_profile = ["--init-app", "--security-opt", &profile];
    let reaps = "sh -c 'sleep 0.1 & exit 0'; sleep 0.5; ps -o pid,stat,comm; true";
    let apps = [
        world.app("asked", &asked, &["/probe", "report"]),
        report("added", &["--cap-drop", "ALL", "--cap-add", "CAP_NET_RAW"]),
        report("other", &["-u", "1000:1000"]),
        report("unconfined", &["--security-opt", "seccomp=unconfined"]),
        report("privileged", &["--privileged"]),
        world.shell("profile", &own_profile, "mkdir /tmp/x 2>&1; true"),
        world.app("attempts", &["--init-app"], &[&["/probe", "attempt"], &ATTEMPTS[..]].concat()),
        world.app(
            "attempts-of-web",
            &["--init-app", "-u", "web"],
            &[&["/probe", "attempt"], &ATTEMPTS[..]].concat(),
        ),
        world.shell("reaper", &["--init", "--init-app"], reaps),
        world.shell(
            "order",
            &["--init-app", "--mount", "type=tmpfs,src=m,dst=/m"],
            "echo one >/m/one",
        ),
        world.shell("after", &["--init-app", "--mount", "type=tmpfs,src=m,dst=/m"], "cat /m/one"),
        report("alone", &[]),
        world.shell("plain", &[], plain),
        world.shell("sees", &["--pid", "pod"], "ps -o comm; exec /probe wait"),
    ];
    let pod = world.detached("process", &apps.join(&"---"));
    sandbox.call().args(["logs", "-f", "process", "plain"]).start().wait_for("written");
    let plain: Report = pod.exec(&["-c", "plain"], &["cat", "/tmp/report"]).json();
    of_flags(world);
    let default = Capabilities::default_set().bits();
    world.holds("capabilities-default", || {
        let sets = plain.capabilities();
        assert_eq!((sets.permitted, sets.effective, sets.bounding), (default, default, default));
        assert_eq!((sets.inheritable, sets.ambient), (0, 0));
    });
    world.holds("system-calls", || {
        assert_eq!((plain.status("Seccomp"), plain.status("Seccomp_filters")), ("2", "1"));
    });
    world.holds("process-1", || {
        let alone: Report = said(world, "alone");
        assert_eq!((alone.pid, alone.parent), (1, 0));
        assert_eq!(alone.processes.len(), 1, "{:?}", alone.processes);
    });
    world.holds("descriptors", || {
        let open: Vec<i32> = plain.descriptors.keys().copied().collect();
        assert_eq!(open, [0, 1, 2], "{:?}", plain.descriptors);
    });
    world.holds("exec-confined", || {
        let executed: Report = pod.exec(&["-c", "plain"], &["/probe", "report"]).json();
        for field in [
            "Uid",
            "Gid",
            "Groups",
            "NoNewPrivs",
            "Seccomp",
            "Seccomp_filters",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "Umask",
        ] {
            assert_eq!(plain.status(field), executed.status(field), "{field}");
        }
        assert_eq!(plain.limits, executed.limits);
        assert_eq!(plain.namespaces, executed.namespaces);
        assert_eq!(plain.mounts, executed.mounts);
        assert_eq!(
            (&plain.cgroup, &plain.oom_score_adj),
            (&executed.cgroup, &executed.oom_score_adj)
        );
        let fds = |report: &Report| report.descriptors.keys().copied().collect::<Vec<_>>();
        assert_eq!(fds(&plain), fds(&executed));
    });
    world.holds("reaper", || {
        let text = world.logs("process", "reaper");
        assert!(!text.contains(" Z"), "{text}");
        let first =
            text.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap_or_default();
        assert!(!first.is_empty() && !first.ends_with(" sh"), "process 1 is ours: {text}");
    });
    world.holds("pid-pod", || {
        let text = world.logs("process", "sees");
        assert!(
            text.lines().filter(|line| line.contains("probe") || line.contains("sh")).count() >= 2,
            "{text}"
        );
    });
    world.holds("init-apps", || assert_eq!(world.logs("process", "after"), "one\n"));
    pod.stop(&["-t", "0"]).success();
}

fn of_flags(world: &World<'_>) {
    let asked = || said::<Report>(world, "asked");
    world.holds("environment", || {
        let report = asked();
        assert_eq!(report.variable("A"), Some("word"));
        assert_eq!(report.variable("B"), Some("file "));
        assert_eq!(report.variable("C"), Some("two words"));
        assert_eq!(report.variable("HOME"), Some("/home/web"));
        assert!(report.variable("PATH").is_some_and(|path| path.contains("/usr/bin")));
    });
    world.holds("working-directory", || assert_eq!(asked().cwd, "/tmp"));
    world.holds("user-and-groups", || {
        let report = asked();
        assert_eq!(report.status("Uid"), "1000 1000 1000 1000");
        assert_eq!(report.status("Groups"), "2000 3000");
        assert_eq!(said::<Report>(world, "other").status("Groups"), "");
    });
    world.holds("umask-and-oom-score", || {
        let report = asked();
        assert_eq!((report.status("Umask"), report.oom_score_adj.as_str()), ("0027", "300"));
    });
    world.holds("rlimits", || {
        let limits = asked().limits;
        assert_eq!(limits["Max open files"], ("100".to_owned(), "200".to_owned()));
        assert_eq!(limits["Max core file size"], ("0".to_owned(), "0".to_owned()));
    });
    world.holds("capabilities-named", || {
        let sets = said::<Report>(world, "added").capabilities();
        assert_eq!((sets.bounding, sets.permitted, sets.effective), (1 << 13, 1 << 13, 1 << 13));
        assert_eq!((sets.inheritable, sets.ambient), (0, 0));
    });
    world.holds("capabilities-of-others", || {
        let report: Report = said(world, "other");
        let sets = report.capabilities();
        assert_eq!((sets.permitted, sets.effective, sets.inheritable, sets.ambient), (0, 0, 0, 0));
        assert_eq!(report.status("NoNewPrivs"), "1");
    });
    world.holds("system-calls-own", || {
        let text = world.logs("process", "profile");
        assert!(text.contains("No space left on device"), "{text}");
        assert_eq!(said::<Report>(world, "unconfined").status("Seccomp"), "0");
    });
    world.holds("privileged", || {
        let report: Report = said(world, "privileged");
        let all = Capability::ALL.iter().fold(0, |bits, capability| bits | capability.bit());
        assert_eq!((report.capabilities().effective, report.capabilities().bounding), (all, all));
        assert_eq!((report.status("Seccomp"), report.status("NoNewPrivs")), ("0", "0"));
        assert!(
            report.mount("/sys").is_some_and(|sys| sys.has("rw")),
            "{:?}",
            report.mount("/sys")
        );
        let masked = |mount: &&probe::Mount| {
            mount.point.starts_with("/proc/") || mount.point.starts_with("/sys/firmware")
        };
        assert_eq!(report.mounts.iter().find(masked), None);
    });
    world.holds("denied", || {
        for app in ["attempts", "attempts-of-web"] {
            let answers: BTreeMap<String, String> = said(world, app);
            for (name, answer) in answers {
                let refused =
                    matches!(answer.as_str(), "EPERM" | "EACCES" | "ENOSYS" | "EAFNOSUPPORT");
                assert!(refused, "{name} in `{app}`: {answer}");
            }
        }
    });
}
