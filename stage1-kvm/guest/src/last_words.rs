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
    waiting: VecDeque<(FromInit, Vec<u32>)>,
    /// When the first of them has waited for long enough.
    deadline: Option<Instant>,
}

impl LastWords {
    /// Takes a word, and the streams that must be dry before it is said.
    pub(crate) fn push(&mut self, word: FromInit, streams: Vec<u32>) {
        self.waiting.push_back((word, streams));
    }

    /// Gives out the next word, if it can be said by now. `drain` reads streams and tells whether
    /// they are dry.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        drain: impl FnOnce(&[u32]) -> bool,
    ) -> Option<FromInit> {
        let (_, streams) = self.waiting.front()?;
        if !streams.is_empty() && !drain(streams) {
            let deadline = *self.deadline.get_or_insert(now + PATIENCE);
            if now < deadline {
                return None;
            }
        }
        self.deadline = None;
        self.waiting.pop_front().map(|(word, _)| word)
    }

    /// Returns when the next word is said in any case, if one waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
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
        words.push(FromInit::Pong, Vec::new());
        words.push(FromInit::PodEnded { code: 3 }, vec![1, 2]);
        words.push(FromInit::PodReady, Vec::new());
        let now = Instant::now();
        let dry = |_: &[u32]| true;
        assert_eq!(words.next(now, |_| unreachable!()), Some(FromInit::Pong));
        assert_eq!(words.next(now, |streams| streams.is_empty()), None);
        assert_eq!(words.deadline(), Some(now + PATIENCE));
        assert_eq!(words.next(now + PATIENCE / 2, |_| false), None);
        let late = now + PATIENCE;
        assert_eq!(words.next(late, |_| false), Some(FromInit::PodEnded { code: 3 }));
        assert_eq!((words.deadline(), words.is_empty()), (None, false));
        assert_eq!(words.next(late, dry), Some(FromInit::PodReady));
        assert!(words.is_empty());
    }
}
