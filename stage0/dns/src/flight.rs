//! What is under way, and for whom: a limit for all, and a smaller one for each asker, so that one
//! that asks without end holds up nobody but itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For all.
    pub(crate) all: usize,
    /// For one asker.
    pub(crate) each: usize,
}

/// What is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    askers: BTreeMap<IpAddr, usize>,
    questions: BTreeMap<Vec<u8>, usize>,
}

impl Flight {
    /// Returns one in which nothing is under way.
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    /// Takes a seat for something `asker` wants; `None` if it has too many, or all together have.
    pub(crate) fn board(self: &Arc<Self>, asker: IpAddr, question: &[u8]) -> Option<Seat> {
        let question = question.to_ascii_lowercase();
        let mut held = self.held();
        let own = held.askers.get(&asker).copied().unwrap_or(0);
        if held.total >= self.limits.all || own >= self.limits.each {
            return None;
        }
        held.total += 1;
        held.askers.insert(asker, own + 1);
        *held.questions.entry(question.clone()).or_default() += 1;
        drop(held);
        Some(Seat { flight: Arc::clone(self), asker, question })
    }

    /// Tells whether this is being asked.
    pub(crate) fn carries(&self, question: &[u8]) -> bool {
        self.held().questions.contains_key(&question.to_ascii_lowercase())
    }

    /// Tells whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.held().total == 0
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Numbers are whole between any two statements under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among what is under way, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    flight: Arc<Flight>,
    asker: IpAddr,
    question: Vec<u8>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.flight.held();
        held.total -= 1;
        leave(&mut held.askers, &self.asker);
        leave(&mut held.questions, &self.question);
    }
}

/// Takes one away, and the key with the last.
fn leave<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asker_cannot_take_every_seat_and_nothing_is_remembered_of_those_that_left() {
        let flight = Flight::new(Limits { all: 3, each: 2 });
        let (greedy, other) = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3]));
        let seats: Vec<Seat> = (0..5).filter_map(|_| flight.board(greedy, b"Q")).collect();
        assert_eq!(seats.len(), 2);
        let last = flight.board(other, b"r").unwrap();
        assert!(flight.board(other, b"r").is_none(), "all are taken");
        assert!(flight.carries(b"q") && flight.carries(b"R") && !flight.carries(b"s"));
        drop((seats, last));
        assert!(flight.is_empty());
        let held = flight.held();
        assert!(held.askers.is_empty() && held.questions.is_empty());
    }
}
