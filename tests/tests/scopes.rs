//! As what a policy sees what comes in: files under the names they give themselves, directories
//! behind links, names with a digest.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("images are unpacked with the owners they name") {
            return;
        }
        Sandbox::new()
    }};
}

fn text(sandbox: &Sandbox, name: &str) -> String {
    sandbox.path(name).to_str().expect("it is plain").to_owned()
}

/// Writes a policy and returns its path.
fn policy(sandbox: &Sandbox, name: &str, default: &str, transports: &Value) -> String {
    let path = text(sandbox, name);
    let policy = json!({"default": [{"type": default}], "transports": transports});
    fs::write(&path, policy.to_string()).expect("the sandbox can be written");
    path
}

#[test]
fn a_file_comes_in_only_as_what_the_policy_lets_in() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    let named = "registry.example.org/team/app:v1";
    sandbox.pod(["image", "tag", &image, named]).success();
    let archive = text(&sandbox, "app.tar");
    sandbox.pod(["image", "export", "--format", "docker-archive", named, &archive]).success();
    sandbox.pod(["image", "rm", named]).success();
    let root = text(&sandbox, "root.tar");
    let made = sandbox.program("tar").args(["-cf", &root, "-C", "/etc", "hostname"]).run();
    let _ = made.success();

    let signed = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/none"}]);
    let transports = json!({"docker": {"registry.example.org/team": signed}});
    let of_team = policy(&sandbox, "team.json", "insecureAcceptAnything", &transports);
    let rejects = policy(&sandbox, "rejects.json", "reject", &json!({}));
    let import = |policy: &str, words: &[&str]| {
        sandbox.pod([&["image", "import", "-q", "--signature-policy", policy], words].concat())
    };
    for file in [&archive, &root] {
        import(&rejects, &[file]).refuses(1, &["rejects.json", "rejected"]);
    }
    // It may come in, and not under a name whose images are to be signed.
    import(&of_team, &[&archive]).refuses(1, &["team.json", "registry.example.org/team", "NAME"]);
    import(&of_team, &[&root]).success();
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(!listed.contains("registry.example.org"), "{listed}");
    import(&of_team, &[&archive, "mine"]).success();
    let gives_up = ["image", "import", "-q", "--insecure-options", "image", &archive];
    sandbox.pod(gives_up).success();
    let listed = sandbox.pod(["image", "ls"]).success();
    assert!(listed.contains(named), "{listed}");
}

#[test]
fn a_directory_is_where_links_lead_and_not_where_they_lie() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    let layout = image.trim_start_matches("oci:").rsplit_once(':').expect("it has a tag").0;
    let place = sandbox.path("places");
    for name in ["trusted", "other"] {
        fs::create_dir_all(place.join(name)).expect("the sandbox can be written");
    }
    let other = place.join("other/box");
    sandbox.program("cp").args(["-a", layout]).args([&other]).run().success();
    symlink(&other, place.join("trusted/link")).expect("the sandbox can be written");
    let shown = place.display();
    let accepts =
        json!({"oci": {format!("{shown}/trusted"): [{"type": "insecureAcceptAnything"}]}});
    let accepts = policy(&sandbox, "accepts.json", "reject", &accepts);
    let rejects = json!({"oci": {format!("{shown}/other"): [{"type": "reject"}]}});
    let rejects = policy(&sandbox, "rejects.json", "insecureAcceptAnything", &rejects);
    for way in ["other/box", "trusted/link", "trusted/../other/box"] {
        let reference = format!("oci:{shown}/{way}:busybox");
        for policy in [&accepts, &rejects] {
            let said = sandbox.pod(["fetch", "-q", "--signature-policy", policy, &reference]);
            said.refuses(1, &["rejected"]);
            sandbox.pod(["trust", "test", "--signature-policy", policy, &reference]).exits(1);
        }
    }
    fs::rename(&other, place.join("trusted/box")).expect("the sandbox can be written");
    let reference = format!("oci:{shown}/other/../trusted/box:busybox");
    for policy in [&accepts, &rejects] {
        sandbox.pod(["fetch", "-q", "--signature-policy", policy, &reference]).success();
    }
}

#[test]
fn an_image_that_is_named_by_its_digest_is_judged_anew_like_any_other() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    let fetched: Value = sandbox.pod(["fetch", "--json", "-q", &image]).json();
    let digest = fetched[0]["manifest"].as_str().expect("it has a digest").to_owned();
    let layout = image.trim_start_matches("oci:").rsplit_once(':').expect("it has a tag").0;
    let reference = format!("oci:{layout}@{digest}");
    sandbox.pod(["fetch", "-q", &reference]).success();
    let rejects = policy(&sandbox, "rejects.json", "reject", &json!({}));
    let flags = ["-q", "--signature-policy", &rejects];
    let always = [&["fetch"], &flags[..], &[&reference]].concat();
    sandbox.pod(always).refuses(1, &["rejected"]);
    let missing = [&["run", "--rm", "--pull", "missing"], &flags[..], &[&reference, "true"]];
    sandbox.pod(missing.concat()).success();
}

#[test]
fn a_policy_that_speaks_of_no_image_is_refused() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    for (transport, scope) in [("dokcer", ""), ("docker", "Example.org/x"), ("oci", "/srv/x/")] {
        let policy = policy(&sandbox, "odd.json", "reject", &json!({transport: {scope: accept}}));
        let said = sandbox.pod(["fetch", "--signature-policy", &policy, &image]);
        said.refuses(1, &["odd.json", transport]);
    }
}
