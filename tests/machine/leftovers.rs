//! The check that a test left nothing finds what it was made to find.

use tests::sandbox::Sandbox;

/// What leaves something, what must be found of it, and what takes it away.
const LEFT: [(&str, &str, &str); 6] = [
    (
        "systemd-run --quiet --unit=left-running sleep 1000",
        "unit left-running.service, active",
        "systemctl stop left-running",
    ),
    (
        "systemd-run --quiet --wait --unit=left-failed false || true",
        "unit left-failed.service, failed",
        "systemctl reset-failed left-failed",
    ),
    ("mount -t tmpfs left /mnt", " /mnt ", "umount /mnt"),
    ("touch /tmp/left-file", "/tmp/left-file", "rm /tmp/left-file"),
    (
        "mkdir /sys/fs/cgroup/left-group",
        "cgroup /sys/fs/cgroup/left-group",
        "rmdir /sys/fs/cgroup/left-group",
    ),
    ("setsid sleep 4321 >/dev/null 2>&1 &", "(sleep) in ", "pkill -f '^sleep 4321'"),
];

#[test]
fn whatever_is_left_is_found() {
    let machine = Sandbox::of_this_machine();
    let shell = |line: &str| machine.program("sh").args(["-c", line]).run().success();
    assert_eq!(machine.leaks(), Vec::<String>::new(), "nothing has happened yet");
    for (leave, _, _) in LEFT {
        shell(leave);
    }
    let found = machine.leaks();
    for (_, _, undo) in LEFT {
        shell(undo);
    }
    for (leave, line, _) in LEFT {
        assert!(found.iter().any(|found| found.contains(line)), "{leave}: {found:#?}");
    }
}
