//! A descriptor that is no more than two rows of bytes, for tests: the test is its other side.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Read as _;
use std::rc::Rc;

use super::{HostStream, Id, Moved};

/// The muxer's side.
#[derive(Debug)]
pub struct Fake(Rc<RefCell<State>>);

/// The other side.
#[derive(Clone, Debug)]
pub struct Other(Rc<RefCell<State>>);

/// What lies between them.
#[derive(Debug, Default)]
pub struct State {
    /// The name it is watched under.
    pub id: Option<Id>,
    /// To be read.
    pub input: VecDeque<u8>,
    /// Nothing more comes behind `input`.
    pub input_ended: bool,
    /// What was written.
    pub output: Vec<u8>,
    /// How much more can be written.
    pub room: usize,
    /// Nobody reads it.
    pub broken: bool,
    /// What the muxer has said: it sends, it receives nothing more.
    pub shut: (bool, bool),
    /// The muxer has let go of it.
    pub closed: bool,
}

/// Makes both sides, with so much room.
#[must_use]
pub fn pair(room: usize) -> (Fake, Other) {
    let state = Rc::new(RefCell::new(State { room, ..State::default() }));
    (Fake(Rc::clone(&state)), Other(state))
}

impl Other {
    /// Looks at it, and changes it.
    pub fn with<T>(&self, deed: impl FnOnce(&mut State) -> T) -> T {
        deed(&mut self.0.borrow_mut())
    }
}

impl HostStream for Fake {
    fn watch(&mut self, id: Id) {
        self.0.borrow_mut().id = Some(id);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Moved {
        let state = &mut *self.0.borrow_mut();
        match state.input.read(buffer).unwrap_or(0) {
            0 if state.input_ended => Moved::Ended,
            0 => Moved::Later,
            count => Moved::Some(count),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Moved {
        let state = &mut *self.0.borrow_mut();
        let count = bytes.len().min(state.room);
        if state.broken {
            return Moved::Ended;
        }
        state.output.extend(&bytes[..count]);
        state.room -= count;
        if count == 0 { Moved::Later } else { Moved::Some(count) }
    }

    fn end_sending(&mut self) {
        self.0.borrow_mut().shut.0 = true;
    }

    fn end_receiving(&mut self) {
        self.0.borrow_mut().shut.1 = true;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}
