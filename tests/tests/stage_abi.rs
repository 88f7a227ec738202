//! A stage1 of somebody else's: a shell script that knows nothing but `docs/stage-abi.md`.
//!
//! If it works, the ABI is what is written down, and not what two programs of ours happen to agree
//! on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pod_abi::stage::Order;
use serde_json::json;
use tests::fixtures::Fixture;
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
[ -f pod.json ] && [ -f /proc/self/fd/3/pod.json ] && [ -d /proc/self/fd/7 ] || exit 98
id=$(sed -n 's/.*"uuid":"\([^"]*\)".*/\1/p' pod.json)
[ -n "$id" ] || id=$(sed -n 's/.*"uuid": "\([^"]*\)".*/\1/p' pod.json)
exec /proc/self/fd/5 reap --inherited --show-error --code=3 "$id"
"#;

fn stub(sandbox: &Sandbox, oldest: u32, newest: u32) -> PathBuf {
    let directory = sandbox.path(&format!("stage1-{oldest}"));
    fs::create_dir(&directory).expect("the sandbox can be written");
    let manifest = json!({
        "name": "stub",
        "abi": { "oldest": oldest, "newest": newest },
        "entrypoints": { "run": "stub" },
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
    let directory = stub(&sandbox, 1, 4);
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
        "abi": { "oldest": 4, "newest": 4 },
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
