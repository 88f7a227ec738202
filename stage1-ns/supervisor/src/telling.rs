//! What is still to be said to the service manager, and when. Pure: no socket, no clock.
//!
//! Words such as `READY=1` are said once and in order, at once; the status is said when it has
//! changed, but only a few times a second. What could not be said is said a little later.

use std::time::{Duration, Instant};

/// The least time between two statuses.
const PAUSE: Duration = Duration::from_millis(250);
/// How soon it is tried again to say what could not be said.
const AGAIN: Duration = Duration::from_millis(100);
/// How often that doubles while nobody listens.
const PATIENCE: u32 = 7;
/// What is to be said.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    words: Vec<String>,
    told: Option<String>,
    /// Before when no status is said, and nothing at all after a failure.
    status_from: Option<Instant>,
    words_from: Option<Instant>,
    failures: u32,
}

/// Tells whether a word says in which state the service is. Of several in one message only the last
/// counts.
fn is_state(word: &str) -> bool {
    ["READY=", "RELOADING=", "STOPPING="].iter().any(|state| word.starts_with(state))
}

/// Returns what a word is about.
fn subject(word: &str) -> &str {
    word.split_once('=').map_or(word, |(subject, _)| subject)
}

impl Telling {
    /// Adds a word, in the stead of one that waits and is about the same: there is one of each kind
    /// at most, so that no app that has much to say keeps another word from being said.
    pub(crate) fn add(&mut self, word: impl Into<String>) {
        let word = word.into();
        self.words.retain(|waiting| subject(waiting) != subject(&word));
        self.words.push(word);
    }

    /// Returns how many words go into the next message.
    fn batch(&self) -> usize {
        self.words.iter().position(|word| is_state(word)).map_or(self.words.len(), |at| at + 1)
    }

    /// Returns the message to be sent now, if `status` is how things are; there may be a further one
    /// once it was [sent](Self::sent).
    pub(crate) fn message(&self, status: &str, now: Instant) -> Option<String> {
        let may = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        let words = !self.words.is_empty() && may(self.words_from);
        let changed = self.told.as_deref() != Some(status);
        let status_due = changed && may(self.status_from);
        if !words && !status_due {
            return None;
        }
        let mut message = self.words[..self.batch()].join("\n");
        if changed {
            let between = if message.is_empty() { "" } else { "\n" };
            message.push_str(&format!("{between}STATUS={status}"));
        }
        Some(message)
    }

    /// Notes that the message was sent.
    pub(crate) fn sent(&mut self, status: &str, now: Instant) {
        self.words.drain(..self.batch());
        (self.words_from, self.failures) = (None, 0);
        if self.told.as_deref() != Some(status) {
            self.told = Some(status.to_owned());
            self.status_from = Some(now + PAUSE);
        }
    }

    /// Notes that it could not be sent.
    pub(crate) fn failed(&mut self, now: Instant) {
        let again = now + AGAIN * 2_u32.pow(self.failures.min(PATIENCE));
        self.failures = self.failures.saturating_add(1);
        (self.words_from, self.status_from) = (Some(again), Some(again));
    }

    /// Returns when [`Telling::message`] has something to say.
    pub(crate) fn deadline(&self, status: &str, now: Instant) -> Option<Instant> {
        let words = (!self.words.is_empty()).then_some(self.words_from.unwrap_or(now));
        let changed = self.told.as_deref() != Some(status);
        let status = changed.then_some(self.status_from.unwrap_or(now));
        [words, status].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_said_at_once_and_the_status_now_and_then() {
        let mut telling = Telling::default();
        let begin = Instant::now();
        assert_eq!(telling.message("a", begin).as_deref(), Some("STATUS=a"));
        telling.sent("a", begin);
        assert_eq!(telling.message("a", begin), None);
        assert_eq!(telling.deadline("a", begin), None);
        assert_eq!(telling.message("b", begin), None, "so soon");
        assert_eq!(telling.deadline("b", begin), Some(begin + PAUSE));
        telling.add("READY=1");
        telling.add("READY=1");
        assert_eq!(telling.message("b", begin).as_deref(), Some("READY=1\nSTATUS=b"));
        telling.sent("b", begin);
        let later = begin + PAUSE;
        assert_eq!(telling.message("c", later).as_deref(), Some("STATUS=c"));
    }

    #[test]
    fn what_could_not_be_said_is_said_later_and_in_order() {
        let mut telling = Telling::default();
        let begin = Instant::now();
        telling.add("READY=1");
        telling.failed(begin);
        telling.add("STOPPING=1");
        assert_eq!(telling.message("x", begin), None);
        assert_eq!(telling.deadline("x", begin), Some(begin + AGAIN));
        let later = begin + AGAIN;
        assert_eq!(telling.message("x", later).as_deref(), Some("READY=1\nSTATUS=x"));
        telling.sent("x", later);
        assert_eq!(telling.message("x", later).as_deref(), Some("STOPPING=1"));
        telling.sent("x", later);
        assert_eq!(telling.message("x", later), None);
    }

    #[test]
    fn a_state_that_comes_again_is_the_last() {
        let mut telling = Telling::default();
        for word in ["RELOADING=1", "READY=1", "RELOADING=1"] {
            telling.add(word);
        }
        assert_eq!(telling.words, ["READY=1", "RELOADING=1"]);
    }

    #[test]
    fn nobody_who_listens_costs_no_memory_and_no_word() {
        let mut telling = Telling::default();
        for number in 0..10_000 {
            telling.add(format!("EXTEND_TIMEOUT_USEC={number}"));
        }
        telling.add("READY=1");
        assert_eq!(telling.words, ["EXTEND_TIMEOUT_USEC=9999", "READY=1"]);
    }
}
