//! What a document asks its reader to type, so that tests can do it and compare.
//!
//! | block | what it is | who follows it |
//! |---|---|---|
//! | `console` | lines for any host | `tests/tests/docs.rs` |
//! | `console booted` | lines for a host with systemd | `tests/machine/docs.rs` |
//! | `console qemu` | the same, for one with all controllers | `tests/machine/controllers/docs.rs` |
//! | `ini` | a file of a host with systemd, named by its first line, `# /PATH` | `tests/machine/docs.rs` |
//!
//! A line that begins with `$ ` is typed. What stands below it is all that it says; `…` is anything.
//! A line that ends in `# not run: WHY` is for readers only. No command may hide in another kind of
//! block. Nothing is run or opened here but the documents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::programs::IN_MACHINE;

/// Where somebody is who follows a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On any host.
    Host,
    /// In the machine that is booted in namespaces.
    Booted,
    /// In the machine of QEMU.
    Qemu,
}

/// What somebody does who follows a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'t> {
    /// Types a line.
    Type {
        /// The line, as a shell takes it.
        line: &'t str,
        /// All that it says, if the document shows it.
        says: Option<String>,
    },
    /// Writes a file.
    Write {
        /// Where it lies.
        path: &'t Path,
        /// What it holds.
        text: String,
    },
    /// Reads a line that is not run.
    Skip {
        /// The line.
        line: &'t str,
        /// Why it is not run.
        why: &'t str,
    },
}

/// What stands behind a line that is not run.
const NOT_RUN: &str = "# not run: ";
/// What begins a line that somebody should type, wherever it stands.
const CALLS: [&str; 5] = ["pod ", "cargo ", "systemctl ", "journalctl ", "machinectl "];

/// Returns where the documents lie in a machine made for tests.
#[must_use]
pub fn in_machine() -> PathBuf {
    Path::new(IN_MACHINE).join("documents")
}

/// Returns every document of the tree `top`: those in it, and those in `docs/`; sorted. Without
/// `docs/commands.md`, which is made of the grammar and shows forms of lines, not lines.
///
/// # Errors
///
/// What the file system says.
pub fn all(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut documents = Vec::new();
    for directory in [top.to_owned(), top.join("docs")] {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_made = path.ends_with("docs/commands.md");
            if path.extension().is_some_and(|extension| extension == "md") && !is_made {
                documents.push(path);
            }
        }
    }
    documents.sort();
    Ok(documents)
}

/// Returns the steps of a document that belong to `place`, in order.
///
/// # Errors
///
/// The line that is not as the table above has it, and why.
pub fn steps(text: &str, place: Place) -> Result<Vec<Step<'_>>, String> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        let (of, read) = match kind {
            "console" => (Place::Host, typed(&block)),
            "console booted" => (Place::Booted, typed(&block)),
            "console qemu" => (Place::Qemu, typed(&block)),
            "ini" => (Place::Booted, written(&block)),
            "text" | "json" | "" => (place, quoted(&block)),
            _ => return Err(format!("nobody follows a block of `{kind}`")),
        };
        let read = read?;
        if of == place {
            steps.extend(read);
        }
    }
    Ok(steps)
}

fn typed<'t>(block: &[&'t str]) -> Result<Vec<Step<'t>>, String> {
    let mut steps = Vec::new();
    for text in block {
        let step = match (text.strip_prefix("$ "), steps.last_mut()) {
            (Some(line), _) => match line.split_once(NOT_RUN) {
                Some((line, why)) => Step::Skip { line: line.trim_end(), why },
                None => Step::Type { line, says: None },
            },
            (None, Some(Step::Type { says, .. })) => {
                let says = says.get_or_insert_default();
                says.push_str(text);
                says.push('\n');
                continue;
            }
            _ => return Err(format!("nobody types `{text}`, and nothing says it")),
        };
        steps.push(step);
    }
    Ok(steps)
}

fn written<'t>(block: &[&'t str]) -> Result<Vec<Step<'t>>, String> {
    let Some((first, rest)) = block.split_first() else { return Err("a file is empty".to_owned()) };
    let path = first.strip_prefix("# ").map(Path::new).filter(|path| path.is_absolute());
    let path = path.ok_or_else(|| format!("`{first}` does not name the file"))?;
    Ok(vec![Step::Write { path, text: rest.join("\n") + "\n" }])
}

fn quoted<'t>(block: &[&str]) -> Result<Vec<Step<'t>>, String> {
    let is_call = |line: &&&str| CALLS.iter().any(|call| line.starts_with(call));
    match block.iter().find(is_call) {
        Some(line) => Err(format!("nobody follows `{line}`")),
        None => Ok(Vec::new()),
    }
}

/// Tells whether `said` is what a document shows, in which `…` is anything. Blanks at the ends of
/// lines do not count.
#[must_use]
pub fn fits(shown: &str, said: &str) -> bool {
    let said: String = said.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    let mut parts = shown.trim_end().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = said.trim_end().strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let Some((_, behind)) = rest.split_once(part) else { return false };
            rest = behind;
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_steps() {
        let text = "```console\n$ a\n```\n```ini\n# /etc/x\n[Unit]\n```\n```console booted\n$ b\nsaid\n\n\
                    more\n$ c\n$ d  # not run: it stays\n```\n```console qemu\n$ e\n```\n";
        let typed = |line, says: Option<&str>| Step::Type { line, says: says.map(str::to_owned) };
        assert_eq!(steps(text, Place::Host), Ok(vec![typed("a", None)]));
        assert_eq!(steps(text, Place::Qemu), Ok(vec![typed("e", None)]));
        let file = Step::Write { path: Path::new("/etc/x"), text: "[Unit]\n".to_owned() };
        let skipped = Step::Skip { line: "d", why: "it stays" };
        let b = typed("b", Some("said\n\nmore\n"));
        assert_eq!(steps(text, Place::Booted), Ok(vec![file, b, typed("c", None), skipped]));
    }

    #[test]
    fn no_command_hides_in_another_block() {
        for text in [
            "```sh\npod ps\n```",
            "```console machine\n$ x\n```",
            "```text\nsystemctl status\n```",
            "```\ncargo xtask x\n```",
            "```ini\n[Unit]\n```",
            "```console\npod ps\n```",
            "```console\n$ a  # not run: b\nsaid\n```",
        ] {
            for place in [Place::Host, Place::Booted, Place::Qemu] {
                assert!(steps(text, place).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_shown_is_all_that_is_said() {
        for (shown, said, does) in [
            ("a\n", "a  \n", true),
            ("a\n", "a\nb\n", false),
            ("a\nb\n", "a\n", false),
            ("a … c\n", "a b c\n", true),
            ("a … c\n", "a b d\n", false),
            ("…\nb\n", "a\n1\nb\n", true),
            ("a\n…\n", "a\n1\nb\n", true),
            ("a…b…c\n", "a b c\n", true),
            ("a…b…c\n", "a c\n", false),
            ("a…a\n", "a\n", false),
        ] {
            assert_eq!(fits(shown, said), does, "{shown:?} {said:?}");
        }
    }
}
