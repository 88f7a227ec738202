//! What a command can fail with: a [`Report`] and whether the command line itself was wrong.
//!
//! Every part of this program ends its errors here: a code for programs, a sentence that names the
//! object, the chain of causes, and hints that say what to type next. Nothing here prints; this
//! module imports none of the others, so that all of them may import it.

use std::error::Error;
use std::fmt;
use std::io;

use pod_abi::Report;
use pod_abi::exit;

/// The result of everything that can fail in this program.
pub(crate) type Result<T> = std::result::Result<T, CommandError>;

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct CommandError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    report: Report,
    kind: Kind,
}

/// What the exit status and the way of printing depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line was wrong.
    Usage,
    /// It was refused, or failed.
    Refused,
    /// Whoever read the output has gone; there is nobody to tell.
    OutputClosed,
}

impl CommandError {
    fn with(kind: Kind, report: Report) -> Self {
        Self(Box::new(Inner { report, kind }))
    }

    /// Makes an error of a code and a sentence.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self::with(Kind::Refused, Report::new(code, message))
    }

    /// Makes an error that is the caller's way of typing.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::with(Kind::Usage, Report::new("usage", message))
    }

    /// Makes an error of a typed one, its sources becoming the chain.
    pub(crate) fn of(code: &str, error: &dyn Error) -> Self {
        Self::with(Kind::Refused, Report::of(code, error))
    }

    /// Makes the error that ends a command quietly because its reader has gone.
    pub(crate) fn output_closed() -> Self {
        Self::with(Kind::OutputClosed, Report::new("output.closed", "standard output is closed"))
    }

    /// Makes an error out of what another program has reported.
    pub(crate) fn reported(report: Report) -> Self {
        Self::with(Kind::Refused, report)
    }

    /// Adds a cause and all its sources to the end of the chain.
    #[must_use]
    pub(crate) fn because(mut self, cause: &dyn Error) -> Self {
        let chain = Report::of("", cause);
        self.0.report.causes.push(chain.message);
        self.0.report.causes.extend(chain.causes);
        self
    }

    /// Adds a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.report.hints.push(hint.into());
        self
    }

    /// Notes the exit status the command ends with, for those who read errors as JSON.
    #[must_use]
    pub(crate) fn exiting(mut self, status: u8) -> Self {
        self.0.report.exit = status;
        self
    }

    /// Returns what is shown.
    pub(crate) fn report(&self) -> &Report {
        &self.0.report
    }

    /// Returns the code for programs.
    pub(crate) fn code(&self) -> &str {
        &self.0.report.code
    }

    /// Returns the kind.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the exit status in a command of this family.
    pub(crate) fn status(&self, family: Family) -> u8 {
        match (self.0.kind, family) {
            (Kind::OutputClosed, _) => 0,
            (Kind::Usage, Family::Runs) => exit::OURS,
            (Kind::Usage, Family::Other) => exit::USAGE,
            (Kind::Refused, Family::Runs) => self.0.report.exit,
            (Kind::Refused, Family::Other) => exit::REFUSED,
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.report.message)
    }
}

impl Error for CommandError {}

/// Which column of the table of exit statuses a command belongs to ([`pod_abi::exit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `run`, `start`, `sandbox`, `exec`, `attach`: the status may be an app's or a pod's.
    Runs,
    /// All others.
    Other,
}

/// Gives a bare error of the system its object.
pub(crate) trait Context<T> {
    /// Turns the error into a [`CommandError`] of code `storage` with this sentence.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let made = CommandError::new("storage", message()).because(&error);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    made.hint("make room: `pod gc` and `pod image gc` remove what is not used")
                }
                _ => made,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_error_depends_on_the_command() {
        let usage = CommandError::usage("x");
        assert_eq!((usage.status(Family::Runs), usage.status(Family::Other)), (125, 2));
        let refused = CommandError::new("x", "x");
        assert_eq!((refused.status(Family::Runs), refused.status(Family::Other)), (125, 1));
        let missing = CommandError::reported(Report::new("app.not-found", "x").exit(127));
        assert_eq!(missing.status(Family::Runs), 127);
    }

    #[test]
    fn a_cause_brings_its_sources_along() {
        let error: Result<()> = Err(io::Error::other("inner")).context(|| "outer".to_owned());
        let error = error.unwrap_err();
        assert_eq!(error.report().message, "outer");
        assert_eq!(error.report().causes, ["inner"]);
    }
}
