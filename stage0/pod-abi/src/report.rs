//! An error as it crosses between programs: kind, chain and hints, ready to be shown.
//!
//! The supervisor writes one into a pod's status when something goes wrong behind the `exec`, and
//! whoever waits for the pod prints it. stage0 shows its own errors in the same form.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::{exit, text};

/// The most entries a chain or the hints may have, and bytes each; what crosses a boundary is
/// bounded, and no honest error comes near it.
pub const MAX_ENTRIES: usize = 16;
/// The longest text of one entry, in bytes.
pub const MAX_TEXT: usize = 4096;

/// What went wrong, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// A stable word for programs, such as `image.not-found` or `app.not-executable`.
    pub code: String,
    /// What could not be done to which object.
    pub message: String,
    /// The causes, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to type next, imperative.
    #[serde(default)]
    pub hints: Vec<String>,
    /// The exit status this error stands for in commands whose status may be
    /// an app's.
    pub exit: u8,
}

impl Report {
    /// Makes a report of ours (exit status 125) without causes or hints.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            exit: exit::OURS,
        }
    }

    /// Makes a report of an error and the chain of its sources.
    #[must_use]
    pub fn of(code: &str, error: &dyn Error) -> Self {
        let mut report = Self::new(code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source.filter(|_| report.causes.len() < MAX_ENTRIES) {
            report.causes.push(cause.to_string());
            source = cause.source();
        }
        report
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets the exit status.
    #[must_use]
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// Cuts a report that came from an untrusted side down to the bounds, and drops what a
    /// terminal could take for a command.
    #[must_use]
    pub fn tamed(self) -> Self {
        let tame = |text: String| text::tame(&text, MAX_TEXT / 4);
        let all = |texts: Vec<String>| texts.into_iter().take(MAX_ENTRIES).map(tame).collect();
        Self {
            code: tame(self.code),
            message: tame(self.message),
            causes: all(self.causes),
            hints: all(self.hints),
            exit: self.exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open `x`")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_report_holds_the_whole_chain() {
        let report = Report::of("x.open", &Outer(io::Error::from_raw_os_error(2)));
        assert_eq!(report.message, "cannot open `x`");
        assert_eq!(report.causes, ["No such file or directory (os error 2)"]);
        assert_eq!(report.exit, 125);
    }

    #[test]
    fn a_tamed_report_cannot_drive_a_terminal() {
        let report = Report::new("x", "a\x1b[2Jb").tamed();
        assert_eq!(report.message, "a\u{fffd}[2Jb");
    }
}
