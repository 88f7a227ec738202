//! `docs/conformance.md` tells no tales: no row is missing and every test it names exists. And the
//! tests it names that belong nowhere else.

use std::collections::BTreeSet;
use std::fs;

use pod_abi::phase::Phase;
use serde_json::Value;
use tests::fixtures::Fixture;
use tests::named;
use tests::require;
use tests::sandbox::Sandbox;

/// The document, and its tables: cells of each row beneath each heading.
fn document() -> (String, Vec<Vec<Vec<String>>>) {
    let text =
        fs::read_to_string(named::top().join("docs/conformance.md")).expect("it can be read");
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let table = |section: &str| {
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(cells).collect()
    };
    let tables = text.split("\n## ").skip(1).map(table).collect();
    (text, tables)
}

#[test]
fn every_row_of_both_lists_is_answered() {
    let (_, tables) = document();
    let sizes: Vec<usize> = tables.iter().map(Vec::len).collect();
    assert_eq!(sizes, [81, 58], "rkt has 81 test files, the runtime-tools 58 programs");
    for table in &tables {
        for (number, row) in (1..).zip(table) {
            assert_eq!((row.len(), row[0].as_str()), (4, number.to_string().as_str()), "{row:?}");
            let answer = row[3].as_str();
            let told = ["Later: ", "Dropped: ", "later: "].iter().any(|word| answer.contains(word));
            assert!(
                told || !named::tests_in(answer).is_empty(),
                "row {number} has no answer: {answer}"
            );
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let (text, _) = document();
    let all: BTreeSet<_> = named::tests_in(&text).into_iter().collect();
    assert!(all.len() > 60, "{} tests are named", all.len());
    let missing = named::missing(&text);
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn an_app_sees_its_own_limits_and_cannot_change_them() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let report = sandbox.report(&[]);
    assert_eq!(report.cgroup.lines().last(), Some("0::/"), "the app's own is its root");
    let mount = report.mount("/sys/fs/cgroup").expect("it is mounted");
    assert!(mount.kind == "cgroup2" && mount.has("ro"), "{mount:?}");
    let script = "for f in cgroup.procs cgroup.freeze cgroup.max.depth; do \
                  echo 1 2>/dev/null >/sys/fs/cgroup/$f && echo wrote $f; done; echo done";
    assert_eq!(sandbox.run_app(&["--userns", "host"], &["sh", "-c", script]).success(), "done\n");
}

#[test]
fn a_pod_with_a_broken_record_is_named_and_harms_no_other() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let prepare = |name: &str| {
        let said = sandbox.pod(["prepare", "--name", name, &image, "true"]);
        let id = said.raw.trim().to_owned();
        said.success();
        id
    };
    let (broken, sound) = (prepare("broken"), prepare("sound"));
    let manifest = sandbox.path("root/pods/prepared").join(&broken).join("pod.json");
    fs::write(manifest, "{").expect("the store is ours");
    sandbox.pod(["inspect", &broken]).refuses(1, &["pod.json", "pod rm"]);
    assert!(sandbox.pod(["ps", "-a", "-q"]).raw.contains(&sound));
    sandbox.pod(["start", "sound"]).success();
    sandbox.pod(["rm", &broken]).success();
}

#[test]
fn a_prepared_pod_runs_although_its_image_was_forgotten() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "kept", &image, "echo", "still here"]).success();
    sandbox.pod(["image", "rm", &image]).success();
    sandbox.pod(["image", "gc"]).success();
    let listed: Value = sandbox.pod(["ps", "-a", "-o", "json"]).json();
    assert!(listed.to_string().contains("kept"), "{listed}");
    assert_eq!(sandbox.pod(["start", "kept"]).success(), "still here\n");
    sandbox.pod(["fetch", &image]).success();
}

#[test]
fn a_prepared_pod_says_so() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let proof = sandbox.path("proof");
    let mount = format!("{}:/proof", proof.display());
    fs::create_dir(&proof).expect("the sandbox is ours");
    let args = ["prepare", "--userns", "host", "--name", "waiting", "-v", &mount, &image];
    sandbox.call().args(args).args(["touch", "/proof/ran"]).run().success();
    let phase =
        |name: &str| sandbox.pod(["status", "-o", "json", name]).json::<Value>()["phase"].clone();
    assert_eq!(phase("waiting"), Phase::Prepared.as_str());
    assert!(!proof.join("ran").exists(), "nothing runs before it is started");
    sandbox.pod(["start", "waiting"]).success();
    assert_eq!(phase("waiting"), Phase::Exited.as_str());
    assert!(proof.join("ran").exists());
}

#[test]
fn a_pod_is_called_as_asked_inside_and_outside() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.report(&["--name", "shop"]).hostname, "shop");
    let report = sandbox.report(&["--name", "shop", "--hostname", "till"]);
    assert_eq!((report.hostname.as_str(), report.variable("HOSTNAME")), ("till", Some("till")));
}

#[test]
fn whoever_enters_an_app_has_its_environment() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let flags = ["-e", "A=1", "-e", "B=two words", &image];
    let pod = sandbox.detached("home", flags.into_iter().chain(["/probe", "wait"]));
    let entered: probe::Report = pod.exec(&[], &["/probe", "report"]).json();
    let started = sandbox.report(&[
        "--name",
        "other",
        "--hostname",
        "home",
        "-e",
        "A=1",
        "-e",
        "B=two words",
    ]);
    assert_eq!(entered.environment, started.environment);
    assert_eq!(entered.variable("B"), Some("two words"));
}

#[test]
fn a_program_is_found_by_path_or_by_name_and_may_have_blanks() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    for program in ["/bin/echo", "echo", "../bin/echo"] {
        let said = sandbox.run_app(&["--workdir", "/tmp"], &[program, "found"]);
        assert_eq!(said.success(), "found\n", "{program}");
    }
    let script = "mkdir '/tmp/a b' && cp /bin/busybox '/tmp/a b/echo it' && ln -s 'echo it' '/tmp/a b/echo' \
                  && exec '/tmp/a b/echo' 'two  blanks'";
    assert_eq!(sandbox.run_app(&[], &["sh", "-c", script]).success(), "two  blanks\n");
    let entry = sandbox.run_app(&["--entrypoint", "/bin/echo"], &["from", "the flag"]);
    assert_eq!(entry.success(), "from the flag\n");
}

#[test]
fn what_a_process_may_is_what_was_asked_for() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let plain = sandbox.report(&[]);
    assert_eq!((plain.status("NoNewPrivs"), plain.oom_score_adj.as_str()), ("0", "0"));
    let flags = ["--security-opt", "no-new-privileges", "--oom-score-adj", "500", "--umask", "027"];
    let asked = sandbox.report(&flags);
    assert_eq!((asked.status("NoNewPrivs"), asked.oom_score_adj.as_str()), ("1", "500"));
    assert_eq!(asked.status("Umask"), "0027");
}

#[test]
fn nothing_is_entered_that_does_not_run() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["run", "--name", "over", &image, "true"]).success();
    let before = sandbox.pod(["inspect", "over"]).success();
    sandbox.pod(["exec", "over", "true"]).refuses(125, &["over"]);
    sandbox.pod(["stop", "over"]).success();
    assert_eq!(sandbox.pod(["inspect", "over"]).success(), before, "and nothing has changed");
}

#[test]
fn an_empty_word_is_no_pod() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "only", &image, "true"]).success();
    for verb in ["rm", "status", "stop", "start"] {
        let said = sandbox.pod([verb, ""]);
        assert_ne!(said.code, 0, "`pod {verb} ''` said:\n{said}");
    }
    sandbox.pod(["rm", "only"]).success();
}
