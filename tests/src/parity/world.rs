//! Where a group runs, and what it has found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pod_abi::status::AppState;
use serde::{Deserialize, Serialize};

use crate::fixtures::Fixture;
use crate::parity::{Group, Wall, missing};
use crate::pods::Pod;
use crate::said::{self, PATIENCE};
use crate::sandbox::{Call, Sandbox};

/// What a group has found behind one wall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many pods were started.
    pub boots: u32,
    /// Each promise, and what was wrong with it; nothing if it holds.
    pub promises: BTreeMap<String, Option<String>>,
}

/// Where a group runs.
#[derive(Debug)]
pub struct World<'s> {
    /// What is around its pods.
    pub sandbox: &'s Sandbox,
    /// The wall.
    pub wall: Wall,
    image: String,
    boots: Cell<u32>,
    promises: RefCell<BTreeMap<String, Option<String>>>,
}

/// What a promise that was never looked at is said to lack.
const NOT_REACHED: &str = "it was not come to";

impl<'s> World<'s> {
    /// Runs a group behind `wall` and leaves what it has found in [`World::results`].
    ///
    /// # Panics
    ///
    /// When something does not hold, or more pods were started than the group says.
    pub fn run_group(group: &Group, wall: Wall, sandbox: &'s Sandbox) {
        let none = |promise: &crate::parity::Promise| {
            (promise.name.to_owned(), Some(NOT_REACHED.to_owned()))
        };
        let world = Self {
            sandbox,
            wall,
            image: sandbox.fixture(Fixture::App),
            boots: Cell::new(0),
            promises: RefCell::new(group.promises.iter().map(none).collect()),
        };
        let whole = panic::catch_unwind(AssertUnwindSafe(|| (group.run)(&world)));
        let found = Found { boots: world.boots.get(), promises: world.promises.borrow().clone() };
        let place = Self::results(sandbox, wall);
        fs::create_dir_all(&place).expect("results can be kept");
        let text = serde_json::to_string_pretty(&found).expect("it is a map of strings");
        fs::write(place.join(format!("{}.json", group.name)), text).expect("results can be kept");
        // Where systemd runs, a pod that failed has left a unit that goes with it.
        let pods = sandbox.pod(["ps", "-a", "-q"]).raw;
        pods.lines().for_each(|pod| drop(sandbox.pod(["rm", "-f", pod])));
        let expected = |name: &str| wall == Wall::Namespaces || missing(name).is_none();
        let broken: Vec<_> = found
            .promises
            .iter()
            .filter(|(name, _)| expected(name))
            .filter_map(|(name, why)| Some((name, why.as_ref()?)))
            .collect();
        // What the whole said was printed when it happened.
        let whole = whole.is_ok() || !found.promises.keys().all(|name| expected(name));
        assert!(whole && broken.is_empty(), "{} behind {wall}: {broken:#?}", group.name);
        assert!(found.boots <= group.boots, "{} pods were started", found.boots);
    }

    /// Returns the directory that holds what was found behind `wall`.
    #[must_use]
    pub fn results(sandbox: &Sandbox, wall: Wall) -> PathBuf {
        let programs = sandbox.programs();
        let top = if programs.are_installed() {
            RESULTS.into()
        } else {
            programs.target().join("parity")
        };
        top.join(wall.stage1())
    }

    /// Makes the check of a promise; that it fails ends nothing.
    pub(super) fn holds(&self, promise: &str, check: impl FnOnce()) {
        let failed = panic::catch_unwind(AssertUnwindSafe(check)).err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned())
        });
        let mut promises = self.promises.borrow_mut();
        let known = promises.get_mut(promise);
        let known = known.unwrap_or_else(|| panic!("the group has no promise `{promise}`"));
        *known = match (known.take(), failed) {
            // Of several checks, all must hold.
            (Some(earlier), _) if earlier != NOT_REACHED => Some(earlier),
            (_, failed) => failed,
        };
    }

    /// Begins a call of `pod VERB` that makes or starts a pod behind the wall.
    pub(super) fn making(&self, verb: &str, words: &[&str]) -> Call<'s> {
        if verb != "prepare" {
            self.boots.set(self.boots.get() + 1);
        }
        self.sandbox.call().args([verb, "--stage1", self.wall.stage1()]).args(words)
    }

    /// Counts a start that is not made by [`World::making`].
    pub(super) fn starts(&self) {
        self.boots.set(self.boots.get() + 1);
    }

    /// Begins a call of `pod run`.
    pub(super) fn run(&self, words: &[&str]) -> Call<'s> {
        self.making("run", words)
    }

    /// Runs a pod in the background.
    pub(super) fn detached(&self, name: &str, words: &[&str]) -> Pod<'s> {
        self.starts();
        let wall = ["--stage1", self.wall.stage1()];
        self.sandbox.detached(name, wall.iter().chain(words))
    }

    /// Returns the words of an app.
    pub(super) fn app<'a>(
        &'a self,
        name: &'a str,
        flags: &[&'a str],
        command: &[&'a str],
    ) -> Vec<&'a str> {
        [&[self.image.as_str(), "--name", name], flags, command].concat()
    }

    /// Returns the words of an app that runs a line of shell.
    pub(super) fn shell<'a>(
        &'a self,
        name: &'a str,
        flags: &[&'a str],
        script: &'a str,
    ) -> Vec<&'a str> {
        self.app(name, flags, &["sh", "-c", script])
    }

    /// Returns what an app has written.
    pub(super) fn logs(&self, pod: &str, app: &str) -> String {
        self.sandbox.pod(["logs", pod, app]).success()
    }

    /// Waits until something is so that nothing tells of.
    #[track_caller]
    pub(super) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE * said::slowness();
        loop {
            match look() {
                Some(seen) => return seen,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
                None => panic!("{what}: not in time"),
            }
        }
    }

    /// Waits for the end of an app.
    #[track_caller]
    pub(super) fn end_of(&self, pod: &Pod<'_>, app: &str) -> pod_abi::status::AppStatus {
        self.wait_for(&format!("`{app}` ends"), || {
            Some(pod.app(app)).filter(|status| status.state == AppState::Exited)
        })
    }
}

/// Where results lie in a machine.
pub const RESULTS: &str = "/var/tmp/parity";
