//! `pod cp`: files into apps and out of them, with docker's rules, and never any further.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tests::fixtures::Fixture;
use tests::pods::Pod;
use tests::require;
use tests::said::Said;
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

fn cp(sandbox: &Sandbox, args: &[&str]) -> Said {
    sandbox.call().args(["cp"]).args(args).run()
}

fn boxed(sandbox: &Sandbox) -> Pod<'_> {
    sandbox.detached("box", [&sandbox.fixture(Fixture::App), "/probe", "wait"])
}

fn shell(pod: &Pod<'_>, script: &str) -> String {
    pod.exec(&[], &["sh", "-c", script]).success()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Makes a small tree on the host.
fn tree(sandbox: &Sandbox) -> PathBuf {
    let top = sandbox.path("tree");
    fs::create_dir_all(top.join("sub")).expect("the sandbox can be written");
    fs::write(top.join("sub/file"), b"deep\n").expect("the sandbox can be written");
    fs::write(top.join("run"), b"#!/bin/sh\necho ran\n").expect("the sandbox can be written");
    fs::set_permissions(top.join("run"), fs::Permissions::from_mode(0o755)).expect("it is there");
    symlink("sub/file", top.join("link")).expect("the sandbox can be written");
    top
}

#[test]
fn files_go_where_docker_puts_them() {
    let sandbox = sandbox!();
    let (pod, top) = (boxed(&sandbox), text(&tree(&sandbox)));
    let file = format!("{top}/run");
    for (from, to, place) in [
        (file.as_str(), "box:/tmp", "/tmp/run"),
        (&file, "box:/tmp/named", "/tmp/named"),
        (&file, "box/app:/tmp/", "/tmp/run"),
        (&top, "box:/tmp/new", "/tmp/new/run"),
        (&top, "box:/tmp/new", "/tmp/new/tree/run"),
        (&format!("{top}/."), "box:/tmp/flat", "/tmp/flat/run"),
        (&format!("{top}/."), "box:/tmp/flat/", "/tmp/flat/run"),
    ] {
        cp(&sandbox, &[from, to]).success();
        assert_eq!(shell(&pod, &format!("{place}; stat -c %u:%g:%a {place}")), "ran\n0:0:755\n");
    }
    assert_eq!(shell(&pod, "readlink /tmp/new/link; cat /tmp/new/link"), "sub/file\ndeep\n");
    shell(&pod, "ln -s /tmp/flat /tmp/to; ln -s /etc/passwd /tmp/flat/run2");
    cp(&sandbox, &[&file, "box:/tmp/to"]).success();
    let out = sandbox.path("out");
    fs::create_dir(&out).expect("the sandbox can be written");
    let at = |name: &str| text(&out.join(name));
    for (from, to, place) in [
        ("box:/tmp/flat/sub/file", at(""), "file"),
        ("box:/tmp/flat/sub/file", at("named"), "named"),
        ("box:/tmp/flat", at("new"), "new/sub/file"),
        ("box:/tmp/flat", at("new"), "new/flat/sub/file"),
        ("box:/tmp/flat/.", at("."), "sub/file"),
        ("box:tmp/to/", at("followed"), "followed/sub/file"),
    ] {
        cp(&sandbox, &[from, &to]).success();
        let read = fs::read_to_string(out.join(place));
        assert_eq!(read.ok().as_deref(), Some("deep\n"), "{from} {to}");
    }
    cp(&sandbox, &["box:/tmp/to", &at("link")]).success();
    assert_eq!(fs::read_link(out.join("link")).ok(), Some(PathBuf::from("/tmp/flat")));
    cp(&sandbox, &["-L", "box:/tmp/to", &at("whole")]).success();
    assert!(out.join("whole/sub/file").is_file());
}

#[test]
fn owners_are_kept_if_asked_and_rights_never_grow() {
    let sandbox = sandbox!();
    let pod = boxed(&sandbox);
    shell(&pod, "echo x > /tmp/mine; chown 1000:1000 /tmp/mine; chmod 4755 /tmp/mine");
    let (plain, kept) = (sandbox.path("plain"), sandbox.path("kept"));
    cp(&sandbox, &["box:/tmp/mine", &text(&plain)]).success();
    cp(&sandbox, &["-a", "box:/tmp/mine", &text(&kept)]).success();
    let about = |path: &Path| {
        let about = fs::metadata(path).expect("it was copied");
        (about.uid(), about.gid(), about.mode() & 0o7777)
    };
    assert_eq!(about(&plain), (0, 0, 0o755));
    assert_eq!(about(&kept), (1000, 1000, 0o755));
    cp(&sandbox, &["-a", &text(&kept), "box:/tmp/back"]).success();
    assert_eq!(shell(&pod, "stat -c %u:%g /tmp/back"), "1000:1000\n");
    cp(&sandbox, &[&text(&kept), "box:/tmp/back"]).success();
    assert_eq!(shell(&pod, "stat -c %u:%g /tmp/back"), "0:0\n");
}

#[test]
fn archives_are_streamed_whatever_their_size() {
    let sandbox = sandbox!();
    let pod = boxed(&sandbox);
    shell(&pod, "mkdir /tmp/big; dd if=/dev/zero of=/tmp/big/zero bs=1M count=16 2>/dev/null");
    let archive = cp(&sandbox, &["box:/tmp/big", "-"]);
    assert_eq!(archive.code, 0, "{archive}");
    assert!(archive.raw.len() > 16 << 20 && archive.raw.starts_with("big"));
    let small = sandbox.path("small.tar");
    let tar = sandbox.program("tar").args(["-C", &text(&tree(&sandbox)), "-cf"]).args([&small]);
    tar.args(["."]).run().success();
    let bytes = fs::read(&small).expect("tar has written it");
    sandbox.call().args(["cp", "-", "box:/tmp/big"]).input(&bytes).run().success();
    assert_eq!(shell(&pod, "cat /tmp/big/sub/file; ls /tmp/big | wc -l"), "deep\n4\n");
    // What fills up an archive behind its end is taken, and all of it.
    let mut padded = bytes;
    padded.resize(65_536, 0);
    sandbox.call().args(["cp", "-", "box:/tmp/big"]).input(&padded).run().success();
    let gone = sandbox.call().args(["cp", "box:/tmp/big", "/dev/full"]).run();
    gone.refuses(1, &["`full`"]);
    assert!(pod.is_running());
}

#[test]
fn nothing_gets_beyond_the_app_or_the_destination() {
    let sandbox = sandbox!();
    let pod = boxed(&sandbox);
    let secret = sandbox.path("secret");
    fs::write(&secret, b"of the host\n").expect("the sandbox can be written");
    let up = "../".repeat(20);
    // What names a place of the host leads to the app's own, or nowhere.
    shell(&pod, &format!("ln -s {} /tmp/out; ln -s {up}{} /tmp/up", text(&secret), text(&secret)));
    let got = text(&sandbox.path("got"));
    for link in ["out", "up"] {
        cp(&sandbox, &["-L", &format!("box:/tmp/{link}"), &got]).refuses(1, &[link]);
        cp(&sandbox, &[&text(&secret), &format!("box:/tmp/{link}")]).success();
        assert_eq!(fs::read(&secret).expect("it is there"), b"of the host\n");
    }
    // A directory that is swapped for a link while it is copied, again and again.
    shell(&pod, "mkdir -p /tmp/t/d /tmp/t/e; echo app > /tmp/t/d/secret");
    let swap = format!(
        "cd /tmp/t; (while :; do mv d x; ln -s {} d; rm d; mv x d; done) >/dev/null 2>&1 & echo on",
        text(secret.parent().expect("it is in the sandbox"))
    );
    let swapping = pod.exec(&[], &["sh", "-c", &format!("({swap}) >/dev/null 2>&1 & echo on")]);
    assert_eq!(swapping.success(), "on\n");
    let incoming = format!("{}/run", text(&tree(&sandbox)));
    for round in 0..12 {
        let to = sandbox.path(&format!("swap-{round}"));
        let _ = cp(&sandbox, &["box:/tmp/t", &text(&to)]).code;
        // The link itself may be what was met with; what it leads to may not.
        if !to.join("d").is_symlink() {
            let read = fs::read_to_string(to.join("d/secret")).unwrap_or_default();
            assert!(!read.contains("host"), "round {round}: {read}");
        }
        let _ = cp(&sandbox, &[&incoming, "box:/tmp/t/d/"]).code;
    }
    assert_eq!(fs::read(&secret).expect("it is there"), b"of the host\n");
    // Links of the destination are not written through on the host.
    let place = sandbox.path("place");
    fs::create_dir(&place).expect("the sandbox can be written");
    symlink(secret.parent().expect("it is there"), place.join("sub")).expect("it can be written");
    shell(&pod, "mkdir -p /tmp/src/sub; echo evil > /tmp/src/sub/secret");
    cp(&sandbox, &["box:/tmp/src/.", &text(&place)]).refuses(1, &["`sub`"]);
    assert_eq!(fs::read(&secret).expect("it is there"), b"of the host\n");
}

#[test]
fn what_cannot_be_copied_is_refused_by_name() {
    let sandbox = sandbox!();
    let pod = boxed(&sandbox);
    let here = text(&sandbox.path("here"));
    cp(&sandbox, &["box:/nowhere", &here]).refuses(1, &["`nowhere`", "No such file"]);
    cp(&sandbox, &["box:/dev/null", &here]).refuses(1, &["`null`", "a device"]);
    cp(&sandbox, &["/nowhere", "box:/tmp"]).refuses(1, &["`/nowhere`"]);
    cp(&sandbox, &["/etc/hostname", "box:/nowhere/"]).refuses(1, &["`/nowhere` is no directory"]);
    cp(&sandbox, &["/etc/hostname", "box:/no/where"]).refuses(1, &["`/no`"]);
    cp(&sandbox, &["/etc", "box:/etc/passwd"]).refuses(1, &["`passwd`"]);
    cp(&sandbox, &["/a", "/b"]).refuses(2, &["exactly one side", "POD:PATH"]);
    cp(&sandbox, &["box/other:/a", &here]).refuses(1, &["other"]);
    cp(&sandbox, &["box:/etc/passwd", "/no/where/at/all"]).refuses(1, &["/no/where/at"]);
    pod.stop(&["-t", "0"]).success();
    cp(&sandbox, &["box:/etc/passwd", &here]).refuses(1, &["`box`", "does not run"]);
    let read = ["run", "-d", "--name", "fixed", "--read-only", &sandbox.fixture(Fixture::App)];
    sandbox.call().args(read).args(["/probe", "wait"]).run().success();
    cp(&sandbox, &["/etc/hostname", "fixed:/etc/x"]).refuses(1, &["Read-only file system"]);
    sandbox.pod(["stop", "-t", "0", "fixed"]).success();
}
