//! Images as a user meets them: fetched from a real registry and from layouts, and in every bad
//! shape that must give one clear error and harm neither the store nor other pods.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::fixtures::{self, Fixture};
use tests::image::{self, Image, Layer, Written};
use tests::random::Random;
use tests::registry::Registry;
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

/// A registry inside the sandbox's network, with the fixture `app` in it.
fn registry(sandbox: &Sandbox) -> (Registry, String) {
    let registry = sandbox.registry();
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).expect("the fixture is there");
    let reference = registry.push(&layout, "app", "team/app:1").expect("skopeo pushes");
    (registry, reference)
}

/// Checks that the store holds nothing broken.
fn content(sandbox: &Sandbox) {
    let said = sandbox.pod(["image", "fsck"]);
    assert_eq!(said.code, 0, "fsck is content: {said}");
}

fn probe(sandbox: &Sandbox) -> Layer {
    let bytes = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    Layer::new().file("probe", 0o755, &bytes)
}

#[test]
fn an_image_is_fetched_from_a_registry_and_run() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let (registry, reference) = registry(&sandbox);
    sandbox.pod(["fetch", &reference]).success();
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(listed.contains("team/app"), "{listed}");
    drop(registry);

    let said = sandbox.pod(["run", "--rm", &reference, "echo", "without the registry"]);
    assert_eq!(said.success(), "without the registry\n");
    let said = sandbox.pod(["run", "--rm", "--pull", "always", &reference, "true"]);
    said.refuses(125, &[]);
    content(&sandbox);

    sandbox.pod(["image", "rm", &reference]).success();
    sandbox.pod(["run", "--rm", "--pull", "never", &reference, "true"]).refuses(125, &["team/app"]);
}

#[test]
fn a_digest_in_a_reference_is_what_is_run() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let (registry, reference) = registry(&sandbox);
    let name = reference.trim_end_matches(":1");
    let inspected: Value = sandbox.pod(["fetch", "--json", &reference]).json();
    let text = inspected.to_string();
    let at = text.find("sha256:").expect("a fetched image names its digest");
    assert!(text[at..].len() > 71);
    let wrong = format!("{name}@sha256:{}", "0".repeat(64));
    sandbox.pod(["fetch", &wrong]).refuses(1, &[&registry.address()]);
    sandbox.pod(["run", "--rm", &wrong, "true"]).refuses(125, &[&registry.address()]);
    content(&sandbox);
}

#[test]
fn what_is_not_there_is_named() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let (registry, _) = registry(&sandbox);
    for name in ["team/app:nope", "team/nope:1"] {
        let reference = format!("{}/{name}", registry.address());
        sandbox.pod(["fetch", &reference]).refuses(1, &[name]);
        sandbox.pod(["run", "--rm", &reference, "true"]).refuses(125, &[name]);
    }
    let layout = sandbox.path("no-such-layout");
    let reference = format!("oci:{}:x", layout.display());
    sandbox.pod(["run", "--rm", &reference, "true"]).refuses(125, &["no-such-layout"]);
    let app = fixtures::reference(sandbox.programs(), Fixture::App);
    let other = format!("{}:nope", app.trim_end_matches(":app"));
    sandbox.pod(["run", "--rm", &other, "true"]).refuses(125, &["nope"]);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let sandbox = sandbox!();
    let said = sandbox.pod(["fetch", "127.0.0.1:1/x:1"]);
    said.refuses(1, &["127.0.0.1:1"]);
}

#[test]
fn references_that_are_none_are_refused() {
    let sandbox = sandbox!();
    for reference in ["", "UPPER/case", "a b", "x:", "x@sha256:short", "../x", "oci:", "http://x/y"]
    {
        let said = sandbox.pod(["fetch", reference]);
        assert!([1, 2].contains(&said.code), "{reference:?}: {said}");
        let said = sandbox.pod(["run", "--rm", reference, "true"]);
        assert_eq!(said.code, 125, "{reference:?}: {said}");
    }
}

/// Writes an image into the sandbox, lets `harm` at it, and returns its reference.
fn harmed(sandbox: &Sandbox, harm: impl FnOnce(&Path, &Written)) -> String {
    let layout = sandbox.path("harmed");
    let image = Image::new().layer(probe(sandbox)).set("Cmd", json!(["/probe", "exit", "0"]));
    let written = image.write(&layout, "x").expect("the sandbox can be written");
    harm(&layout, &written);
    format!("oci:{}:x", layout.display())
}

#[test]
fn bytes_that_differ_from_their_digest_are_refused() {
    let sandbox = sandbox!();
    let flip_at = |path: &Path, place: fn(usize) -> usize| {
        let mut bytes = fs::read(path).unwrap();
        let place = place(bytes.len());
        bytes[place] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let flip = |path: &Path| flip_at(path, |length| length / 2);
    // Its time of compression (RFC 1952 §2.3), which nothing but the digest shows.
    let reference = harmed(&sandbox, |dir, written| {
        flip_at(&image::blob(dir, &written.layers[0]), |_| 4);
    });
    sandbox.pod(["run", "--rm", &reference]).refuses(125, &["what came for", "[DIGEST]"]);
    // Whether a worker that cannot decompress what follows says so first is a matter of the bytes.
    let reference = harmed(&sandbox, |dir, written| flip(&image::blob(dir, &written.layers[0])));
    sandbox.pod(["run", "--rm", &reference]).refuses(125, &["[DIGEST]"]);
    let reference = harmed(&sandbox, |dir, written| flip(&image::blob(dir, &written.config)));
    sandbox.pod(["run", "--rm", &reference]).refuses(125, &["another digest", "[DIGEST]"]);
    let reference = harmed(&sandbox, |dir, written| flip(&image::blob(dir, &written.manifest)));
    sandbox.pod(["run", "--rm", &reference]).refuses(125, &["other content", "[DIGEST]"]);
    content(&sandbox);
    let reference = harmed(&sandbox, |_, _| ());
    sandbox.pod(["run", "--rm", &reference]).success();
}

#[test]
fn a_truncated_layer_is_refused() {
    let sandbox = sandbox!();
    for keep in [0, 1, 17, 4096] {
        let reference = harmed(&sandbox, |dir, written| {
            let path = image::blob(dir, &written.layers[0]);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..keep]).unwrap();
        });
        sandbox.pod(["run", "--rm", &reference]).refuses(125, &[]);
    }
    content(&sandbox);
}

#[test]
fn a_missing_blob_is_named() {
    let sandbox = sandbox!();
    let reference = harmed(&sandbox, |dir, written| {
        fs::remove_file(image::blob(dir, &written.layers[0])).unwrap();
    });
    sandbox.pod(["run", "--rm", &reference]).refuses(125, &["blobs/sha256"]);
}

#[test]
fn an_image_for_another_platform_is_refused() {
    let sandbox = sandbox!();
    let image = Image::new().layer(probe(&sandbox)).architecture("s390x");
    let reference = sandbox.image("foreign", &image);
    sandbox.pod(["run", "--rm", &reference, "/probe"]).refuses(125, &["linux/amd64"]);
    sandbox.pod(["fetch", &reference]).refuses(1, &["linux/amd64"]);
}

#[test]
fn a_layer_cannot_write_outside_its_root() {
    let sandbox = sandbox!();
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let target = outside.display().to_string();
    let victim = format!("{target}/victim");
    let up = format!("../../../../../../../../../..{target}/new");
    // T-F: each is one crafted layer.
    let layers: Vec<(&str, Layer)> = vec![
        ("link-then-write", Layer::new().symlink("d", &target).file("d/new", 0o644, b"x")),
        (
            "link-then-chmod",
            Layer::new().symlink("d", &target).dir("d/", 0o777).dir("d/new/", 0o777),
        ),
        ("hard-link-outside", Layer::new().hard_link("h", &victim).file("h", 0o644, b"x")),
        ("dots", Layer::new().file(&up[..up.len().min(99)], 0o644, b"x")),
        ("absolute", Layer::new().file(&format!("{target}/new")[..], 0o644, b"x")),
        ("whiteout-of-dots", Layer::new().file("a/.wh...", 0o644, b"")),
        ("file-as-directory", Layer::new().file("f", 0o644, b"").file("f/x", 0o644, b"")),
    ];
    for (name, layer) in layers {
        let reference = sandbox.image(name, &Image::new().layer(probe(&sandbox)).layer(layer));
        let said = sandbox.pod(["run", "--rm", &reference, "/probe", "exit", "0"]);
        assert!([0, 125].contains(&said.code), "{name}: {said}");
        let names: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["victim"], "{name}");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched", "{name}");
    }
    content(&sandbox);
}

#[test]
fn layers_lie_over_each_other_as_the_specification_says() {
    let sandbox = sandbox!();
    let low = Layer::new()
        .dir("d/", 0o755)
        .file("d/stays", 0o644, b"low")
        .file("d/goes", 0o644, b"low")
        .file("d/changes", 0o644, b"low")
        .dir("o/", 0o755)
        .file("o/hidden", 0o644, b"low");
    let high = Layer::new()
        .dir("d/", 0o755)
        .file("d/.wh.goes", 0o644, b"")
        .file("d/changes", 0o644, b"high")
        .dir("o/", 0o755)
        .file("o/.wh..wh..opq", 0o644, b"")
        .file("o/shown", 0o644, b"high");
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).unwrap();
    let busybox = fs::read("/bin/busybox").unwrap();
    assert!(layout.is_dir());
    let base = Layer::new().dir("bin/", 0o755).file("bin/busybox", 0o755, &busybox);
    let reference = sandbox.image("over", &Image::new().layer(base).layer(low).layer(high));
    let said =
        sandbox.pod(["run", "--rm", &reference, "/bin/busybox", "find", "/d", "/o", "-type", "f"]);
    let said = said.success();
    let mut names: Vec<&str> = said.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["/d/changes", "/d/stays", "/o/shown"]);
    let said = sandbox.pod(["run", "--rm", &reference, "/bin/busybox", "cat", "/d/changes"]);
    assert_eq!(said.success(), "high");
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let sandbox = sandbox!();
    let root = sandbox.path("small");
    fs::create_dir(&root).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=6m", "none"];
    sandbox.program("mount").args(mount).args([&root]).run().success();
    let pod = |args: &[&str]| {
        let call = sandbox.call().args(args).args(["--root"]).args([&root]);
        call.run()
    };
    let small = sandbox.image("small", &Image::new().layer(Layer::new().file("x", 0o644, b"x")));
    pod(&["fetch", &small]).success();
    // Random bytes, so that nothing on the way makes them fewer.
    let mut bytes = vec![0; 32 << 20];
    let mut state = 1_u64;
    for byte in &mut bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = state.to_be_bytes()[0];
    }
    let large = sandbox.image("large", &Image::new().layer(Layer::new().file("x", 0o644, &bytes)));
    pod(&["fetch", &large]).refuses(1, &["No space left on device"]);
    pod(&["image", "gc"]).success();
    pod(&["image", "fsck"]).success();
    let listed = pod(&["image", "ls"]).success();
    assert!(listed.contains("small") && !listed.contains("large"), "{listed}");
    sandbox.program("umount").args([&root]).run().success();
}

#[test]
fn an_image_in_use_is_not_collected() {
    let sandbox = sandbox!();
    let reference = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("holds", [&reference, "/probe", "wait"]);
    sandbox.pod(["image", "rm", &reference]).success();
    sandbox.pod(["image", "gc"]).success();
    pod.exec(&[], &["ls", "/bin/busybox"]).success();
    pod.stop(&["-t", "0"]).success();
    sandbox.pod(["start", "-d", "holds"]).success();
    assert!(pod.is_running(), "an ended pod keeps its image, too");
}

#[test]
fn several_fetches_of_one_image_at_once_are_one() {
    let sandbox = sandbox!();
    let reference = fixtures::reference(sandbox.programs(), Fixture::App);
    let fetches: Vec<_> =
        (0..6).map(|_| sandbox.call().args(["fetch", &reference]).start()).collect();
    for fetch in fetches {
        fetch.wait().success();
    }
    content(&sandbox);
    sandbox.run_app(&[], &["true"]).success();
}

#[test]
fn what_is_changed_in_a_layer_is_found_by_name() {
    let sandbox = sandbox!();
    let lower = probe(&sandbox)
        .dir("dir/", 0o755)
        .file("dir/file", 0o644, b"content")
        .file("dir/other", 0o644, b"other")
        .file("base", 0o644, b"base")
        .symlink("link", "dir/file");
    // What it leaves out, the layer below has: a directory's attributes, the target of a link.
    let upper = Layer::new()
        .file("dir/late", 0o600, b"late")
        .hard_link("again", "base")
        .dir("deep/", 0o700);
    let image = sandbox.image("x", &Image::new().layer(lower).layer(upper));
    sandbox.pod(["fetch", "-q", &image]).success();
    let said = sandbox.pod(["image", "fsck", "-q"]).success();
    assert_eq!(said, "checked 1 references, 4 blobs, 2 layers: 0 problems\n");

    let layers = sandbox.path("root/images/layers");
    let trees: Vec<PathBuf> = fs::read_dir(&layers)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").path().join("tree"))
        .collect();
    let at = |path: &str| {
        let found = trees.iter().map(|tree| tree.join(path)).find(|path| path.exists());
        found.unwrap_or_else(|| panic!("{path} is in a layer"))
    };
    let found = |words: &str| {
        let said = sandbox.pod(["image", "fsck", "-q"]);
        assert!(said.stdout.contains(words), "{words}: {said}");
        said.refuses(1, &["the store has 1 problems"]);
        sandbox.pod(["image", "fsck", "--quick"]).success();
    };
    let file = at("dir/file");
    let time = fs::metadata(&file).expect("it is there").modified().expect("it has one");
    let write = |content: &[u8]| {
        fs::write(&file, content).expect("it can be written");
        let opened = fs::File::options().write(true).open(&file).expect("it is there");
        opened.set_modified(time).expect("it is ours");
    };
    write(b"CONTENT");
    found("`dir/file` has other content");
    write(b"content");
    sandbox.pod(["image", "fsck", "-q"]).success();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("it is ours");
    found("`dir/file` has another mode");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    xattr::set(&file, "user.note", b"x").expect("it is ours");
    found("`dir/file` has other extended attributes");
    xattr::remove(&file, "user.note").expect("it is ours");

    let other = at("dir/other");
    let inside = other.parent().expect("it has one").join("inserted");
    let directory = fs::metadata(other.parent().expect("it has one")).expect("it is there");
    let directory = directory.modified().expect("it has one");
    let restore = || {
        let opened = fs::File::open(other.parent().expect("it has one")).expect("it is there");
        opened.set_modified(directory).expect("it is ours");
    };
    fs::write(&inside, "x").expect("it can be written");
    restore();
    found("`dir/inserted` is not of the layer");
    fs::rename(&inside, &other).expect("it is ours");
    restore();
    found("`dir/other` has");
    fs::remove_file(&other).expect("it is ours");
    restore();
    found("`dir/other` is missing");

    // The way out the error tells.
    sandbox.pod(["image", "rm", &image]).success();
    sandbox.pod(["image", "gc"]).success();
    sandbox.pod(["fetch", "-q", &image]).success();
    sandbox.pod(["image", "fsck", "-q"]).success();
}

#[test]
fn a_store_that_has_too_much_forgets_what_was_used_longest_ago() {
    let sandbox = sandbox!();
    let mut random = Random::fixed();
    let mut image = |name: &str| {
        let noise = (0..1 << 18).flat_map(|_| random.below(1 << 31).to_le_bytes()[..4].to_vec());
        let layer = Layer::new().file("noise", 0o644, &noise.collect::<Vec<u8>>());
        sandbox.image(name, &Image::new().layer(layer))
    };
    let images = ["one", "two", "three", "four"].map(&mut image);
    for image in &images {
        sandbox.pod(["fetch", "-q", image]).success();
    }
    // Each takes two megabytes: what it came as, and what it is.
    let [one, two, three, four] = &images;
    sandbox.pod(["prepare", "-q", "--name", "keeps", one, "true"]).success();
    sandbox.pod(["fetch", "-q", two]).success();
    let listed = |expected: &[&String]| {
        let said = sandbox.pod(["image", "ls"]).raw;
        for image in &images {
            assert_eq!(said.contains(image.as_str()), expected.contains(&image), "{image}: {said}");
        }
    };
    let gc = |size: &str| sandbox.pod(["image", "gc", "--max-size", size]).success();
    assert!(gc("10m").starts_with("freed 0 B"), "there is room for all");
    let said = sandbox.pod(["image", "gc", "--max-size", "7m", "--dry-run"]).success();
    assert!(said.starts_with("would forget oci:[SANDBOX]/layout:three\nwould free 2."), "{said}");
    listed(&[one, two, three, four]);
    let said = gc("7m");
    assert!(said.starts_with("forgot oci:[SANDBOX]/layout:three\nfreed 2."), "{said}");
    listed(&[one, two, four]);
    let said = gc("1");
    assert!(said.contains(":two\n"), "{said}");
    assert!(said.contains(":four\n"), "{said}");
    listed(&[one]);
    sandbox.pod(["image", "gc", "--max-size", "much"]).refuses(2, &["`--max-size much`", "20g"]);
    sandbox.pod(["rm", "keeps"]).success();
    assert!(gc("1").starts_with("forgot oci:[SANDBOX]/layout:one\n"), "no pod needs it any more");
    listed(&[]);
    content(&sandbox);
}
