//! Every command line in the documents runs, and every file that `ARCHITECTURE.md` names is there.
//!
//! The lines of one document are run one after another in one sandbox, as a reader would type them.
//! Each must succeed, and say what the document shows; [`document`] tells which these are. Those for a
//! host with systemd are followed in the machines. The image they use is what `cargo xtask images box`
//! writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tests::document::{self, Place, Step};
use tests::fixtures::Fixture;
use tests::named;
use tests::require;
use tests::sandbox::Sandbox;

/// Lines that are not run from here, and who runs them instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask demo", "part of `cargo xtask test`"),
    ("cargo xtask test", "this test is part of it"),
];

/// How many lines of all documents are marked as not run.
const NOT_RUN: usize = 7;

fn documents() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    document::all(top).expect("the workspace can be read")
}

/// Returns the steps of a document, which must be well-formed.
fn steps<'t>(document: &Path, text: &'t str, place: Place) -> Vec<Step<'t>> {
    document::steps(text, place).unwrap_or_else(|why| panic!("{}: {why}", document.display()))
}

#[test]
fn every_command_line_in_the_documents_runs() {
    if !require::root("the commands start pods") {
        return;
    }
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        let steps = steps(&document, &text, Place::Host);
        let here = |line: &str| ELSEWHERE.iter().all(|(elsewhere, _)| *elsewhere != line);
        let lines = steps.iter().filter_map(|step| match step {
            Step::Type { line, says } if here(line) => Some((line, says)),
            _ => None,
        });
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() {
            continue;
        }
        let sandbox = Sandbox::new();
        let reference = sandbox.fixture(Fixture::Busybox);
        let layout = reference.trim_start_matches("oci:").rsplit_once(':').expect("it has a tag").0;
        symlink(layout, sandbox.path("box")).expect("the sandbox can be written");
        let path =
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", sandbox.programs().directory().display());
        for (line, says) in lines {
            let typed = format!("exec 2>&1\n{line}");
            let said = sandbox.program("sh").args(["-ec", &typed]).env("PATH", &path).run();
            assert_eq!(said.code, 0, "{}: `{line}` said:\n{said}", document.display());
            let fits = says.as_ref().is_none_or(|shown| document::fits(shown, &said.raw));
            assert!(fits, "{}: `{line}` said otherwise:\n{said}", document.display());
            count += 1;
        }
    }
    assert!(
        count > 20,
        "only {count} command lines were found; has the form of the documents changed?"
    );
}

#[test]
fn few_lines_are_for_readers_only_and_say_why() {
    let mut skipped = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        for place in [Place::Host, Place::Booted, Place::Qemu] {
            for step in steps(&document, &text, place) {
                if let Step::Skip { line, why } = step {
                    assert!(why.len() > 10, "{}: why not `{line}`?", document.display());
                    skipped.push(line.to_owned());
                }
            }
        }
    }
    assert_eq!(skipped.len(), NOT_RUN, "{skipped:?}");
}

#[test]
fn documents_that_are_named_exist() {
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document can be read");
        let folder = document.parent().expect("a file has a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_file = file.is_empty() || file.contains("://") || folder.join(file).is_file();
            assert!(is_file, "{} names `{target}`, which is not there", document.display());
        }
    }
}

#[test]
fn every_regression_has_an_answer_and_its_tests_are_there() {
    let text = fs::read_to_string(named::top().join("docs/regressions.md")).expect("it is there");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    // The headings, 21 that were published, 5 of ours.
    assert_eq!(rows.len(), 2 + 21 + 5);
    for row in rows.iter().filter(|row| !row.contains("| here |")) {
        let answer = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let same = answer
            .strip_prefix("as ")
            .is_some_and(|id| text.lines().any(|line| line.starts_with(&format!("| {id},"))));
        assert!(same || !named::tests_in(answer).is_empty(), "it has no test: {row}");
    }
    let missing = named::missing(&text);
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The cases of archives, by the letter of what they are about.
const ARCHIVES: &[(&str, usize)] = &[
    ("W", 9),
    ("H", 7),
    ("X", 10),
    ("M", 2),
    ("D", 4),
    ("U", 2),
    ("S", 6),
    ("P", 21),
    ("N", 10),
    ("E", 4),
    ("R", 9),
    ("T", 12),
    ("Z", 11),
];
/// Those of documents, of bounds and of configurations.
const OTHERS: &[(&str, usize)] = &[("V", 9), ("L", 7), ("C", 4)];

#[test]
fn every_hostile_image_of_the_list_has_its_case() {
    let read = |path: &str| fs::read_to_string(named::top().join(path)).expect("it is there");
    let text = read("docs/hostile-images.md");
    let corpus = read("images/src/layer/tests/corpus.rs");
    let ids = |list: &[(&str, usize)]| -> Vec<String> {
        let each = |(letter, count): &(&str, usize)| {
            (1..=*count).map(|number| format!("{letter}{number}")).collect::<Vec<_>>()
        };
        list.iter().flat_map(each).collect()
    };
    let row = |id: &str| {
        let rows: Vec<&str> =
            text.lines().filter(|line| line.starts_with(&format!("| {id} |"))).collect();
        assert_eq!(rows.len(), 1, "{id} has one row");
        rows[0].to_owned()
    };
    for id in ids(ARCHIVES) {
        row(&id);
        assert_eq!(corpus.matches(&format!("\"{id}\"")).count(), 1, "{id} is one case");
    }
    for id in ids(OTHERS) {
        assert!(!named::tests_in(&row(&id)).is_empty(), "{id} has a test");
    }
    let published = text.split("## Published").nth(1).expect("it has that part");
    let rows: Vec<&str> = published.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 34);
    for row in rows {
        let shown = row.contains("corpus, ") || !named::tests_in(row).is_empty();
        assert!(shown, "it has no test: {row}");
    }
    let missing = named::missing(&text);
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Where the places of `ARCHITECTURE.md` are looked for: it names them as short as can be.
const BENEATH: &[&str] = &[
    "",
    "stage0/src",
    "stage0/cni/src",
    "stage0/pod-abi/src",
    "stage1-ns",
    "stage1-ns/src",
    "stage1-ns/namespaces/src",
    "stage1-kvm",
    "stage1-kvm/src",
    "stage1-ns/supervisor/src",
    "stage2-init/src",
    "stage2-init/src/launch",
    "images/src",
    "images/src/registry",
    "tests/tests",
];

#[test]
fn every_file_the_architecture_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let text = fs::read_to_string(top.join("ARCHITECTURE.md")).expect("it can be read");
    let quoted = text.split('`').skip(1).step_by(2);
    let files: Vec<&str> = quoted.filter(|word| word.ends_with(".rs")).collect();
    assert!(files.len() > 50, "files are not found in it");
    let there = |file: &str| BENEATH.iter().any(|place| top.join(place).join(file).is_file());
    let missing: Vec<&str> = files.into_iter().filter(|file| !there(file)).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}
