//! Many pods: twenty at one moment, fifty in sequence. All run, none leaks.

use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::Sandbox;

#[test]
fn twenty_pods_start_at_one_moment() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    let runs: Vec<_> = (0..20)
        .map(|number| {
            let word = format!("pod {number}");
            (sandbox.call().args(["run", "--rm", &image, "echo", &word]).start(), word)
        })
        .collect();
    for (run, word) in runs {
        assert_eq!(run.wait().success().trim(), word);
    }
}

#[test]
fn twenty_pods_live_beside_each_other() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["fetch", &image]).success();
    let starts: Vec<_> = (0..20)
        .map(|number| {
            let name = format!("pod-{number}");
            let args = ["run", "-d", "--name", &name, &image, "/probe", "wait"];
            (sandbox.call().args(args).start(), name)
        })
        .collect();
    let names: Vec<String> = starts
        .into_iter()
        .map(|(start, name)| {
            start.wait().success();
            name
        })
        .collect();
    let listed = sandbox.pod(["ps", "-q"]).success();
    assert_eq!(listed.lines().count(), 20, "{listed}");
    sandbox.call().args(["stop", "-t", "2"]).args(&names).run().success();
    assert_eq!(sandbox.pod(["ps", "-q"]).success(), "");
}

#[test]
fn fifty_pods_run_one_after_another() {
    if !require::root("a pod takes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    for number in 0..50 {
        let word = number.to_string();
        assert_eq!(sandbox.run_app(&[], &["echo", &word]).success().trim(), word);
    }
}
