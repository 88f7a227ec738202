//! What the user reads: whole output and exit status of commands, of right ones and of wrong ones.
//!
//! Every refusal is one error that names its object, its causes, and where there is a way out, a
//! hint. `run`, `start`, `sandbox`, `exec` and `attach` end with 125 then, others with 1, or 2 for
//! wrong usage.
//!
//! | file | commands |
//! |---|---|
//! | `refusals.rs` | wrong lines of all of them |
//! | `every.rs` | what can be asked of each command alike, and whether each has a test here |
//! | `pods.rs` | those that make, show and remove pods |
//! | `living.rs` | those that need a pod that runs |
//! | `images.rs` | images and registries |
//! | `host.rs` | volumes, and those about the host and the program itself |

use tests::require;
use tests::said::Said;
use tests::sandbox::Sandbox;

mod every;
mod host;
mod images;
mod living;
mod pods;
mod refusals;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {
        match crate::world() {
            Some(sandbox) => sandbox,
            None => return,
        }
    };
}
pub(crate) use sandbox;

fn world() -> Option<Sandbox> {
    require::root("a sandbox makes namespaces").then(Sandbox::new)
}

/// Replaces what differs from run to run and has no form of its own: every number becomes `N`,
/// `[ID]` stands for the short form of an id, and columns are two blanks apart.
fn numberless(said: Said) -> Said {
    let plain = |text: &str| -> String {
        let lines = text.lines().map(|line| {
            let words: Vec<String> =
                line.split("  ").filter(|word| !word.is_empty()).map(word).collect();
            let indent = if line.starts_with(' ') { "  " } else { "" };
            format!("{indent}{}\n", words.join("  ").replace("   ", "  "))
        });
        lines.collect()
    };
    Said { stdout: plain(&said.stdout), stderr: plain(&said.stderr), ..said }
}

fn word(text: &str) -> String {
    let mut plain = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let core = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if [8, 12].contains(&core.len()) && core.chars().all(hex) {
            plain.push_str("[ID]");
        } else {
            let mut last = ' ';
            for letter in core.chars().map(|c| if c.is_ascii_digit() { 'N' } else { c }) {
                if letter != 'N' || last != 'N' {
                    plain.push(letter);
                }
                last = letter;
            }
        }
        plain.push_str(&part[core.len()..]);
    }
    plain.trim_start().to_owned()
}
