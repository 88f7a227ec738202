//! Images that are given to a real registry, and what skopeo and a pod find there.

use std::fs;

use serde_json::{Value, json};
use tests::fixtures::{self, Fixture};
use tests::image::{Image, Layer};
use tests::require;
use tests::said::Said;
use tests::sandbox::Sandbox;

/// `me` with the password `let-me-in`.
const USERS: &str = "me:$2y$05$abcdefghijklmnopqrstuu3Jd./u/rH1RxB6auX5v7gLP6uWhKCgG\n";

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces")
            || !require::program("docker-registry", "a real registry")
        {
            return;
        }
        Sandbox::new()
    }};
}

/// Returns the digest a successful command has printed.
fn digest(said: Said) -> String {
    let raw = said.raw.clone();
    said.success();
    raw.trim().to_owned()
}

/// An image in two layers whose app ends with `code`.
fn image(sandbox: &Sandbox, code: &str) -> Image {
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    Image::new()
        .layer(Layer::new().file("probe", 0o755, &probe))
        .layer(Layer::new().file("mark", 0o644, code.as_bytes()))
        .set("Cmd", json!(["/probe", "exit", code]))
}

#[test]
fn an_image_is_pushed_to_where_registries_conf_says_it_is() {
    let sandbox = sandbox!();
    let registry = sandbox.registry();
    let host = registry.address();
    let layout = sandbox.image("x", &image(&sandbox, "24"));
    sandbox.pod(["fetch", "-q", &layout]).success();
    let text = format!(
        "[[registry]]\nprefix = \"r.example/team\"\nlocation = \"{host}/moved\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/nobody\"\n\
         [[registry]]\nlocation = \"bad.example\"\nblocked = true\n"
    );
    fs::write(sandbox.path("registries.conf"), text).expect("the sandbox can be written");
    sandbox.pod(["image", "push", "-q", &layout, "r.example/team/app:1"]).success();
    sandbox.pod(["run", "--rm", &format!("{host}/moved/app:1")]).exits(24);
    let blocked = ["`bad.example/app` is blocked", "registries.conf"];
    sandbox.pod(["image", "push", "-q", &layout, "bad.example/app:1"]).refuses(1, &blocked);
    if require::program("openssl", "a key to sign with") {
        let key = sandbox.path("key").display().to_string();
        let words = ["genpkey", "-algorithm", "ED25519", "-out", &key];
        sandbox.program("openssl").args(words).run().success();
        let sign = |name: &str| sandbox.pod(["image", "sign", "--key", &key, &layout, name]);
        sign("r.example/team/app:1").success();
        sign("bad.example/app:1").refuses(1, &blocked);
    }
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back_as_itself() {
    let sandbox = sandbox!();
    let registry = sandbox.registry();
    let host = registry.address();
    let layout = sandbox.image("x", &image(&sandbox, "23"));
    let came = digest(sandbox.pod(["fetch", "-q", &layout]));
    let one = format!("{host}/team/app:1");
    let said = sandbox.pod(["image", "push", &layout, &one]);
    assert!(said.stderr.contains(&format!("sending {one}\n")), "{said}");
    assert_eq!(said.stderr.matches(": sent, ").count(), 3, "{said}");
    assert_eq!(digest(said), came, "the digest stays");

    // Again: nothing goes. Under another name there: the registry takes its own.
    let said = sandbox.pod(["image", "push", &layout, &one]);
    assert_eq!(said.stderr.matches(": already there").count(), 3, "{said}");
    sandbox.pod(["image", "tag", &layout, &one]).success();
    let other = format!("{host}/team/other");
    let said = sandbox.pod(["image", "push", &one, &other]);
    assert_eq!(said.stderr.matches(": already there").count(), 3, "{said}");
    assert_eq!(digest(said), came);

    // What it is by another tool's word, and for a pod without anything of it.
    if require::program("skopeo", "a registry's content by another tool's word") {
        let args = ["inspect", "--tls-verify=false", &format!("docker://{other}:latest")];
        let there: Value = sandbox.program("skopeo").args(args).run().json();
        assert_eq!(there["Digest"], came, "{there}");
        assert_eq!(there["Layers"].as_array().map(Vec::len), Some(2), "{there}");
    }
    for name in [&layout, &one] {
        sandbox.pod(["image", "rm", name]).success();
    }
    sandbox.pod(["image", "gc", "--grace", "0s"]).success();
    sandbox.pod(["run", "--rm", "-q", &other]).exits(23);
    sandbox.pod(["run", "--rm", "-q", &format!("{one}@{came}")]).exits(23);
}

#[test]
fn what_cannot_be_pushed_is_told_and_the_tag_stays() {
    let sandbox = sandbox!();
    let registry = sandbox.guarded_registry(USERS);
    let host = registry.address();
    let layout = fixtures::layout(sandbox.programs(), Fixture::Scratch).expect("it is there");
    let layout = format!("oci:{}:scratch", layout.display());
    let auth = sandbox.path("auth.json").display().to_string();
    let pod = |args: &[&str]| sandbox.call().args(args).env("REGISTRY_AUTH_FILE", &auth).run();
    let (app, push) = (format!("{host}/team/app:1"), ["image", "push", "-q"]);
    let push = |args: &[&str]| pod(&[&push[..], args].concat());

    push(&[&layout, &app]).refuses(1, &["not in the store", "pod fetch oci:"]);
    pod(&["fetch", "-q", &layout]).success();
    push(&[&layout]).refuses(2, &["is no tag of a registry", "pod image export"]);
    push(&[&layout, &format!("{app}@sha256:{}", "0".repeat(64))]).refuses(2, &["is no tag"]);
    push(&[&layout, "oci:/tmp/x"]).refuses(2, &["is no tag of a registry"]);
    push(&[&layout, &app]).refuses(1, &["cannot push", &format!("pod login {host}")]);
    push(&[&layout, "127.0.0.1:1/x:1"]).refuses(1, &["cannot push", "127.0.0.1:1"]);

    pod(&["login", "-u", "me", "-p", "let-me-in", &host]).success();
    let first = digest(push(&[&layout, &app]));
    let second = sandbox.image("x", &image(&sandbox, "9"));
    let came = digest(pod(&["fetch", "-q", &second]));
    assert_ne!(first, came);
    let said = pod(&["--json", "image", "push", "-q", &second, &app]);
    let said: Value = said.json();
    assert_eq!(said, json!({"reference": app, "manifest": came}));
    assert_eq!(digest(pod(&["fetch", "-q", &app])), came, "the tag has moved");
}
