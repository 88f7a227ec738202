//! What tests do with pods again and again: one in the background, the probe's report from inside.
//!
//! Only shorthands over the command line; what they find wrong they report as the command said it.

use std::ffi::OsStr;

use pod_abi::status::{AppState, AppStatus, PodStatus};
use probe::Report;
use serde::Deserialize;

use crate::fixtures::Fixture;
use crate::said::{Running, Said};
use crate::sandbox::Sandbox;

/// A pod in the background, known by its name; stopped when dropped.
#[derive(Debug)]
pub struct Pod<'a> {
    sandbox: &'a Sandbox,
    name: String,
}

impl Sandbox {
    /// Runs `pod run -d --name NAME` with `args` behind it.
    ///
    /// # Panics
    ///
    /// When the pod does not become ready.
    #[must_use]
    pub fn detached<I, S>(&self, name: &str, args: I) -> Pod<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.call().args(["run", "-d", "--name", name]).args(args).run().success();
        Pod { sandbox: self, name: name.to_owned() }
    }

    /// Runs the fixture `app` with flags of the pod and of the app before it, and `command`.
    pub fn run_app(&self, flags: &[&str], command: &[&str]) -> Said {
        let image = self.fixture(Fixture::App);
        self.call().args(["run", "--rm"]).args(flags).args([&image]).args(command).run()
    }

    /// Returns what `pod status` says of pod `name`.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    #[must_use]
    pub fn status(&self, name: &str) -> PodStatus {
        self.status_if_told(name)
            .unwrap_or_else(|| panic!("it tells nothing:\n{}", self.pod(["status", name])))
    }

    /// Returns what `pod status` says of pod `name`; `None` before there is one that has told.
    #[must_use]
    pub fn status_if_told(&self, name: &str) -> Option<PodStatus> {
        #[derive(Deserialize)]
        struct Shown {
            status: Option<PodStatus>,
        }
        let said = self.pod(["status", "-o", "json", name]);
        serde_json::from_str::<Shown>(&said.raw).ok()?.status
    }

    /// Runs the probe in the fixture `app` with `flags`, and returns what it saw.
    ///
    /// # Panics
    ///
    /// When it did not report.
    #[must_use]
    pub fn report(&self, flags: &[&str]) -> Report {
        self.run_app(flags, &["/probe", "report"]).json()
    }
}

impl Pod<'_> {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what `pod status` says of it.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    #[must_use]
    pub fn status(&self) -> PodStatus {
        self.sandbox.status(&self.name)
    }

    /// Returns what `pod status` says of one of its apps.
    ///
    /// # Panics
    ///
    /// When there is no such app.
    #[must_use]
    pub fn app(&self, name: &str) -> AppStatus {
        let apps = self.status().apps;
        let app = apps.into_iter().find(|app| app.name.as_str() == name);
        app.unwrap_or_else(|| panic!("pod `{}` has no app `{name}`", self.name))
    }

    /// Runs a command in it.
    pub fn exec(&self, flags: &[&str], command: &[&str]) -> Said {
        self.sandbox.call().args(["exec"]).args(flags).args([&self.name]).args(command).run()
    }

    /// Follows its logs until they contain `text`.
    ///
    /// # Panics
    ///
    /// When they do not in time.
    pub fn logs_until(&self, text: &str) {
        self.follow().wait_for(text);
    }

    /// Follows its logs.
    #[must_use]
    pub fn follow(&self) -> Running {
        self.sandbox.call().args(["logs", "-f", &self.name]).start()
    }

    /// Stops it, with `flags`.
    pub fn stop(&self, flags: &[&str]) -> Said {
        self.sandbox.call().args(["stop"]).args(flags).args([&self.name]).run()
    }

    /// Tells whether all of its apps run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let apps = self.status().apps;
        !apps.is_empty() && apps.iter().all(|app| app.state == AppState::Running)
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // A test that failed leaves its pod to the sandbox, which kills it.
        if !std::thread::panicking() {
            let _ = self.sandbox.pod(["stop", "-t", "0", &self.name]);
        }
    }
}
