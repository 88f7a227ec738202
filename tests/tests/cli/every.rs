//! What can be asked of every command alike, by a walk through the grammar; and whether each has
//! its whole output tested somewhere here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tests::manual::{self, Command};
use tests::sandbox::Sandbox;

use crate::sandbox;

/// What must stand behind a command beside its pod, for the line to be whole.
const BEHIND: &[(&str, &[&str])] = &[
    ("pod run", &["image"]),
    ("pod prepare", &["image"]),
    ("pod exec", &["true"]),
    ("pod update", &["--memory", "1g"]),
    ("pod bundle", &["/tmp/bundle"]),
    ("pod fetch", &["image"]),
    ("pod image pull", &["image"]),
    ("pod image inspect", &["image"]),
    ("pod image rm", &["image"]),
    ("pod image tag", &["image", "other"]),
    ("pod image import", &["file"]),
    ("pod image export", &["image", "file"]),
    ("pod commit", &["image"]),
    ("pod image push", &["image"]),
    ("pod image sign", &["image", "--key", "/nosuch"]),
    ("pod image extract", &["image", "dir"]),
    ("pod volume create", &["name"]),
    ("pod volume inspect", &["name"]),
    ("pod volume rm", &["name"]),
    ("pod completion", &["bash"]),
    ("pod login", &["127.0.0.1:9"]),
    ("pod logout", &["127.0.0.1:9"]),
    ("pod cp", &["nosuch:/x", "/tmp/x"]),
    ("pod app add", &["nosuch", "image"]),
    ("pod app start", &["app"]),
    ("pod app stop", &["app"]),
    ("pod app rm", &["app"]),
    ("pod disable", &["name"]),
    ("pod port-forward", &["8080:80"]),
    ("pod network inspect", &["name"]),
    ("pod trust test", &["oci:/nowhere"]),
    ("pod trust require", &["--default", "--reject", "--signature-policy", "/proc/none/policy"]),
    (
        "pod trust add",
        &["--default", "--key", "/nosuch", "--signature-policy", "/proc/none/policy"],
    ),
    ("pod trust show", &["sha256:beef"]),
    ("pod trust rm", &["registry.example.org", "--signature-policy", "/proc/none/policy"]),
];

/// Commands that anybody may call.
const NOT_ROOT: &[&str] = &[
    "pod version",
    "pod completion",
    "pod doctor",
    "pod login",
    "pod logout",
    "pod trust test",
    "pod trust ls",
    "pod trust show",
    "pod trust require",
    "pod trust add",
    "pod trust rm",
];

/// Commands whose status may be an app's, so that their own errors end with 125.
const RUNS: &[&str] = &["pod run", "pod start", "pod exec", "pod attach", "pod sandbox"];

/// Commands whose output no snapshot can hold, and the test that looks at it instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("pod login", "transports.rs"),             // takes a registry
    ("pod doctor", "cli/host.rs"),              // differs from host to host
    ("pod info", "cli/host.rs"),                // likewise
    ("pod completion", "verbs.rs"),             // thousands of lines, read by a shell
    ("pod network ls", "network.rs"),           // shows networks of the host's
    ("pod network inspect", "network.rs"),      // numbers that were chosen at random
    ("pod dns", "names.rs"),                    // goes on for ever
    ("pod port-forward", "names.rs"),           // likewise
    ("pod enable", "../machine/host_pods.rs"),  // takes a host of systemd's
    ("pod disable", "../machine/host_pods.rs"), // likewise
];

fn elsewhere(call: &str) -> bool {
    let test = ELSEWHERE.iter().find(|(known, _)| *known == call);
    test.is_some_and(|(_, file)| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let verb = format!("\"{}\"", call.trim_start_matches("pod "));
        fs::read_to_string(path).is_ok_and(|text| text.contains(&verb))
    })
}

fn grammar(sandbox: &Sandbox) -> Command {
    sandbox.pod(["internal-grammar"]).json()
}

/// Returns the words of a whole line of `command`, about `pod` where it takes one.
fn line(command: &Command, pod: &str) -> Vec<String> {
    let mut words: Vec<String> = command.call.split(' ').skip(1).map(str::to_owned).collect();
    if takes_pod(command) {
        words.push(pod.to_owned());
    }
    let behind = BEHIND.iter().find(|(call, _)| *call == command.call);
    words.extend(behind.into_iter().flat_map(|(_, words)| *words).map(|&word| word.to_owned()));
    words
}

fn takes_pod(command: &Command) -> bool {
    command.arguments.iter().any(|argument| argument.form == "POD")
}

fn own_error(command: &Command) -> i32 {
    if RUNS.contains(&command.call.as_str()) { 125 } else { 1 }
}

#[test]
fn every_command_has_its_whole_output_tested() {
    let sandbox = sandbox!();
    let mut tested: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    for entry in fs::read_dir(directory).expect("the tests can be read").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a test can be read");
        for (call, code) in snapshots(&text) {
            tested.entry(call).or_default().push(code);
        }
    }
    let grammar = grammar(&sandbox);
    let missing: Vec<String> = grammar
        .leaves()
        .into_iter()
        .flat_map(|command| {
            let words = format!("{} ", command.call.trim_start_matches("pod "));
            let codes: Vec<i32> = tested
                .iter()
                .filter(|(call, _)| format!("{call} ").starts_with(&words))
                .flat_map(|(_, codes)| codes.clone())
                .collect();
            let shown = codes.contains(&0) || elsewhere(&command.call);
            let succeeds = (!shown).then(|| format!("success of `{}`", command.call));
            // These cannot fail but by a wrong line, which is asked of every command below.
            let fails = codes.iter().any(|code| *code != 0) || cannot_fail(command);
            let fails = (!fails).then(|| format!("failure of `{}`", command.call));
            succeeds.into_iter().chain(fails)
        })
        .collect();
    assert!(missing.is_empty(), "not tested by a snapshot in tests/cli:\n{}", missing.join("\n"));
}

fn cannot_fail(command: &Command) -> bool {
    let lists =
        [" ls", " gc", " prune", " fsck", "pod ps", "pod info", "pod version", "pod doctor"];
    takes_pod(command) || lists.iter().any(|end| command.call.ends_with(end))
}

/// Returns the words and the status of every snapshot in `text` that tests a line of `pod`.
fn snapshots(text: &str) -> Vec<(String, i32)> {
    let blocks = text.split("assert_snapshot!(").skip(1);
    let read = |block: &str| -> Option<(String, i32)> {
        let (call, rest) = block.split_once("@")?;
        let words = call.split_once("[")?.1.split_once("]")?.0;
        let words = words.split(',').map(|word| word.trim().trim_matches('"'));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let code = rest.split_once("--- exit ")?.1.split_once(" ---")?.0;
        Some((words.join(" "), code.parse().ok()?))
    };
    blocks.filter_map(read).collect()
}

#[test]
fn every_command_has_a_manual_and_says_so_to_wrong_flags() {
    let sandbox = sandbox!();
    let grammar = grammar(&sandbox);
    for command in grammar.leaves() {
        let words: Vec<&str> = command.call.split(' ').skip(1).collect();
        let help = sandbox.call().args(&words).args(["--help"]).run();
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{help}");
        assert!(help.stdout.contains(&format!("Usage: {}", command.call)), "{help}");
        let said = sandbox.call().args(&words).args(["--zzz"]).run();
        let code = if own_error(command) == 125 { 125 } else { 2 };
        let call = &command.call;
        let expected = format!(
            "--- stderr ---\nerror: unexpected argument `--zzz` found\n\
             hint: `{call} --help` tells what it takes\n--- exit {code} ---"
        );
        assert_eq!(said.to_string(), expected, "{call}");
    }
}

#[test]
fn every_command_about_a_pod_refuses_one_that_is_not_there_or_not_one() {
    let sandbox = sandbox!();
    sandbox.pod(["gc"]).success(); // the homes of pods are made
    for last in ["0", "1"] {
        let id = format!("ffffffff-ffff-4fff-8fff-fffffffffff{last}");
        fs::create_dir(sandbox.path("root").join("pods/prepared").join(id)).unwrap();
    }
    let grammar = grammar(&sandbox);
    for command in grammar.leaves().into_iter().filter(|command| takes_pod(command)) {
        let (call, code) = (&command.call, own_error(command));
        let said = sandbox.call().args(line(command, "nosuch")).run();
        let expected = format!(
            "--- stderr ---\nerror: there is no pod `nosuch`\nhint: `pod ps -a` lists all pods\n\
             --- exit {code} ---"
        );
        assert_eq!(said.to_string(), expected, "{call}");
        let said = sandbox.call().args(line(command, "ffff")).run();
        let expected = format!(
            "--- stderr ---\nerror: `ffff` begins the ids of 2 pods\n\
             hint: give more digits: [UUID], [UUID]\n--- exit {code} ---"
        );
        assert_eq!(said.to_string(), expected, "{call}");
        // An empty word is the beginning of no id.
        let said = sandbox.call().args(line(command, "")).run();
        said.refuses(code, &["there is no pod ``"]);
    }
    sandbox.pod(["rm", "-a"]).success();
}

#[test]
fn every_command_refuses_who_is_not_root_and_a_store_that_is_none() {
    let sandbox = sandbox!();
    let grammar = grammar(&sandbox);
    // By descriptor, so that the other user need not be able to walk to the program.
    let pod = sandbox.programs().path("pod");
    let other = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let script = format!("exec 9<{}; exec {other} /proc/self/fd/9 \"$@\"", pod.display());
    fs::write(sandbox.path("file"), "").unwrap();
    let file = sandbox.path("file").display().to_string();
    for command in grammar.leaves() {
        let (call, code) = (&command.call, own_error(command));
        if NOT_ROOT.contains(&call.as_str()) {
            continue;
        }
        let words = line(command, "nosuch");
        let verb = words[0].clone();
        let said = sandbox.program("sh").args(["-c", &script, "sh"]).args(&words).run();
        let expected = format!(
            "--- stderr ---\nerror: `pod {verb}` must be run by root\nhint: `sudo pod {verb} …`\n\
             --- exit {code} ---"
        );
        assert_eq!(said.to_string(), expected, "{call}");
        let said = sandbox.call().args(["--root", &file]).args(&words).run();
        let expected = format!(
            "--- stderr ---\nerror: cannot open directory `[SANDBOX]/file`\n\
             caused by: Not a directory (os error 20)\n--- exit {code} ---"
        );
        assert_eq!(said.to_string(), expected, "{call}");
    }
}

#[test]
fn the_manual_is_that_of_the_commands() {
    let sandbox = sandbox!();
    let grammar = grammar(&sandbox);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == manual::markdown(&grammar), "`cargo xtask docs` writes docs/commands.md anew");
    for (name, page) in manual::pages(&grammar) {
        let path = sandbox.path(&name);
        fs::write(&path, page).unwrap();
        if Path::new("/usr/bin/groff").exists() {
            let path = path.display().to_string();
            let said = sandbox.program("groff").args(["-man", "-Tutf8", "-ww", "-z", &path]).run();
            assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{name}: {said}");
        }
    }
}
