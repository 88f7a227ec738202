//! What can fail in the supervisor: one thing it could not do, with its cause.
//!
//! Errors here end the pod and are shown to a person, never matched on; so there is one type that
//! says what could not be done to which object, and no list of variants that nobody reads.

use std::borrow::Cow;
use std::io::{self, Write as _};

use pod_abi::Report;

/// The code of a failure to raise a wall because the pod was asked to end meanwhile.
pub const INTERRUPTED: &str = "pod.interrupted";

/// Something the supervisor or a stage1 could not do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    code: &'static str,
    hint: Option<Cow<'static, str>>,
    told: Option<Box<Report>>,
}

impl Failure {
    /// Makes a failure without a cause beneath it.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, code: "pod.failed", hint: None, told: None }
    }

    /// Makes a failure of an operating system call or a parser.
    #[must_use]
    pub fn of(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            source: Some(source.into()),
            code: "pod.failed",
            hint: None,
            told: None,
        }
    }

    /// Sets the stable word for programs.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Tells whether nothing went wrong but that somebody did not want to wait.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        self.code == INTERRUPTED
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes it to standard error, where nobody else can tell it: before there is a status, and
    /// after the last.
    pub fn say(&self) {
        let report = self.report();
        let mut text = format!("error: {}\n", report.message);
        for cause in report.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        for hint in report.hints {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        // There is nowhere else to say it.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Makes the report that crosses to whoever waits for the pod.
    #[must_use]
    pub fn report(&self) -> Report {
        if let Some(told) = &self.told {
            return Report::clone(told);
        }
        let report = Report::of(self.code, self);
        match &self.hint {
            Some(hint) => report.hint(hint.clone()),
            None => report,
        }
    }
}

impl From<Report> for Failure {
    /// Takes over a failure that another process has told.
    fn from(report: Report) -> Self {
        let told = Some(Box::new(report.clone()));
        Self { told, ..Self::new(report.message) }
    }
}

/// Gives the errors of system calls their object.
pub trait During<T> {
    /// Turns an error into a [`Failure`] that says what was being done.
    ///
    /// # Errors
    ///
    /// The error there was, with its object.
    fn during<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T, Failure> {
        self.map_err(|source| Failure::of(what(), source.into()))
    }
}
