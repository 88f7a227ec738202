//! `pod wait`: waits for pods to end, to be ready, or to run.
//!
//! Nothing is polled: the kernel tells when records change, when a pod moves, and when its lock is
//! free. What is needed of a pod is held open from the beginning, so that one that removes itself
//! at its end still tells how it ended.

use std::os::fd::OwnedFd;

use pod_abi::exit::KILLED;
use pod_abi::phase::Phase;
use pod_abi::status::{Event, EventRecord};
use pod_abi::{PodId, PodName};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

use super::{Session, each};
use crate::cli::{Condition, WaitArgs};
use crate::error::{CommandError, Context as _, Result};
use crate::history::History;
use crate::pods::{Pod, Query, Watch};
use crate::ui::{self, Format};

/// One pod; `pod wait -o json` prints one object of these a line.
#[derive(Debug, Serialize)]
struct Waited<'w> {
    uuid: &'w PodId,
    name: Option<PodName>,
    /// Its exit status, if that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

/// Waits for one pod after the other, and prints what became of each.
///
/// # Errors
///
/// The last pod's for which what was waited for cannot come any more.
pub(crate) fn wait(session: &Session, args: &WaitArgs) -> Result<u8> {
    // All are watched before the first is waited for: meanwhile others may end and be removed.
    let watched: Vec<Result<Watched>> =
        args.pods.iter().map(|word| Watched::begin(session, word)).collect();
    let mut in_order = watched.into_iter();
    each(&session.context, &args.pods, |word| {
        let Some(pod) = in_order.next() else { return Ok(()) };
        let mut pod = pod?;
        let code = pod.wait_for(session, args.condition)?;
        let name = pod.pod.manifest().ok().map(|manifest| manifest.name);
        match (session.context.format, code) {
            (Format::Json, code) => ui::json_line(&Waited { uuid: &pod.pod.id, name, code }),
            (Format::Table, Some(code)) => ui::out(&format!("{code}\n")),
            (Format::Table, None) => ui::out(&format!("{word}\n")),
        }
    })?;
    Ok(0)
}

/// What the history tells of the latest start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Latest {
    started: bool,
    ready: bool,
    code: Option<u8>,
}

impl Latest {
    fn take(&mut self, record: &EventRecord) {
        match record.event {
            Event::PodStarted => *self = Self { started: true, ..Self::default() },
            Event::PodReady => self.ready = true,
            Event::PodEnded { code } => self.code = Some(code),
            _ => {}
        }
    }
}

/// What a look at a pod has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not yet.
    Wait,
    /// It is so; with a pod that has ended, its exit status.
    Met(Option<u8>),
    /// It cannot come any more.
    Never,
}

/// Decides whether what is waited for is so. `phase` is `None` if the pod is gone; `over` tells
/// that it ran when we came, and that this run has ended.
fn verdict(condition: Condition, phase: Option<Phase>, latest: Latest, over: bool) -> Verdict {
    let ended = matches!(phase, None | Some(Phase::Exited | Phase::Garbage | Phase::PrepareFailed));
    match condition {
        Condition::Exited if over || (ended && latest.started) => {
            // Without a status the supervisor was killed: nobody was left to record one.
            Verdict::Met(Some(latest.code.unwrap_or(KILLED)))
        }
        Condition::Running if phase == Some(Phase::Running) => Verdict::Met(None),
        Condition::Ready
            if phase == Some(Phase::Running) && latest.ready && latest.code.is_none() =>
        {
            Verdict::Met(None)
        }
        _ if ended || over => Verdict::Never,
        _ => Verdict::Wait,
    }
}

/// A pod that is waited for.
struct Watched {
    pod: Pod,
    word: String,
    changes: Watch,
    history: Option<History>,
    latest: Latest,
    /// Readable once the run that goes on has ended.
    released: Option<OwnedFd>,
    over: bool,
}

impl Watched {
    fn begin(session: &Session, word: &str) -> Result<Self> {
        let pod = session.pods.find(&Query(word))?;
        let changes = Watch::new()?;
        changes.pod(&pod)?;
        let mut watched = Self {
            word: word.to_owned(),
            pod,
            changes,
            history: None,
            latest: Latest::default(),
            released: None,
            over: false,
        };
        watched.look(session)?;
        Ok(watched)
    }

    /// Takes in what has changed; returns the phase, or `None` if the pod is gone.
    fn look(&mut self, session: &Session) -> Result<Option<Phase>> {
        let phase = session.pods.open_id(&self.pod.id)?.map(|pod| pod.phase());
        if self.history.is_none() {
            self.history = History::open(&self.pod);
        }
        let news = self.history.as_mut().map(History::news).unwrap_or_default();
        news.iter().for_each(|record| self.latest.take(record));
        // Where the disk was full there may be a status without a history.
        if self.latest == Latest::default()
            && phase == Some(Phase::Exited)
            && let Some(status) = self.pod.status()?
        {
            self.latest = Latest { started: true, ready: false, code: status.code };
        }
        if phase == Some(Phase::Running) && self.released.is_none() {
            self.released = Some(self.pod.released()?);
        }
        Ok(phase)
    }

    fn wait_for(&mut self, session: &Session, condition: Condition) -> Result<Option<u8>> {
        loop {
            self.changes.settle();
            let phase = self.look(session)?;
            match verdict(condition, phase, self.latest, self.over) {
                Verdict::Met(code) => return Ok(code),
                Verdict::Never => return Err(self.never(condition)),
                Verdict::Wait => self.sleep()?,
            }
        }
    }

    /// Sleeps until something has changed.
    fn sleep(&mut self) -> Result<()> {
        let mut fds = vec![PollFd::new(&self.changes, PollFlags::IN)];
        fds.extend(self.released.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for a pod".to_owned()),
        }
        let over = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        self.over |= over;
        Ok(())
    }

    fn never(&self, condition: Condition) -> CommandError {
        let word = &self.word;
        let what = match condition {
            Condition::Exited => "was removed before it was started",
            Condition::Ready => "has ended and is not going to be ready",
            Condition::Running => "has ended and does not run",
        };
        CommandError::new("pod.ended", format!("pod `{word}` {what}"))
            .hint(format!("`pod start -d {word}` starts one that is still there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_so_not_yet_or_never() {
        use Condition::{Exited, Ready, Running};
        let up = Latest { started: true, ready: false, code: None };
        let ready = Latest { ready: true, ..up };
        let done = Latest { code: Some(3), ..ready };
        let (prepared, running) = (Some(Phase::Prepared), Some(Phase::Running));
        let (exited, gone) = (Some(Phase::Exited), None);
        let none = Latest::default();
        for (condition, phase, latest, over, expected) in [
            (Exited, prepared, none, false, Verdict::Wait),
            (Exited, running, ready, false, Verdict::Wait),
            (Exited, exited, done, false, Verdict::Met(Some(3))),
            (Exited, gone, done, false, Verdict::Met(Some(3))),
            (Exited, exited, ready, false, Verdict::Met(Some(KILLED))),
            // It runs again already, but the run that was waited for is over.
            (Exited, running, done, true, Verdict::Met(Some(3))),
            (Exited, gone, none, false, Verdict::Never),
            (Ready, prepared, none, false, Verdict::Wait),
            (Ready, running, up, false, Verdict::Wait),
            (Ready, running, ready, false, Verdict::Met(None)),
            // The last run was ready; the one that begins is not yet.
            (Ready, running, done, false, Verdict::Wait),
            (Ready, exited, done, false, Verdict::Never),
            (Running, running, none, false, Verdict::Met(None)),
            (Running, exited, done, false, Verdict::Never),
        ] {
            let text = format!("{condition:?} {phase:?} {latest:?} {over}");
            assert_eq!(verdict(condition, phase, latest, over), expected, "{text}");
        }
    }
}
