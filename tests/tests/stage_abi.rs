//! A stage1 of somebody else's: a shell script that knows nothing but `docs/stage-abi.md`.
//!
//! If it works, the ABI is what is written down, and not what two programs of ours happen to agree
//! on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pod_abi::stage::Order;
use serde_json::json;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
use tests::require;
use tests::sandbox::Sandbox;

/// Copies the order to `$OUT` beside itself, looks at what else it was given, runs nothing, and
/// becomes `pod reap` with status 3.
const STUB: &str = r#"#!/bin/sh
out=$(dirname "$0")
[ "$*" = run ] || exit 99
cat <&4 >"$out/order.json"
env >"$out/environment"
ls /proc/self/fd/6/ >"$out/layers"
(cd /proc/self/fd/6/ && find . -name layer.erofs -type f -size +7 | sed 's:^\./::') >"$out/images"
[ -f pod.json ] && [ -f /proc/self/fd/3/pod.json ] && [ -d /proc/self/fd/7 ] || exit 98
id=$(sed -n 's/.*"uuid":"\([^"]*\)".*/\1/p' pod.json)
[ -n "$id" ] || id=$(sed -n 's/.*"uuid": "\([^"]*\)".*/\1/p' pod.json)
exec /proc/self/fd/5 reap --inherited --show-error --code=3 "$id"
"#;

fn stub(sandbox: &Sandbox, oldest: u32, newest: u32) -> PathBuf {
    stub_that_takes(sandbox, oldest, newest, "trees")
}

fn stub_that_takes(sandbox: &Sandbox, oldest: u32, newest: u32, layers: &str) -> PathBuf {
    let directory = sandbox.path(&format!("stage1-{oldest}"));
    fs::create_dir(&directory).expect("the sandbox can be written");
    let manifest = json!({
        "name": "stub",
        "abi": { "oldest": oldest, "newest": newest },
        "entrypoints": { "run": "stub" },
        "layers": layers,
    });
    fs::write(directory.join("stage1.json"), manifest.to_string()).expect("it is ours");
    fs::write(directory.join("stub"), STUB).expect("it is ours");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.join("stub"), executable).expect("it is ours");
    directory
}

#[test]
fn a_stage1_needs_nothing_but_what_the_abi_names() {
    if !require::root("a pod takes user ids and directories of root") {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = stub(&sandbox, 1, 5);
    let path = directory.display().to_string();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox.pod(["run", "--rm", "--name", "stubbed", "--stage1", &path, &image, "true"]);
    assert_eq!(said.code, 3, "{said}");

    let order = fs::read(directory.join("order.json")).expect("the stub wrote it");
    let order: Order = serde_json::from_slice(&order).expect("the order is what the ABI says");
    assert_eq!(order.pod.name.as_str(), "stubbed");
    assert_eq!(order.apps.len(), 1);
    assert_eq!(order.apps[0].layers.len(), order.apps[0].spec.image.layers.len());
    let environment = fs::read_to_string(directory.join("environment")).expect("it wrote it");
    for line in environment.lines() {
        let known = ["PWD=", "OLDPWD=", "SHLVL=", "_=", "NOTIFY_SOCKET="];
        assert!(known.iter().any(|start| line.starts_with(start)), "{environment}");
    }
}

#[test]
fn a_stage1_of_another_abi_is_refused_before_anything_is_touched() {
    if !require::root("a pod takes user ids and directories of root") {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = stub(&sandbox, 98, 99);
    let path = directory.display().to_string();
    let image = sandbox.fixture(Fixture::App);
    let said = sandbox.pod(["run", "--stage1", &path, &image, "true"]);
    said.refuses(125, &["98", "99"]);
    assert!(!directory.join("order.json").exists());
    assert_eq!(sandbox.pod(["ps", "-a", "-q"]).success(), "", "no pod was made");
}

#[test]
fn a_stage1_tells_itself_what_it_needs_of_the_host() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("telling");
    fs::create_dir(&directory).expect("the sandbox can be written");
    let manifest = json!({
        "name": "telling",
        "abi": { "oldest": 5, "newest": 5 },
        "entrypoints": { "run": "tell", "doctor": "tell" },
    });
    fs::write(directory.join("stage1.json"), manifest.to_string()).expect("it is ours");
    let ask = |script: &str| {
        let program = directory.join("tell");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("it is ours");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        sandbox.pod(["doctor", "--stage1", &directory.display().to_string()])
    };
    let tells = |state: &str| {
        format!(
            "[ \"$*\" = doctor ] && echo '[{{\"need\":\"a moon\",\"state\":\"{state}\",\
             \"found\":\"half of one\",\"fix\":\"wait\"}}]'"
        )
    };
    let limited = ask(&tells("limited"));
    assert!(limited.stdout.contains("limited  a moon: half of one\n         hint: wait\n"));
    assert!(limited.stdout.contains("ok       stage1 `telling`: found\n"), "{limited}");
    let missing = ask(&tells("missing"));
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stdout.contains("missing  a moon: half of one\n"), "{missing}");
    ask("exit 3").refuses(1, &["exit status: 3"]);
    ask("echo nonsense").refuses(1, &["cannot ask"]);
    // More than is read of it.
    ask("echo '['; yes '{},' | head -n 100000; true").refuses(1, &["cannot ask"]);
}

#[test]
fn a_stage1_that_asks_for_images_is_given_files() {
    if !require::root("a pod takes user ids and directories of root") {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = stub_that_takes(&sandbox, 5, 5, "images");
    let path = directory.display().to_string();
    let image = sandbox.fixture(Fixture::App);
    let asked = ["--stage1", &path, &image, "true"];
    let prepared = sandbox.pod(["prepare", "--name", "first"].iter().chain(&asked));
    let told = |text: &str| text.matches("disk image made").count();
    let layers = told(&prepared.stderr);
    assert!(layers > 0, "{prepared}");
    prepared.success();
    // They are there: no start waits for them, and no other pod.
    sandbox.pod(["start", "first"]).exits(3);
    check_images(&directory, layers);
    let again = sandbox.pod(["run", "--name", "second"].iter().chain(&asked));
    assert_eq!(told(&again.stderr), 0, "{again}");
    again.exits(3);
    // One that was lost is made where it is missed.
    sandbox.pod(["image", "fsck"]).success();
    let lost = fs::read_to_string(directory.join("images")).expect("the stub wrote it");
    for name in lost.lines() {
        fs::remove_file(sandbox.path("root/images/layers").join(name)).expect("it is there");
    }
    sandbox.pod(["start", "first"]).exits(3);
    check_images(&directory, layers);
}

/// Checks that the order names each layer as an image, and that the stub has seen them all.
fn check_images(directory: &Path, layers: usize) {
    let order = fs::read(directory.join("order.json")).expect("the stub wrote it");
    let order: Order = serde_json::from_slice(&order).expect("the order is what the ABI says");
    let seen = fs::read_to_string(directory.join("images")).expect("the stub wrote it");
    let named = &order.apps[0].layers;
    assert_eq!(named.len(), layers);
    for name in named {
        assert!(seen.lines().any(|line| line == name), "`{name}` in {seen}");
    }
}

#[test]
fn an_image_of_nothing_is_nothing_else() {
    if !require::root("a pod takes user ids and directories of root") {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = stub_that_takes(&sandbox, 5, 5, "images");
    let path = directory.display().to_string();
    let run = |image: &str| sandbox.pod(["run", "--rm", "--stage1", &path, image, "true"]);
    let without_layers = sandbox.image("none", &Image::new());
    run(&without_layers).refuses(125, &["0 layers"]);
    assert!(!directory.join("order.json").exists(), "no stage1 was asked");
    let of_an_empty_layer = sandbox.image("empty", &Image::new().layer(Layer::new()));
    run(&of_an_empty_layer).exits(3);
    let order = fs::read(directory.join("order.json")).expect("the stub wrote it");
    let order: Order = serde_json::from_slice(&order).expect("the order is what the ABI says");
    assert_eq!(order.apps[0].layers.len(), 1);
    let image = sandbox.path("root/images/layers").join(&order.apps[0].layers[0]);
    let metadata = fs::symlink_metadata(image).expect("it was made");
    assert!(metadata.is_file());
    assert_eq!(metadata.len(), 2 * 4096, "a superblock, and a root with nothing in it");
}

#[test]
fn a_scratch_disk_is_for_a_stage1_that_is_a_machine() {
    if !require::root("a pod takes user ids and directories of root") {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = stub(&sandbox, 5, 5);
    let path = directory.display().to_string();
    let image = sandbox.fixture(Fixture::App);
    let asked = ["--scratch", "64m", "--stage1", &path, &image, "true"];
    for command in ["run", "prepare"] {
        let said = sandbox.pod([command].iter().chain(&asked));
        said.refuses(if command == "run" { 125 } else { 1 }, &["stub", "--stage1 kvm"]);
    }
    assert_eq!(sandbox.pod(["ps", "-a", "-q"]).success(), "", "no pod was made");
}
