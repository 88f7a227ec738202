//! A job of the manager: something it has begun to do to a unit, and what came of it.
//!
//! ```text
//! Watch::of  ── the rule is on the bus ──▶  call  ──▶  Watch::job  ──▶  Job
//! ```
//!
//! The end of a job is told by a signal that may overtake the answer to the call, so it is listened
//! for before the call, and compared with the answer's path after it. A thread listens, and makes a
//! descriptor readable when all is known: who waits has pods and signals to look at besides. Should
//! the signal never come, because the manager or the bus was replaced under us, the manager is asked,
//! more and more seldom. The thread ends with the [`Job`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use zbus::blocking::Connection;
use zbus::export::futures_core::Stream;
use zbus::message::Message;
use zbus::zvariant::OwnedObjectPath;
use zbus::{MatchRule, MessageStream};

use super::bus::{Blocked, CALL, Link, MANAGER, PATH, PROPERTIES, SERVICE};
use super::refusal;
use super::state::{ActiveState, UnitState};
use super::waiting::{within, within_or};
use crate::error::{Context as _, Result};

/// How long a signal is waited for before the manager is asked for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How long between two looks at most.
const SELDOM: Duration = Duration::from_secs(10);
/// How long a manager that gives no answer is asked again.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How many signals wait for us. There is one for each job of the unit.
const QUEUE: usize = 64;
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// What a job has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done: of a start, the unit is ready.
    Done,
    /// It was canceled, or another job took its place.
    Canceled,
    /// It took too long.
    TimedOut,
    /// The unit has failed.
    Failed,
    /// A unit it depends on has failed.
    Dependency,
    /// There was nothing to do.
    Skipped,
    /// The unit is gone, and with it what became of the job: the pod's own records tell.
    Vanished,
    /// The manager does not answer any more; the job may go on.
    Unheard,
    /// Something else, in the manager's word.
    Other(String),
}

impl Outcome {
    fn of(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "canceled" => Self::Canceled,
            "timeout" => Self::TimedOut,
            "failed" => Self::Failed,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            "collected" => Self::Vanished,
            other => Self::Other(other.chars().take(80).collect()),
        }
    }
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The unit is to run.
    Start,
    /// It is not to.
    Stop,
}

/// Tells what became of a job that is no longer there from what its unit does; `None` while that
/// is not settled.
fn judged(deed: Deed, state: Option<&UnitState>) -> Option<Outcome> {
    let Some(state) = state else {
        return Some(if deed == Deed::Stop { Outcome::Done } else { Outcome::Vanished });
    };
    match (deed, state.active) {
        (Deed::Stop, ActiveState::Inactive | ActiveState::Failed) => Some(Outcome::Done),
        (Deed::Stop, ActiveState::Deactivating) | (Deed::Start, ActiveState::Deactivating) => None,
        (Deed::Stop, _) => Some(Outcome::Canceled),
        (Deed::Start, ActiveState::Active | ActiveState::Reloading) => Some(Outcome::Done),
        (Deed::Start, ActiveState::Failed) => Some(Outcome::Failed),
        (Deed::Start, ActiveState::Inactive) => Some(Outcome::Vanished),
        (Deed::Start, ActiveState::Activating) => {
            (state.sub == "auto-restart").then_some(Outcome::Failed)
        }
    }
}

/// Ears for the end of jobs of one unit.
#[derive(Debug)]
pub(super) struct Watch {
    stream: MessageStream,
    connection: Connection,
}

impl Watch {
    /// Listens for jobs of `unit`; when this returns, none can be missed any more.
    pub(super) fn of(connection: &Connection, unit: &str, limit: Duration) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SERVICE)?
            .path(PATH)?
            .interface(MANAGER)?
            .member("JobRemoved")?
            .arg(2, unit)?
            .build();
        let listening = MessageStream::for_match_rule(rule, connection.inner(), Some(QUEUE));
        let stream = within(limit, listening).unwrap_or_else(|| Err(timed_out()))?;
        Ok(Self { stream, connection: connection.clone() })
    }

    /// Goes on with the job that was made. Without `path` nobody knows which that is, and its unit
    /// alone tells.
    pub(super) fn job(self, unit: &str, deed: Deed, path: Option<OwnedObjectPath>) -> Result<Job> {
        let tell = || format!("cannot watch unit `{unit}`");
        let settled = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(tell)?;
        let shared = Arc::new(Shared::default());
        let listener = Listener {
            stream: Some(self.stream),
            connection: self.connection,
            unit: unit.to_owned(),
            deed,
            path,
            shared: Arc::clone(&shared),
        };
        let told = settled.try_clone().context(tell)?;
        let _blocked = Blocked::all();
        let thread = thread::Builder::new()
            .name("job".to_owned())
            .spawn(move || listener.listen(&told))
            .context(tell)?;
        Ok(Job { unit: unit.to_owned(), settled, shared, thread: Some(thread) })
    }
}

/// Something the manager does to a unit.
#[derive(Debug)]
pub(crate) struct Job {
    unit: String,
    settled: OwnedFd,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    outcome: OnceLock<Outcome>,
    stopped: AtomicBool,
}

impl Job {
    /// Returns the name of the unit.
    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    /// Returns what it has come to, if it is over.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.shared.outcome.get().cloned()
    }

    /// Waits until it is over, or for so long.
    ///
    /// # Errors
    ///
    /// `storage`, if nothing can be waited for.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Option<Outcome>> {
        let begun = Instant::now();
        loop {
            if let Some(outcome) = self.outcome() {
                return Ok(Some(outcome));
            }
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.settled, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(error).context(|| format!("cannot wait for unit `{}`", self.unit));
                }
            }
        }
    }
}

/// Readable once [`Job::outcome`] is there, and from then on.
impl AsFd for Job {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.settled.as_fd()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // what it has come to is of no interest any more
        }
    }
}

/// The thread behind a [`Job`].
#[derive(Debug)]
struct Listener {
    /// `None` while there is no connection.
    stream: Option<MessageStream>,
    connection: Connection,
    unit: String,
    deed: Deed,
    path: Option<OwnedObjectPath>,
    shared: Arc<Shared>,
}

impl Listener {
    fn listen(mut self, settled: &OwnedFd) {
        let outcome = self.outcome();
        let _ = self.shared.outcome.set(outcome); // there is one thread only
        let _ = rustix::io::write(settled, &1_u64.to_ne_bytes()); // an eventfd at 0 takes it
    }

    fn outcome(&mut self) -> Outcome {
        let mut pause = FIRST_LOOK;
        let mut answered = Instant::now();
        loop {
            if let Some(outcome) = self.removed(pause) {
                return outcome;
            }
            if self.shared.stopped.load(Ordering::Acquire) {
                return Outcome::Unheard;
            }
            match self.look() {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => answered = Instant::now(),
                Err(_) if answered.elapsed() > GIVE_UP => return Outcome::Unheard,
                Err(error) => self.reconnect(&error),
            }
            pause = (pause * 2).min(SELDOM);
        }
    }

    /// Waits for the signal that tells the job's end.
    fn removed(&mut self, limit: Duration) -> Option<Outcome> {
        let begun = Instant::now();
        let Some(path) = self.path.clone() else {
            self.pass(limit);
            return None;
        };
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let Some(stream) = &mut self.stream else {
                self.pass(left);
                return None;
            };
            let next = std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context));
            let stopped = || self.shared.stopped.load(Ordering::Acquire);
            match within_or(left, stopped, next)? {
                Some(Ok(message)) => {
                    let told =
                        message.body().deserialize::<(u32, OwnedObjectPath, String, String)>();
                    if let Ok((_, job, _, result)) = told
                        && job == path
                        && self.is_the_managers(&message)
                    {
                        return Some(Outcome::of(&result));
                    }
                }
                Some(Err(_)) | None => self.stream = None,
            }
        }
    }

    /// Waits, unless it is to stop.
    fn pass(&self, limit: Duration) {
        let stopped = || self.shared.stopped.load(Ordering::Acquire);
        let never = within_or(limit, stopped, std::future::pending::<()>());
        debug_assert!(never.is_none());
    }

    /// Tells whether a signal was sent by the manager: anybody on the bus can send us one that says
    /// it was.
    fn is_the_managers(&self, message: &Message) -> bool {
        let owner = self.call::<String>(BUS, BUS_PATH, BUS, "GetNameOwner", &SERVICE);
        let header = message.header();
        header.sender().is_some_and(|sender| owner.is_ok_and(|owner| owner == sender.as_str()))
    }

    /// Asks the manager whether the job is still there, and if not, what its unit does.
    fn look(&mut self) -> zbus::Result<Option<Outcome>> {
        if let Some(path) = &self.path {
            let id = path.as_str().rsplit('/').next().and_then(|id| id.parse::<u32>().ok());
            let id = id.ok_or(zbus::Error::InvalidReply)?;
            match self.call::<OwnedObjectPath>(SERVICE, PATH, MANAGER, "GetJob", &id) {
                Ok(_) => return Ok(None),
                Err(error) if refusal::is(&error, "NoSuchJob") => {}
                Err(error) => return Err(error),
            }
            // Its end may have been told meanwhile.
            if let Some(outcome) = self.removed(Duration::ZERO) {
                return Ok(Some(outcome));
            }
        }
        let unit = self.unit.as_str();
        let state = match self.call::<OwnedObjectPath>(SERVICE, PATH, MANAGER, "GetUnit", &unit) {
            Ok(path) => {
                let path = path.as_str();
                Some(UnitState::of(&self.call(SERVICE, path, PROPERTIES, "GetAll", &"")?))
            }
            Err(error) if refusal::is(&error, "NoSuchUnit") => None,
            Err(error) => return Err(error),
        };
        Ok(judged(self.deed, state.as_ref()))
    }

    /// Connects anew if the connection is gone, and listens again.
    fn reconnect(&mut self, error: &zbus::Error) {
        let stopped = || self.shared.stopped.load(Ordering::Acquire);
        if !refusal::is_disconnected(error) {
            return;
        }
        if let Ok(link) = Link::connect_or(stopped) {
            let _ = link.subscribe(); // without, the job is looked at now and then
            self.stream = Watch::of(link.connection(), &self.unit, CALL).ok().map(|it| it.stream);
            self.connection = link.connection().clone();
        }
    }

    fn call<T>(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl serde::Serialize + zbus::zvariant::DynamicType),
    ) -> zbus::Result<T>
    where
        T: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        let stopped = || self.shared.stopped.load(Ordering::Acquire);
        let connection = self.connection.inner();
        let calling = connection.call_method(Some(service), path, Some(interface), method, body);
        let reply = within_or(CALL, stopped, calling).unwrap_or_else(|| Err(timed_out()))?;
        reply.body().deserialize()
    }
}

fn timed_out() -> zbus::Error {
    zbus::Error::InputOutput(io::Error::from(io::ErrorKind::TimedOut).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_tells_what_became_of_a_job_nobody_heard_of() {
        let state =
            |active, sub: &str| UnitState { active, sub: sub.to_owned(), ..UnitState::default() };
        use ActiveState::{Activating, Active, Deactivating, Failed, Inactive, Reloading};
        let table = [
            (Deed::Start, Some(state(Active, "running")), Some(Outcome::Done)),
            (Deed::Start, Some(state(Reloading, "reload")), Some(Outcome::Done)),
            (Deed::Start, Some(state(Activating, "start")), None),
            (Deed::Start, Some(state(Activating, "auto-restart")), Some(Outcome::Failed)),
            (Deed::Start, Some(state(Deactivating, "stop-sigterm")), None),
            (Deed::Start, Some(state(Failed, "failed")), Some(Outcome::Failed)),
            (Deed::Start, Some(state(Inactive, "dead")), Some(Outcome::Vanished)),
            (Deed::Start, None, Some(Outcome::Vanished)),
            (Deed::Stop, Some(state(Deactivating, "stop-sigterm")), None),
            (Deed::Stop, Some(state(Inactive, "dead")), Some(Outcome::Done)),
            (Deed::Stop, Some(state(Failed, "failed")), Some(Outcome::Done)),
            (Deed::Stop, Some(state(Active, "running")), Some(Outcome::Canceled)),
            (Deed::Stop, None, Some(Outcome::Done)),
        ];
        for (deed, state, expected) in table {
            assert_eq!(judged(deed, state.as_ref()), expected, "{deed:?} {state:?}");
        }
    }

    #[test]
    fn a_word_nobody_knows_is_kept() {
        assert_eq!(Outcome::of("done"), Outcome::Done);
        assert_eq!(Outcome::of("frozen"), Outcome::Other("frozen".to_owned()));
    }
}
