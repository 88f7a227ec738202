//! `pod commit`: what an app has changed, as an image that runs here and that others read.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use tests::fixtures::Fixture;
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

/// Changes of every kind: new, replaced, gone, a directory in the place of another, somebody's own.
const CHANGES: &str = "echo new > /new; mkdir -p /kept/deep; echo deep > /kept/deep/file; rm /bin/wc; \
                       rm -r /etc; mkdir /etc; echo alone > /etc/alone; ln -s /new /link; \
                       chown 1000:2000 /new; chmod 4711 /new; ln /new /twin; echo up";
/// What tells that they are there, and nothing else is.
const FOUND: &str = "cat /new /kept/deep/file /etc/alone /link; ls /etc; ls /bin/wc 2>/dev/null; \
                     stat -c '%u:%g %a %h' /new";
const EXPECTED: &str =
    "new\ndeep\nalone\nnew\nalone\nhostname\nhosts\nmtab\nresolv.conf\n1000:2000 4711 2\n";

fn layers(sandbox: &Sandbox, image: &str) -> Vec<String> {
    let details: Value = sandbox.pod(["image", "inspect", image]).json();
    let layers = details["layers"].as_array().expect("an image has layers");
    layers.iter().map(|layer| layer.as_str().expect("a digest").to_owned()).collect()
}

#[test]
fn what_an_app_has_changed_is_an_image_of_its_own() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let walls = [["--userns", "host"], ["--userns", "auto"], ["--stage1", "fly"]];
    for (wall, name) in walls.into_iter().zip(["one", "two", "three"]) {
        let script = format!("{CHANGES}; exec sleep 1000");
        let app = [image.as_str(), "sh", "-c", script.as_str()];
        let words = [&wall[..], &app].concat();
        let pod = sandbox.detached(name, words);
        sandbox.call().args(["logs", "-f", name]).start().wait_for("up");
        let made = format!("{name}:1");
        let change = format!("CMD {}", serde_json::json!(["sh", "-c", FOUND]));
        let flags =
            ["commit", "-q", "-p", "-m", "why", "-a", "somebody", "-c", &change, name, &made];
        let said = sandbox.pod(flags).success();
        assert!(said.ends_with(&format!("/{made}\n")), "{said}");
        assert_eq!(pod.exec(&[], &["cat", "/new"]).success(), "new\n", "it goes on");
        pod.stop(&[]).success();
        assert_eq!(sandbox.pod(["run", "--rm", "-q", &made]).success(), EXPECTED, "{wall:?}");

        let details: Value = sandbox.pod(["image", "inspect", &made]).json();
        let history = details["configDocument"]["history"].as_array().expect("it has one");
        let last = history.last().expect("it has an event");
        assert_eq!((&last["comment"], &last["author"]), (&"why".into(), &"somebody".into()));
        let below = layers(&sandbox, &image);
        assert_eq!(layers(&sandbox, &made)[..below.len()], below);
        assert_eq!(layers(&sandbox, &made).len(), below.len() + 1);

        // A pod that has ended has the same changes, and the same changes are the same layer.
        let again = format!("{name}:2");
        sandbox.pod(["commit", "-q", name, &again]).success();
        assert_eq!(layers(&sandbox, &again), layers(&sandbox, &made));
        sandbox.pod(["rm", name]).success();
    }
    sandbox.pod(["image", "fsck", "-q"]).success();
}

#[test]
fn others_read_what_was_committed() {
    let sandbox = sandbox!();
    if !require::program("umoci", "it unpacks what was committed") {
        return;
    }
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["run", "-q", "--name", "one", &image, "sh", "-c", CHANGES]).success();
    sandbox.pod(["commit", "-q", "one", "made:1"]).success();
    let archive = sandbox.path("made.tar").display().to_string();
    sandbox.pod(["image", "export", "made:1", &archive]).success();
    let script = "cd \"$1\"; mkdir l; tar -C l -xf made.tar; umoci unpack --image l:1 theirs";
    let at = sandbox.path("").display().to_string();
    sandbox.program("sh").args(["-euc", script, "sh", &at]).run().success();
    let theirs = sandbox.path("theirs/rootfs");
    assert_eq!(fs::read_to_string(theirs.join("etc/alone")).expect("it is there"), "alone\n");
    assert!(!theirs.join("bin/wc").exists(), "what was removed is gone");
    assert!(!theirs.join("etc/passwd").exists(), "a directory took the place of another");
    let new = fs::metadata(theirs.join("new")).expect("it is there");
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o7777, new.nlink()), (1000, 2000, 0o4711, 2));
}

#[test]
fn what_cannot_be_committed_is_refused_and_makes_nothing() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox
        .pod([
            "prepare", "-q", "--name", "two", &image, "--name", "a", "true", "---", &image,
            "--name", "b", "true",
        ])
        .success();
    let commit = |words: &[&str]| sandbox.pod([&["commit"], words].concat());
    commit(&["two", "made:1"]).refuses(2, &["several apps", "POD/APP"]);
    commit(&["two/c", "made:1"]).refuses(1, &["`c`"]);
    commit(&["two/a", "oci:/x:1"]).refuses(2, &["no name an image can be given"]);
    commit(&["-c", "RUN x", "two/a", "made:1"]).refuses(2, &["RUN x"]);
    // What begins so is gone, in a layer.
    let script = "echo x > /.wh.x";
    sandbox.pod(["run", "-q", "--name", "marked", &image, "sh", "-c", script]).success();
    commit(&["marked", "made:1"]).refuses(1, &["`/.wh.x`"]);
    sandbox.pod(["image", "inspect", "made:1"]).refuses(1, &["made:1"]);
    // Nothing was changed: a layer of nothing but the root.
    commit(&["-q", "two/b", "made:1"]).success();
    assert_eq!(layers(&sandbox, "made:1").len(), layers(&sandbox, &image).len() + 1);
    sandbox.pod(["rm", "two"]).success();
}
