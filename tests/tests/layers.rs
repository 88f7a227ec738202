//! How layers are given to a pod: as directories or as disk images, taken as they lie, compared, or
//! sealed. What an app sees is the same; what somebody has changed on the disk is not run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
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

/// Every way that all kernels we run on know.
const WAYS: [&str; 3] = ["plain", "checked", "erofs"];

/// What an app tells of its tree.
const TELL: &str = "cd /; cat kept replaced dir/new; ls dir gone 2>&1; ls -ln kept owned | tr -s ' ' \
     | cut -d' ' -f1,3,4,5,9; stat -c '%a %u:%g' owned; echo more >kept; cat kept";

/// An image of two layers, of which the upper hides, replaces and removes.
fn two_layers(sandbox: &Sandbox) -> String {
    let busybox = fs::read("/bin/busybox").expect("this machine has busybox");
    let mut lower = Layer::new().dir("bin/", 0o755).file("bin/busybox", 0o755, &busybox);
    for name in ["sh", "cat", "ls", "tr", "cut", "stat"] {
        lower = lower.symlink(&format!("bin/{name}"), "busybox");
    }
    let lower = lower
        .file("kept", 0o640, b"kept\n")
        .file("replaced", 0o644, b"below\n")
        .file("gone", 0o644, b"gone\n")
        .dir("dir/", 0o755)
        .file("dir/old", 0o644, b"old\n")
        .file("owned", 0o4751, b"");
    let upper = Layer::new()
        .file("replaced", 0o644, b"above\n")
        .file(".wh.gone", 0o644, b"")
        .dir("dir/", 0o755)
        .file("dir/.wh..wh..opq", 0o644, b"")
        .file("dir/new", 0o644, b"new\n");
    sandbox.image("two", &Image::new().layer(lower).layer(upper))
}

/// The directories of layers, the largest tree first.
fn layers(sandbox: &Sandbox) -> Vec<PathBuf> {
    let all = fs::read_dir(sandbox.path("root/images/layers")).expect("there is a store");
    let mut all: Vec<_> = all.map(|entry| entry.expect("it can be listed").path()).collect();
    all.sort_by_key(|layer| !layer.join("tree/bin/busybox").exists());
    all
}

/// Counts the disk images of layers.
fn images(sandbox: &Sandbox) -> usize {
    layers(sandbox).iter().filter(|layer| layer.join("layer.erofs").exists()).count()
}

#[test]
fn an_app_sees_the_same_tree_whatever_its_layers_are() {
    let sandbox = sandbox!();
    let image = two_layers(&sandbox);
    let mut seen = Vec::new();
    for userns in ["auto", "host"] {
        for way in WAYS {
            let args =
                ["run", "--rm", "-q", "--layers", way, "--userns", userns, &image, "sh", "-c"];
            seen.push(sandbox.pod(args.iter().chain([&TELL])).success());
        }
    }
    assert_eq!(images(&sandbox), 2);
    let expected = "kept\nabove\nnew\nls: gone: No such file or directory\ndir:\nnew\n";
    assert!(seen[0].starts_with(expected), "{}", seen[0]);
    assert!(seen[0].contains("4751 0:0") && seen[0].ends_with("more\n"), "{}", seen[0]);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
}

#[test]
fn images_serve_apps_that_come_later_volumes_of_the_image_and_pods_without_walls() {
    let sandbox = sandbox!();
    let busybox = fs::read("/bin/busybox").expect("this machine has busybox");
    let layer = Layer::new()
        .dir("bin/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .symlink("bin/sh", "busybox")
        .symlink("bin/cat", "busybox")
        .symlink("bin/sleep", "busybox")
        .dir("data/", 0o755)
        .file("data/seed", 0o644, b"of the image\n");
    let image = Image::new().layer(layer).set("Volumes", json!({ "/data": {} }));
    let image = sandbox.image("seeded", &image);
    let read = ["sh", "-c", "cat /data/seed"];
    for stage1 in ["ns", "fly"] {
        let args = ["run", "--rm", "-q", "--layers", "erofs", "--stage1", stage1, &image];
        let said = sandbox.pod(args.iter().chain(&read));
        assert_eq!(said.success(), "of the image\n", "{stage1}");
    }
    let args = ["run", "-d", "--layers", "erofs", "--name", "grows", &image, "sleep", "100"];
    sandbox.pod(args).success();
    let inspected: Value = sandbox.pod(["inspect", "grows"]).json();
    assert!(inspected.to_string().contains(r#""layers":"erofs""#), "{inspected}");
    sandbox.pod(["app", "add", "grows", &image, "--name", "late", "--", "sleep", "100"]).success();
    sandbox.pod(["app", "start", "grows", "late"]).success();
    let said = sandbox.pod(["exec", "--app", "late", "grows", "cat", "/data/seed"]);
    assert_eq!(said.success(), "of the image\n");
    sandbox.pod(["rm", "-f", "grows"]).success();
}

/// Changes a file of a tree and puts its times back, as a disk would.
fn damage(file: &Path) {
    let times = fs::metadata(file).expect("it is there").modified().expect("it has a date");
    let mut bytes = fs::read(file).expect("it can be read");
    bytes[0] ^= 1;
    fs::write(file, bytes).expect("it can be written");
    let file = fs::File::options().write(true).open(file).expect("it can be opened");
    file.set_modified(times).expect("its date can be put back");
}

#[test]
fn a_layer_that_has_changed_is_noticed_before_it_runs() {
    let sandbox = sandbox!();
    let image = two_layers(&sandbox);
    let run = |way| {
        let args = ["run", "--rm", "-q", "--layers", way, &image, "cat", "/kept"];
        sandbox.pod(args)
    };
    assert_eq!(run("checked").success(), "kept\n");
    let kept = layers(&sandbox)[0].join("tree/kept");
    damage(&kept);
    assert_eq!(run("plain").success(), "jept\n", "nobody asked");
    run("checked").refuses(125, &["is not what it came as", "kept", "pod image fsck"]);
    sandbox.pod(["image", "fsck"]).refuses(1, &["1 problems"]);
    // The way out that is told.
    sandbox.pod(["image", "rm", &image]).success();
    sandbox.pod(["image", "gc"]).success();
    sandbox.pod(["fetch", &image]).success();
    assert_eq!(run("checked").success(), "kept\n");
}

#[test]
fn layers_are_sealed_or_the_pod_does_not_start() {
    let sandbox = sandbox!();
    let image = two_layers(&sandbox);
    let said = sandbox.pod(["run", "--rm", "-q", "--layers", "sealed", &image, "cat", "/kept"]);
    if said.code == 0 {
        let image = layers(&sandbox)[0].join("layer.erofs");
        fs::write(image, b"x").expect_err("the kernel lets nobody write to it");
    } else {
        said.refuses(125, &["seals no files", "tune2fs -O verity", "--layers checked"]);
        assert_eq!(images(&sandbox), 0);
    }
    let said = sandbox.pod(["run", "--layers", "glued", &image, "true"]);
    said.refuses(125, &["glued", "plain", "checked", "erofs", "sealed"]);
}
