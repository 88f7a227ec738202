//! Holds the modules of every crate free of cycles.
//!
//! A module is a file or folder directly beneath a crate's `src/`. An edge is any `crate::MODULE`
//! in its code, tests under the code left out. What a cycle costs is known: files that can only be
//! read all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Every crate of ours, as a folder of the workspace.
fn crates() -> Vec<String> {
    let manifest =
        fs::read_to_string(workspace().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let quoted = members.expect("the manifest lists its members").split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Every `.rs` file beneath `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top-level module a file belongs to; `None` for the crate's own root.
fn module(source_root: &Path, file: &Path) -> Option<String> {
    let first = file.strip_prefix(source_root).ok()?.components().next()?;
    let name = first.as_os_str().to_str()?.trim_end_matches(".rs");
    (name != "lib" && name != "main").then(|| name.to_owned())
}

/// The code of a file without comments and without its test module.
fn code(text: &str) -> String {
    let before_tests = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names right behind `crate::`, those in a braced list included.
fn mentions(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for piece in code.split("crate::").skip(1) {
        match piece.strip_prefix('{') {
            Some(list) => found.extend(top_level_items(list).iter().map(|item| word(item))),
            None => {
                found.insert(word(piece));
            }
        }
    }
    found
}

/// Splits `a, b::{c, d}}…` at the commas of its outermost level, up to the closing brace.
fn top_level_items(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0_usize;
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                items.last_mut().expect("there is one from the start").push(c);
            }
        }
    }
    items
}

fn graph(source_root: &Path) -> Graph {
    let files = sources(source_root);
    let modules: BTreeSet<String> =
        files.iter().filter_map(|file| module(source_root, file)).collect();
    let mut graph: Graph = modules.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for file in &files {
        let Some(from) = module(source_root, file) else { continue };
        let text = fs::read_to_string(file).expect("a source file can be read");
        let to = mentions(&code(&text))
            .into_iter()
            .filter(|name| modules.contains(name) && *name != from);
        graph.get_mut(&from).expect("every module is in the graph").extend(to);
    }
    graph
}

/// Takes away modules that use nothing left, again and again; what cannot be taken away is a knot.
fn knot(mut graph: Graph) -> Graph {
    loop {
        let leaves: Vec<String> = graph
            .iter()
            .filter(|(_, uses)| uses.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if leaves.is_empty() {
            return graph;
        }
        for leaf in leaves {
            graph.remove(&leaf);
            for uses in graph.values_mut() {
                uses.remove(&leaf);
            }
        }
    }
}

#[test]
fn no_crate_has_a_cycle_of_modules() {
    for name in crates() {
        let source_root = workspace().join(&name).join("src");
        let knot = knot(graph(&source_root));
        assert!(knot.is_empty(), "modules of `{name}` depend on each other: {knot:#?}");
    }
}

#[test]
fn every_file_says_first_why_it_exists() {
    for name in crates() {
        for file in sources(&workspace().join(&name).join("src")) {
            let text = fs::read_to_string(&file).expect("a source file can be read");
            assert!(text.starts_with("//!"), "{} does not open with `//!`", file.display());
        }
    }
}

#[test]
fn a_knot_is_found_and_a_tree_is_not() {
    let graph = |edges: &[(&str, &str)]| -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    };
    assert!(knot(graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(
        knot(graph(&[("a", "b"), ("b", "c"), ("c", "b")])).len(),
        3,
        "a hangs on the knot b-c"
    );
    assert_eq!(
        mentions("use crate::{a::{x, y}, b}; crate::c::d()"),
        ["a", "b", "c"].map(str::to_owned).into()
    );
}
