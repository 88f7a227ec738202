//! What becomes of a machine whose guest, monitor or servers fail: it ends, and the first cause is
//! what is told of it.

use std::time::Duration;

use pod_abi::Report;
use pod_sys::Exit;
use supervisor::Failure;

use super::{Crew, Line, Machine};
use crate::child::{Child, manner};
use crate::share::Server;
use crate::talk::Loss;
use crate::{ending, errand};

/// How long a monitor may take to say how its machine has ended. It writes out what apps have said
/// last before, for two seconds at most.
const ENDING: Duration = Duration::from_secs(4);

/// How long a monitor that has hung up may take to be gone by itself. One that lives on then has
/// closed its streams for another reason: the guest has.
const LAST_BREATH: Duration = Duration::from_secs(1);

impl Machine<'_> {
    /// Ends the machine, unless the guest has only refused something; returns what to tell whoever
    /// has asked.
    pub(super) fn lose(&self, line: &mut Line, loss: Loss) -> Failure {
        let report = match loss {
            Loss::Refused(failure) => return failure,
            Loss::Interrupted => {
                if !self.runs {
                    self.crew.borrow().kill();
                }
                return errand::interrupted();
            }
            Loss::Failed(failure) => failure.report(),
            Loss::Ended => self.explain_end(line),
            Loss::ServerEnded(at) => {
                let died = self.crew.borrow_mut().servers.get_mut(at).and_then(how_it_died);
                died.unwrap_or_else(|| self.explain_end(line))
            }
            Loss::Late(what) if what == crate::talk::FIRST_WORD => {
                let seconds = self.patience.boot.as_secs();
                let what = format!("the guest has not booted within {seconds} s");
                self.last_look(
                    line,
                    Report::new("vm.boot", what).hint("`pod doctor` looks for why"),
                )
            }
            Loss::Late(what) => {
                let what = format!("PID 1 of the guest does not answer: it was asked {what}");
                self.last_look(line, Report::new("vm.agent-lost", what))
            }
            Loss::Violation(how) => {
                let what = format!("PID 1 of the guest says what no honest one says: {how}");
                Report::new("vm.agent-lost", what).tamed()
            }
        };
        self.end_because(report)
    }

    /// Ends the machine of a guest that has broken the rules.
    pub(super) fn break_off(&self, how: &str) -> Failure {
        let what = format!("PID 1 of the guest says what no honest one says: {how}");
        self.end_because(Report::new("vm.agent-lost", what))
    }

    fn end_because(&self, report: Report) -> Failure {
        self.crew.borrow().kill();
        let mut cause = self.cause.borrow_mut();
        // What follows from the first failure is not told.
        Failure::from(cause.get_or_insert(report).clone())
    }

    /// Has the monitor end a machine that hangs, and adds what it has seen of it.
    fn last_look(&self, line: &Line, report: Report) -> Report {
        line.helm.let_go();
        match line.helm.end(ENDING) {
            Some(end) => ending::with_last_look(report, &end),
            None => report,
        }
    }

    /// Hears what the guest says unasked, and looks after the servers; without waiting.
    pub(super) fn heed(&self) {
        let Some(alarm) = &self.alarm else { return };
        alarm.quiet();
        let is_late = alarm.has_rung_late();
        let mut line = self.line.borrow_mut();
        let Some(line) = line.as_mut() else { return };
        match line.talk.hear() {
            Ok(()) => {}
            // The end of the monitor tells more than that of one stream, if it comes; until then
            // what apps have said last is on its way.
            Err(Loss::Ended) => {
                alarm.forget(line.talk.stream());
                alarm.ring_after(ENDING);
            }
            Err(Loss::Failed(_)) => {
                // It ends now; what it has said is kept for whoever asks why.
                alarm.forget(line.talk.stream());
            }
            Err(loss) => {
                alarm.forget(line.talk.stream());
                self.lose(line, loss);
            }
        }
        let mut died = None;
        {
            let Crew { servers, .. } = &mut *self.crew.borrow_mut();
            for server in servers.iter_mut().filter(|server| server.child.has_ended()) {
                alarm.forget(server.child.pidfd());
                died = died.or_else(|| how_it_died(server));
            }
        }
        if let Some(report) = died {
            self.end_because(report);
        }
        if is_late {
            let said = line.helm.end(Duration::ZERO);
            self.end_because(said.map_or_else(hung_up, |end| ending::explain(&end)));
        }
    }

    /// Tells why the machine is no more, which has ended.
    pub(super) fn explain(&self) -> Report {
        if let Some(cause) = self.cause.borrow().as_ref() {
            return cause.clone();
        }
        let died = {
            let mut crew = self.crew.borrow_mut();
            let ended = crew.servers.iter_mut().filter(|server| server.child.has_ended());
            ended.filter_map(how_it_died).next()
        };
        if let Some(report) = died {
            return report;
        }
        match self.line.borrow_mut().as_mut() {
            Some(line) => self.explain_end(line),
            None => Report::new("vm.killed", "there is no virtual machine any more"),
        }
    }

    fn explain_end(&self, line: &mut Line) -> Report {
        let end = line.helm.end(ENDING);
        if let Some(report) = line.talk.last_words() {
            return report;
        }
        match end {
            Some(end) => ending::explain(&end),
            None => self.explain_silence(),
        }
    }

    /// Tells how a monitor died that has not said a word, or that it lives.
    fn explain_silence(&self) -> Report {
        let mut crew = self.crew.borrow_mut();
        if crew.monitor.as_ref().is_some_and(|monitor| !monitor.ends_within(LAST_BREATH)) {
            return hung_up();
        }
        crew.kill();
        let exit = crew.monitor.as_mut().and_then(Child::reap);
        let what = format!("the pod's virtual machine monitor died: {}", manner(exit));
        let mut report = Report::new("vm.killed", what);
        let words = crew.monitor.as_ref().and_then(Child::last_words);
        report.causes.extend(words.map(|words| format!("it said: {words}")));
        let out_of_memory = self.enclosure.usage().and_then(|usage| usage.oom_kills);
        if out_of_memory.is_some_and(|kills| kills > 0) {
            report =
                report.hint("memory ran out on the host side: give the pod more by `--memory`");
        }
        report
    }
}

/// Tells of a guest that is gone while its machine is not: nothing honest closes its stream to the
/// host and lives on.
fn hung_up() -> Report {
    Report::new("vm.agent-lost", "the guest has closed its stream to the host")
}

/// Tells how a server died that has ended; none if it ended because its machine did.
fn how_it_died(server: &mut Server) -> Option<Report> {
    let exit = server.child.reap();
    if exit == Some(Exit::Code(0)) {
        return None;
    }
    let volume = &server.volume;
    let what = format!("the server of volume `{volume}` died: {}", manner(exit));
    let mut report = Report::new("volume.server-died", what);
    let words = server.child.last_words();
    report.causes.extend(words.map(|words| format!("it said: {words}")));
    Some(report)
}
