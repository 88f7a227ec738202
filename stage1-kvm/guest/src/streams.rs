//! All streams of all apps: one table, one buffer, one turn each.
//!
//! Every descriptor is registered once, edge-triggered, under the number of its stream. A stream
//! that has had its turn and could go on is remembered here, for no event would tell again.

use std::collections::{BTreeMap, BTreeSet};

use supervisor::Failure;

use crate::events::{Events, Token};
use crate::flow::CHUNK;
use crate::stream::{Left, Stream};

/// The most streams at once. The host has as many connections, and each takes two or three
/// descriptors here.
pub(crate) const MAX_STREAMS: usize = 1024;

/// The most one stream carries in one turn each way, in bytes.
const TURN: usize = 256 << 10;

/// The most that is read from one stream for the sake of last words, in bytes: what a pipe can
/// hold, as far as an administrator may raise it for root. Somebody else may go on writing.
const REST: usize = 16 << 20;

/// The streams.
#[derive(Debug)]
pub(crate) struct Streams {
    there: BTreeMap<u32, Stream>,
    next: u32,
    /// Those that can go on without waiting.
    ready: BTreeSet<u32>,
    /// Whether the host has ever refused one.
    refused: bool,
    buffer: Vec<u8>,
}

impl Streams {
    /// Makes an empty table.
    pub(crate) fn new() -> Self {
        let (there, ready) = (BTreeMap::new(), BTreeSet::new());
        Self { there, next: 0, ready, refused: false, buffer: vec![0; CHUNK] }
    }

    /// Tells whether so many more fit.
    pub(crate) fn have_room(&self, more: usize) -> bool {
        self.there.len() + more <= MAX_STREAMS
    }

    /// Adds a stream, and has its first turn soon. Returns its number.
    ///
    /// # Errors
    ///
    /// If the kernel does not watch it, or there are too many.
    pub(crate) fn add(&mut self, events: &Events, stream: Stream) -> Result<u32, Failure> {
        if !self.have_room(1) {
            return Err(too_many());
        }
        let number = self.next;
        events.add(stream.socket(), Token::Stream(number))?;
        events.add(stream.local(), Token::Local(number))?;
        if let Some(control) = stream.control() {
            events.add(control, Token::Stream(number))?;
        }
        self.next = self.next.wrapping_add(1);
        self.there.insert(number, stream);
        self.ready.insert(number);
        Ok(number)
    }

    /// Tells whether a stream could go on without waiting.
    pub(crate) fn are_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Tells whether the host has refused a stream, whose bytes are lost.
    pub(crate) fn were_refused(&self) -> bool {
        self.refused
    }

    /// Notes that something has happened to a stream.
    pub(crate) fn wake(&mut self, number: u32) {
        if self.there.contains_key(&number) {
            self.ready.insert(number);
        }
    }

    /// Gives every stream that can go on a turn.
    pub(crate) fn turn(&mut self) {
        for number in std::mem::take(&mut self.ready) {
            self.turn_one(number, TURN);
        }
    }

    /// Notes that the reader of a stream has gone.
    pub(crate) fn lose_reader(&mut self, number: u32) {
        if let Some(stream) = self.there.get_mut(&number) {
            stream.lose_reader();
            self.ready.insert(number);
        }
    }

    fn turn_one(&mut self, number: u32, most: usize) {
        let Some(stream) = self.there.get_mut(&number) else { return };
        match stream.turn(&mut self.buffer, most) {
            Left::Wait => {}
            Left::More => {
                self.ready.insert(number);
            }
            Left::Over => self.drop_one(number),
            Left::Refused => {
                self.refused = true;
                self.drop_one(number);
            }
        }
    }

    /// Closes a stream as it is.
    pub(crate) fn drop_one(&mut self, number: u32) {
        // With its descriptors it leaves the epoll.
        self.there.remove(&number);
        self.ready.remove(&number);
    }

    /// Does what the host has told terminals, before anything else it says is heard.
    pub(crate) fn heed_controls(&mut self) {
        self.there.values_mut().for_each(Stream::heed_control);
    }

    /// Reads what is left in these streams, as far as the host takes it and up to a bound; tells
    /// whether nothing is left.
    pub(crate) fn drain(&mut self, numbers: &[u32]) -> bool {
        for number in numbers {
            self.turn_one(*number, REST);
        }
        numbers.iter().all(|number| self.there.get(number).is_none_or(Stream::is_dry))
    }

    /// Returns the numbers of all streams.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.there.keys().copied().collect()
    }
}

/// Says that there are too many.
pub(crate) fn too_many() -> Failure {
    Failure::new(format!("the pod has more than {MAX_STREAMS} open streams"))
        .code("exec.too-many")
        .hint("end some of what runs in it")
}
