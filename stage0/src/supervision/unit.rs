//! Supervisors in units of systemd, one transient service for each start of a pod.
//!
//! ```text
//!   prepared/ ── StartTransientUnit ──▶ `pod start --supervised UUID` ── READY=1 ──▶ the job is done
//! ```
//!
//! Nothing but the pod's directory ties the unit to us: a note of ours in it, locked as long as we
//! wait ([`crate::pods::Note`]), holds the apps for our client and keeps a pod that goes with its end
//! readable until we have read it. What went wrong before there was a supervisor lies there, too.

use std::cell::OnceCell;
use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use pod_abi::phase::Home;
use pod_abi::{PodId, PodName, exit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{fstat, stat};
use rustix::io::Errno;

use super::farewell::{Farewell, farewell};
use super::obstacle::{Obstacle, Owner, obstacle};
use super::{Begin, Start, Started, Stopping, Supervision, surroundings};
use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::notify::{Heard, Interrupts};
use crate::pods::{Durability, Lock, Note, Pod, Pods, Waiting, Watch};
use crate::systemd::service::{self, PodService};
use crate::systemd::{
    ActiveState, Job, Manager, Outcome, Property, TransientUnit, UnitState, Value, Whom,
};
use crate::{credentials, rundir, stage1, systemd, ui};

/// How often a unit that is in the way is looked at anew: each time it was on its way out.
const ATTEMPTS: usize = 20;

/// How long the unit of a pod that has ended may take to end, too: it runs `pod reap` once more, which
/// finds little to do.
const ENDING: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts supervisors in units.
#[derive(Debug, Default)]
pub(crate) struct Units {
    manager: OnceCell<Manager>,
}

impl Units {
    fn manager(&self) -> Result<&Manager> {
        if self.manager.get().is_none() {
            let manager = Manager::connect()?;
            let _ = self.manager.set(manager); // it was empty a moment ago, and this is one thread
        }
        Ok(self.manager.get().expect("it was just set"))
    }

    /// Returns the unit of a pod, if systemd knows it: the one the pod has recorded, or the one it would
    /// have been given, for a supervisor that was killed at once has recorded none.
    fn unit_of(&self, pod: &Pod) -> Result<Option<Known<'_>>> {
        let status = pod.status().ok().flatten();
        let recorded = status.as_ref().and_then(|status| status.unit.clone());
        let usual = || pod.manifest().map(|manifest| systemd::unit_name(&manifest.name));
        let (unit, manager) = match recorded {
            Some(unit) => (unit, self.manager()?),
            None => match (usual(), self.manager()) {
                (Ok(unit), Ok(manager)) => (unit, manager),
                // It has none as far as anybody knows, so nobody need be asked.
                _ => return Ok(None),
            },
        };
        let Some(state) = manager.state(&unit)? else { return Ok(None) };
        let is_its = match (&state.pod, &status) {
            (Some(id), _) => *id == pod.id.as_str(),
            // Somebody's unit may run another pod by now.
            (None, Some(status)) => {
                status.unit.is_some()
                    && (state.main_pid == 0 || state.main_pid == status.supervisor)
            }
            (None, None) => false,
        };
        Ok(is_its.then_some(Known { manager, unit, state }))
    }

    /// Returns the unit of a pod as long as it is to be stopped before the pod can be. What is called by
    /// that very unit, as it starts or stops, must not wait for it.
    fn living_unit_of(&self, pod: &Pod) -> Result<Option<Known<'_>>> {
        let known = self.unit_of(pod)?.filter(|known| known.state.active.is_alive());
        Ok(known.filter(|known| surroundings::unit() != Some(known.unit.clone())))
    }

    /// Decides about a unit that is in the way of a pod.
    fn look_at(
        &self,
        pods: &Pods,
        pod: Option<&PodId>,
        unit: &str,
    ) -> Result<Option<(Obstacle, Owner)>> {
        let Some(state) = self.manager()?.state(unit)? else { return Ok(None) };
        let owner = match state.pod.as_deref().map(PodId::parse) {
            None => Owner::NoPod,
            Some(Ok(id)) if pod == Some(&id) => Owner::ThisPod,
            Some(Ok(id)) => match pods.open_id(&id)? {
                Some(other) => Owner::OtherPod(other.phase()),
                None if state.root.as_deref().is_some_and(|root| is_root_of(pods, root)) => {
                    Owner::GonePod
                }
                None => Owner::Unknown,
            },
            Some(Err(_)) => Owner::Unknown,
        };
        Ok(Some((obstacle(&state, owner), owner)))
    }

    /// Starts a unit, out of whose way goes what has ended.
    fn start_unit(&self, pods: &Pods, pod: &Pod, unit: &TransientUnit) -> Result<Job> {
        let manager = self.manager()?;
        for _ in 0..ATTEMPTS {
            match manager.start_transient(unit) {
                Err(error) if error.code() == "systemd.unit-exists" => {
                    self.clear(pods, pod, &unit.name, error)?;
                }
                started => return started,
            }
        }
        // Most likely a file: nothing is loaded of it, and all the same the name is taken.
        let sentence = format!("unit `{}` is there, and does not go", unit.name);
        let file = format!(
            "`systemctl cat {}` shows a unit file of that name, or that it is masked; `--name` takes \
             another name",
            unit.name
        );
        Err(CommandError::new("systemd.unit-exists", sentence).hint(file))
    }

    /// Gets a unit out of the way of pod `pod`, if it is one of an ended pod of ours.
    fn clear(&self, pods: &Pods, pod: &Pod, unit: &str, exists: CommandError) -> Result<()> {
        let manager = self.manager()?;
        match self.look_at(pods, Some(&pod.id), unit)?.map(|(obstacle, _)| obstacle) {
            None => Ok(()),
            Some(Obstacle::Ended) => manager.reset_failed(unit),
            Some(Obstacle::Ending) => match manager.stop(unit)? {
                Some(job) => job.wait(None).map(|_| ()),
                None => Ok(()),
            },
            Some(Obstacle::Lives(hint)) => Err(exists.hint(hint.replace("UNIT", unit))),
        }
    }
}

/// A unit that systemd knows.
#[derive(Debug)]
struct Known<'u> {
    manager: &'u Manager,
    unit: String,
    state: UnitState,
}

impl Supervision for Units {
    fn start<'s>(&'s self, start: Start<'s>) -> Result<Box<dyn Started + 's>> {
        let Start { context, pods, run_root, pod, draft, begin } = start;
        let manager = self.manager()?;
        let attempt = pod.status()?.map_or(0, |status| status.attempt).saturating_add(1);
        let note = Note { attempt, hold: begin == Begin::WithClient, fresh: draft.is_some() };
        let waiting = pod.await_as(note)?;
        // From here to the wait, a signal must not leave a pod that nobody starts.
        let interrupts = Interrupts::block()?;
        let unit = describe(context, pod)?;
        let fresh = draft.is_some();
        if let Some(draft) = draft {
            // The lock goes with the descriptor: it is the supervisor's to take.
            drop(draft.into(Home::Prepared, Durability::Volatile)?);
        }
        let watch = Watch::new()?;
        watch.entries(run_root)?;
        let mut started = Unit {
            manager,
            name: unit.name.clone(),
            pods,
            run_root,
            pod,
            attempt,
            waiting: Some(waiting),
            fresh,
            leavings: if fresh { Leavings::Prepared } else { Leavings::None },
            watch,
            interrupts: Some(interrupts),
            job: None,
            format: context.format,
        };
        started.job = Some(self.start_unit(pods, pod, &unit)?);
        Ok(Box::new(started))
    }

    fn check_name(&self, pods: &Pods, name: &PodName) -> Result<()> {
        let unit = systemd::unit_name(name);
        match self.look_at(pods, None, &unit)? {
            // Whose name it is, is told by the pods themselves.
            Some((_, Owner::OtherPod(phase))) if phase.holds_name() => Ok(()),
            Some((Obstacle::Lives(hint), _)) => {
                let sentence = format!("unit `{unit}` is there, and not to be replaced");
                Err(CommandError::new("systemd.unit-exists", sentence)
                    .hint(hint.replace("UNIT", &unit)))
            }
            _ => Ok(()),
        }
    }

    fn stop(&self, pod: &Pod) -> Result<Option<Box<dyn Stopping + '_>>> {
        let Some(Known { manager, unit, .. }) = self.living_unit_of(pod)? else {
            return Ok(None);
        };
        let job = manager.stop(&unit)?;
        Ok(job.map(|job| Box::new(StoppingUnit { manager, job, unit }) as Box<dyn Stopping>))
    }

    fn restart(&self, pod: &Pod) -> Result<bool> {
        let Some(Known { manager, unit, state }) = self.living_unit_of(pod)? else {
            return Ok(false);
        };
        if state.pod.is_some() {
            return Ok(false);
        }
        match manager.restart(&unit)?.wait(None)? {
            Some(Outcome::Done) => Ok(true),
            outcome => {
                let outcome = outcome.unwrap_or(Outcome::Unheard);
                let sentence = format!("unit `{unit}` was not started anew: {outcome:?}");
                Err(CommandError::new("systemd.restart", sentence)
                    .hint(format!("`systemctl status {unit}` and `journalctl -u {unit}` tell why")))
            }
        }
    }

    fn describe(&self) -> String {
        match self.manager().and_then(Manager::version) {
            Ok(version) => format!("systemd {version}"),
            Err(error) => format!("systemd, out of reach: {error}"),
        }
    }

    fn forget(&self, pod: &Pod) -> Result<()> {
        let deadline = Instant::now() + ENDING;
        loop {
            let Some(Known { manager, unit, state }) = self.unit_of(pod)? else { return Ok(()) };
            let name = pod.called();
            let refusal = match farewell(&state) {
                Farewell::Nothing => return Ok(()),
                Farewell::Forget => return manager.reset_failed(&unit),
                // What is called by that very unit must not wait for it.
                _ if surroundings::unit() == Some(unit.clone()) => return Ok(()),
                Farewell::Returns => {
                    format!("pod `{name}` is about to be started again by its unit")
                }
                Farewell::LookAgain if Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Farewell::LookAgain => {
                    format!("pod `{name}` has ended, and its unit `{unit}` has not yet")
                }
            };
            return Err(CommandError::new("pod.running", refusal)
                .hint(format!("`pod stop {name}` ends that; `pod rm -f {name}` does both")));
        }
    }
}

/// Tells whether these pods lie in the root that is called so.
fn is_root_of(pods: &Pods, root: &str) -> bool {
    match (fstat(pods.root()), stat(root)) {
        (Ok(ours), Ok(theirs)) => (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino),
        _ => false,
    }
}

/// Describes the unit of a pod.
fn describe(context: &Context, pod: &Pod) -> Result<TransientUnit> {
    let manifest = pod.manifest()?;
    let apps = pod.apps(&manifest)?;
    // systemd would refuse in fewer words.
    credentials::check(&apps)?;
    let base = command_line(context)?;
    let line = |words: &[&str]| -> Vec<String> {
        base.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
    };
    let id = pod.id.as_str();
    let mut unit = service::of(&PodService {
        manifest: &manifest,
        apps: &apps,
        overhead: stage1::find(&manifest.sandbox.stage1)?.overhead,
        start: &line(&["start", "--supervised", id]),
        reload: &line(&["kill", "--signal", "HUP", id]),
        reap: &line(&["reap", id]),
    })?;
    // What is said last of a credential is what counts.
    let encrypted: Vec<_> =
        credentials::encrypted(&apps).map(|name| (name.clone(), name)).collect();
    if !encrypted.is_empty() {
        unit.properties.push(Property::new("LoadCredentialEncrypted", Value::Pairs(encrypted)));
    }
    Ok(unit)
}

/// Returns how this very program is called for the roots of this command.
fn command_line(context: &Context) -> Result<Vec<String>> {
    let program = env::current_exe().context(|| "cannot tell which program this is".to_owned())?;
    let gone = program.to_str().is_some_and(|path| path.ends_with(" (deleted)"));
    if gone {
        let sentence = "this program was replaced while it ran, and systemd cannot start it anew";
        return Err(CommandError::new("systemd.program", sentence).hint("start the pod again"));
    }
    let text = |path: &std::path::Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            let sentence = format!("`{}` is not valid UTF-8", path.display());
            CommandError::new("systemd.path", sentence)
                .hint("what systemd is to start has paths of UTF-8; `--root` names another")
        })
    };
    Ok(vec![
        text(&program)?,
        "--root".to_owned(),
        text(&context.root)?,
        "--run-root".to_owned(),
        text(&context.run_root)?,
    ])
}

/// What of a pod is to be taken away should its start come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leavings {
    /// Nothing.
    None,
    /// The pod, if it has never left `prepared/`: it was laid out for this start alone.
    Prepared,
}

/// A supervisor in a unit.
#[derive(Debug)]
struct Unit<'s> {
    manager: &'s Manager,
    name: String,
    pods: &'s Pods,
    run_root: BorrowedFd<'s>,
    pod: &'s Pod,
    attempt: u32,
    waiting: Option<Waiting>,
    /// Whether the pod was laid out for this start alone.
    fresh: bool,
    leavings: Leavings,
    watch: Watch,
    /// Blocked until the start is waited for.
    interrupts: Option<Interrupts>,
    /// The job of its start; `None` if there is none, or it has come to something.
    job: Option<Job>,
    format: ui::Format,
}

impl Unit<'_> {
    /// Tells whether the supervisor can be connected to. If its run directory has come, what comes
    /// in there wakes us from now on.
    fn listens(&self) -> Result<bool> {
        let Some(run) = rundir::open(self.run_root, &self.pod.id) else { return Ok(false) };
        self.watch.entries(run.as_fd())?;
        Ok(rundir::has_socket(run.as_fd()))
    }

    /// Waits until `done` tells so, the start has come to something, or the user has had enough.
    fn await_or(&mut self, done: impl Fn(&Self) -> Result<bool>) -> Result<Heard> {
        let interrupts = match self.interrupts.take() {
            Some(interrupts) => interrupts,
            None => Interrupts::block()?,
        };
        loop {
            self.watch.settle();
            if done(self)? {
                return Ok(Heard::Word);
            }
            let Some(job) = &self.job else { return Ok(Heard::End) };
            if let Some(outcome) = job.outcome() {
                let ready = outcome == Outcome::Done;
                if ready {
                    self.leavings = Leavings::None;
                    return Ok(if done(self)? { Heard::Word } else { Heard::End });
                }
                return self.failed(&outcome);
            }
            let mut fds = [
                PollFd::new(job, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
                interrupts.polled(),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "cannot wait for the unit".to_owned()),
            }
            if let Some(signal) = interrupts.next() {
                // The unit goes on, and takes the pod out of `prepared/` any moment.
                self.leavings = Leavings::None;
                return Ok(Heard::Signal(signal));
            }
        }
    }

    /// Waits until nothing is left of the unit whose supervisor has ended. A job that stops it does
    /// nothing but that.
    fn await_settled(&self) -> Result<()> {
        let status = self.pod.status()?.filter(|status| status.attempt == self.attempt);
        let supervisor = status.map(|status| status.supervisor);
        if self.manager.state(&self.name)?.is_some_and(|state| is_left_of(&state, supervisor))
            && let Some(job) = self.manager.stop(&self.name)?
        {
            job.wait(None)?;
        }
        Ok(())
    }

    /// Stops and forgets the unit, if it is the pod's.
    fn let_unit_go(&self) -> Result<()> {
        let of_this_pod = || {
            let state = self.manager.state(&self.name)?;
            Ok(state.filter(|state| state.pod.as_deref() == Some(self.pod.id.as_str())))
        };
        if of_this_pod()?.is_some_and(|state| state.active.is_alive())
            && let Some(job) = self.manager.stop(&self.name)?
        {
            job.wait(None)?;
        }
        match of_this_pod()? {
            Some(state) if state.active == ActiveState::Failed => {
                self.manager.reset_failed(&self.name)
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, outcome: &Outcome) -> Result<Heard> {
        if *outcome == Outcome::Unheard {
            let sentence = format!("systemd does not tell what becomes of unit `{}`", self.name);
            return Err(CommandError::new("systemd.silent", sentence)
                .hint(format!("`systemctl status {}` may", self.name)));
        }
        Ok(Heard::End)
    }
}

impl Started for Unit<'_> {
    fn await_ready(&mut self) -> Result<Heard> {
        let ready = |unit: &Self| {
            let done = unit.job.as_ref().and_then(Job::outcome);
            Ok(done == Some(Outcome::Done))
        };
        self.await_or(ready)
    }

    fn await_held(&mut self) -> Result<Heard> {
        let heard = self.await_or(Self::listens)?;
        if heard == Heard::Word {
            self.leavings = Leavings::None;
        }
        Ok(heard)
    }

    fn ending(&self) -> Result<OwnedFd> {
        self.pod.released()
    }

    fn end(&mut self) -> Result<Option<u8>> {
        let released = self.pod.released()?;
        loop {
            match poll(&mut [PollFd::new(&released, PollFlags::IN)], None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(error).context(|| "cannot wait for the supervisor".to_owned());
                }
            }
        }
        self.await_settled()?;
        match self.pod.status()? {
            Some(status) if status.attempt >= self.attempt => Ok(status.code),
            // It ended before there was a supervisor to record it.
            _ => Ok(Some(exit::OURS)),
        }
    }

    fn show_errors(&mut self) -> bool {
        let error = self.pod.start_error();
        if let Some(report) = &error {
            ui::report(report, self.format);
        }
        error.is_some()
    }

    fn abandon(&mut self) -> Result<()> {
        if let Some(job) = self.manager.stop(&self.name)? {
            job.wait(None)?;
        }
        // It may have been stopped before it took the pod.
        if self.fresh {
            self.leavings = Leavings::Prepared;
        }
        Ok(())
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        // From here on nobody waits: whoever takes the pod away now does so altogether.
        self.waiting = None;
        let is_unused =
            |pod: &Pod| pod.home == Home::Prepared && self.leavings == Leavings::Prepared;
        let open = || self.pods.open_id(&self.pod.id).ok().flatten();
        if open().is_some_and(|pod| is_unused(&pod)) {
            // A policy of its own would have the unit look for a pod that is no more.
            let _ = self.let_unit_go();
        }
        let Some(mut pod) = open() else { return };
        let left_to_us = pod.home == Home::Garbage;
        if !(is_unused(&pod) || left_to_us) || pod.lock() == Lock::Theirs {
            return;
        }
        // What cannot be removed is garbage by its place, or for `pod gc --expire-prepared`.
        if left_to_us || self.pods.rename(&mut pod, Home::Garbage).is_ok() {
            let _ = self.pods.sweep(&pod);
        }
    }
}

/// Tells whether a unit is what is left of the run of a supervisor that has ended. One that starts
/// again by itself is not to be stopped, and neither is the next run, which somebody else may have
/// started meanwhile.
fn is_left_of(state: &UnitState, supervisor: Option<u32>) -> bool {
    let still = state.active.is_alive() && supervisor == Some(state.main_pid);
    state.restart == "no" && (still || state.active == ActiveState::Deactivating)
}

/// A unit that stops.
#[derive(Debug)]
struct StoppingUnit<'m> {
    manager: &'m Manager,
    job: Job,
    unit: String,
}

impl Stopping for StoppingUnit<'_> {
    fn kill(&self) -> Result<()> {
        self.manager.kill(&self.unit, Whom::All, 9)
    }

    fn await_end(self: Box<Self>) -> Result<()> {
        match self.job.wait(None)? {
            Some(Outcome::Done | Outcome::Vanished | Outcome::Skipped) => {
                // It was asked for, so it is no failure, whatever the supervisor has come to.
                match self.manager.state(&self.unit)? {
                    Some(state) if state.active == ActiveState::Failed => {
                        self.manager.reset_failed(&self.unit)
                    }
                    _ => Ok(()),
                }
            }
            outcome => {
                let outcome = outcome.unwrap_or(Outcome::Unheard);
                let sentence = format!("unit `{}` was not stopped: {outcome:?}", self.unit);
                Err(CommandError::new("systemd.stop", sentence)
                    .hint(format!("`systemctl status {}` shows what it does", self.unit)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_of_a_pod_is_not_what_is_left_of_the_last() {
        let table = [
            ("no", ActiveState::Active, 7, true),
            ("no", ActiveState::Activating, 7, true),
            ("no", ActiveState::Deactivating, 0, true),
            ("no", ActiveState::Active, 8, false),
            ("no", ActiveState::Activating, 0, false),
            ("no", ActiveState::Failed, 7, false),
            ("always", ActiveState::Active, 7, false),
            ("always", ActiveState::Deactivating, 0, false),
        ];
        for (restart, active, main_pid, left) in table {
            let restart = restart.to_owned();
            let state = UnitState { active, main_pid, restart, ..UnitState::default() };
            assert_eq!(is_left_of(&state, Some(7)), left, "{state:?}");
            let deactivating = active == ActiveState::Deactivating;
            assert_eq!(is_left_of(&state, None), left && deactivating, "{state:?}");
        }
    }
}
