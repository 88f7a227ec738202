//! Volumes: what apps see of them, what they are filled with, and what is refused.
//!
//! Most run a specification that was printed by `--dry-run` and changed, because a specification
//! can say things that no single flag does.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
use tests::require;
use tests::said::Said;
use tests::sandbox::{Call, Sandbox};

macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// Returns the specification of a pod that runs `script` in `image`, with `volumes` and `mounts`.
fn spec(sandbox: &Sandbox, image: &str, script: &str, volumes: Value, mounts: Value) -> Value {
    let words = ["run", "--dry-run", image, "--name", "app", "sh", "-c", script];
    let mut spec: Value = sandbox.pod(words).json();
    spec["sandbox"]["volumes"] = volumes;
    spec["apps"][0]["mounts"] = mounts;
    spec
}

/// Writes a specification and prepares a call of `pod VERB` for it.
fn of_spec<'s>(sandbox: &'s Sandbox, verb: &str, spec: &Value) -> Call<'s> {
    let path = sandbox.path("spec.json");
    fs::write(&path, spec.to_string()).expect("the sandbox can be written");
    sandbox.call().args([verb]).args(["--spec".as_ref(), path.as_os_str()])
}

/// Runs a specification and removes the pod.
fn run(sandbox: &Sandbox, spec: &Value) -> Said {
    of_spec(sandbox, "run", spec).args(["--rm"]).run()
}

fn host(name: &str, path: &Path) -> Value {
    json!({"name": name, "source": {"host": {"path": path}}})
}

/// A volume of the host or of the pod that is filled from `path` of the app's image.
fn filled(mut volume: Value, path: &str) -> Value {
    volume["fill"] = json!({"app": "app", "path": path});
    volume
}

fn empty(name: &str) -> Value {
    json!({"name": name, "source": {"empty": {"mode": 0o755}}})
}

fn at(destination: &str, volume: &str) -> Value {
    json!({"destination": destination, "source": {"volume": volume}})
}

fn made(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.path(name);
    fs::create_dir_all(&path).expect("the sandbox can be written");
    path
}

#[test]
fn what_is_mounted_beneath_a_volume_comes_along_or_stays_away() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let (volume, kept) = (made(&sandbox, "vol"), made(&sandbox, "vol/disk"));
    fs::write(kept.join("beneath"), "").unwrap();
    let mut flat = host("flat", &volume);
    flat["source"]["host"]["withoutSubmounts"] = json!(true);
    let script = "set -e; test -e /deep/disk/kept; touch /deep/disk/by-app; \
         ! touch /read/top; ! touch /read/disk/in; test -e /read/disk/by-app; \
         ! test -e /flat/disk/kept; test -e /flat/disk/beneath; touch /flat/disk/below";
    let mut mounts = json!([at("/deep", "deep"), at("/read", "deep"), at("/flat", "flat")]);
    mounts[1]["readOnly"] = json!(true);
    let spec = spec(&sandbox, &image, script, json!([host("deep", &volume), flat]), mounts);
    let file = sandbox.path("spec.json");
    fs::write(&file, spec.to_string()).unwrap();
    let around = "set -e; mount -t tmpfs none vol/disk; touch vol/disk/kept; \
         \"$0\" run --rm --spec spec.json; test -e vol/disk/by-app; umount vol/disk; \
         test -e vol/disk/below";
    let pod = sandbox.programs().path("pod");
    sandbox.program("sh").args(["-c", around]).args([&pod]).run().success();
}

#[test]
fn a_mount_that_keeps_a_volume_from_being_mapped_is_named() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    made(&sandbox, "vol/in the way");
    let around = |options: &str| {
        let script = format!(
            "mount -t proc none 'vol/in the way'; \
             \"$0\" run --rm --mount type=bind,src=$PWD/vol,dst=/v{options} \"$1\" ls /v; \
             code=$?; umount 'vol/in the way'; exit $code"
        );
        let pod = sandbox.programs().path("pod");
        sandbox.program("sh").args(["-c", &script]).args([&pod]).args([&image]).run()
    };
    let words = ["mounted at `[SANDBOX]/vol/in the way` (proc)", "hint", "recursive=false"];
    around("").refuses(125, &words);
    assert_eq!(around(",recursive=false").success(), "in the way\n");
}

#[test]
fn files_and_sockets_are_volumes_and_devices_are_not() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let (file, socket) = (sandbox.path("file"), sandbox.path("socket"));
    fs::write(&file, "of the host").unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    let script = "set -e; cat /etc/hosts; test -S /run/deep/socket; stat -c %a /run/deep; \
         readlink /etc/mtab; cp /bin/busybox /data/sh; ! /data/sh true 2>/dev/null; \
         stat -c '%a %u:%g' /own; id -u";
    let own = json!({"name": "own", "source": {"empty": {"mode": 0o3750, "uid": 33, "gid": 7}}});
    let volumes = json!([host("file", &file), host("socket", &socket), own, empty("data")]);
    let mounts = json!([
        at("/etc/hosts", "file"),
        at("/run/deep/socket", "socket"),
        at("/own", "own"),
        {"destination": "/data", "source": {"volume": "data"}, "noExec": true},
    ]);
    let spec = spec(&sandbox, &image, script, volumes, mounts);
    let said = run(&sandbox, &spec).success();
    assert_eq!(said, "of the host755\n../proc/self/mounts\n3750 33:7\n0\n");
    let device = sandbox.run_app(&["-v", "/dev/zero:/zero"], &["true"]);
    device.refuses(125, &["which is `/dev/zero` is a device", "`--device`"]);
}

#[test]
fn memory_is_shared_by_the_apps_of_a_pod_and_gone_with_each_end() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let words = ["run", "--dry-run", &image, "--name", "one", "sh", "-c"];
    let one = "test ! -e /m/there && echo from-one >/m/note && mv /m/note /m/there";
    let two = "until test -e /m/there; do :; done; cat /m/there; stat -c '%a %u' /m; \
         dd if=/dev/zero of=/m/much bs=1k count=128 2>/dev/null || echo full";
    let rest = [one, "---", &image, "--name", "two", "sh", "-c", two];
    let mut spec: Value = sandbox.call().args(words).args(rest).run().json();
    spec["name"] = json!("memory");
    spec["sandbox"]["volumes"] =
        json!([{"name": "m", "source": {"tmpfs": {"size": 65_536, "mode": 0o1770}}}]);
    for app in 0..2 {
        spec["apps"][app]["mounts"] = json!([at("/m", "m")]);
    }
    of_spec(&sandbox, "prepare", &spec).run().success();
    for _ in 0..2 {
        let said = sandbox.pod(["start", "memory"]).success();
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 3, "{said}");
        for (line, end) in lines.iter().zip(["1770 0", "from-one", "full"]) {
            assert!(line.ends_with(end), "{said}");
        }
    }
    sandbox.pod(["rm", "memory"]).success();
}

/// An image with a tree at `/srv/data` that has one of everything.
fn image_to_fill_from(sandbox: &Sandbox) -> String {
    let mut tar = Builder::new(Vec::new());
    let mut add = |kind, path: &str, mode, owner: u64, content: &str, link: Option<&str>| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner + 1);
        header.set_mtime(1_000_000);
        header.set_size(u64::try_from(content.len()).expect("usize fits into u64"));
        if let Some(link) = link {
            header.set_link_name(link).expect("the archive is sound");
        }
        tar.append_data(&mut header, path, content.as_bytes()).expect("the archive is sound");
    };
    add(EntryType::Directory, "srv", 0o755, 0, "", None);
    add(EntryType::Directory, "srv/data", 0o2771, 33, "", None);
    add(EntryType::Regular, "srv/data/kept", 0o640, 1000, "lower", None);
    add(EntryType::Regular, "srv/data/gone", 0o644, 0, "x", None);
    add(EntryType::Directory, "srv/data/deep", 0o700, 7, "", None);
    add(EntryType::Regular, "srv/data/deep/tool", 0o4755, 0, "tool", None);
    add(EntryType::Link, "srv/data/deep/twin", 0o4755, 0, "", Some("srv/data/deep/tool"));
    add(EntryType::Symlink, "srv/data/out", 0o777, 5, "", Some("/etc/shadow"));
    let lower = tar.into_inner().expect("the archive is sound");
    let upper = Layer::new().file("srv/data/.wh.gone", 0o644, b"").symlink("linked", "srv/data");
    // Neither leads to what the host has there.
    let upper = upper.file("etc/own", 0o644, b"image's own\n");
    let upper = upper.symlink("climbs", "../../../../../etc").symlink("absolute", "/etc");
    let busybox = fs::read("/bin/busybox").expect("busybox is installed");
    let shell = Layer::new().file("bin/busybox", 0o755, &busybox);
    let applets = ["sh", "find", "sort", "stat", "cat", "ls", "rm"].into_iter();
    let shell = applets.fold(shell, |shell, name| shell.symlink(&format!("bin/{name}"), "busybox"));
    let layers = [shell, Layer::from_tar(&lower), upper];
    sandbox.image("filling", &layers.into_iter().fold(Image::new(), Image::layer))
}

const LIST: &str = "cd /v && find . | sort | \
     while read path; do stat -c '%n %f %u:%g %Y %h' \"$path\"; done";

/// What [`LIST`] prints: modes with types, owners, times, links.
const FILLED: &str = "\
. 45f9 33:34 1000000 3
./deep 41c0 7:8 1000000 2
./deep/tool 89ed 0:1 1000000 2
./deep/twin 89ed 0:1 1000000 2
./kept 81a0 1000:1001 1000000 1
./out a1ff 5:6 1000000 1
";

#[test]
fn an_empty_volume_gets_what_the_image_has_at_its_place() {
    let sandbox = sandbox!();
    let image = image_to_fill_from(&sandbox);
    let named = made(&sandbox, "root/volumes/named");
    let volumes = json!([
        filled(host("named", &named), "/srv/data"),
        filled(empty("own"), "/linked"),
        filled(empty("nothing"), "/there/is/none"),
        filled(empty("climbs"), "/climbs"),
        filled(empty("absolute"), "/absolute"),
    ]);
    let script = format!("{LIST}; cd /o; cat kept; ls -A /n; cd /c; cat *; cd /a; cat *");
    let mounts = json!([
        at("/v", "named"),
        at("/o", "own"),
        at("/n", "nothing"),
        at("/c", "climbs"),
        at("/a", "absolute")
    ]);
    let mut spec = spec(&sandbox, &image, &script, volumes, mounts);
    assert_eq!(run(&sandbox, &spec).success(), format!("{FILLED}lower{0}{0}", "image's own\n"));
    // On the disk lie the pod's own ids.
    let kept = fs::metadata(named.join("kept")).unwrap();
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (1000, 1001, 0o640));
    assert!(!named.join(".pod-fill").exists());

    // What holds anything is left as it is, and what this pod has emptied stays empty.
    fs::write(named.join("kept"), "changed").unwrap();
    spec["name"] = json!("again");
    let script = "cat /v/* /o/kept; rm -rf /v/* /o/*; ls -A /v /o";
    spec["apps"][0]["process"]["args"] = json!(["sh", "-c", script]);
    for name in ["deep", "out"] {
        let _ = fs::remove_dir_all(named.join(name)).or_else(|_| fs::remove_file(named.join(name)));
    }
    of_spec(&sandbox, "prepare", &spec).run().success();
    assert_eq!(sandbox.pod(["start", "again"]).success(), "changedlower/o:\n\n/v:\n");
    let second = sandbox.pod(["start", "again"]).success();
    assert_eq!(second, "/o:\n\n/v:\n");
    assert_eq!(fs::read_dir(&named).unwrap().count(), 0);
    sandbox.pod(["rm", "again"]).success();
}

/// Whom the area belongs to in which a volume is filled.
const KEEPER: u32 = 65_536;

#[test]
fn a_filling_that_was_killed_begins_again_or_goes_on() {
    let sandbox = sandbox!();
    let image = image_to_fill_from(&sandbox);
    let named = made(&sandbox, "named");
    let volumes = json!([filled(host("named", &named), "/srv/data")]);
    let spec = spec(&sandbox, &image, LIST, volumes, json!([at("/v", "named")]));
    // It died while it copied: what it had is of no use.
    let area = named.join(".pod-fill");
    fs::create_dir_all(area.join("content/half/deep")).unwrap();
    fs::write(area.join("content/half/deep/file"), "half").unwrap();
    symlink("/etc", area.join("content/half/etc")).unwrap();
    chown(&area, Some(KEEPER), None).unwrap();
    assert_eq!(run(&sandbox, &spec).success(), FILLED);
    // It died while entries moved up: the rest follows, and an app's own are not touched.
    fs::create_dir_all(area.join("whole")).unwrap();
    chown(&area, Some(KEEPER), None).unwrap();
    for name in ["kept", "deep"] {
        fs::rename(named.join(name), area.join("whole").join(name)).unwrap();
    }
    fs::set_permissions(&named, fs::Permissions::from_mode(0o700)).unwrap();
    let said = run(&sandbox, &spec).success();
    assert_eq!(said, FILLED);
    assert!(!area.exists());
}

#[test]
fn an_app_cannot_hold_up_the_filling_of_a_volume_it_shares() {
    let sandbox = sandbox!();
    let image = image_to_fill_from(&sandbox);
    let named = made(&sandbox, "named");
    let area = named.join(".pod-fill");
    fs::create_dir(&area).unwrap();
    fs::set_permissions(&area, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&area, Some(KEEPER), None).unwrap();
    let busybox = sandbox.fixture(Fixture::Busybox);
    let volume = format!("{}:/v", named.display());
    let enter = ["run", "--rm", &busybox, "-v", &volume, "sh", "-c", "cd /v/.pod-fill"];
    let said = sandbox.pod(enter);
    assert!(said.code != 0 && said.stderr.contains("Permission denied"), "{said}");
    // One it has made itself is its own, and makes the volume one that is not empty.
    chown(&area, Some(0), None).unwrap();
    let held = File::open(&area).unwrap();
    held.lock().unwrap();
    let volumes = json!([filled(host("named", &named), "/srv/data")]);
    let spec = spec(&sandbox, &image, "ls -A /v", volumes, json!([at("/v", "named")]));
    assert_eq!(run(&sandbox, &spec).success(), ".pod-fill\n");
}

#[test]
fn a_tree_that_is_too_deep_leaves_its_volume_as_empty_as_it_was() {
    let sandbox = sandbox!();
    let mut tar = Builder::new(Vec::new());
    for levels in 1..=129 {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, format!("srv/{}", "d/".repeat(levels)), &[][..]).unwrap();
    }
    let layer = Layer::from_tar(&tar.into_inner().unwrap());
    let image = sandbox.image("deep", &Image::new().layer(layer));
    let named = made(&sandbox, "named");
    let volumes = json!([filled(host("named", &named), "/srv")]);
    let spec = spec(&sandbox, &image, ":", volumes, json!([at("/v", "named")]));
    run(&sandbox, &spec).refuses(125, &["deeper than 128 directories"]);
    assert_eq!(fs::read_dir(&named).unwrap().count(), 0);
}

#[test]
fn a_volume_too_small_for_what_it_is_to_get_stays_empty() {
    let sandbox = sandbox!();
    let large = Layer::new().file("srv/small", 0o644, b"x").file("srv/zeros", 0o644, &[7; 1 << 18]);
    let image = sandbox.image("large", &Image::new().layer(large));
    let volume = made(&sandbox, "vol");
    let volumes = json!([filled(host("vol", &volume), "/srv")]);
    let spec = spec(&sandbox, &image, "true", volumes, json!([at("/v", "vol")]));
    fs::write(sandbox.path("spec.json"), spec.to_string()).unwrap();
    let around = "mount -t tmpfs -o size=64k none vol; \"$0\" run --rm --spec spec.json; \
         code=$?; ls -A vol; umount vol; exit $code";
    let pod = sandbox.programs().path("pod");
    let said = sandbox.program("sh").args(["-c", around]).args([&pod]).run();
    assert_eq!(said.stdout, "", "something was left");
    said.refuses(125, &["cannot copy `zeros`", "No space left"]);
}

#[test]
fn a_pod_that_shares_a_volume_being_filled_leads_nowhere_outside() {
    let sandbox = sandbox!();
    const FILES: usize = 400;
    let (named, marker) = (made(&sandbox, "named"), made(&sandbox, "marker"));
    let files = || (0..FILES).map(|number| format!("f{number}"));
    for name in files() {
        fs::write(marker.join(&name), "host").unwrap();
        fs::set_permissions(marker.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(&marker, fs::Permissions::from_mode(0o711)).unwrap();
    // Hard links are where a path would be followed: the second name is made from the first.
    let layer = files().fold(Layer::new().dir("srv/d/", 0o777), |layer, name| {
        layer.file(&format!("srv/d/{name}"), 0o666, b"image")
    });
    let layer = files().fold(layer.dir("srv/z/", 0o755), |layer, name| {
        layer.hard_link(&format!("srv/z/{name}"), &format!("srv/d/{name}"))
    });
    let shell = Layer::new().file("bin/sh", 0o755, &fs::read("/bin/busybox").unwrap());
    let image = sandbox.image("linked", &Image::new().layer(shell).layer(layer));
    // Whichever directory was copied first, it is swapped while the second is.
    let swap = format!(
        "while :; do cd /v/.pod-fill/content && for one in d z; do mv $one x$one && \
         ln -s {} $one; done; cd /; done 2>/dev/null",
        marker.display()
    );
    let volume = format!("{}:/v", named.display());
    let busybox = sandbox.fixture(Fixture::Busybox);
    let racer = sandbox.detached("racer", ["-v", &volume, &busybox, "sh", "-c", &swap]);
    let volumes = json!([filled(host("named", &named), "/srv")]);
    let spec = spec(&sandbox, &image, ":", volumes, json!([at("/v", "named")]));
    for _ in 0..5 {
        // It starts or is refused; what counts is what it has touched.
        let said = run(&sandbox, &spec);
        assert!([0, 125].contains(&said.code), "{said}");
        let linked = |name: String| fs::metadata(marker.join(name)).unwrap().nlink() > 1;
        assert!(!files().any(linked), "a file of the host lies in the volume");
        for entry in fs::read_dir(&named).unwrap().flatten() {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
    racer.stop(&["-t", "0"]).success();
    sandbox.pod(["rm", "racer"]).success();
    let dir = fs::metadata(&marker).unwrap();
    assert_eq!((dir.mode() & 0o7777, fs::read_dir(&marker).unwrap().count()), (0o711, FILES));
    for name in files() {
        let file = fs::metadata(marker.join(&name)).unwrap();
        assert_eq!((file.nlink(), file.mode() & 0o777), (1, 0o600), "{name}");
        assert_eq!(fs::read(marker.join(&name)).unwrap(), b"host", "{name}");
    }
}

#[test]
fn a_kill_at_any_point_of_a_filling_costs_nothing() {
    let sandbox = sandbox!();
    sandbox.expect_debris();
    const FILES: usize = 800;
    let busybox = fs::read("/bin/busybox").unwrap();
    let shell = Layer::new().file("bin/busybox", 0o755, &busybox);
    let shell = ["sh", "ls", "wc"]
        .into_iter()
        .fold(shell, |layer, name| layer.symlink(&format!("bin/{name}"), "busybox"));
    let many = (0..FILES).fold(Layer::new().dir("srv/", 0o755), |layer, number| {
        layer.file(&format!("srv/{number}"), 0o644, b"whole")
    });
    let image = sandbox.image("many", &Image::new().layer(shell).layer(many));
    let named = made(&sandbox, "named");
    let area = named.join(".pod-fill");
    let volumes = json!([filled(host("named", &named), "/srv")]);
    let script = "ls -A /v | wc -l";
    let spec = spec(&sandbox, &image, script, volumes, json!([at("/v", "named")]));
    // Each is killed once it has come so far; the next finds what the one before has left.
    let points: [&dyn Fn() -> bool; 4] = [
        &|| area.join("content").exists(),
        &|| fs::read_dir(area.join("content")).is_ok_and(|entries| entries.count() > FILES / 2),
        &|| area.join("whole").exists(),
        &|| fs::read_dir(&named).is_ok_and(|entries| entries.count() > FILES / 2),
    ];
    for reached in points {
        let pod = of_spec(&sandbox, "run", &spec).start();
        let gone = || !Path::new(&format!("/proc/{}/exe", pod.pid())).exists();
        while !reached() && !gone() {
            thread::yield_now();
        }
        pod.signal(Signal::SIGKILL);
        let _ = pod.wait();
    }
    assert_eq!(run(&sandbox, &spec).success().trim(), FILES.to_string());
    assert!(!area.exists());
    let whole = |entry: fs::DirEntry| fs::read(entry.path()).unwrap() == b"whole";
    assert!(fs::read_dir(&named).unwrap().flatten().all(whole));
}

#[test]
fn pods_that_start_at_once_all_find_their_volume_whole() {
    let sandbox = sandbox!();
    let image = image_to_fill_from(&sandbox);
    let named = made(&sandbox, "named");
    let volumes = json!([filled(host("named", &named), "/srv/data")]);
    let spec = spec(&sandbox, &image, LIST, volumes, json!([at("/v", "named")]));
    fs::write(sandbox.path("spec.json"), spec.to_string()).unwrap();
    let one = || sandbox.call().args(["run", "--rm", "--spec", "spec.json"]).start();
    let pods: Vec<_> = (0..6).map(|_| one()).collect();
    let (own, within) = FILLED.split_once('\n').unwrap();
    let (undated, dated) = own.split_once(" 1000000").unwrap();
    for pod in pods {
        let said = pod.wait().success();
        let (itself, rest) = said.split_once('\n').unwrap();
        assert_eq!(rest, within, "{said}");
        // Who starts between the last two deeds of a filling sees the date of now.
        assert!(itself.starts_with(undated) && itself.ends_with(dated), "{said}");
    }
    assert_eq!(run(&sandbox, &spec).success(), FILLED);
}
