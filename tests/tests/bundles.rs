//! An app written out as an OCI bundle runs under Debian's runc and crun, and what its processes
//! see there is what they see in a pod.
//!
//! Compared field by field by the probe's report. What differs, differs by name: see
//! [`differs_by_design`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use probe::attempts::Reach;
use probe::{Mount, Report};
use serde_json::Value;
use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::Sandbox;

/// Gives a runtime what it insists on: cgroup v2 and nothing else at its mount point, and state of
/// its own. `$1` is the runtime, `$2` the bundle, `$3` the directory for its state, `$4` a
/// name that no other container of this machine has.
const RUN: &str = "mount --make-rprivate / && umount -R /sys/fs/cgroup && \
                   mount -t cgroup2 none /sys/fs/cgroup && \
                   exec \"$1\" --root \"$3\" run -b \"$2\" \"$4\"";

/// Where bundles lie: every user of a pod may pass there, which is not so in a sandbox.
struct Shelf(PathBuf);

impl Shelf {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pod-bundles-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("the temporary directory can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).expect("it is ours");
        Self(path)
    }

    fn bundle(&self) -> String {
        self.0.join("bundle").display().to_string()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what cannot be removed is found by hand
    }
}

/// The runtimes there are, each with a word about what is not compared without it.
fn runtimes() -> Vec<&'static str> {
    let there = |runtime: &&str| require::program(runtime, "bundles run under it, too");
    ["runc", "crun"].into_iter().filter(there).collect()
}

/// Runs a bundle, whose state is thrown away.
fn run_bundle(sandbox: &Sandbox, runtime: &str, bundle: &str) -> tests::said::Said {
    let state = sandbox.path("state").display().to_string();
    let name = bundle.trim_matches('/').replace('/', "-");
    let words = ["-m", "sh", "-c", RUN, "sh", runtime, bundle, &state, &name];
    // crun gives the standard streams to the bundle's user: the host's `/dev/null` must not be one.
    let call = sandbox.program("unshare").args(words).input(&[]);
    let said = call.run();
    let _ = fs::remove_dir_all(sandbox.path("state")); // it may have made none
    said
}

/// Replaces the command of a bundle's process.
fn command(bundle: &str, args: &[&str]) {
    let path = Path::new(bundle).join("config.json");
    let text = fs::read_to_string(&path).expect("a bundle has a configuration");
    let mut config: Value = serde_json::from_str(&text).expect("it is JSON");
    config["process"]["args"] = args.iter().map(|arg| Value::from(*arg)).collect();
    fs::write(path, config.to_string()).expect("it can be written");
}

/// What is compared of a report: everything but what differs by design.
#[derive(Debug, PartialEq)]
struct Seen {
    pid: i32,
    args: Vec<String>,
    environment: Vec<String>,
    cwd: String,
    hostname: String,
    oom_score_adj: String,
    links: Vec<String>,
    status: BTreeMap<String, String>,
    limits: BTreeMap<String, (String, String)>,
    ids: (bool, bool),
    mounts: BTreeMap<String, (String, Vec<String>)>,
}

/// What is not the same, and why:
///
/// - ids on the host: a pod leases a range for each run;
/// - the parent: runtimes have no process 1 beside the app's;
/// - devices: without the right to make nodes, runtimes mount the host's one by one; `/dev/console`
///   is there with a terminal only;
/// - the root: plain files instead of an overlay;
/// - `relatime` and the options of file systems, which are the kernel's to choose;
/// - where the files in `/etc` lie: in memory, or in the bundle;
/// - masked files: another null device, another empty directory. What they read as is compared.
fn differs_by_design(point: &str) -> bool {
    let ours = ["/dev/pts", "/dev/shm", "/dev/mqueue"];
    let made = ["/proc/", "/sys/", "/dev/"].iter().any(|above| point.starts_with(above));
    point == "/" || (made && !ours.contains(&point))
}

fn seen(report: &Report) -> Seen {
    let fields = [
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ];
    let field = |name: &&str| ((*name).to_owned(), report.status(name).to_owned());
    let words = |mount: &Mount| {
        let of_time = ["relatime", "noatime", "nodiratime", "strictatime"];
        let kept = |word: &&String| !of_time.contains(&word.as_str());
        let mut words: Vec<String> = mount.options.iter().filter(kept).cloned().collect();
        words.sort();
        let kind = if mount.point.starts_with("/etc/") { "file" } else { &mount.kind };
        (kind.to_owned(), words)
    };
    let mounts = report.mounts.iter().filter(|mount| !differs_by_design(&mount.point));
    Seen {
        pid: report.pid,
        args: report.args.clone(),
        environment: report.environment.clone(),
        cwd: report.cwd.clone(),
        hostname: report.hostname.clone(),
        oom_score_adj: report.oom_score_adj.clone(),
        links: report.links.clone(),
        status: fields.iter().map(field).collect(),
        limits: report.limits.clone(),
        ids: (report.uid_map.starts_with("0 0 "), report.gid_map.starts_with("0 0 ")),
        mounts: mounts.map(|mount| (mount.point.clone(), words(mount))).collect(),
    }
}

/// Flags of apps that must look the same in a pod and in a bundle.
const APPS: &[(&str, &[&str])] = &[
    ("plain", &[]),
    (
        "rich",
        &[
            "--user",
            "1000:2000",
            "--workdir",
            "/var/www",
            "--env",
            "COLOUR=blue",
            "--read-only",
            "--cap-add",
            "NET_RAW",
            "--tmpfs",
            "/scratch",
            "--hostname",
            "shop",
        ],
    ),
    ("host-ids", &["--userns", "host"]),
];

#[test]
fn a_process_sees_the_same_in_a_pod_and_in_a_bundle_of_it() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    for (name, flags) in APPS {
        let command = [&image, "/probe", "report"];
        let args = ["prepare", "--name", name];
        sandbox.call().args(args).args(*flags).args(command).run().success();
        let shelf = Shelf::new(name);
        sandbox.pod(["bundle", name, &shelf.bundle()]).success();
        let in_pod = seen(&sandbox.pod(["start", name]).json());
        for runtime in runtimes() {
            let in_bundle = seen(&run_bundle(&sandbox, runtime, &shelf.bundle()).json());
            assert_eq!(in_bundle, in_pod, "app `{name}` under {runtime}");
        }
    }
}

#[test]
fn what_is_denied_in_a_pod_is_denied_in_a_bundle_of_it() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    // Which error comes first, seccomp's or the kernel's, is the same too. Attempts that a pid or
    // a mount of the runtime's own decides are left out.
    let attempts = [
        "mount-tmpfs",
        "mount-proc",
        "pivot-root",
        "unshare-user",
        "unshare-mount",
        "unshare-net",
        "setns-own",
        "socket-alg",
        "socket-vsock",
        "socket-packet",
        "socket-unix",
        "socket-netlink",
        "socket-inet-stream",
        "personality",
        "init-module",
        "delete-module",
        "clock-settime",
        "sethostname",
        "chroot",
    ];
    let paths = ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/sys/firmware", "/etc/hosts"];
    let shelf = Shelf::new("denied");
    sandbox.pod(["prepare", "--name", "denied", &image, "/probe", "wait"]).success();
    sandbox.pod(["bundle", "denied", &shelf.bundle()]).success();
    let tried = [&["/probe", "attempt"][..], &attempts].concat();
    let reached = [&["/probe", "reach"][..], &paths].concat();
    let in_pod: BTreeMap<String, String> = sandbox.run_app(&[], &tried).json();
    let within: BTreeMap<String, Reach> = sandbox.run_app(&[], &reached).json();
    for runtime in runtimes() {
        command(&shelf.bundle(), &tried);
        let in_bundle: BTreeMap<String, String> =
            run_bundle(&sandbox, runtime, &shelf.bundle()).json();
        assert_eq!(in_bundle, in_pod, "attempts under {runtime}");
        command(&shelf.bundle(), &reached);
        let mut from: BTreeMap<String, Reach> =
            run_bundle(&sandbox, runtime, &shelf.bundle()).json();
        let of = |name: &str, map: &BTreeMap<String, Reach>| map[name].write.clone();
        assert_eq!(of("/proc/sysrq-trigger", &from), of("/proc/sysrq-trigger", &within));
        for path in paths {
            let (theirs, ours) = (from.remove(path), within.get(path));
            let read = |reach: Option<&Reach>| reach.map(|reach| reach.read.clone());
            if path != "/etc/hosts" {
                assert_eq!(read(theirs.as_ref()), read(ours), "{path} under {runtime}");
            }
        }
    }
    sandbox.pod(["rm", "denied"]).success();
}

#[test]
fn a_bundle_brings_its_volumes_along() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let shelf = Shelf::new("volumes");
    let host = shelf.0.join("host");
    fs::create_dir(&host).expect("the shelf is ours");
    fs::write(host.join("greeting"), "hello\n").expect("the shelf is ours");
    let mount = format!("{}:/data:ro", host.display());
    let script = "cat /data/greeting; touch /data/x 2>/dev/null || echo read-only; hostname";
    let args = ["prepare", "--name", "shop", "-v", &mount, &image, "sh", "-c", script];
    sandbox.pod(args).success();
    sandbox.pod(["bundle", "shop", &shelf.bundle()]).success();
    for runtime in runtimes() {
        let said = run_bundle(&sandbox, runtime, &shelf.bundle()).success();
        assert_eq!(said, "hello\nread-only\nshop\n", "under {runtime}");
    }
    sandbox.pod(["rm", "shop"]).success();
}

#[test]
fn a_bundle_is_written_whole_or_not_at_all() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let shelf = Shelf::new("whole");
    sandbox.pod(["prepare", "--name", "shop", &image, "true"]).success();
    let printed: Value = sandbox.pod(["bundle", "--dry-run", "shop"]).json();
    sandbox.pod(["bundle", "shop", &shelf.bundle()]).success();
    let bundle = PathBuf::from(shelf.bundle());
    let written = fs::read_to_string(bundle.join("config.json")).expect("it was written");
    assert_eq!(printed, serde_json::from_str::<Value>(&written).expect("it is JSON"));
    let owner = fs::metadata(bundle.join("rootfs/bin/busybox")).expect("the image has it").uid();
    assert_eq!(Some(u64::from(owner)), printed["linux"]["uidMappings"][0]["hostID"].as_u64());
    let again = sandbox.pod(["bundle", "shop", &shelf.bundle()]);
    again.refuses(1, &["cannot make", "not there yet"]);
    assert!(bundle.join("config.json").exists(), "what was there stays");
    let nowhere = shelf.0.join("none/bundle").display().to_string();
    sandbox.pod(["bundle", "shop", &nowhere]).refuses(1, &["cannot make"]);
    sandbox.pod(["bundle", "nosuch", &nowhere]).refuses(1, &["nosuch"]);
    sandbox.pod(["rm", "shop"]).success();
}
