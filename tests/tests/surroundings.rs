//! What surrounds an app beside its files: devices, kernel settings, IPC, and limits that cannot
//! be had.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::fixtures::Fixture;
use tests::require::{self, Met};
use tests::sandbox::Sandbox;

macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// Tells whether the host has `/dev/fuse`, the device the tests give away.
fn has_fuse() -> bool {
    let there = if Path::new("/dev/fuse").exists() { Met::Yes } else { Met::No };
    require::that(there, "`/dev/fuse`", "a device is given to an app")
}

#[test]
fn a_device_is_there_as_far_as_it_was_given() {
    let sandbox = sandbox!();
    if !has_fuse() {
        return;
    }
    let link = sandbox.path("link");
    symlink("/dev/fuse", &link).unwrap();
    let script = "for how in r w; do for path in /dev/fuse /dev/by/name /srv/deep/fuse; do \
             case $how in r) (exec 3<$path);; w) (exec 3>>$path);; esac 2>/dev/null \
             && echo $how $path; done; done; \
         stat -c '%t:%T %u' /srv/deep/fuse; ls -a /dev | grep -c device";
    let given = |access: &str| {
        let one = format!("/dev/fuse:/dev/fuse:{access}");
        let two = format!("{}:/dev/by/name:{access}", link.display());
        let three = format!("/dev/fuse:/srv/deep/fuse:{access}");
        let flags = ["--device", &one, "--device", &two, "--device", &three];
        sandbox.run_app(&flags, &["sh", "-c", script]).stdout
    };
    let opened = |how: &str| format!("{how} /dev/fuse\n{how} /dev/by/name\n{how} /srv/deep/fuse\n");
    let node = "a:e5 0\n0\n";
    assert_eq!(given("rwm"), format!("{}{}{node}", opened("r"), opened("w")));
    assert_eq!(given("r"), format!("{}{node}", opened("r")));
    assert_eq!(given("w"), format!("{}{node}", opened("w")));
    // Not given, it is not there; and what is no device is none.
    sandbox.run_app(&[], &["test", "!", "-e", "/dev/fuse"]).success();
    let said = sandbox.run_app(&["--device", "/etc/passwd"], &["true"]);
    said.refuses(125, &["`/etc/passwd` of this host is no device", "`--volume`"]);
    let said = sandbox.run_app(&["--device", "/dev/no-such"], &["true"]);
    said.refuses(125, &["cannot look at device `/dev/no-such`"]);
    // Nor does one stay behind in what is the host's.
    let place = format!("/dev/shm/pod-test-{}", std::process::id());
    let device = format!("/dev/null:{place}");
    let said = sandbox.run_app(&["--device", &device], &["true"]);
    said.refuses(125, &[&place, "is no place for a device"]);
    assert!(!Path::new(&place).exists());
}

#[test]
fn without_a_user_namespace_other_devices_can_be_neither_made_nor_opened() {
    let sandbox = sandbox!();
    let script = "for node in 'null c 1 3' 'mem c 1 1' 'kmsg c 1 11' 'disk b 254 0' 'ptmx2 c 5 2'; \
         do set -- $node; mknod /dev/$1 $2 $3 $4 2>/dev/null || mknod /dev/x-$1 $2 $3 $4 \
             2>/dev/null && echo made $1; done; \
         for path in null zero full random urandom ptmx; do : </dev/$path || echo no $path; done";
    let flags = ["--userns", "host", "--cap-add", "MKNOD"];
    let held = sandbox.run_app(&flags, &["sh", "-c", script]).success();
    assert_eq!(held, "made null\n");
    let free = [flags.as_slice(), &["--insecure-options", "paths"]].concat();
    let free = sandbox.run_app(&free, &["sh", "-c", script]).success();
    assert_eq!(free, "made null\nmade mem\nmade kmsg\nmade disk\nmade ptmx2\n");
}

#[test]
fn settings_of_the_kernel_are_those_of_the_pod() {
    let sandbox = sandbox!();
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.core.somaxconn", "77"),
        ("kernel.shmmax", "12345"),
        ("kernel.sem", "100\t1000\t10\t77"),
        ("fs.mqueue.msg_max", "33"),
    ];
    let read = |(name, _): &(&str, &str)| format!("/proc/sys/{}", name.replace('.', "/"));
    let files: Vec<String> = settings.iter().map(read).collect();
    let before: Vec<_> = files.iter().map(fs::read_to_string).map(Result::ok).collect();
    let words: Vec<String> =
        settings.iter().map(|(name, value)| format!("--sysctl={name}={value}")).collect();
    for userns in ["auto", "host"] {
        let mut flags = vec!["--userns", userns];
        flags.extend(words.iter().map(String::as_str));
        let mut command = vec!["cat"];
        command.extend(files.iter().map(String::as_str));
        let said = sandbox.run_app(&flags, &command).success();
        let wanted: String = settings.iter().map(|(_, value)| format!("{value}\n")).collect();
        assert_eq!(said, wanted, "{userns}");
    }
    let after: Vec<_> = files.iter().map(fs::read_to_string).map(Result::ok).collect();
    assert_eq!(before, after, "the host's own");

    let refused = |word: &str, words: &[&str]| {
        sandbox.run_app(&["--sysctl", word], &["true"]).refuses(125, words);
    };
    refused("net.ipv4.ip_forward=x", &["cannot set `net.ipv4.ip_forward` to `x`"]);
    refused("net.ipv4.no_such=1", &["no setting `net.ipv4.no_such`"]);
}

#[test]
fn the_hosts_ipc_is_shared_where_it_was_asked_for() {
    let sandbox = sandbox!();
    let own = fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string();
    let marker = format!("/dev/shm/pod-tests-{}", std::process::id());
    fs::write(&marker, "").unwrap();
    let see = ["sh", "-c", "readlink /proc/self/ns/ipc; ls /dev/shm; mount | grep -c mqueue"];
    let shared = sandbox.run_app(&["--ipc", "host"], &see).success();
    let apart = sandbox.run_app(&[], &see).success();
    fs::remove_file(&marker).unwrap();
    let name = marker.trim_start_matches("/dev/shm/");
    assert!(shared.contains(&own) && shared.contains(name), "{shared}");
    assert!(!apart.contains(&own) && !apart.contains(name), "{apart}");
}

#[test]
fn a_limit_that_cannot_be_had_stops_the_start() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let without = if there.contains("memory") { Met::No } else { Met::Yes };
    if !require::that(without, "a host without controllers of cgroup v2", "limits are refused") {
        return;
    }
    let table = [("--memory=64m", "memory"), ("--cpus=1.5", "cpu"), ("--pids-limit=9", "pids")];
    for (flag, controller) in table {
        let words = ["run", "--name", "limited", &image, flag, "touch", "/ran"];
        let said = sandbox.pod(words);
        let missing = format!("app `app` cannot be limited: controller `{controller}`");
        said.refuses(125, &[&missing, "hint: "]);
        let logs = sandbox.path("root/pods/run");
        let ran = |entry: fs::DirEntry| entry.path().join("apps/app/upper/ran").exists();
        assert!(!fs::read_dir(logs).unwrap().flatten().any(ran), "{flag}");
        sandbox.pod(["rm", "limited"]).success();
    }
}

#[test]
fn sys_can_be_written_only_where_that_was_asked_for() {
    let sandbox = sandbox!();
    assert!(sandbox.report(&[]).mount("/sys").unwrap().has("ro"));
    assert!(sandbox.report(&["--privileged"]).mount("/sys").unwrap().has("rw"));
}
