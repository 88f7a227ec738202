//! Escapes that were published for other runtimes, tried on this one.
//!
//! Each bears the number it has in the catalogue of the threat model, and fails when the defence
//! it is about is taken out. What the images here hold is hostile; what they must never reach is a
//! directory of the host beside them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use probe::Report;
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

#[test]
fn only_the_standard_streams_are_open() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    // T-C1: the caller has directories of the host open, without close-on-exec.
    let open = "exec 3</ 4</etc 5</proc 6</root 7</sys 8</usr 9</var; exec \"$0\" \"$@\"";
    let pod = sandbox.programs().path("pod");
    let said = sandbox
        .program("sh")
        .args(["-c", open])
        .args([&pod])
        .args(["run", "--rm", &image, "/probe", "report"])
        .run();
    let report: Report = said.json();
    assert_eq!(report.descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{report:?}");
    assert_eq!(report.descriptors[&0], "/dev/null");
}

#[test]
fn a_working_directory_cannot_be_a_descriptor() {
    let sandbox = sandbox!();
    // T-C1: CVE-2024-21626.
    for number in 3..24 {
        let flag = format!("--workdir=/proc/self/fd/{number}");
        let said = sandbox.run_app(&[&flag], &["cat", "etc/hostname"]);
        assert_ne!(said.code, 0, "{said}");
    }
}

#[test]
fn nothing_of_the_callers_environment_gets_in() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let call = sandbox.call().env("SECRET", "of the host").env("HOSTILE", "1");
    let call = call.args(["run", "--rm", "-e", "HOSTILE", &image, "/probe", "report"]);
    let report: Report = call.run().json();
    let names: Vec<&str> =
        report.environment.iter().filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    for name in ["SECRET", "POD_ROOT", "TMPDIR", "NOTIFY_SOCKET"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    assert_eq!(report.variable("HOSTILE"), Some("1"), "asked for by name");
    assert_eq!(report.variable("HOME"), Some("/root"));
    assert!(report.variable("PATH").is_some());
}

#[test]
fn malformed_variables_of_an_image_are_no_look_up_in_the_host() {
    let sandbox = sandbox!();
    // T-D4: CVE-2026-57231.
    let probe = fs::read(sandbox.programs().path("probe")).unwrap();
    let layer = Layer::new().file("probe", 0o755, &probe);
    let image = Image::new().layer(layer).set("Env", json!(["SECRET", "SEC*", "GOOD=1"]));
    let image = sandbox.image("env", &image);
    let said = sandbox
        .call()
        .env("SECRET", "of the host")
        .args(["run", "--rm", &image, "/probe", "report"])
        .run();
    assert!(!said.raw.contains("of the host"), "{said}");
    if said.code != 125 {
        let _: Report = said.json();
    }
}

#[test]
fn links_of_an_image_lead_nowhere_outside_it() {
    let sandbox = sandbox!();
    // T-A2, T-A3, T-A4, T-A7.
    let probe = fs::read(sandbox.programs().path("probe")).unwrap();
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("resolv.conf"), "theirs").unwrap();
    let target = outside.display().to_string();
    let relative = format!("../../../../../../../../../..{target}");
    let before = fs::metadata(&outside).unwrap();
    for link in ["dev", "proc", "sys", "etc", "w", "tmp"] {
        for target in [&target, &relative] {
            let layer = Layer::new().file("probe", 0o755, &probe).symlink(link, target);
            let image = sandbox.image("links", &Image::new().layer(layer));
            let said = sandbox
                .call()
                .args(["run", "--rm", &image, "-w", "/w/x", "--tmpfs", "/w/y"])
                .args(["/probe", "exit", "0"])
                .run();
            assert!([0, 125].contains(&said.code), "/{link} -> {target}: {said}");
            let after = fs::metadata(&outside).unwrap();
            assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
            let names: Vec<_> =
                fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names, ["resolv.conf"], "/{link} -> {target}");
            assert_eq!(fs::read_to_string(outside.join("resolv.conf")).unwrap(), "theirs");
        }
    }
}

#[test]
fn users_files_of_an_image_are_read_with_care() {
    let sandbox = sandbox!();
    // T-A6: a look-up by name must neither hang nor read what lies outside.
    let probe = fs::read(sandbox.programs().path("probe")).unwrap();
    let fifo = tar_entry(tar::EntryType::Fifo, "etc/passwd");
    let link = Layer::new().dir("etc/", 0o755).symlink("etc/passwd", "/dev/zero");
    for layer in [fifo, link] {
        let image = Image::new().layer(layer.file("probe", 0o755, &probe));
        let image = sandbox.image("users", &image);
        let said = sandbox.pod(["run", "--rm", "-u", "somebody", &image, "/probe", "exit", "0"]);
        said.refuses(125, &["`somebody`"]);
    }
}

fn tar_entry(kind: tar::EntryType, path: &str) -> Layer {
    Layer::new().dir("etc/", 0o755).entry(kind, path, 0o644, b"", None)
}

#[test]
fn nothing_may_be_mounted_over_what_is_the_runtimes() {
    let sandbox = sandbox!();
    // T-A4, T-B1.
    let source = sandbox.path("source");
    fs::create_dir(&source).unwrap();
    for point in ["/proc", "/proc/self/attr", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/"] {
        let volume = format!("{}:{point}", source.display());
        let said = sandbox.run_app(&["-v", &volume], &["true"]);
        said.refuses(125, &[]);
    }
}

#[test]
fn the_store_is_closed_to_other_users() {
    let sandbox = sandbox!();
    // T-C7.
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("closed", [&image, "/probe", "wait"]);
    let mut places: Vec<_> =
        ["images", "pods", "names"].map(|name| sandbox.path("root").join(name)).into();
    let run = fs::read_dir(sandbox.path("run")).unwrap().map(|entry| entry.unwrap().path());
    places.extend(run);
    for place in &places {
        let mode = fs::metadata(place).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", place.display());
    }
    let sockets = places.iter().map(|place| place.join("control.sock"));
    for socket in sockets.filter(|socket| socket.exists()) {
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    }
    pod.stop(&["-t", "0"]).success();
}

#[test]
fn an_app_cannot_write_the_programs_that_started_it() {
    let sandbox = sandbox!();
    // T-C2: CVE-2019-5736.
    let programs = ["pod", "stage1/ns/stage1-ns", "stage1/ns/stage2-init"];
    let bytes = || programs.map(|name| fs::read(sandbox.programs().path(name)).unwrap());
    let before = bytes();
    let image = sandbox.fixture(Fixture::App);
    let attack = "while :; do for p in /proc/[0-9]*; do true >>$p/exe; done; done 2>/dev/null";
    for flags in [&[][..], &["--userns", "host"]] {
        let mut args = flags.to_vec();
        args.extend([image.as_str(), "--cap-add", "CAP_SYS_PTRACE", "sh", "-c", attack]);
        let pod = sandbox.detached("attacker", args);
        for _ in 0..20 {
            pod.exec(&[], &["true"]).success();
        }
        pod.stop(&["-t", "0"]).success();
    }
    assert!(before == bytes(), "a program of ours was written to");
}

#[test]
fn with_the_hosts_network_no_socket_of_ours_is_abstract() {
    let sandbox = sandbox!();
    // T-C6: CVE-2020-15257.
    let said = sandbox.run_app(&["--net", "host"], &["cat", "/proc/net/unix"]);
    let said = said.success();
    assert!(!said.lines().any(|line| line.contains(" @")), "{said}");
}

#[test]
fn a_marker_outside_survives_the_removal_of_a_pod() {
    let sandbox = sandbox!();
    // T-A8, T-G1: the writable layer is replaced by a link; removal must not follow it.
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    File::create(outside.join("marker")).unwrap();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["run", "--name", "swapped", &image, "true"]).success();
    let script =
        "cd root/pods/run/*/apps/app && rm -rf upper && ln -s ../../../../../../outside upper";
    sandbox.program("sh").args(["-c", script]).run().success();
    sandbox.pod(["rm", "swapped"]).success();
    assert!(outside.join("marker").exists());
}

#[test]
fn a_volume_takes_no_mount_of_the_hosts_away_and_leaves_none() {
    let sandbox = sandbox!();
    // Where systemd runs every mount is shared. Clones that stayed peers of the host's carried
    // the inner mount out, and the old root's going unmounted what was there before.
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.programs().path("pod");
    let script = "set -e; mkdir -p vol other; mount --bind vol vol; mount --make-shared vol; \
         mkdir vol/disk vol/inner; mount -t tmpfs none vol/disk; touch vol/disk/kept other/seen; \
         before=$(grep -c /vol /proc/self/mountinfo); \
         \"$0\" run --rm -v $PWD/vol:/v -v $PWD/other:/v/inner \"$1\" /probe reach \
             /v/disk/kept /v/inner/seen; \
         test -e vol/disk/kept; test ! -e vol/inner/seen; \
         test $before = $(grep -c /vol /proc/self/mountinfo); umount vol/disk vol";
    let said = sandbox.program("sh").args(["-c", script]).args([&pod]).args([&image]).run();
    let reached: serde_json::Value = said.json();
    for path in ["/v/disk/kept", "/v/inner/seen"] {
        assert_eq!(reached[path]["kind"], "file", "{reached}");
    }
}

#[test]
fn pid_1_of_a_pod_has_no_terminal_of_the_callers() {
    let sandbox = sandbox!();
    // T-C9: whose session's terminal it is may type into it.
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("apart", [&image, "/probe", "stay"]);
    let init = pod.status().init.unwrap();
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let (session, terminal) = (fields[3], fields[4]);
    assert_eq!((session, terminal), (init.to_string().as_str(), "0"), "{stat}");
}

#[test]
fn the_callers_terminal_never_enters_a_pod() {
    let sandbox = sandbox!();
    // A command that forks away keeps its descriptors, and would read what is typed next.
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.programs().path("pod");
    let _pod = sandbox.detached("tty", [&image, "/probe", "stay"]);
    let command = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done";
    let exec = format!("{} exec tty -- sh -c '{command}'", pod.display());
    let said = sandbox.program("script").args(["-qefc", &exec, "/dev/null"]).run();
    assert_eq!(said.code, 0, "{said}");
    let streams: Vec<&str> = said.stdout.split_whitespace().collect();
    assert_eq!(streams[0], "/dev/null", "{said}");
    assert!(streams[1..].iter().all(|stream| stream.starts_with("pipe:")), "{said}");
}

#[test]
fn files_of_ours_are_never_written_into_a_volume() {
    let sandbox = sandbox!();
    // T-A7: `-v /etc:/etc` once replaced the host's link `/etc/resolv.conf` by an empty file.
    let volume = sandbox.path("volume");
    fs::create_dir(&volume).unwrap();
    symlink("../run/resolv.conf", volume.join("resolv.conf")).unwrap();
    let probe = fs::read(sandbox.programs().path("probe")).unwrap();
    let linked = Layer::new().file("probe", 0o755, &probe).symlink("etc", "/volume");
    let linked = sandbox.image("linked", &Image::new().layer(linked));
    for (image, place) in [(sandbox.fixture(Fixture::App), "/etc"), (linked, "/volume")] {
        let volume_at = format!("{}:{place}", volume.display());
        let said = sandbox.pod(["run", "--rm", "-v", &volume_at, &image, "/probe", "exit", "0"]);
        assert!([0, 125].contains(&said.code), "{said}");
        let target = fs::read_link(volume.join("resolv.conf")).unwrap();
        assert_eq!(target.to_str(), Some("../run/resolv.conf"), "{place}");
    }
}

#[test]
fn a_store_may_lie_at_a_path_that_overlayfs_reads_as_options() {
    let sandbox = sandbox!();
    // T-E6.
    let image = sandbox.fixture(Fixture::App);
    let root = sandbox.path(r"odd:lowerdir=,x\y");
    fs::create_dir(&root).unwrap();
    let said = sandbox
        .call()
        .args(["run", "--rm", "--root"])
        .args([&root])
        .args([&image, "echo", "here"])
        .run();
    assert_eq!(said.raw, "here\n", "{said}");
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn nothing_of_the_image_is_loaded_into_programs_of_ours() {
    let sandbox = sandbox!();
    // T-C5: whatever the dynamic loader or a name service would load would say so.
    let probe = fs::read(sandbox.programs().path("probe")).unwrap();
    let layer = Layer::new()
        .dir("etc/", 0o755)
        .dir("lib/", 0o755)
        .file("etc/ld.so.preload", 0o644, b"/lib/evil.so\n")
        .file("etc/nsswitch.conf", 0o644, b"passwd: evil\ngroup: evil\n")
        .file("lib/evil.so", 0o755, b"no library")
        .file("lib/libnss_evil.so.2", 0o755, b"no library")
        .file("etc/passwd", 0o644, b"evil:x:7:7::/:/bin/sh\n")
        .file("probe", 0o755, &probe);
    let image = Image::new().layer(layer).set("Env", json!(["LD_PRELOAD=/lib/evil.so"]));
    let image = sandbox.image("evil", &image);
    sandbox.pod(["fetch", &image]).success();
    let pod = sandbox.detached("evil", [image.as_str(), "-u", "evil", "/probe", "wait"]);
    let report: Report = pod.exec(&[], &["/probe", "report"]).json();
    assert_eq!(report.status("Uid"), "7 7 7 7");
    let init = pod.status().init.expect("it runs");
    let maps = fs::read_to_string(format!("/proc/{init}/maps")).unwrap();
    assert!(!maps.contains(".so"), "{maps}");
}

#[test]
fn a_volume_that_changes_underway_leads_nowhere_outside() {
    let sandbox = sandbox!();
    // T-A1: a component of a mount point flips between a directory and a link to the host's root.
    let volume = sandbox.path("volume");
    let marker = sandbox.path("marker");
    fs::create_dir_all(volume.join("a")).unwrap();
    fs::create_dir(&marker).unwrap();
    symlink(&marker, volume.join("b")).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let [a, b, c] = ["a", "b", "c"].map(|name| volume.join(name));
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&a, &c).and_then(|()| fs::rename(&b, &a));
                let _ = fs::rename(&a, &b).and_then(|()| fs::rename(&c, &a));
            }
        });
        let volume = format!("{}:/vol", volume.display());
        // Checked behind the loop: a panic in here would leave the other thread running.
        let mut wrong = None;
        for _ in 0..40 {
            let said = sandbox.run_app(&["-v", &volume, "--tmpfs", "/vol/a/x"], &["true"]);
            let reached = fs::read_dir(&marker).is_ok_and(|mut entries| entries.next().is_some());
            if reached || ![0, 125].contains(&said.code) {
                wrong = Some(said);
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{}", wrong.map(|said| said.to_string()).unwrap_or_default());
    });
}

#[test]
fn a_mount_point_that_a_link_takes_the_place_of_is_not_unmounted_through_it() {
    let sandbox = sandbox!();
    // CVE-2020-2024, CVE-2020-2026: what ends a pod unmounted by paths that a guest could change.
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.programs().path("pod");
    let script = "set -e; mkdir -p vol/inner other; mount -t tmpfs none other; touch other/kept; \
         \"$0\" run -d --name swapped -v $PWD/vol:/vol --tmpfs /vol/inner \"$1\" /probe wait; \
         mv vol/inner vol/gone; ln -s $PWD/other vol/inner; \
         \"$0\" stop swapped; \"$0\" rm swapped; \
         mountpoint -q other; ls other; readlink vol/inner; umount other";
    let said = sandbox.program("sh").args(["-c", script]).args([&pod]).args([&image]).run();
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stdout.ends_with("kept\n[SANDBOX]/other\n"), "{said}");
}

#[test]
fn directories_that_links_take_the_place_of_between_prepare_and_run_lead_nowhere() {
    let sandbox = sandbox!();
    // CVE-2026-1386: what is privileged copied and changed owners through links that were put
    // where it had prepared. Here only root could, and still nothing is followed.
    let image = sandbox.fixture(Fixture::App);
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("marker"), "kept").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o711)).unwrap();
    let look = |of: &str| {
        let meta = fs::symlink_metadata(outside.join(of)).unwrap();
        (meta.uid(), meta.gid(), meta.mode(), meta.ctime(), meta.ctime_nsec())
    };
    let before = ["", "marker"].map(look);
    for place in ["apps", "apps/app", "apps/app/upper", "apps/app/work", "apps/app/log"] {
        let words = ["prepare", "--name", "swapped", &image, "touch", "/made"];
        sandbox.pod(words).success();
        let script = "cd root/pods/prepared/* && rm -rf $0 && ln -s $1 $0";
        let outside = outside.display().to_string();
        sandbox.program("sh").args(["-c", script, place, &outside]).run().success();
        let started = sandbox.pod(["start", "swapped"]);
        assert_eq!(started.code, 125, "{place}: {started}");
        sandbox.pod(["rm", "-f", "swapped"]).success();
        assert_eq!(["", "marker"].map(look), before, "{place}: {started}");
    }
}

#[test]
fn an_image_without_layers_is_no_app() {
    let sandbox = sandbox!();
    // CVE-2026-24054: what was mounted in its place was the host's.
    let image = sandbox.image("nothing", &Image::new().set("Cmd", json!(["/bin/sh"])));
    for (verb, code) in [("run", 125), ("prepare", 1)] {
        sandbox.pod([verb, &image]).refuses(code, &["0 layers", "1 to 400 are possible"]);
    }
}
