//! What a test program in a machine says: passed on, recorded, and counted test by test, so that
//! what it said before a machine hung is not lost.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::count::Count;
use crate::say;

/// What our monitor says of a guest that an emulated processor has lost. Nothing of ours can have a
/// processor reset itself that has not executed a wrong instruction, and of some thousand boots in
/// QEMU's emulation of virtualisation one ends so; tests that mean it ask for it by other words.
const LOST_GUEST: &str = "the guest's kernel has crashed: a triple fault";

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The line that has not ended yet.
    begun: Vec<u8>,
    /// What the program counted in the end.
    count: Count,
    /// Each test that has ended, and whether it passed.
    ended: Vec<(String, bool)>,
    /// The failed test whose own words are being told.
    told: Option<String>,
    /// Those of failed tests in which a guest was lost.
    lost_guests: Vec<String>,
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

    /// Returns the tests that failed because a guest was lost.
    pub(super) fn lost_guests(&self) -> &[String] {
        &self.lost_guests
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
            self.hear_words(&line);
            lines.push(line);
        }
        lines
    }
}

impl Heard {
    /// Takes a line of what failed tests have to say: `---- NAME stdout ----`, and what is below.
    fn hear_words(&mut self, line: &str) {
        let heading = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        if let Some(test) = heading {
            self.told = Some(test.to_owned());
        } else if line == "failures:" {
            self.told = None;
        } else if line.contains(LOST_GUEST) {
            self.lost_guests.extend(self.told.take());
        }
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
    fn a_test_that_lost_its_guest_is_told_from_others_that_failed() {
        let mut heard = Heard::default();
        let lost = format!("error: {LOST_GUEST}\n");
        heard.hear(b"failures:\n\n---- vm::one stdout ----\nleft\n---- vm::two stdout ----\n");
        heard.hear(lost.as_bytes());
        heard.hear(lost.as_bytes());
        heard.hear(b"---- vm::three stdout ----\n\nfailures:\n    vm::three\n");
        heard.hear(lost.as_bytes());
        assert_eq!(heard.lost_guests(), ["vm::two"]);
    }
}
