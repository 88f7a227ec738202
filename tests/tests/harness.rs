//! The harness itself: a check that finds nothing is worth something only if it would find.

use nix::sys::signal::Signal;
use tests::fixtures::{self, Fixture};
use tests::require;
use tests::sandbox::Sandbox;

#[test]
fn a_sandbox_has_nothing_but_a_loopback_interface() {
    if !require::root("a sandbox makes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let said = sandbox.program("busybox").args(["ip", "-o", "link"]).run().success();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("LOOPBACK,UP"), "{said}");
}

#[test]
fn a_sandbox_passes_no_environment_on() {
    if !require::root("a sandbox makes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let said = sandbox.program("env").run().success();
    let mut names: Vec<&str> =
        said.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["CONTAINERS_REGISTRIES_CONF", "PATH", "POD_ROOT", "POD_RUN_ROOT", "TMPDIR"]);
}

#[test]
fn what_is_left_behind_is_found() {
    if !require::root("a sandbox makes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    assert!(sandbox.leaks().is_empty());

    let left = sandbox.program("sleep").args(["1000"]).start();
    let path = sandbox.path("tmp").join("file");
    std::fs::write(&path, "").unwrap();
    let mounted = sandbox.program("mount").args(["-t", "tmpfs", "none", "/mnt"]).run();
    mounted.success();

    let leaks = sandbox.leaks().join("\n");
    for word in ["sleep 1000", " /mnt ", "temporary file"] {
        assert!(leaks.contains(word), "{word:?} is not in:\n{leaks}");
    }

    left.signal(Signal::SIGKILL);
    assert_eq!(left.wait().code, 137);
    std::fs::remove_file(path).unwrap();
    sandbox.program("umount").args(["/mnt"]).run().success();
}

#[test]
fn a_command_that_hangs_is_ended_and_shown() {
    if !require::root("a sandbox makes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    let call = sandbox.program("sh").args(["-c", "echo before; exec sleep 1000"]);
    let running = call.patience(std::time::Duration::from_millis(300)).start();
    running.wait_for("before");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.wait()));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("did not end in time") && message.contains("before"), "{message}");
}

#[test]
fn another_tool_reads_what_we_write_and_a_registry_serves_it() {
    if !require::root("a sandbox makes namespaces")
        || !require::program("docker-registry", "a real registry")
        || !require::program("skopeo", "another reader of images")
    {
        return;
    }
    let sandbox = Sandbox::new();
    let layout = fixtures::layout(sandbox.programs(), Fixture::App).unwrap();
    let registry = sandbox.registry();
    let reference = registry.push(&layout, "app", "team/app:1").unwrap();
    let said = sandbox
        .program("skopeo")
        .args(["inspect", "--tls-verify=false", "--config", &format!("docker://{reference}")])
        .run();
    let config: serde_json::Value = said.json();
    assert_eq!(config["config"]["Cmd"][0], "sh");
}

#[test]
fn a_path_that_leads_out_of_the_sandbox_is_none() {
    if !require::root("a sandbox makes namespaces") {
        return;
    }
    let sandbox = Sandbox::new();
    for name in ["/etc/passwd", "../other", "tmp/../../other"] {
        let path = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sandbox.path(name)));
        assert!(path.is_err(), "{name}");
    }
    assert!(sandbox.path("tmp/file").starts_with(sandbox.path("")));
}
