//! The manager: calls to systemd over the system bus, each with a time limit, each error a sentence.
//!
//! systemd may execute itself anew at any time (`systemctl daemon-reexec`, every upgrade of its
//! package) and is then away for a moment. What can be asked twice is asked again; of a start that
//! got no answer it is looked up whether it happened.

use std::cell::{Cell, RefCell};
use std::thread;
use std::time::{Duration, Instant};

use systemd_zbus::Mode;
use zbus::zvariant::OwnedObjectPath;

use super::bus::{CALL, Link};
use super::job::{Deed, Job, Watch};
use super::refusal;
use super::state::{POD_FIELD, UnitState};
use super::value::{Need, Property, TransientUnit, Value};
use crate::error::Result;

/// How long a manager may be away, as while it executes itself anew.
const AWAY: Duration = Duration::from_secs(20);
/// How long between two tries then.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection to systemd.
///
/// Its threads, of which there are some as long as the program runs, have all signals blocked: what
/// the caller does with signals is not changed by them.
#[derive(Debug)]
pub(crate) struct Manager {
    link: RefCell<Link>,
    subscribed: Cell<bool>,
}

/// Whose processes of a unit a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The main process.
    #[allow(dead_code, reason = "the manager's other word")]
    Main,
    /// All of them.
    All,
}

/// How long a change of a unit's properties holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Until the host is booted again.
    UntilReboot,
    /// For ever.
    #[allow(dead_code, reason = "the manager's other word")]
    Always,
}

impl Manager {
    /// Connects to the manager of the system.
    ///
    /// # Errors
    ///
    /// `systemd.no-bus`.
    pub(crate) fn connect() -> Result<Self> {
        let link = Link::connect_or(|| false).map_err(|error| refusal::no_bus(error.as_ref()))?;
        Ok(Self { link: RefCell::new(link), subscribed: Cell::new(false) })
    }

    /// Returns the manager's version, such as `252.39-1~deb12u2`.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn version(&self) -> Result<String> {
        self.asked("ask", "init.scope", |link| link.proxy.version())
    }

    /// Starts a unit that does not exist yet. Properties it can do without and this systemd does not
    /// know are left out.
    ///
    /// # Errors
    ///
    /// `systemd.unit-exists` and those of calls; nothing was started then.
    pub(crate) fn start_transient(&self, unit: &TransientUnit) -> Result<Job> {
        let watch = self.watch(&unit.name)?;
        let mut properties: Vec<&Property> = unit.properties.iter().collect();
        loop {
            let on_bus: Vec<_> =
                properties.iter().map(|it| (it.name.as_str(), it.value.on_bus())).collect();
            let called =
                self.link.borrow().proxy.start_transient_unit(&unit.name, Mode::Fail, &on_bus, &[]);
            let error = match called {
                Ok(job) => return watch.job(&unit.name, Deed::Start, Some(job)),
                Err(error) => error,
            };
            if let Some(unknown) = refusal::unknown_property(&error) {
                let known = properties.len();
                properties.retain(|it| it.name != unknown || it.need == Need::Required);
                if properties.len() < known {
                    continue;
                }
            }
            if refusal::is_passing(&error) {
                return self.started_or_again(unit, &error, watch);
            }
            let refused = refusal::of(&error, "start", &unit.name);
            return Err(match self.version() {
                Ok(version) if refusal::unknown_property(&error).is_some() => {
                    refused.hint(format!("this is systemd {version}"))
                }
                _ => refused,
            });
        }
    }

    /// Starts a unit that got no answer: it may have been started for all that.
    fn started_or_again(
        &self,
        unit: &TransientUnit,
        error: &zbus::Error,
        watch: Watch,
    ) -> Result<Job> {
        let state = self.state(&unit.name)?;
        let field = |text: &String| text.strip_prefix(POD_FIELD).map(str::to_owned);
        let ours = unit.properties.iter().find_map(|property| match &property.value {
            Value::Fields(fields) => fields.iter().find_map(field),
            _ => None,
        });
        match state {
            Some(state) if ours.is_some() && state.pod == ours => {
                watch.job(&unit.name, Deed::Start, None)
            }
            Some(_) => Err(refusal::of(error, "start", &unit.name)),
            None => {
                drop(watch);
                self.start_transient(unit)
            }
        }
    }

    /// Starts a unit that is loaded or has a file.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn start(&self, unit: &str) -> Result<Job> {
        self.job("start", unit, Deed::Start, |link| link.proxy.start_unit(unit, Mode::Replace))
    }

    /// Stops a unit. One that is not loaded has no job: `None`.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn stop(&self, unit: &str) -> Result<Option<Job>> {
        let job =
            self.job("stop", unit, Deed::Stop, |link| link.proxy.stop_unit(unit, Mode::Replace));
        unless(job, "systemd.no-such-unit")
    }

    /// Restarts a unit, or starts it.
    ///
    /// # Errors
    ///
    /// Those of calls.
    #[allow(dead_code, reason = "for units that are not ours to make anew")]
    pub(crate) fn restart(&self, unit: &str) -> Result<Job> {
        self.job("restart", unit, Deed::Start, |link| link.proxy.restart_unit(unit, Mode::Replace))
    }

    /// Has a unit that failed forgotten; one that is not loaded is fine.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn reset_failed(&self, unit: &str) -> Result<()> {
        let reset = self.asked("reset", unit, |link| link.proxy.reset_failed_unit(unit));
        unless(reset, "systemd.no-such-unit").map(|_| ())
    }

    /// Sends a signal to processes of a unit.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn kill(&self, unit: &str, whom: Whom, signal: u8) -> Result<()> {
        let whom = match whom {
            Whom::Main => "main",
            Whom::All => "all",
        };
        self.asked("signal", unit, |link| link.proxy.kill_unit(unit, whom, signal.into()))
    }

    /// Returns what a unit does, if it is loaded.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn state(&self, unit: &str) -> Result<Option<UnitState>> {
        let properties = self.asked("look at", unit, |link| {
            let path = link.proxy.get_unit(unit)?;
            link.properties(&path)
        });
        Ok(unless(properties, "systemd.no-such-unit")?.as_ref().map(UnitState::of))
    }

    /// Changes properties of a loaded unit, all or none.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn set_properties(
        &self,
        unit: &str,
        lasting: Lasting,
        properties: &[Property],
    ) -> Result<()> {
        let on_bus: Vec<_> =
            properties.iter().map(|it| (it.name.as_str(), it.value.on_bus())).collect();
        let runtime = lasting == Lasting::UntilReboot;
        self.asked("change", unit, |link| link.proxy.set_unit_properties(unit, runtime, &on_bus))
    }

    /// Tells whether there is a file for `unit`, such as a template.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn has_file(&self, unit: &str) -> Result<bool> {
        self.asked("look for", unit, |link| match link.call("GetUnitFileState", &unit) {
            Err(error)
                if refusal::is(&error, "FileNotFound") || refusal::is(&error, "NoSuchUnit") =>
            {
                Ok(false)
            }
            answer => answer.map(|_| true),
        })
    }

    /// Has unit `unit`, which must have a file, started at every boot.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn enable(&self, unit: &str) -> Result<()> {
        let (runtime, force) = (false, false);
        self.asked("enable", unit, |link| {
            link.call("EnableUnitFiles", &(vec![unit], runtime, force)).map(drop)
        })?;
        self.daemon_reload()
    }

    /// Takes back what [`Manager::enable`] did.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn disable(&self, unit: &str) -> Result<()> {
        let runtime = false;
        self.asked("disable", unit, |link| {
            link.call("DisableUnitFiles", &(vec![unit], runtime)).map(drop)
        })?;
        self.daemon_reload()
    }

    /// Has the manager read all files of units anew.
    ///
    /// # Errors
    ///
    /// Those of calls.
    pub(crate) fn daemon_reload(&self) -> Result<()> {
        self.asked("reload", "init.scope", |link| link.proxy.reload())
    }

    /// Does something to `unit` that has a job, and watches that.
    fn job(
        &self,
        deed: &str,
        unit: &str,
        kind: Deed,
        call: impl Fn(&Link) -> zbus::Result<OwnedObjectPath>,
    ) -> Result<Job> {
        let watch = self.watch(unit)?;
        let path = self.asked(deed, unit, call)?;
        watch.job(unit, kind, Some(path))
    }

    /// Makes ready to hear of the end of jobs of `unit`. To be called before the job is made, whose
    /// end may be told before its beginning has been answered.
    fn watch(&self, unit: &str) -> Result<Watch> {
        if !self.subscribed.get() {
            self.asked("watch", unit, Link::subscribe)?;
            self.subscribed.set(true);
        }
        let link = self.link.borrow();
        Watch::of(link.connection(), unit, CALL).map_err(|error| refusal::of(&error, "watch", unit))
    }

    /// Asks something that can be asked twice.
    fn asked<T>(
        &self,
        deed: &str,
        unit: &str,
        call: impl Fn(&Link) -> zbus::Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            let error = match call(&self.link.borrow()) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !refusal::is_passing(&error) || begun.elapsed() > AWAY {
                return Err(refusal::of(&error, deed, unit));
            }
            thread::sleep(PAUSE);
            if refusal::is_disconnected(&error)
                && let Ok(link) = Link::connect_or(|| false)
            {
                self.subscribed.set(false);
                self.link.replace(link);
            }
        }
    }
}

/// Turns the error of this code into nothing.
fn unless<T>(result: Result<T>, code: &str) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == code => Ok(None),
        Err(error) => Err(error),
    }
}
