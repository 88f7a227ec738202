//! The only place of `xtask` that writes to the terminal: headings, facts, commands, errors.
//!
//! Colour only on a terminal and never as the only carrier of meaning. What the programs under
//! test say goes to the same streams directly, between these lines.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// SGR codes of what is coloured.
const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// Whether the standard output belongs to somebody else.
static ASIDE: AtomicBool = AtomicBool::new(false);

/// From now on says everything on standard error: what is on standard output is a command's.
pub(crate) fn aside() {
    ASIDE.store(true, Ordering::Relaxed);
}

fn coloured(code: &str, text: &str) -> String {
    let aside = ASIDE.load(Ordering::Relaxed);
    let terminal = if aside { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    if terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn line(text: &str) {
    let mut out: Box<dyn Write> = if ASIDE.load(Ordering::Relaxed) {
        Box::new(io::stderr().lock())
    } else {
        Box::new(io::stdout().lock())
    };
    // Nobody reads any more if this fails; the exit status still tells.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Begins a part.
pub(crate) fn heading(text: &str) {
    line("");
    line(&coloured(BOLD, &format!("== {text}")));
}

/// Explains.
pub(crate) fn note(text: &str) {
    line(&coloured(DIM, text));
}

/// Names a value.
pub(crate) fn fact(name: &str, value: &str) {
    line(&format!("{name:>12}  {value}"));
}

/// Shows a command as a person would type it.
pub(crate) fn command(text: &str) {
    line(&coloured(GREEN, &format!("$ {text}")));
}

/// Writes a line as it is.
pub(crate) fn plain(text: &str) {
    line(text);
}

/// Tells what went wrong.
pub(crate) fn error(error: &dyn Display) {
    let text = format!("xtask: {error}");
    let text = if io::stderr().is_terminal() { format!("\x1b[{RED}m{text}\x1b[0m") } else { text };
    let _ = writeln!(io::stderr(), "{text}");
}
