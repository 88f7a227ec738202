//! What an app finds around it: mounts, devices, names, settings of the kernel, secrets.

use std::collections::BTreeMap;
use std::fs;

use probe::Report;
use probe::attempts::Reach;

use crate::parity::{Group, Place, World, nearly, so};

pub(super) const GROUP: Group = Group {
    name: "surroundings",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("mounts", "The mounts are those of the plan, with their options; nothing is shared"),
        so("masked-paths", "What tells of the host reads as empty"),
        so("kernel-unwritable", "What steers the kernel cannot be written"),
        so("devices", "Only harmless devices are there, and any user can use them"),
        so("root-read-only", "A read-only root cannot be written"),
        so("root-writable", "The root can be written, and each app has its own"),
        so("hostname", "The hostname is the one asked for, inside and in the environment"),
        so("hosts", "`/etc/hosts` and `/etc/hostname` are ours, with the lines asked for"),
        so("resolvers", "`/etc/resolv.conf` is as asked for"),
        so("network-none", "Without a network there is a loopback interface, which apps share"),
        so("sysctls", "Settings of the kernel are those of the pod"),
        nearly(
            "credentials",
            "Secrets are files in memory that only the app's user reads; others see none",
            "in the guest's memory, which is the monitor's: not swapped by the guest, but by the \
             host if it swaps the monitor",
        ),
        so("cgroup-view", "An app sees its own cgroup as the root, read-only"),
        so("shared-between-apps", "Apps share IPC, network and hostname, and nothing else"),
    ],
    run: surroundings,
};

const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/sys/firmware",
];
const STEERING: [&str; 9] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/sys/kernel",
    "/sys/fs/cgroup",
];
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];
const LOOK: &str = "cd $CREDENTIALS_DIRECTORY && pwd && stat -c '%A %u:%g %n' . * && cat * \
                    && ! touch new 2>/dev/null && ! echo x 2>/dev/null >key";

fn surroundings(world: &World<'_>) {
    let sandbox = world.sandbox;
    let secret = sandbox.path("secret");
    fs::write(&secret, "correct horse\n").expect("the sandbox can be written");
    let secret = format!("key={}", secret.display());
    let reach = |name, flags: &[&'static str], paths: &[&'static str]| {
        world.app(name, &[&["--init-app"], flags].concat(), &[&["/probe", "reach"], paths].concat())
    };
    let plain = "/probe report >/tmp/report; echo written; exec /probe wait";
    let page = "exec httpd -f -p 8080 -h /var/www";
    let apps = [
        reach("masked", &[], &MASKED),
        reach("steering", &[], &STEERING),
        reach("devices", &[], &DEVICES),
        reach("devices-of-web", &["-u", "web"], &DEVICES),
        world.shell("dev", &["--init-app"], "ls /dev; head -c 4 /dev/urandom | wc -c"),
        world.shell("read-only", &["--init-app", "--read-only"], "touch /file 2>&1; true"),
        world.shell(
            "names",
            &["--init-app"],
            "hostname; echo $HOSTNAME; cat /etc/hostname /etc/hosts",
        ),
        world.shell("resolvers", &["--init-app"], "cat /etc/resolv.conf"),
        world.shell("setting", &["--init-app"], "cat /proc/sys/net/ipv4/ip_forward"),
        world.shell("secret", &["--init-app", "--credential", &secret, "-u", "1000:1001"], LOOK),
        world.shell(
            "none",
            &["--init-app"],
            "echo [$CREDENTIALS_DIRECTORY]; ls /run 2>/dev/null; true",
        ),
        world.shell(
            "cgroup",
            &["--init-app"],
            "echo 1 2>/dev/null >/sys/fs/cgroup/cgroup.procs && echo wrote; true",
        ),
        world.shell("one", &[], plain),
        world.shell("two", &[], page),
    ];
    let flags = [
        "--hostname",
        "till",
        "--dns",
        "192.0.2.1",
        "--dns-search",
        "a.test",
        "--dns-opt",
        "ndots:2",
        "--add-host",
        "db:192.0.2.7",
        "--sysctl",
        "net.ipv4.ip_forward=1",
    ];
    let pod = world.detached("around", &[&flags[..], &apps.join(&"---")].concat());
    sandbox.call().args(["logs", "-f", "around", "one"]).start().wait_for("written");
    let report: Report = pod.exec(&["-c", "one"], &["cat", "/tmp/report"]).json();
    of_mounts(world, &report);
    of_files(world);
    world.holds("network-none", || {
        assert_eq!(report.links, ["lo"]);
        let page = pod.exec(&["-c", "one"], &["wget", "-qO-", "http://127.0.0.1:8080/"]);
        assert_eq!(page.success(), "hello from a pod\n");
    });
    world.holds("shared-between-apps", || {
        let other: Report = pod.exec(&["-c", "two"], &["/probe", "report"]).json();
        for kind in ["ipc", "net", "uts"] {
            assert_eq!(report.namespaces[kind], other.namespaces[kind], "{kind}");
        }
        for kind in ["mnt", "pid", "cgroup"] {
            assert_ne!(report.namespaces[kind], other.namespaces[kind], "{kind}");
        }
        pod.exec(&["-c", "one"], &["touch", "/dev/shm/shared"]).success();
        pod.exec(&["-c", "two"], &["ls", "/dev/shm/shared"]).success();
    });
    world.holds("root-writable", || {
        pod.exec(&["-c", "one"], &["touch", "/tmp/private"]).success();
        assert_ne!(pod.exec(&["-c", "two"], &["ls", "/tmp/private"]).code, 0);
    });
    pod.stop(&["-t", "0"]).success();
}

fn of_mounts(world: &World<'_>, report: &Report) {
    let reached = |app: &str| -> BTreeMap<String, Reach> {
        world.sandbox.pod(["logs", "around", app]).json()
    };
    world.holds("mounts", || {
        assert_eq!(report.mount("/").map(|root| root.kind.as_str()), Some("overlay"));
        let shared = |mount: &&probe::Mount| !mount.propagation.is_empty();
        assert_eq!(report.mounts.iter().find(shared), None);
        for (point, kind, options) in [
            ("/proc", "proc", &["nosuid", "nodev", "noexec"][..]),
            ("/dev", "tmpfs", &["nosuid"]),
            ("/dev/pts", "devpts", &["nosuid", "noexec"]),
            ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec"]),
            ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
            ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ] {
            let mount = report.mount(point).unwrap_or_else(|| panic!("no {point}"));
            assert_eq!(mount.kind, kind, "{point}");
            for option in options {
                assert!(mount.has(option), "{point} lacks {option}: {mount:?}");
            }
        }
    });
    world.holds("masked-paths", || {
        for (path, reached) in reached("masked") {
            let hidden = matches!(reached.read.as_str(), "" | "0 entries" | "ENOENT" | "EACCES");
            assert!(hidden, "{path}: {reached:?}");
        }
    });
    world.holds("kernel-unwritable", || {
        for (path, reached) in reached("steering") {
            assert_ne!(reached.write, "ok", "{path}");
        }
    });
    world.holds("devices", || {
        for app in ["devices", "devices-of-web"] {
            for (path, reached) in reached(app) {
                let is = (reached.kind.as_str(), reached.write.as_str());
                assert_eq!(is, ("character-device", "ok"), "{path}");
            }
        }
        let text = world.logs("around", "dev");
        let known = [
            "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
            "stderr", "stdin", "stdout", "tty", "urandom", "zero", "4",
        ];
        for name in text.lines() {
            assert!(known.contains(&name.trim()), "/dev/{name}");
        }
        assert!(text.lines().count() > 10, "{text}");
    });
    world.holds("cgroup-view", || {
        assert_eq!(report.cgroup.lines().last(), Some("0::/"));
        assert_eq!(world.logs("around", "cgroup"), "");
        if let Some(mount) = report.mount("/sys/fs/cgroup") {
            assert!(mount.kind != "cgroup" && mount.has("ro"), "{mount:?}");
        }
    });
}

fn of_files(world: &World<'_>) {
    let logs = |app: &str| world.logs("around", app);
    world.holds("root-read-only", || {
        assert!(logs("read-only").contains("Read-only file system"), "{}", logs("read-only"));
    });
    world.holds("hostname", || {
        assert!(logs("names").starts_with("till\ntill\n"), "{}", logs("names"));
    });
    world.holds("hosts", || {
        let text = logs("names");
        assert!(text.contains("127.0.0.1") && text.ends_with("192.0.2.7 db\n"), "{text}");
    });
    world.holds("resolvers", || {
        let expected = "nameserver 192.0.2.1\nsearch a.test\noptions ndots:2\n";
        assert_eq!(logs("resolvers"), expected);
    });
    world.holds("sysctls", || assert_eq!(logs("setting"), "1\n"));
    world.holds("credentials", || {
        let expected = "/run/host/credentials\ndr-x------ 1000:1001 .\n-r-------- 1000:1001 key\n\
                        correct horse\n";
        assert_eq!(logs("secret"), expected);
        assert!(logs("none").starts_with("[]\n"), "{}", logs("none"));
    });
}
