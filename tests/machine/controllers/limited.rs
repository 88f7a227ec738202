//! A pod with limits, in a unit of a person's own, as in a unit file with `ExecStart=pod run …`.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pod_abi::AppName;
use pod_abi::status::{AppState, AppStatus, PodStatus};
use serde_json::{Map, Value, json};
use tests::fixtures::Fixture;
use tests::said::{self, Said};
use tests::sandbox::Sandbox;

/// Where cgroups are.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// How long something that must come may take, where nothing tells that it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod that was described.
#[derive(Debug)]
pub(super) struct Wanted<'m> {
    machine: &'m Sandbox,
    name: &'static str,
    properties: Vec<&'static str>,
    flags: Vec<&'static str>,
    apps: Vec<(&'static str, Value, &'static str)>,
    sandbox: Map<String, Value>,
    capability: Option<&'static str>,
}

/// A pod that runs; its unit is stopped and the pod removed when dropped.
#[derive(Debug)]
pub(super) struct Limited<'m> {
    machine: &'m Sandbox,
    name: &'static str,
}

impl<'m> Wanted<'m> {
    /// Describes a pod in a unit with `Delegate=yes`, that ends when all its apps have.
    pub(super) fn new(machine: &'m Sandbox, name: &'static str) -> Self {
        let properties = vec!["Delegate=yes"];
        let sandbox = json!({ "exitPolicy": "all" }).as_object().cloned().unwrap_or_default();
        Self {
            machine,
            name,
            properties,
            flags: Vec::new(),
            apps: Vec::new(),
            sandbox,
            capability: None,
        }
    }

    /// Replaces the properties of the unit.
    pub(super) fn properties(mut self, properties: &[&'static str]) -> Self {
        self.properties = properties.to_vec();
        self
    }

    /// Adds flags of the pod.
    pub(super) fn flags(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Adds a field of the pod.
    pub(super) fn field(mut self, name: &str, value: Value) -> Self {
        self.sandbox.insert(name.to_owned(), value);
        self
    }

    /// Gives every app one more capability.
    pub(super) fn capability(mut self, name: &'static str) -> Self {
        self.capability = Some(name);
        self
    }

    /// Adds an app that runs a script.
    pub(super) fn app(mut self, name: &'static str, limits: Value, script: &'static str) -> Self {
        self.apps.push((name, limits, script));
        self
    }

    /// Runs the pod until it is ready, or tells what `systemd-run` says and the journal.
    fn run(&self) -> Said {
        let image = self.machine.fixture(Fixture::App);
        let mut words = vec!["run", "--dry-run", "--name", self.name];
        words.extend(&self.flags);
        for (number, (name, _, script)) in self.apps.iter().enumerate() {
            words.extend((number > 0).then_some("---"));
            words.extend([&image, "--name", name, "sh", "-c", script]);
        }
        let mut spec: Value = self.machine.pod(words).json();
        for ((_, limits, _), app) in
            self.apps.iter().zip(spec["apps"].as_array_mut().expect("apps are a list"))
        {
            app["resources"] = limits.clone();
            if let Some(held) = app["process"]["capabilities"].as_array_mut() {
                held.extend(self.capability.map(Value::from));
            }
        }
        for (name, value) in &self.sandbox {
            spec["sandbox"][name] = value.clone();
        }
        let path = self.machine.path(&format!("{}.json", self.name));
        fs::write(&path, spec.to_string()).expect("the sandbox can be written");
        let mut unit = vec!["--quiet".to_owned(), format!("--unit={}", self.name)];
        let always = ["NotifyAccess=main", "KillMode=mixed", "OOMPolicy=continue"];
        unit.push("--service-type=notify".to_owned());
        let properties = always.iter().chain(&self.properties);
        unit.extend(properties.map(|property| format!("--property={property}")));
        unit.extend(["pod".to_owned(), "run".to_owned(), "--spec".to_owned()]);
        unit.push(path.display().to_string());
        self.machine.program("systemd-run").args(unit).run()
    }

    /// Starts the pod.
    #[track_caller]
    pub(super) fn start(self) -> Limited<'m> {
        let started = Limited { machine: self.machine, name: self.name };
        let said = self.run();
        assert_eq!(said.code, 0, "{said}\n{}", started.journal());
        started
    }

    /// Checks that the pod does not start, and returns what its unit has said.
    #[track_caller]
    pub(super) fn refused(self) -> String {
        let started = Limited { machine: self.machine, name: self.name };
        let said = self.run();
        let journal = started.journal();
        assert_ne!(said.code, 0, "{said}\n{journal}");
        assert!(journal.contains("status=125"), "{journal}");
        assert!(started.app_ran_never(), "nothing may have been started");
        journal
    }
}

impl Limited<'_> {
    /// Returns the directory of its unit.
    pub(super) fn unit(&self) -> PathBuf {
        PathBuf::from(format!("{CGROUPS}/system.slice/{}.service", self.name))
    }

    /// Returns the record of the pod.
    pub(super) fn status(&self) -> PodStatus {
        self.machine.status(self.name)
    }

    /// Returns the record of an app.
    pub(super) fn app(&self, app: &str) -> AppStatus {
        let app = AppName::parse(app).expect("it is a name");
        let known = self.status().apps.into_iter().find(|known| known.name == app);
        known.expect("the pod has it")
    }

    /// Returns the directory with the leaves.
    pub(super) fn leaves(&self) -> PathBuf {
        let recorded = self.status().cgroup.expect("it has a cgroup");
        let path = PathBuf::from(format!("{CGROUPS}{recorded}"));
        if recorded.ends_with("/pod") { path } else { path.join("pod") }
    }

    /// Reads a file of the leaf of an app.
    #[track_caller]
    pub(super) fn leaf(&self, app: &str, file: &str) -> String {
        let path = self.leaves().join(format!("app-{app}")).join(file);
        let text = fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Returns the number behind a word in a file of the leaf of an app.
    #[track_caller]
    pub(super) fn count(&self, app: &str, file: &str, word: &str) -> u64 {
        let text = self.leaf(app, file);
        number(&text, word).unwrap_or_else(|| panic!("no `{word}` in `{file}`:\n{text}"))
    }

    /// Waits for an app to end, and returns how.
    #[track_caller]
    pub(super) fn end_of(&self, app: &str) -> AppStatus {
        self.wait_for("the app ends", || {
            let status = self.app(app);
            (status.state == AppState::Exited).then_some(status)
        })
    }

    /// Waits for the end of the pod, and returns its status.
    #[track_caller]
    pub(super) fn end(&self) -> PodStatus {
        self.wait_for("the pod ends", || Some(self.status()).filter(|status| status.code.is_some()))
    }

    /// Waits until something is so.
    #[track_caller]
    pub(super) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE * said::slowness();
        loop {
            match look() {
                Some(seen) => return seen,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
                None => panic!("{what}: not in time\n{}", self.journal()),
            }
        }
    }

    /// Tells whether the pod's history has this event, of this app if one is named.
    pub(super) fn has(&self, event: &str, app: Option<&str>) -> bool {
        let text = self.machine.pod(["events", "-o", "json", self.name]).success();
        let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let of_app = |record: &Value| app.is_none_or(|app| record["app"] == app);
        records.flatten().any(|record| record["event"] == event && of_app(&record))
    }

    /// Calls `pod` and returns what it says.
    pub(super) fn pod(&self, words: &[&str]) -> Said {
        self.machine.pod(words)
    }

    fn journal(&self) -> String {
        let unit = format!("--unit={}", self.name);
        self.machine.program("journalctl").args(["--no-pager", &unit]).run().raw
    }

    fn app_ran_never(&self) -> bool {
        !self.has_status() || self.status().apps.iter().all(|app| app.started.is_none())
    }

    fn has_status(&self) -> bool {
        self.machine.pod(["status", "-o", "json", self.name]).code == 0
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let call = |program: &str, words: &[&str]| {
            let _ = self.machine.program(program).args(words).run(); // the check sees what is left
        };
        call("systemctl", &["stop", self.name]);
        call("systemctl", &["reset-failed", self.name]);
        if self.has_status() {
            call("pod", &["rm", "--force", self.name]);
        }
    }
}

/// Returns the number behind a word, as in `memory.events`, or behind `WORD=`, as in `io.stat`.
pub(super) fn number(text: &str, word: &str) -> Option<u64> {
    let mut words = text.split([' ', '\n', '=']);
    words.find(|known| *known == word)?;
    words.next()?.parse().ok()
}
