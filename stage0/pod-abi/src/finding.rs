//! What a host can do for pods: lines of `pod doctor`, some of which a stage1 tells
//! ([`crate::stage::Entrypoints::doctor`]). Since version 4 of the stage ABI.

use serde::{Deserialize, Serialize};

/// One need of pods, and how this host meets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What is needed.
    pub need: String,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to change, where something is to be.
    pub fix: Option<String>,
}

/// How a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is.
    Ok,
    /// Pods run, but not with everything.
    Limited,
    /// No pod runs.
    Missing,
}

impl Finding {
    /// Makes one of a need that is met.
    #[must_use]
    pub fn ok(need: &str, found: impl Into<String>) -> Self {
        Self { need: need.to_owned(), state: State::Ok, found: found.into(), fix: None }
    }

    /// Makes one of a need that is not.
    #[must_use]
    pub fn lacking(
        need: &str,
        state: State,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { need: need.to_owned(), state, found: found.into(), fix: Some(fix.into()) }
    }
}
