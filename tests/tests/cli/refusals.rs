//! Wrong command lines, things that are not there, and what every command has in common.

use serde_json::Value;
use tests::fixtures::Fixture;

use crate::sandbox;

#[test]
fn the_version_names_the_stage_abi() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["version"]), @"
    --- stdout ---
    pod 0.1.0, stage ABI 5
    --- exit 0 ---
    ");
}

#[test]
fn with_nothing_to_list_there_is_only_the_heading() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["ps", "-a"]), @"
    --- stdout ---
    ID  NAME  STATUS  ADDRESS  APPS  IMAGES  CREATED
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["ps", "-a", "-o", "json"]), @"
    --- stdout ---
    []
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "ls"]), @"
    --- stdout ---
    REFERENCE  ID  PLATFORM  SIZE  PULLED
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["gc"]), @"--- exit 0 ---");
}

#[test]
fn a_pod_that_is_not_there_is_named_by_every_command() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["status", "nosuch"]), @"
    --- stderr ---
    error: there is no pod `nosuch`
    hint: `pod ps -a` lists all pods
    --- exit 1 ---
    ");
    for (args, code) in [
        (&["inspect", "nosuch"][..], 1),
        (&["logs", "nosuch"], 1),
        (&["stop", "nosuch"], 1),
        (&["rm", "nosuch"], 1),
        (&["exec", "nosuch", "true"], 125),
        (&["start", "nosuch"], 125),
    ] {
        sandbox.pod(args).refuses(code, &["there is no pod `nosuch`", "hint: "]);
    }
}

#[test]
fn a_name_that_is_nearly_right_is_suggested() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    sandbox.pod(["prepare", "--name", "webserver", &image]).success();
    insta::assert_snapshot!(sandbox.pod(["status", "webservre"]), @"
    --- stderr ---
    error: there is no pod `webservre`
    hint: did you mean `webserver`?
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--nmae", "x"]), @"
    --- stderr ---
    error: unexpected argument `--nmae` found
    hint: a similar argument exists: `--name`
    hint: `pod run --help` tells what it takes
    --- exit 125 ---
    ");
    sandbox.pod(["rm", "webserver"]).success();
}

#[test]
fn an_image_that_cannot_be_had_is_refused_with_the_way_out() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["run", "--pull", "never", "nosuch:1"]), @"
    --- stderr ---
    error: image `docker.io/library/nosuch:1` is not in the store
    hint: `pod image ls` lists what is in the store; `pod fetch docker.io/library/nosuch:1` fetches it
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "inspect", "nosuch:1"]), @"
    --- stderr ---
    error: image `docker.io/library/nosuch:1` is not in the store
    hint: `pod image ls` lists what is in the store; `pod fetch docker.io/library/nosuch:1` fetches it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["fetch", "127.0.0.1:9/x:1"]), @"
    --- stderr ---
    fetching 127.0.0.1:9/x:1
    error: cannot pull `127.0.0.1:9/x:1`
    caused by: cannot fetch the manifest
    caused by: manifest `x:1` of registry `127.0.0.1:9` cannot be reached
    caused by: Connection refused (os error 111)
    hint: is the name right, and the network up? the same command goes on where this one stopped
    --- exit 1 ---
    ");
}

#[test]
fn values_that_are_none_are_refused_before_anything_is_done() {
    let sandbox = sandbox!();
    // The first hint names the networks of this host, if it has any.
    let weird = sandbox.pod(["run", "--net", "weird", "x"]);
    weird.refuses(125, &["there is no network `weird`", "hint: `--net default` needs"]);
    insta::assert_snapshot!(sandbox.pod(["run", "-p", "80", "x"]), @"
    --- stderr ---
    error: `80` publishes no port
    hint: `--publish` takes [IP:]HOST:POD[/tcp|udp], such as `8080:80` or `[::1]:53:53/udp`
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", "--restart", "always", "x"]), @"
    --- stderr ---
    error: `--rm` and `--restart always` contradict each other
    hint: leave `--rm` away; `pod rm` and `pod gc` remove pods that have ended
    --- exit 125 ---
    ");
    for (flag, value) in [
        ("--userns", "x"),
        ("--pull", "sometimes"),
        ("--exit-policy", "x"),
        ("--journal", "json-file"),
        ("--restart", "sometimes"),
        ("--name", "UPPER"),
        ("--hostname", "a.b"),
        ("--env", "=x"),
        ("--volume", "/x:relative"),
        ("--volume", "x"),
        ("--mount", "type=bind,dst=/x"),
        ("--ulimit", "nofile"),
        ("--workdir", "relative"),
        ("--tmpfs", "relative"),
        ("--cap-add", "CAP_NOPE"),
        ("--platform", "linux"),
        ("--output", "yaml"),
        ("--label", "=x"),
    ] {
        let said = sandbox.pod(["run", flag, value, "x"]);
        let text = said.refuses(125, &[]);
        assert!(text.contains('`'), "{flag} {value}: {text}");
        assert!(!text.contains("fetching"), "{flag} {value}: {text}");
    }
}

#[test]
fn wrong_usage_of_other_commands_ends_with_two() {
    let sandbox = sandbox!();
    for args in [
        &["frob"][..],
        &["image", "frob"],
        &["logs"],
        &["fetch"],
        &["gc", "--grace", "x"],
        &["ps", "-o", "yaml"],
        &["stop", "-t", "soon", "x"],
    ] {
        sandbox.pod(args).refuses(2, &["hint: "]);
    }
}

#[test]
fn an_error_is_one_object_where_json_was_asked_for() {
    let sandbox = sandbox!();
    let said = sandbox.pod(["status", "-o", "json", "nosuch"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said}");
    let error: Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(error["error"]["code"], "pod.not-found");
    assert_eq!(error["error"]["message"], "there is no pod `nosuch`");
}

#[test]
fn without_root_there_is_one_clear_refusal() {
    let sandbox = sandbox!();
    // By descriptor, so that the other user need not be able to walk to the program.
    let pod = sandbox.programs().path("pod");
    let other = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let script = format!("exec 9<{}; exec {other} /proc/self/fd/9 \"$@\"", pod.display());
    let said = sandbox.program("sh").args(["-c", &script, "sh", "ps"]).run();
    insta::assert_snapshot!(said, @"
    --- stderr ---
    error: `pod ps` must be run by root
    hint: `sudo pod ps …`
    --- exit 1 ---
    ");
    let said = sandbox.program("sh").args(["-c", &script, "sh", "version"]).run();
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn help_needs_nothing_and_fits_a_screen() {
    let sandbox = sandbox!();
    for args in [&["--help"][..], &["run", "--help"], &["image", "--help"], &["exec", "-h"]] {
        let said = sandbox.call().args(args).run();
        assert!(said.stderr.is_empty(), "{said}");
        assert!(said.success().contains("Usage"), "{args:?}");
    }
    let short = sandbox.pod(["-h"]).success();
    assert!(short.lines().count() <= 65, "{short}");
    assert!(!sandbox.path("root").join("pods").exists(), "nothing is made");
}

#[test]
fn nobody_who_reads_is_no_error() {
    let sandbox = sandbox!();
    let pod = sandbox.programs().path("pod");
    let script = format!("{} --help | true", pod.display());
    let said = sandbox.program("sh").args(["-c", &script]).run();
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said}");
}
