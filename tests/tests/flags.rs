//! The flags of `run`: what they write into the manifest, and what an app sees of it.
//!
//! `--dry-run` shows the manifest; the probe shows the process. What each layer below does with a
//! field is tested where it is done.

use std::fs;

use pod_abi::app::{PidMode, Role, Stdio};
use pod_abi::isolators::{Capabilities, Capability, CpuQuota};
use pod_abi::manifest::{Insecure, Ipc, PodSpec};
use pod_abi::readiness::Readiness;
use pod_abi::volume::VolumeSource;
use probe::{Mount, Report};
use serde_json::json;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
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

/// Returns what `pod run --dry-run` prints for `flags` and the fixture `app`.
fn spec(sandbox: &Sandbox, flags: &[&str]) -> PodSpec {
    let image = sandbox.fixture(Fixture::App);
    sandbox.call().args(["run", "--dry-run"]).args(flags).args([&image, "true"]).run().json()
}

/// Writes an image of busybox with a volume at `/data` that holds a file.
fn image_with_volume(sandbox: &Sandbox) -> String {
    let busybox = fs::read("/bin/busybox").expect("this machine has busybox");
    let layer = Layer::new()
        .dir("bin/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .symlink("bin/sh", "busybox")
        .symlink("bin/cat", "busybox")
        .dir("data/", 0o750)
        .file("data/seed", 0o640, b"of the image\n");
    let image = Image::new().layer(layer).set("Volumes", json!({ "/data": {}, "/none/": {} }));
    sandbox.image("seeded", &image)
}

/// Counts the mounts that hide what is beneath `/proc` and `/sys`.
fn masks(report: &Report) -> usize {
    let beneath = |mount: &&Mount| ["/proc/", "/sys/"].iter().any(|at| mount.point.starts_with(at));
    report.mounts.iter().filter(beneath).filter(|mount| mount.kind != "cgroup2").count()
}

#[test]
fn a_process_is_what_its_flags_say() {
    let sandbox = sandbox!();
    let file = sandbox.path("vars");
    fs::write(&file, "# ours\nA=file\nB=file \n").unwrap();
    let file = file.to_str().unwrap();
    let report = sandbox.report(&[
        "--hostname=box",
        "--env-file",
        file,
        "-e",
        "A=word",
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
        "--cap-drop",
        "CHOWN",
        "--cap-add",
        "NET_RAW,SYS_NICE",
    ]);
    assert_eq!(report.variable("A"), Some("word"));
    assert_eq!(report.variable("B"), Some("file "));
    assert_eq!(report.variable("HOSTNAME"), Some("box"));
    assert_eq!((report.cwd.as_str(), report.hostname.as_str()), ("/tmp", "box"));
    assert_eq!(report.status("Uid"), "1000 1000 1000 1000");
    assert_eq!(report.status("Groups"), "2000 3000");
    assert_eq!(report.status("Umask"), "0027");
    assert_eq!(report.status("NoNewPrivs"), "1");
    assert_eq!(report.limits["Max open files"], ("100".to_owned(), "200".to_owned()));
    assert_eq!(report.limits["Max core file size"], ("0".to_owned(), "0".to_owned()));
    assert_eq!(report.oom_score_adj, "300");
    let mut expected = Capabilities::default_set();
    expected.0.extend([Capability::NetRaw, Capability::SysNice]);
    expected.0.remove(&Capability::Chown);
    assert_eq!(report.capabilities().bounding, expected.bits());
}

#[test]
fn privileged_is_power_over_the_pod_and_not_over_the_host() {
    let sandbox = sandbox!();
    let plain = sandbox.report(&[]);
    assert!(masks(&plain) > 0, "{:?}", plain.mounts);
    let report = sandbox.report(&["--privileged"]);
    let all = Capability::ALL.iter().fold(0, |bits, capability| bits | capability.bit());
    let sets = report.capabilities();
    assert_eq!((sets.effective, sets.bounding), (all, all));
    assert_eq!((report.status("Seccomp"), report.status("NoNewPrivs")), ("0", "0"));
    assert_eq!(masks(&report), 0, "{:?}", report.mounts);
    assert!(report.mount("/sys").is_some_and(|sys| sys.has("rw")), "{:?}", report.mount("/sys"));
    assert_ne!(report.namespaces["user"], sandbox.namespace("user"));
    let other = sandbox.report(&["--privileged", "-u", "web"]);
    assert_eq!((other.status("NoNewPrivs"), other.capabilities().effective), ("0", 0));
}

#[test]
fn protections_are_given_up_one_by_one_and_the_pod_says_so() {
    let sandbox = sandbox!();
    let report = sandbox.report(&["--insecure-options", "paths,seccomp"]);
    assert_eq!(report.status("Seccomp"), "0");
    assert_eq!(masks(&report), 0, "{:?}", report.mounts);
    assert_eq!(report.capabilities().bounding, Capabilities::default_set().bits());
    assert_eq!(
        sandbox.report(&["--security-opt", "seccomp=unconfined"]).status("Seccomp"),
        "0",
        "for one app there is another word"
    );
    let image = sandbox.fixture(Fixture::App);
    let words = ["run", "-d", "--name", "bare", "--insecure-options", "all-run", &image];
    sandbox.call().args(words).args(["/probe", "wait"]).run().success();
    let listed = sandbox.pod(["ps", "--format", "{{.Insecure}} {{.Status}}"]).success();
    assert!(listed.starts_with("capabilities,paths,seccomp running for"), "{listed}");
    assert!(listed.trim_end().ends_with(", insecure"), "{listed}");
    let status = sandbox.pod(["status", "bare"]).success();
    assert!(status.contains("insecure: capabilities, paths, seccomp"), "{status}");
    sandbox.pod(["stop", "-t", "0", "bare"]).success();
}

#[test]
fn what_an_app_is_to_its_pod_is_written_down() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let flags = [
        "run",
        "--dry-run",
        "--ipc",
        "host",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "-l",
        "of=pod",
        "--annotation",
        "by=test",
        "--exit-policy",
        "main=web",
        &image,
        "--name",
        "setup",
        "--init-app",
        "-l",
        "of=app",
        "true",
        "---",
        &image,
        "--name",
        "web",
        "--after",
        "setup",
        "--readiness",
        "tcp:80",
        "--restart",
        "always",
        "--stop-signal",
        "QUIT",
        "--stop-timeout",
        "3",
        "--log-size",
        "1m:3",
        "--init",
        "-m",
        "64m",
        "--cpus",
        "1.5",
        "--pids-limit",
        "10",
        "--device",
        "/dev/fuse:r",
        "-it",
        "---",
        &image,
        "--name",
        "other",
        "--pid",
        "pod",
        "-i",
    ];
    let spec: PodSpec = sandbox.call().args(flags).run().json();
    assert_eq!(spec.sandbox.ipc, Ipc::Host);
    assert_eq!(spec.sandbox.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!((&*spec.sandbox.labels["of"], &*spec.sandbox.annotations["by"]), ("pod", "test"));
    let [setup, web, other] = &spec.apps[..] else { panic!("three apps") };
    assert_eq!((setup.role, &*setup.labels["of"]), (Role::Init, "app"));
    assert_eq!(web.after, std::slice::from_ref(&setup.name));
    assert_eq!(web.readiness, "tcp:80".parse::<Readiness>().unwrap());
    assert_eq!((web.stop.signal, web.stop.grace_ms), (3, 3_000));
    assert_eq!((web.log.max_bytes, web.log.files), (1 << 20, 3));
    assert!(web.reaper);
    let cpu = CpuQuota { quota_us: 150_000, period_us: 100_000 };
    let resources = &web.resources;
    assert_eq!(
        (resources.memory, resources.cpu, resources.pids),
        (Some(64 << 20), Some(cpu), Some(10))
    );
    assert_eq!((web.devices[0].source.as_str(), web.devices[0].access.write), ("/dev/fuse", false));
    assert_eq!(web.stdio, Stdio::Terminal);
    assert!(web.process.env.iter().any(|var| var.as_str() == "TERM=xterm"));
    assert_eq!((other.pid, other.stdio), (PidMode::Pod, Stdio::Open));
}

#[test]
fn a_specification_holds_all_that_flags_have_said() {
    let sandbox = sandbox!();
    let flags = ["--privileged", "--tmpfs", "/t:size=1m,mode=700", "--dns", "none", "-v", "/new"];
    let first = spec(&sandbox, &flags);
    let file = sandbox.path("spec.json");
    fs::write(&file, serde_json::to_string(&first).unwrap()).unwrap();
    let again: PodSpec = sandbox.pod(["run", "--dry-run", "--spec", file.to_str().unwrap()]).json();
    assert_eq!(first, again);
    sandbox
        .pod(["run", "--insecure-options", "paths", "--spec", file.to_str().unwrap()])
        .refuses(125, &["`--insecure-options` stands beside `--spec`"]);
    assert!(
        spec(&sandbox, &["--insecure-options", "http"]).sandbox.insecure.contains(&Insecure::Http)
    );
}

#[test]
fn names_are_resolved_as_asked() {
    let sandbox = sandbox!();
    let said = |flags: &[&str]| sandbox.run_app(flags, &["cat", "/etc/resolv.conf"]).raw;
    assert_eq!(
        said(&["--dns", "192.0.2.1", "--dns-search", "a.test", "--dns-opt", "ndots:2"]),
        "nameserver 192.0.2.1\nsearch a.test\noptions ndots:2\n"
    );
    assert_eq!(said(&["--dns", "none"]), "");
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!((said(&["--dns", "host"]), said(&[])), (host.clone(), host));
    let flags = ["--add-host", "db:192.0.2.7", "--add-host", "six:[2001:db8::1]"];
    let hosts = sandbox.run_app(&flags, &["cat", "/etc/hosts"]).success();
    assert!(hosts.ends_with("192.0.2.7 db\n2001:db8::1 six\n"), "{hosts}");
    let said = sandbox.run_app(&["--name", "made"], &["sh", "-c", "echo $HOSTNAME $(hostname)"]);
    assert_eq!(said.success(), "made made\n");
}

#[test]
fn volumes_of_an_image_are_the_pods_own_and_named_ones_stay() {
    let sandbox = sandbox!();
    let image = image_with_volume(&sandbox);
    let planned: PodSpec = sandbox.pod(["run", "--dry-run", &image, "sh"]).json();
    let sources: Vec<&VolumeSource> = planned.sandbox.volumes.iter().map(|v| &v.source).collect();
    assert!(
        matches!(sources[..], [VolumeSource::Empty { .. }, VolumeSource::Empty { .. }]),
        "{sources:?}"
    );
    let run = |flags: &[&str], script: &str| {
        let call = sandbox.call().args(["run", "--rm"]).args(flags);
        call.args([image.as_str(), "sh", "-c", script]).run()
    };
    let look = "cat /data/seed /data/new 2>/dev/null; echo new >/data/new";
    for _ in 0..2 {
        assert_eq!(run(&[], look).success(), "of the image\n", "each pod has its own");
    }
    run(&["-v", "keep:/data"], look).success();
    assert_eq!(run(&["-v", "keep:/data"], look).success(), "of the image\nnew\n");
    assert_eq!(run(&["-v", "bare:/data:nocopy"], look).success(), "");
    assert_eq!(run(&["-v", "keep:/data:ro"], "echo no >/data/new").code, 1);
    let said = run(&["--mount", "type=tmpfs,dst=/data,ro"], "cat /data/seed");
    assert_eq!(said.code, 1, "what is mounted in its place hides it: {said}");
}

#[test]
fn apps_share_what_they_mount_by_the_same_name() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    for kind in ["empty", "tmpfs"] {
        let mount = format!("type={kind},src=mine,dst=/shared");
        let write = "echo from $0 >/shared/said";
        let wait = "until [ -s /shared/said ]; do sleep 0.05; done; cat /shared/said";
        let said = sandbox.pod([
            "run", "--rm", &image, "--name", "one", "--mount", &mount, "--", "sh", "-c", write,
            "one", "---", &image, "--name", "two", "--mount", &mount, "sh", "-c", wait,
        ]);
        assert!(said.raw.contains("from one"), "{said}");
        said.success();
    }
    sandbox
        .pod([
            "run",
            "--rm",
            &image,
            "--name",
            "one",
            "--mount",
            "type=empty,src=mine,dst=/a",
            "---",
            &image,
            "--name",
            "two",
            "--mount",
            "type=tmpfs,src=mine,dst=/a",
        ])
        .refuses(125, &["volume `mine` is described in two ways"]);
}

#[test]
fn an_id_is_written_before_the_pod_starts_and_never_over_another() {
    let sandbox = sandbox!();
    let file = sandbox.path("id");
    let file = file.to_str().unwrap();
    let image = sandbox.fixture(Fixture::App);
    sandbox
        .pod(["run", "-d", "--name", "one", "--cidfile", file, &image, "/probe", "wait"])
        .success();
    let id = fs::read_to_string(file).unwrap();
    assert!(sandbox.pod(["status", &id]).success().contains("pod one"));
    sandbox
        .pod(["run", "--id-file", file, &image, "true"])
        .refuses(125, &["cannot write the id", "File exists"]);
    assert_eq!(fs::read_to_string(file).unwrap(), id);
    let other = sandbox.path("other");
    let flags = ["run", "--stage1", "nosuch", "--id-file", other.to_str().unwrap()];
    sandbox.call().args(flags).args([&image, "true"]).run().refuses(125, &["nosuch"]);
    assert!(!other.exists(), "no pod came of it");
    assert_eq!(sandbox.pod(["ps", "-aq"]).raw.lines().count(), 1, "nothing was left of the other");
    sandbox.pod(["stop", "-t", "0", "one"]).success();
}

#[test]
fn groups_and_users_are_those_of_the_image() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox
        .pod(["run", "--rm", "--group-add", "docker", &image, "true"])
        .refuses(125, &["app `app` cannot have group `docker`", "`/etc/group` of the image"]);
    let exec = |flags: &[&str]| {
        let call = sandbox.call().args(["exec"]).args(flags);
        call.args(["pod", "sh", "-c", "echo $A; id -u; grep NoNewPrivs /proc/self/status"]).run()
    };
    let file = sandbox.path("vars");
    fs::write(&file, "A=file").unwrap();
    let pod = sandbox.detached("pod", [&image, "/probe", "wait"]);
    let said = exec(&["--env-file", file.to_str().unwrap(), "-u", "web"]).success();
    assert_eq!(said, "file\n1000\nNoNewPrivs:\t1\n");
    assert_eq!(exec(&["-e", "A=word"]).success(), "word\n0\nNoNewPrivs:\t0\n");
    drop(pod);
}

#[test]
fn an_app_runs_as_who_was_asked_for_whoever_stands_beside_it() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let table = [
        ("", "0 0 0 0"),
        ("root", "0 0 0 0"),
        ("web", "1000 1000 1000,2000 1"),
        ("1000", "1000 1000 1000,2000 1"),
        ("web:nogroup", "1000 65534 65534 1"),
        ("web:7", "1000 7 7 1"),
        ("5", "5 0 0 1"),
        ("5:6", "5 6 6 1"),
    ];
    let script = "echo $(id -u) $(id -g) $(id -G | tr ' ' ,) \
                  $(grep NoNewPrivs /proc/self/status | tr -dc 01)";
    for userns in ["auto", "host"] {
        let mut args = vec!["run", "--rm", "--userns", userns];
        let names: Vec<String> = (0..table.len()).map(|at| format!("app{at}")).collect();
        for ((user, _), name) in table.iter().zip(&names) {
            if *name != names[0] {
                args.push("---");
            }
            args.extend([image.as_str(), "--name", name]);
            if !user.is_empty() {
                args.extend(["-u", user]);
            }
            args.extend(["sh", "-c", script]);
        }
        let said = sandbox.pod(&args).success();
        for ((user, expected), name) in table.iter().zip(&names) {
            let line = said.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            assert!(line.ends_with(&format!(" {expected}")), "{userns} {user:?}: {said}");
        }
    }
    for user in ["nosuch", "web:nosuch", "4294967295", "/bin"] {
        sandbox.pod(["run", "-u", user, &image, "true"]).refuses(125, &["cannot run as"]);
    }
}

#[test]
fn privileges_can_be_kept_from_root_and_left_to_others() {
    let sandbox = sandbox!();
    let nnp = |flags: &[&str]| sandbox.report(flags).status("NoNewPrivs").to_owned();
    assert_eq!(nnp(&["--security-opt", "no-new-privileges"]), "1");
    assert_eq!(nnp(&["-u", "web", "--security-opt", "no-new-privileges:false"]), "0");
    let report = sandbox.report(&["--insecure-options", "capabilities", "-u", "web"]);
    let all = Capability::ALL.iter().fold(0, |bits, capability| bits | capability.bit());
    let sets = report.capabilities();
    assert_eq!((sets.bounding, sets.effective, sets.permitted), (all, 0, 0));
}

#[test]
fn apps_of_a_pod_hold_what_each_was_given() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let bounding = "grep CapBnd /proc/self/status";
    let said = sandbox.pod([
        "run",
        "--rm",
        &image,
        "--name",
        "none",
        "--cap-drop",
        "ALL",
        "sh",
        "-c",
        bounding,
        "---",
        &image,
        "--name",
        "one",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "KILL",
        "sh",
        "-c",
        bounding,
    ]);
    let said = said.success();
    let of = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(of("none").ends_with("0000000000000000"), "{said}");
    assert!(of("one").ends_with("0000000000000020"), "{said}");
}

#[test]
fn words_that_contradict_each_other_are_refused_before_anything_is_fetched() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["run", "--privileged", "--cap-drop", "ALL", "x"]), @"
    --- stderr ---
    error: `--privileged` and `--cap-drop ALL` contradict each other
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--pid", "host", "x"]), @"
    --- stderr ---
    error: `--pid host` and `--stage1 ns` contradict each other
    hint: `--stage1 fly` runs a pod without walls; `--pid pod` shares within one
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--insecure-options", "tls", "x"]), @"
    --- stderr ---
    error: `--insecure-options tls` cannot be had: certificates are always checked
    hint: `/etc/containers/certs.d/HOST[:PORT]/ca.crt` makes a registry's own authority known
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "-v", "/a:/b:Z", "x"]), @"
    --- stderr ---
    error: `Z` cannot be had: no SELinux label is set on volumes
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--mount", "type=bind,dst=/b", "x"]), @"
    --- stderr ---
    error: `type=bind,dst=/b` is no mount: `src` is missing
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--shm-size", "1g", "x"]), @"
    --- stderr ---
    error: unexpected argument `--shm-size` found
    hint: `--tmpfs /dev/shm:size=BYTES` behind the image gives an app a /dev/shm of that size
    hint: `pod run --help` tells what it takes
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["fetch", "--insecure-options", "paths", "x"]), @"
    --- stderr ---
    error: `--insecure-options` gives up a protection of apps, and none is run
    hint: `--insecure-options http` and `image` are what concerns fetching
    --- exit 2 ---
    ");
}
