//! Words of stage2-init on their way to the host: the end of a process waits for what the process
//! has said.
//!
//! The words keep their order. One that tells of an end first has the streams of that process read
//! until they are dry; where the host does not take it all, for a while only, for a client that
//! stalls must not hide the end of anything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pod_abi::inner::FromInit;

/// How long the end of a process waits for a host that does not read what the process has said.
const PATIENCE: Duration = Duration::from_secs(1);

/// The words that wait.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    word: FromInit,
    /// The streams that must be dry before it is said.
    streams: Vec<u32>,
    /// When it has waited for long enough. Counted from when it came, and not from when it is the
    /// first: the ends of many processes wait together.
    deadline: Instant,
}

impl LastWords {
    /// Takes a word, and the streams that must be dry before it is said.
    pub(crate) fn push(&mut self, word: FromInit, streams: Vec<u32>, now: Instant) {
        self.waiting.push_back(Waiting { word, streams, deadline: now + PATIENCE });
    }

    /// Gives out the next word, if it can be said by now. `drain` reads streams and tells whether
    /// they are dry.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        drain: impl FnOnce(&[u32]) -> bool,
    ) -> Option<FromInit> {
        let first = self.waiting.front()?;
        if now < first.deadline && !first.streams.is_empty() && !drain(&first.streams) {
            return None;
        }
        self.waiting.pop_front().map(|first| first.word)
    }

    /// Returns when the next word is said in any case, if one waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.deadline)
    }

    /// Tells whether no word waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_waits_for_what_was_said_before_it_but_not_for_ever() {
        let mut words = LastWords::default();
        let now = Instant::now();
        words.push(FromInit::Pong, Vec::new(), now);
        words.push(FromInit::PodEnded { code: 3 }, vec![1, 2], now);
        words.push(FromInit::PodReady, Vec::new(), now);
        let dry = |_: &[u32]| true;
        assert_eq!(words.next(now, |_| unreachable!()), Some(FromInit::Pong));
        assert_eq!(words.next(now, |streams| streams.is_empty()), None);
        assert_eq!(words.deadline(), Some(now + PATIENCE));
        assert_eq!(words.next(now + PATIENCE / 2, |_| false), None);
        let late = now + PATIENCE;
        assert_eq!(words.next(late, |_| false), Some(FromInit::PodEnded { code: 3 }));
        assert!(!words.is_empty());
        assert_eq!(words.next(late, dry), Some(FromInit::PodReady));
        assert!(words.is_empty() && words.deadline().is_none());
    }

    #[test]
    fn the_ends_of_many_wait_together() {
        let (mut words, now) = (LastWords::default(), Instant::now());
        for code in 0..64 {
            words.push(FromInit::PodEnded { code }, vec![1], now);
        }
        assert_eq!(words.next(now, |_| false), None);
        for code in 0..64 {
            let word = words.next(now + PATIENCE, |_| false);
            assert_eq!(word, Some(FromInit::PodEnded { code }));
        }
    }
}
