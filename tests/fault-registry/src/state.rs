//! What all connections of one registry share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::guard::Guard;

/// How long a test waits before it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, `PUT`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// What was sent, as text.
    pub body: String,
    /// What was sent.
    pub bytes: Vec<u8>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// How many bytes of a body went out.
    pub sent: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Arc<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Arc<Vec<u8>>>,
    /// By `REPO/manifests/NAME`.
    pub(crate) manifests: HashMap<String, Manifest>,
    pub(crate) scripts: Vec<(String, VecDeque<Fault>)>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Request>,
    stopped: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) host: String,
    content: Mutex<Content>,
    guard: Mutex<Guard>,
    /// Token and scope; and how many were ever given.
    tokens: Mutex<(Vec<(String, String)>, usize)>,
    log: Mutex<Log>,
    changed: Condvar,
}

impl State {
    pub(crate) fn new(host: String) -> Self {
        Self {
            host,
            content: Mutex::default(),
            guard: Mutex::default(),
            tokens: Mutex::default(),
            log: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.content)
    }

    pub(crate) fn guard(&self) -> MutexGuard<'_, Guard> {
        lock(&self.guard)
    }

    pub(crate) fn tokens(&self) -> Vec<(String, String)> {
        lock(&self.tokens).0.clone()
    }

    pub(crate) fn revoke_tokens(&self) {
        lock(&self.tokens).0.clear();
    }

    pub(crate) fn give_token(&self, scope: &str) -> String {
        let mut tokens = lock(&self.tokens);
        tokens.1 += 1;
        let token = format!("token-{}", tokens.1);
        tokens.0.push((token.clone(), scope.to_owned()));
        token
    }

    /// Takes the fault that is meant for `path`.
    pub(crate) fn fault(&self, path: &str) -> Fault {
        let mut content = self.content();
        let script = content
            .scripts
            .iter_mut()
            .find(|(part, faults)| path.contains(part.as_str()) && !faults.is_empty());
        script.and_then(|(_, faults)| faults.pop_front()).unwrap_or(Fault::None)
    }

    /// Notes a request; the answer is noted later under the number returned.
    pub(crate) fn note(&self, request: Request) -> usize {
        let mut log = lock(&self.log);
        log.requests.push(request);
        self.changed.notify_all();
        log.requests.len() - 1
    }

    pub(crate) fn note_status(&self, number: usize, status: u16) {
        lock(&self.log).requests[number].status = status;
    }

    pub(crate) fn note_sent(&self, number: usize, bytes: usize) {
        let bytes = u64::try_from(bytes).expect("a write is no longer than memory");
        lock(&self.log).requests[number].sent += bytes;
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.log).requests.clone()
    }

    pub(crate) fn wait_for(&self, path: &str, count: usize) {
        let came = |log: &Log| {
            log.requests.iter().filter(|request| request.path.contains(path)).count() >= count
        };
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.log), PATIENCE, |log| !came(log))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.1.timed_out(), "{count} requests for `{path}` did not come");
    }

    /// Waits for `time` or until the registry stops.
    pub(crate) fn idle(&self, time: Duration) {
        let until = Instant::now() + time;
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(lock(&self.log), left, |log| !log.stopped);
        drop(waited);
    }

    pub(crate) fn stop(&self) {
        lock(&self.log).stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.log).stopped
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
