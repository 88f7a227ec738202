//! What a test program in a machine says: passed on, recorded, and counted test by test, so that
//! what it said before a machine hung is not lost.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::count::Count;
use crate::say;

/// The tests that have guests of their own.
const WITH_GUESTS: &str = "vm::";

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The line that has not ended yet.
    begun: Vec<u8>,
    /// What the program counted in the end.
    count: Count,
    /// Each test that has ended, and whether it passed.
    ended: Vec<(String, bool)>,
}

impl Heard {
    /// Returns the line that has begun, which names the test that runs.
    pub(super) fn begun(&self) -> String {
        String::from_utf8_lossy(&self.begun).trim_end().to_owned()
    }

    /// Returns what the program counted in the end.
    pub(super) const fn counted(&self) -> Count {
        self.count
    }

    /// Returns whether the test of this name has passed. What one that failed has to say is told in
    /// the end, so of a program that did not come there it is not known.
    pub(super) fn has_passed(&self, test: &str) -> bool {
        self.ended.iter().any(|(name, passed)| *passed && name == test)
    }

    /// Adds up the tests that have passed, of a program that did not come to count them.
    pub(super) fn passed(&self) -> Count {
        let passed = self.ended.iter().filter(|(_, passed)| *passed);
        passed.fold(Count::default(), |sum, _| sum.plus(Count::PASSED))
    }

    /// Returns the tests with guests that have failed.
    pub(super) fn failed_with_guests(&self) -> Vec<String> {
        let failed = |(name, passed): &&(String, bool)| !passed && name.starts_with(WITH_GUESTS);
        self.ended.iter().filter(failed).map(|(name, _)| name.clone()).collect()
    }

    /// Takes what was said and returns the lines that are whole.
    fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        self.begun.extend_from_slice(bytes);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            self.count = self.count.plus(Count::of_line(&line));
            self.ended.extend(result(&line));
            lines.push(line);
        }
        lines
    }
}

/// Reads a line such as `test units::start ... ok`.
fn result(line: &str) -> Option<(String, bool)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // What is ignored must not be, and has failed; see `Trial::test`.
    Some((name.to_owned(), result == "ok"))
}

/// The thread that listens, and what it has heard.
pub(super) struct Listener {
    heard: Arc<Mutex<Heard>>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens until nobody holds the other end.
    pub(super) fn to(read: PipeReader, log: File) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = heard.clone();
        Self { heard, thread: thread::spawn(move || listen(read, log, &hearing)) }
    }

    /// Returns all that was said.
    pub(super) fn all(self) -> Heard {
        let died = self.thread.join().is_err();
        let heard = take(&self.heard);
        // Nobody knows what it would have counted.
        if died { Heard { count: Count::FAILED, ..heard } } else { heard }
    }

    /// Returns what was said up to now. Nobody waits for the thread: what hangs in the machine
    /// holds the other end open.
    pub(super) fn so_far(&self) -> Heard {
        take(&self.heard)
    }
}

fn take(heard: &Mutex<Heard>) -> Heard {
    std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner))
}

fn listen(mut read: PipeReader, mut log: File, heard: &Mutex<Heard>) {
    let mut chunk = [0; 8192];
    loop {
        let bytes = match read.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => &chunk[..length],
        };
        // The log is for people; tests must not fail for want of it.
        let _ = log.write_all(bytes);
        let lines = heard.lock().unwrap_or_else(PoisonError::into_inner).hear(bytes);
        lines.iter().for_each(|line| say::plain(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_the_end_counts() {
        let mut heard = Heard::default();
        heard.hear(b"\nrunning 4 tests\ntest units::start ... ok\ntest vm::stop ... FAI");
        assert!(heard.has_passed("units::start") && !heard.has_passed("vm::stop"));
        assert_eq!(heard.begun(), "test vm::stop ... FAI");
        heard.hear(b"LED\ntest vm::hang ... ");
        assert_eq!(heard.passed(), Count { passed: 1, ..Count::default() });
        assert!(!heard.has_passed("vm::stop"));
        assert_eq!(heard.counted(), Count::default());
        heard.hear(b"ok\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\n");
        assert_eq!(heard.counted(), Count { passed: 2, failed: 1, ignored: 0 });
    }

    #[test]
    fn tests_with_guests_that_failed_are_told_from_others() {
        let mut heard = Heard::default();
        heard.hear(b"test vm::one ... ok\ntest vm::two ... FAILED\ntest units::three ... FAILED\n");
        assert_eq!(heard.failed_with_guests(), ["vm::two"]);
    }
}
