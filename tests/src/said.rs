//! What a command said and how it ended, and commands that are still speaking.
//!
//! Every command has a time limit, after which it is killed and what it said so far is shown: a
//! hanging test must explain itself. Waiting is done on pipes and condition variables, never by
//! sleeping.

use std::env;
use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

/// How long a command may take unless a test says otherwise: a pod starts in milliseconds, but
/// two cores may be busy with a compiler.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that says how many times slower than a computer this machine is.
pub const SLOWNESS: &str = "POD_TESTS_SLOWNESS";

/// Returns how many times longer everything may take here: more than once in a machine whose
/// processor is emulated.
#[must_use]
pub fn slowness() -> u32 {
    env::var(SLOWNESS).ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// What a command said, and how it ended.
#[derive(Clone, Debug)]
#[must_use = "snapshot it, or check it with `success`"]
pub struct Said {
    /// The command, for messages.
    pub command: String,
    /// Its standard output, with what differs from run to run replaced by [`Sandbox`].
    ///
    /// [`Sandbox`]: crate::sandbox::Sandbox
    pub stdout: String,
    /// Its standard output as it was.
    pub raw: String,
    /// Its standard error, likewise.
    pub stderr: String,
    /// Its exit status, as a shell counts: 128+n for a signal.
    pub code: i32,
}

impl Said {
    /// Checks that the command succeeded, and returns its standard output.
    ///
    /// # Panics
    ///
    /// When it failed, with everything it said.
    #[track_caller]
    pub fn success(self) -> String {
        self.exits(0)
    }

    /// Checks that the command exited with `code`, and returns its standard output.
    ///
    /// # Panics
    ///
    /// When it exited otherwise, with everything it said.
    #[track_caller]
    pub fn exits(self, code: i32) -> String {
        assert_eq!(self.code, code, "`{}` said:\n{self}", self.command);
        self.stdout
    }

    /// Checks that the command failed with `code`, said nothing on standard output, and named
    /// `words` in its one error; returns its standard error.
    ///
    /// # Panics
    ///
    /// When it did otherwise, with everything it said.
    #[track_caller]
    pub fn refuses(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, code, "`{}` said:\n{self}", self.command);
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one clear error; `{}` said:\n{self}", self.command);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?}; `{}` said:\n{self}", self.command);
        }
        self.stderr
    }

    /// Reads the standard output of a successful command as JSON.
    ///
    /// # Panics
    ///
    /// When the command failed or wrote something else.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(self) -> T {
        let command = self.command.clone();
        let text = self.raw.clone();
        self.success();
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("`{command}` wrote no such JSON: {error}\n{text}"))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                let end = if text.ends_with('\n') { "" } else { "\n" };
                write!(f, "--- {name} ---\n{text}{end}")?;
            }
        }
        write!(f, "--- exit {} ---", self.code)
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    command: String,
    pid: Pid,
    child: Option<Child>,
    stdout: Stream,
    stderr: Stream,
    deadline: Instant,
}

#[derive(Clone, Debug, Default)]
struct Stream(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let stream = Self::default();
        let ours = stream.clone();
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            loop {
                let count = pipe.read(&mut chunk).unwrap_or(0);
                let (heard, changed) = &*ours.0;
                let mut heard = heard.lock().expect("no reader panics");
                heard.bytes.extend_from_slice(&chunk[..count]);
                heard.ended = count == 0;
                changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        stream
    }

    /// Waits until `wanted` holds or the stream has ended; tells whether it holds.
    fn wait(&self, deadline: Instant, wanted: impl Fn(&Heard) -> bool) -> bool {
        let (heard, changed) = &*self.0;
        let mut heard = heard.lock().expect("no reader panics");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if wanted(&heard) {
                return true;
            }
            if heard.ended || left.is_zero() {
                return false;
            }
            heard = changed.wait_timeout(heard, left).expect("no reader panics").0;
        }
    }

    fn text(&self) -> String {
        let heard = self.0.0.lock().expect("no reader panics");
        String::from_utf8_lossy(&heard.bytes).into_owned()
    }
}

impl Running {
    /// Starts `command`, which may take as long as `patience`.
    ///
    /// # Panics
    ///
    /// When it cannot be started at all.
    pub fn start(mut command: Command, name: &str, patience: Duration) -> Self {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        Self {
            command: name.to_owned(),
            pid: Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive")),
            stdout: Stream::of(stdout),
            stderr: Stream::of(stderr),
            child: Some(child),
            deadline: Instant::now() + patience,
        }
    }

    /// Starts `command`, whose standard output is not read before [`Running::listen`].
    ///
    /// # Panics
    ///
    /// When it cannot be started at all.
    pub fn start_unread(mut command: Command, name: &str, patience: Duration) -> Self {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        let stderr = child.stderr.take().expect("it was asked for");
        Self {
            command: name.to_owned(),
            pid: Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive")),
            stdout: Stream::default(),
            stderr: Stream::of(stderr),
            child: Some(child),
            deadline: Instant::now() + patience,
        }
    }

    /// Begins to read the standard output of what was started unread.
    pub fn listen(&mut self) {
        if let Some(stdout) = self.child.as_mut().and_then(|child| child.stdout.take()) {
            self.stdout = Stream::of(stdout);
        }
    }

    /// Starts `command` with standard streams of its own, of which nothing is heard here.
    ///
    /// # Panics
    ///
    /// When it cannot be started at all.
    pub fn start_unheard(mut command: Command, name: &str, patience: Duration) -> Self {
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        let unheard = Stream::default();
        unheard.0.0.lock().expect("nobody else has it").ended = true;
        Self {
            command: name.to_owned(),
            pid: Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive")),
            stdout: unheard.clone(),
            stderr: unheard,
            child: Some(child),
            deadline: Instant::now() + patience,
        }
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it is not there any more.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap_or_else(|errno| panic!("kill({}): {errno}", self.pid));
    }

    /// Waits until its standard output contains `text`.
    ///
    /// # Panics
    ///
    /// When it ends or the time is over before.
    pub fn wait_for(&self, text: &str) {
        let said = |heard: &Heard| String::from_utf8_lossy(&heard.bytes).contains(text);
        assert!(
            self.stdout.wait(self.deadline, said),
            "`{}` never said {text:?}, but:\n{}{}",
            self.command,
            self.stdout.text(),
            self.stderr.text(),
        );
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When the time is over before, or when its output is held open by somebody it left behind.
    pub fn wait(mut self) -> Said {
        let status = self.end();
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        let soon = Instant::now() + Duration::from_secs(5);
        for stream in [&self.stdout, &self.stderr] {
            stream.wait(soon, |heard| heard.ended);
            let ended = stream.0.0.lock().expect("no reader panics").ended;
            assert!(ended, "`{}` ended, but somebody holds its output open", self.command);
        }
        Said {
            command: self.command.clone(),
            raw: self.stdout.text(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            code,
        }
    }

    fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("waited for once");
        let (tell, told) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let status = child.wait();
            // Nobody listens any more when the time was over.
            let _ = tell.send(());
            status
        });
        let left = self.deadline.saturating_duration_since(Instant::now());
        if told.recv_timeout(left).is_err() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waiter.join();
            panic!(
                "`{}` did not end in time; it said:\n{}{}",
                self.command,
                self.stdout.text(),
                self.stderr.text()
            );
        }
        waiter.join().expect("the waiter cannot panic").expect("a child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The child was not waited for, so its process id is still its own.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
