//! The one error of this crate: a kind for programs, a sentence with its causes and ways out for
//! people.
//!
//! It is apart so that every module may import it and it imports none. Plugins are foreign
//! programs; what they say gets in here cut to a bound and without anything a terminal obeys.

use std::error::Error as StdError;
use std::fmt;

use serde_json::Value;

/// The most characters of a foreign text that are shown.
const MAX_SHOWN: usize = 1024;

/// What went wrong, as far as a caller would act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, address or argument that was given cannot be one.
    Argument,
    /// A configuration cannot be read, or says nothing that could be done.
    Configuration,
    /// There is no network of that name.
    NotFound,
    /// Configuration and plugins have no version in common with us.
    Version,
    /// There is no program of a plugin's name.
    PluginMissing,
    /// A plugin refused; [`Error::plugin`] has its own words.
    Plugin,
    /// A plugin took too long and was killed.
    TimedOut,
    /// A plugin said what is no answer.
    Garbage,
    /// The container has, or may still have, that attachment.
    Attached,
    /// The record of an attachment cannot be read.
    Damaged,
    /// Somebody else works on the same container or network, for too long.
    Busy,
    /// The file system of the records failed.
    Storage,
}

impl ErrorKind {
    /// Returns the stable word programs know this kind by.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Argument => "network.argument",
            Self::Configuration => "network.configuration",
            Self::NotFound => "network.not-found",
            Self::Version => "network.version",
            Self::PluginMissing => "network.plugin-missing",
            Self::Plugin => "network.plugin-refused",
            Self::TimedOut => "network.plugin-timeout",
            Self::Garbage => "network.plugin-garbage",
            Self::Attached => "network.attached",
            Self::Damaged => "network.record-damaged",
            Self::Busy => "network.busy",
            Self::Storage => "network.storage",
        }
    }
}

/// Why a plugin refused, in its own words.
///
/// CNI 1.1 `SPEC.md`, "Error"; codes below 100 are the specification's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct PluginError {
    /// What kind of error it is: one of the constants here, or the plugin's own from 100 on.
    pub code: u32,
    /// What went wrong, in one sentence.
    pub msg: String,
    /// More of it; may be empty.
    pub details: String,
}

impl PluginError {
    /// The plugin does not know the version of the configuration.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The container is missing or nobody the plugin knows.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// The environment does not make sense to it; of a command, that it does not know it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// The configuration cannot be decoded.
    pub const UNDECODABLE: u32 = 6;
    /// The configuration makes no sense.
    pub const INVALID_CONFIGURATION: u32 = 7;
    /// What it needs is not ready yet.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: nothing can be attached now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: nothing can be attached, and what is attached may not be connected.
    pub const NOT_AVAILABLE_AND_LIMITED: u32 = 51;

    /// Makes an error without details.
    #[must_use]
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Reads what a program wrote; `None` if it is no error of CNI, or one that says nothing.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(answer).ok()?;
        let code = value["code"].as_u64().and_then(|code| u32::try_from(code).ok());
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let read = Self { code: code.unwrap_or(0), msg: text("msg"), details: text("details") };
        (read != Self::new(0, "")).then_some(read)
    }

    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

/// Why something could not be done to a network.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    sentence: String,
    cause: Option<Box<Cause>>,
    hints: Vec<String>,
    plugin: Option<PluginError>,
}

/// One cause, and the one behind it.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Self>>,
}

impl Error {
    /// Returns what a caller should know to act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the stable word programs know this error by, such as `network.not-found`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// Returns what to do next, imperative; may be empty.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Returns the plugin's own words, if a plugin refused.
    #[must_use]
    pub fn plugin(&self) -> Option<&PluginError> {
        self.0.plugin.as_ref()
    }

    pub(crate) fn new(kind: ErrorKind, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self(Box::new(Inner { kind, sentence, cause: None, hints: Vec::new(), plugin: None }))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds `cause` behind all causes there are; an empty one says nothing and is left out.
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        let text = tame(&cause.to_string());
        if !text.is_empty() {
            let mut last = &mut self.0.cause;
            while let Some(cause) = last {
                last = &mut cause.next;
            }
            *last = Some(Box::new(Cause { text, next: None }));
        }
        self
    }

    /// Keeps a plugin's own words, and gives them as causes.
    pub(crate) fn said(self, plugin: PluginError) -> Self {
        let code = plugin.code;
        let mut error = self.because(format_args!("{} (code {code})", tame(&plugin.msg)));
        if plugin.details != plugin.msg {
            error = error.because(&plugin.details);
        }
        error.0.plugin = Some(plugin);
        error
    }

    /// Puts a further sentence in front; everything else stays.
    pub(crate) fn within(mut self, sentence: impl Into<String>) -> Self {
        let text = std::mem::replace(&mut self.0.sentence, sentence.into());
        self.0.cause = Some(Box::new(Cause { text, next: self.0.cause.take() }));
        self
    }

    /// Adds what else went wrong at the end, as further causes, with its hints.
    pub(crate) fn followed_by(self, other: &Self) -> Self {
        let mut all = self.because(&other.0.sentence);
        let mut next = other.0.cause.as_deref();
        while let Some(cause) = next {
            all = all.because(&cause.text);
            next = cause.next.as_deref();
        }
        for hint in other.hints() {
            if !all.0.hints.contains(hint) {
                all.0.hints.push(hint.clone());
            }
        }
        all
    }
}

/// Makes a foreign text one that can be shown: in one line of bounded length, without control
/// characters and without any that turn the direction of writing.
pub(crate) fn tame(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == MAX_SHOWN {
            shown.push('…');
            break;
        }
        shown.push(match c {
            '\n' | '\t' => ' ',
            '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c if c.is_control() => '\u{fffd}',
            c => c,
        });
    }
    shown
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence and all causes.
    fn chain(error: &Error) -> Vec<String> {
        let mut next: Option<&dyn StdError> = Some(error);
        std::iter::from_fn(|| {
            let error = next?;
            next = error.source();
            Some(error.to_string())
        })
        .collect()
    }

    #[test]
    fn causes_stand_in_the_order_of_what_led_to_what() {
        let undone = Error::new(ErrorKind::TimedOut, "undoing it failed").because("b").hint("wait");
        let error = Error::new(ErrorKind::Plugin, "plugin `x` refused ADD")
            .said(PluginError::new(11, "no lease").details("range is full"))
            .within("cannot attach")
            .followed_by(&undone);
        assert_eq!(error.code(), "network.plugin-refused");
        assert_eq!(error.plugin().unwrap().code, PluginError::TRY_AGAIN_LATER);
        assert_eq!(error.hints(), ["wait"]);
        let all = [
            "cannot attach",
            "plugin `x` refused ADD",
            "no lease (code 11)",
            "range is full",
            "undoing it failed",
            "b",
        ];
        assert_eq!(chain(&error), all);
    }

    #[test]
    fn a_refusal_may_be_written_loosely() {
        let read = |text: &str| PluginError::read(text.as_bytes());
        let whole = r#"{"cniVersion":"1.0.0","code":7,"msg":"a","details":"b"}"#;
        assert_eq!(read(whole), Some(PluginError::new(7, "a").details("b")));
        let loose = r#"{"code":-1,"msg":"a","details":null}"#;
        assert_eq!(read(loose), Some(PluginError::new(0, "a")));
        for nothing in
            ["", "{}", "[]", "7", "oops", r#"{"code":0,"msg":""}"#, r#"{"interfaces":[]}"#]
        {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_a_plugin_says_cannot_drive_a_terminal_nor_fill_it() {
        let long = format!("\x1b[2J\u{202e}{}\nb", "x".repeat(5000));
        let error = Error::new(ErrorKind::Plugin, "a").said(PluginError::new(100, long));
        let shown = &chain(&error)[1];
        assert!(
            shown.starts_with("\u{fffd}[2J\u{fffd}x") && shown.chars().count() < 1100,
            "{shown}"
        );
    }
}
