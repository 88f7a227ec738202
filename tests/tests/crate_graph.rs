//! Holds the shape of the workspace: who may use whom, how many crates end up in programs that run
//! beside or inside a pod, how long the monitor is, and under which licences all of it comes.
//!
//! The table below is the one of `ARCHITECTURE.md`. An edge that is not in it is a decision, and
//! belongs there first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate of ours may use of ours, at run time.
const MAY_USE: &[(&str, &[&str])] = &[
    ("pod-abi", &[]),
    ("pod-sys", &[]),
    ("archive", &[]),
    ("images", &["pod-abi", "pod-sys"]),
    ("cni", &[]),
    ("dns", &[]),
    ("stage0", &["images", "archive", "cni", "dns", "network", "pod-abi", "pod-sys"]),
    ("netlink", &[]),
    ("network", &["cni", "netlink", "pod-abi"]),
    ("supervisor", &["pod-abi", "pod-sys"]),
    ("namespaces", &["supervisor", "pod-abi", "pod-sys"]),
    ("stage1-ns", &["namespaces", "supervisor", "pod-abi"]),
    (
        "stage1-kvm",
        &["guest-kernel", "namespaces", "netlink", "supervisor", "vmm", "pod-abi", "pod-sys"],
    ),
    ("vmm", &["confine", "pod-abi", "pod-sys"]),
    ("guest-kernel", &[]),
    ("guest", &["namespaces", "netlink", "supervisor", "pod-abi", "pod-sys"]),
    ("fsd", &["confine", "pod-abi", "pod-sys"]),
    ("confine", &["pod-abi"]),
    ("stage2-init", &["archive", "pod-abi", "pod-sys"]),
    ("tests", &["pod-abi", "images", "probe"]),
    ("probe", &[]),
    ("fault-registry", &[]),
    ("xtask", &["tests"]),
];

/// The most crates, ours and build-time ones included, that may take part in a program that runs
/// beside or inside a pod. Each one more is a reason to look at `cargo tree`.
const CEILINGS: &[(&str, usize)] = &[("stage2-init", 40), ("stage1-ns", 40), ("probe", 40)];

/// The most lines of the monitor, comments and empty ones included, tests left out: what one person
/// can read in a day. It is what stands between a hostile guest and the host.
const MONITOR_LINES: usize = 7_000;

/// Licences we take, each on its own.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-3-Clause",
    "BSD-2-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "bzip2-1.0.6",
    "Apache-2.0 WITH LLVM-exception",
];

/// Crates that must never get in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "rustls only"),
    ("tokio", "no async runtime in any stage"),
    ("lazy_static", "std::sync::LazyLock"),
    ("linux-loader", "an ELF file of an enemy is read by our own (CVE-2022-23523)"),
    ("versionize", "nothing a guest was is read back (CVE-2023-28448)"),
];

/// Crates whose use of a banned one is their own affair, and why.
const LET_IN: &[(&str, &str, &str)] =
    &[("lazy_static", "num-bigint-dig", "the numbers of RSA keys of OpenPGP, in rPGP")];

/// Crates of the monitor that had flaws, and the first version without: `docs/regressions.md`.
const FIXED_IN: &[(&str, (u64, u64, u64))] = &[
    ("vm-superio", (0, 1, 1)),    // CVE-2020-27173
    ("vm-memory", (0, 12, 2)),    // CVE-2020-13759, CVE-2023-41051
    ("vmm-sys-util", (0, 12, 0)), // CVE-2023-50711
    ("kvm-ioctls", (0, 19, 1)),   // RUSTSEC-2024-0428
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The packages of the workspace by name.
fn ours(metadata: &Value) -> BTreeMap<&str, &Value> {
    let members: BTreeSet<&str> =
        list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    let mine = |package: &&Value| members.contains(text(package, "id"));
    list(metadata, "packages")
        .iter()
        .filter(mine)
        .map(|package| (text(package, "name"), package))
        .collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let metadata = metadata();
    let ours = ours(&metadata);
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for (name, package) in &ours {
        let allowed =
            table.get(name).unwrap_or_else(|| panic!("crate `{name}` is not in the table"));
        for dependency in list(package, "dependencies") {
            let used = text(dependency, "name");
            let at_run_time = dependency["kind"].is_null();
            let known = !ours.contains_key(used) || !at_run_time || allowed.contains(&used);
            assert!(known, "`{name}` uses `{used}`, which the table does not allow");
        }
    }
}

#[test]
fn programs_beside_and_inside_a_pod_stay_small() {
    let metadata = metadata();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
    for (name, ceiling) in CEILINGS {
        let mut seen = BTreeSet::new();
        let mut open = vec![text(ours(&metadata)[name], "id")];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let run_time =
                |dep: &&Value| list(dep, "dep_kinds").iter().any(|kind| kind["kind"] != "dev");
            open.extend(
                list(nodes[id], "deps").iter().filter(run_time).map(|dep| text(dep, "pkg")),
            );
        }
        assert!(
            seen.len() <= *ceiling,
            "`{name}` is made of {} crates, more than {ceiling}",
            seen.len()
        );
    }
}

#[test]
fn every_licence_is_one_we_take() {
    for package in list(&metadata(), "packages") {
        let (name, expression) = (text(package, "name"), text(package, "license"));
        let alternatives =
            expression.replace(['(', ')'], "").replace(" / ", "/").replace('/', " OR ");
        let taken = |part: &str| LICENCES.contains(&part.trim());
        let every = |part: &str| part.split(" AND ").all(taken);
        // "(A OR B) AND C" reads here as "A" or "B AND C"; asking for both keeps C required.
        let acceptable = if alternatives.contains(" AND ") {
            alternatives.split(" OR ").all(every)
        } else {
            alternatives.split(" OR ").any(taken)
        };
        assert!(acceptable, "`{name}` comes under `{expression}`");
    }
}

#[test]
fn banned_crates_stay_out() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = list(&metadata, "packages")
        .iter()
        .map(|package| (text(package, "id"), text(package, "name")))
        .collect();
    for (name, reason) in BANNED {
        let uses = |node: &&Value| {
            let run_time =
                |dep: &&Value| list(dep, "dep_kinds").iter().any(|kind| kind["kind"] != "dev");
            let mut used = list(node, "deps").iter().filter(run_time);
            used.any(|dep| names.get(text(dep, "pkg")) == Some(name))
        };
        for node in list(&metadata["resolve"], "nodes").iter().filter(uses) {
            let user = names[text(node, "id")];
            let let_in = LET_IN.iter().any(|(of, by, _)| (*of, *by) == (*name, user));
            assert!(let_in, "`{name}` got in by `{user}`: {reason}");
        }
    }
}

#[test]
fn crates_of_the_monitor_are_not_those_with_known_flaws() {
    let metadata = metadata();
    for (name, fixed) in FIXED_IN {
        let versions = list(&metadata, "packages").iter().filter(|one| text(one, "name") == *name);
        let versions: Vec<&str> = versions.map(|package| text(package, "version")).collect();
        assert!(!versions.is_empty(), "`{name}` is not used any more");
        for version in versions {
            let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
            let mut next = || numbers.next().unwrap_or(0_u64);
            assert!((next(), next(), next()) >= *fixed, "`{name}` {version} has a known flaw");
        }
    }
}

#[test]
fn the_monitor_can_be_read_in_a_day() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stage1-kvm/vmm/src");
    let mut files = BTreeMap::new();
    for program in ["lib.rs", "main.rs"] {
        lines_of_module(&root.join(program), &root, &mut files);
    }
    let lines: usize = files.values().sum();
    assert!(files.len() > 30, "its modules are not found any more: {files:#?}");
    assert!(lines <= MONITOR_LINES, "{lines} lines are more than {MONITOR_LINES}: {files:#?}");
}

/// Counts the lines of `file` that are no tests, and those of its modules, whose files lie in
/// `directory`. What is compiled only for tests (`cfg(test)`, `cfg(any(test, …))`) is left out where
/// it is a module; a module written out is the last thing in its file.
fn lines_of_module(file: &Path, directory: &Path, found: &mut BTreeMap<PathBuf, usize>) {
    let text = fs::read_to_string(file).expect("a module has a file");
    let mut lines = 0;
    let mut for_tests = false;
    for line in text.lines() {
        let module = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
        if for_tests && module.is_some_and(|module| module.ends_with('{')) {
            // Without the line that says so.
            lines -= 1;
            break;
        }
        if let Some(name) = module.and_then(|module| module.strip_suffix(';'))
            && !for_tests
        {
            let (flat, deep) = (directory.join(name).with_extension("rs"), directory.join(name));
            let file = if flat.exists() { flat } else { deep.join("mod.rs") };
            lines_of_module(&file, &deep, found);
        }
        for_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(any(test");
        lines += 1;
    }
    found.insert(file.to_owned(), lines);
}
