//! Tests that documents name, so that no document tells of one that is not there.
//!
//! `isolation::x` in backticks is test `x` of `tests/tests/isolation.rs`; a path that ends in `.rs` is
//! from the top of the source.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the top of the source.
///
/// # Panics
///
/// If this crate does not lie in it.
#[must_use]
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in the workspace").to_owned()
}

/// Returns everything in backticks that names a test: the file, and the function.
#[must_use]
pub fn tests_in(text: &str) -> Vec<(PathBuf, &str)> {
    let quoted = text.split('`').skip(1).step_by(2).filter_map(|word| word.rsplit_once("::"));
    // How a form is explained.
    let quoted = quoted.filter(|(_, test)| *test != "x");
    let file = |file: &str| match file.ends_with(".rs") {
        true => top().join(file),
        false => top().join(format!("tests/tests/{file}.rs")),
    };
    quoted.map(|(place, test)| (file(place), test)).collect()
}

/// Returns those of them that are not there.
#[must_use]
pub fn missing(text: &str) -> Vec<(PathBuf, &str)> {
    let is_there = |(file, test): &(PathBuf, &str)| source(file).contains(&format!("fn {test}("));
    tests_in(text).into_iter().filter(|named| !is_there(named)).collect()
}

/// Reads a file of tests; a directory of that name is read as a whole.
fn source(file: &Path) -> String {
    let directory = file.with_extension("");
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = files.chain([file.to_owned()]);
    all.filter_map(|file| fs::read_to_string(file).ok()).collect()
}
