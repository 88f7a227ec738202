//! What a user is told of a program that cannot be run: one error that names what is at fault.

use std::fs;

use serde_json::json;
use tests::image::{Image, Layer};
use tests::require;
use tests::sandbox::Sandbox;

/// A program of the machine that is linked dynamically, and its interpreter.
const DYNAMIC: &str = "/bin/ls";
const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Writes an image with programs of every broken kind.
fn broken(sandbox: &Sandbox) -> String {
    let probe = fs::read(sandbox.programs().path("probe")).expect("it is built with the tests");
    let dynamic = fs::read(DYNAMIC).expect("every machine has it");
    let mut foreign = probe.clone();
    foreign[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let mut object = probe.clone();
    object[16] = 1;
    let layer = Layer::new()
        .dir("bin/", 0o755)
        .dir("dir/", 0o755)
        .dir("locked/", 0o700)
        .file("locked/probe", 0o755, &probe)
        .file("bin/probe", 0o755, &probe)
        .file("plain", 0o644, &probe)
        .file("others", 0o700, &probe)
        .file("foreign", 0o755, &foreign)
        .file("object", 0o755, &object)
        .file("dynamic", 0o755, &dynamic)
        .file("orphan", 0o755, b"#!/no/such/sh -e\n")
        .file("windows", 0o755, b"#!/bin/probe\r\n")
        .file("chain", 0o755, b"#!/dynamic\n")
        .file("barred", 0o755, b"#!/plain\n")
        .file("with space", 0o755, b"#!/no/such/sh\n")
        .file("text", 0o755, b"no program\n")
        .file("empty", 0o755, b"")
        .symlink("dangling", "/nowhere");
    sandbox.image("broken", &Image::new().layer(layer).set("Cmd", json!(["/bin/probe"])))
}

#[test]
fn a_program_that_cannot_be_executed_is_told_what_is_wrong_with_it() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = broken(&sandbox);
    sandbox.pod(["fetch", &image]).success();
    let pod = sandbox.detached("box", [&image, "/bin/probe", "wait"]);
    for (program, code, words) in [
        ("/nowhere", 127, &["there is no program `/nowhere` in app"][..]),
        ("nowhere", 127, &["there is no program `nowhere` in `PATH` (`/usr/local/sbin:"]),
        ("./nowhere", 127, &["`./nowhere` beneath `/`"]),
        ("/dangling", 127, &["`/dangling`", "a link to `/nowhere`"]),
        ("/dir", 126, &["`/dir`", "is a directory"]),
        ("/plain", 126, &["`/plain`", "nobody may execute (mode 0644)", "chmod +x"]),
        ("/foreign", 126, &["`/foreign`", "for aarch64, on a machine of x86_64", "platform"]),
        ("/object", 126, &["`/object`", "no program or a damaged one"]),
        ("/dynamic", 126, &["`/dynamic`", "interpreter `/lib64/ld-linux-x86-64.so.2` does not"]),
        ("/orphan", 126, &["`/orphan`", "interpreter `/no/such/sh` does not exist"]),
        ("/with space", 126, &["`/with space`", "interpreter `/no/such/sh` does not exist"]),
        ("/windows", 126, &["`/windows`", "`/bin/probe` and a carriage return", "dos2unix"]),
        ("/chain", 126, &["`/chain`", "interpreter `/lib64/ld-linux-x86-64.so.2` does not"]),
        ("/barred", 126, &["`/barred`", "interpreter is `/plain`", "mode 0644"]),
        ("/text", 126, &["`/text`", "neither an ELF program nor a script"]),
        ("/empty", 126, &["`/empty`", "is empty"]),
    ] {
        pod.exec(&[], &[program, "with", "arguments"]).refuses(code, words);
    }
    let said = |program: &str| pod.exec(&["--user", "1000:1000"], &[program]);
    said("/others").refuses(126, &["`/others`", "its user may not execute (mode 0700, owner 0:0)"]);
    said("/locked/probe").refuses(126, &["`/locked/probe`"]);
}

#[test]
fn a_start_says_the_same_as_an_exec() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = broken(&sandbox);
    for (program, code, words) in [
        ("nowhere", 127, "`nowhere` in `PATH`"),
        ("/orphan", 126, "interpreter `/no/such/sh` does not exist"),
        ("/foreign", 126, "for aarch64"),
    ] {
        sandbox.pod(["run", "--rm", &image, program, "-x"]).refuses(code, &[words]);
        sandbox.pod(["run", "--rm", "-d", &image, program, "-x"]).refuses(code, &[words]);
    }
}

#[test]
fn a_missing_shared_library_is_named() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let (dynamic, linker) = (fs::read(DYNAMIC).unwrap(), fs::read(LINKER).unwrap());
    let layer = Layer::new()
        .dir("lib64/", 0o755)
        .file("lib64/ld-linux-x86-64.so.2", 0o755, &linker)
        .file("dynamic", 0o755, &dynamic);
    let image = sandbox.image("halved", &Image::new().layer(layer));
    let run = |flags: &[&str]| {
        sandbox.call().args(["run"]).args(flags).args([image.as_str(), "/dynamic"]).run()
    };
    let said = run(&["--name", "halved"]);
    let words = ["a shared library is missing: `/dynamic` needs `lib", "linked statically"];
    let told = said.refuses(127, &words);
    assert!(told.contains("error while loading shared libraries"), "its own words: {told}");
    let app = sandbox.status("halved").apps.remove(0);
    assert_eq!(app.error.map(|report| report.code).as_deref(), Some("app.missing-library"));
    run(&["--rm"]).refuses(127, &words);
}
