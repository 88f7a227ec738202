//! What there is: `pod ps` with its filters and templates, and `pod volume`.

use std::os::unix::fs::symlink;

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

#[test]
fn pods_are_listed_as_asked() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "waiting", "-l", "tier=1", &image, "true"]).success();
    sandbox.pod(["run", "--name", "failed", &image, "-l", "tier=2", "sh", "-c", "exit 3"]).exits(3);
    let alive =
        sandbox.detached("alive", ["-l", "tier=2", &image, "--name", "web", "/probe", "wait"]);
    let names = |args: &[&str]| {
        let call = sandbox.call().args(["ps", "--format", "{{.Name}}"]).args(args);
        call.run().success().lines().collect::<Vec<_>>().join(" ")
    };
    let table: [(&[&str], &str); 16] = [
        (&[], "alive"),
        (&["-a"], "alive failed waiting"),
        (&["-n", "2"], "alive failed"),
        (&["-l"], "alive"),
        (&["--filter", "status=exited"], "failed"),
        (&["--filter", "status=created"], "waiting"),
        (&["--filter", "exited=3"], "failed"),
        (&["--filter", "exited=0"], ""),
        (&["-a", "-f", "label=tier=2"], "alive failed"),
        (&["-a", "-f", "label=tier", "-f", "label=tier=1"], "waiting"),
        (&["-a", "-f", "name=i", "-f", "status=running", "-f", "status=prepared"], "alive waiting"),
        (&["-a", "-f", "app=web"], "alive"),
        (&["-a", "-f", "stage1=kvm"], ""),
        (&["-a", "-f", &format!("image={image}")], "alive failed waiting"),
        (&["-a", "-f", "image=nosuch"], ""),
        (&["-n", "1", "-f", "name=wait"], "waiting"),
    ];
    for (args, expected) in table {
        assert_eq!(names(args), expected, "{args:?}");
    }
    let ids = sandbox.pod(["ps", "-q"]).raw;
    let id = ids.trim_end();
    let shown = sandbox.pod(["ps", "--no-trunc", "--format", "{{.ID}} {{json .Apps}} {{.Labels}}"]);
    assert_eq!(shown.raw, format!("{id} \"web\" tier=2\n"));
    let whole = sandbox.pod(["ps", "--format", "{{json .}}"]).json::<Value>();
    assert_eq!((whole["uuid"].as_str(), whole["labels"]["tier"].as_str()), (Some(id), Some("2")));
    insta::assert_snapshot!(
        sandbox.pod(["ps", "-a", "--format", "table {{.Name}}\\t{{.Phase}}\\t{{.Code}}"]),
        @"
    --- stdout ---
    NAME     PHASE     CODE
    alive    running   -
    failed   exited    3
    waiting  prepared  -
    --- exit 0 ---
    "
    );
    insta::assert_snapshot!(sandbox.pod(["ps", "--format", "{{.Size}}"]), @"
    --- stderr ---
    error: `{{.Size}}` is no field of a row
    hint: `--format` takes {{.ID}}, {{.Name}}, {{.Phase}}, {{.Status}}, {{.Address}}, {{.Apps}}, {{.Images}}, {{.Created}}, {{.CreatedAt}}, {{.Code}}, {{.Ports}}, {{.Labels}}, {{.Insecure}} and {{json .}}
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["ps", "--filter", "colour=red"]), @"
    --- stderr ---
    error: `colour` is no key of a filter
    hint: `--filter` takes `id=…`, `name=…`, `status=…`, `phase=…`, `label=…`, `app=…`, `image=…`, `ancestor=…`, `exited=…`, `stage1=…`
    --- exit 2 ---
    ");
    drop(alive);
    sandbox.pod(["rm", "waiting"]).success();
}

#[test]
fn named_volumes_are_made_listed_and_removed() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let root = sandbox.path("root/volumes");
    insta::assert_snapshot!(sandbox.pod(["volume", "ls"]), @"
    --- stdout ---
    NAME  PODS  PATH
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "create", "data", "spare"]), @"
    --- stdout ---
    data
    spare
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "create", "data"]), @"
    --- stderr ---
    error: there is a volume `data` already
    hint: `--ignore` makes only those that are not there
    --- exit 1 ---
    ");
    sandbox.pod(["volume", "create", "--ignore", "data"]).success();
    sandbox.pod(["volume", "create", "../x"]).refuses(2, &["`../x`"]);
    let write = "echo kept >/d/file; mkdir -p /d/a/b";
    sandbox.pod(["run", "--name", "user", "-v", "data:/d", &image, "sh", "-c", write]).success();
    insta::assert_snapshot!(sandbox.pod(["volume", "ls"]), @"
    --- stdout ---
    NAME   PODS  PATH
    data   user  [SANDBOX]/root/volumes/data
    spare  -     [SANDBOX]/root/volumes/spare
    --- exit 0 ---
    ");
    let shown: Value = sandbox.pod(["volume", "inspect", "data"]).json();
    assert_eq!(shown["path"].as_str(), root.join("data").to_str());
    assert_eq!(shown["users"][0]["name"], "user");
    insta::assert_snapshot!(sandbox.pod(["volume", "rm", "data"]), @"
    --- stderr ---
    error: volume `data` is mounted by pod `user`, which is exited
    hint: `pod rm [UUID]` removes the pod
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "rm", "nosuch"]), @"
    --- stderr ---
    error: there is no volume `nosuch`
    hint: `pod volume ls` lists all volumes
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "prune", "--dry-run"]), @"
    --- stdout ---
    spare
    --- exit 0 ---
    ");
    sandbox.pod(["volume", "prune"]).success();
    assert_eq!(sandbox.pod(["volume", "ls", "-q"]).success(), "data\n");
    assert_eq!(sandbox.pod(["volume", "ls", "-q", "--json"]).json::<Vec<String>>(), ["data"]);
    assert_eq!(sandbox.pod(["ps", "-aq", "--json"]).json::<Vec<String>>().len(), 1);
    sandbox.pod(["rm", "user"]).success();
    assert!(root.join("data/a/b").is_dir(), "a volume outlives its pods");
    insta::assert_snapshot!(sandbox.pod(["volume", "rm", "data"]), @"
    --- stdout ---
    data
    --- exit 0 ---
    ");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    assert_eq!(sandbox.pod(["volume", "ls", "-o", "json"]).json::<Vec<Value>>(), [] as [Value; 0]);
}

#[test]
fn a_volume_is_never_removed_between_being_found_and_being_mounted() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    for _ in 0..8 {
        let write = ["run", "--rm", "-v", "data:/d", &image, "sh", "-c", "echo kept >/d/file"];
        let run = sandbox.call().args(write).start();
        let prunes = [(); 3].map(|()| sandbox.call().args(["volume", "prune"]).start());
        run.wait().success();
        for prune in prunes {
            prune.wait().success();
        }
    }
    sandbox.pod(["volume", "prune"]).success();
}

#[test]
fn a_volume_is_in_use_by_whatever_path_the_root_is_reached() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "user", "-v", "data:/d", &image]).success();
    let link = sandbox.path("link");
    symlink(sandbox.path("root"), &link).unwrap();
    let link = link.to_str().unwrap();
    sandbox.pod(["--root", link, "volume", "rm", "data"]).refuses(1, &["mounted by pod `user`"]);
    assert_eq!(sandbox.pod(["--root", link, "volume", "prune"]).success(), "");
    assert!(sandbox.path("root/volumes/data").is_dir());
    sandbox.pod(["rm", "user"]).success();
}

#[test]
fn what_a_killed_removal_has_left_goes_with_gc() {
    let sandbox = sandbox!();
    let left = sandbox.path("root/volumes/.removed-7");
    std::fs::create_dir_all(left.join("a/b")).unwrap();
    assert_eq!(sandbox.pod(["volume", "ls", "-q"]).success(), "");
    sandbox.pod(["gc"]).success();
    assert!(!left.exists());
}
