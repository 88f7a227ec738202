//! One connection of a guest: what it owes the guest, what either side may send, and where it ends.

use pod_abi::guest::Token;

use super::buffer::Buffer;
use super::credit::{Incoming, Outgoing};
use super::joint::{Joint, Pulled, Way};
use super::packet::{Header, Op, STREAM, shutdown};
use super::{BUFFER, GUEST_CID, HOST_CID, HostStream, MAX_PAYLOAD};

/// The ports of a connection, by which packets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection<H> {
    pub(super) ports: Ports,
    pub(super) end: End<H>,
    outgoing: Outgoing,
    incoming: Incoming,
    owed: Owed,
    /// What the guest has shut down, as `packet::shutdown`.
    heard: u32,
    /// What the guest was told is shut down.
    told: u32,
    /// The guest was asked for credit, and has not given any since.
    asked: bool,
    /// Bytes that were read, but wait until others had their turn.
    staged: Buffer,
    /// It is in the row of those who may have something for the guest.
    pub(super) queued: bool,
}

/// Where a connection ends.
#[derive(Debug)]
pub(super) enum End<H> {
    /// Not known: a token comes first.
    Nameless(Prefix),
    /// In a descriptor.
    Joined(Joint<H>),
}

/// The bytes of a token that have come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefix {
    bytes: [u8; 16],
    have: usize,
}

#[derive(Debug, Default)]
struct Owed {
    response: bool,
    credit: bool,
}

/// No honest driver's deed: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation;

impl Prefix {
    /// Returns what is known with more bytes, and those behind it.
    pub(super) fn with(mut self, bytes: &[u8]) -> (Self, Option<Token>, &[u8]) {
        let (mine, rest) = bytes.split_at(bytes.len().min(self.bytes.len() - self.have));
        self.bytes[self.have..self.have + mine.len()].copy_from_slice(mine);
        self.have += mine.len();
        (self, (self.have == self.bytes.len()).then_some(Token(self.bytes)), rest)
    }
}

impl<H: HostStream> Connection<H> {
    pub(super) fn new(ports: Ports, end: End<H>, request: &Header) -> Self {
        let mut outgoing = Outgoing::default();
        outgoing.hear(request.allocated, request.forwarded);
        Self {
            ports,
            end,
            outgoing,
            incoming: Incoming::default(),
            owed: Owed { response: true, credit: false },
            heard: 0,
            told: 0,
            asked: false,
            staged: Buffer::default(),
            queued: false,
        }
    }

    pub(super) fn joint(&mut self) -> Option<&mut Joint<H>> {
        match &mut self.end {
            End::Nameless(_) => None,
            End::Joined(joint) => Some(joint),
        }
    }

    /// Hears what every header says.
    pub(super) fn hear(&mut self, header: &Header) {
        self.outgoing.hear(header.allocated, header.forwarded);
        self.asked &= self.outgoing.room() == 0;
    }

    #[cfg(any(test, feature = "rig"))]
    pub(super) fn unforwarded(&self) -> usize {
        self.incoming.held() as usize
    }

    /// The guest wants to know what it may send.
    pub(super) fn owe_credit(&mut self) {
        self.owed.credit = true;
    }

    /// Takes bytes that belong to its token.
    pub(super) fn take_token(&mut self, count: usize) -> Result<(), Violation> {
        self.receive(count)?;
        self.disposed(count);
        Ok(())
    }

    /// Takes bytes for its descriptor.
    pub(super) fn take(&mut self, bytes: &[u8], way: Way) -> Result<(), Violation> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.joint().is_some_and(|joint| joint.takes()) {
            return Err(Violation);
        }
        self.receive(bytes.len())?;
        let gone = self.joint().map_or(bytes.len(), |joint| joint.push(bytes, way));
        self.disposed(gone);
        Ok(())
    }

    /// Counts bytes that have left the buffer.
    pub(super) fn disposed(&mut self, count: usize) {
        // At most a buffer at a time.
        self.incoming.take(u32::try_from(count).unwrap_or(BUFFER));
    }

    /// The guest shuts down one or both directions. Returns whether all is over.
    pub(super) fn shut_down(&mut self, flags: u32) -> bool {
        self.heard |= flags & shutdown::BOTH;
        let heard = self.heard;
        match &mut self.end {
            // Without all of a token there never will be one.
            End::Nameless(_) => heard & shutdown::SEND != 0,
            End::Joined(joint) => {
                if heard & shutdown::SEND != 0 {
                    joint.guest_sends_no_more();
                }
                if heard & shutdown::RECEIVE != 0 {
                    joint.guest_receives_no_more();
                }
                heard == shutdown::BOTH
            }
        }
    }

    /// Returns the next packet for the guest, whose bytes lie at the beginning of `room`.
    pub(super) fn next(&mut self, room: &mut [u8]) -> Option<Header> {
        if self.owed.response {
            self.owed.response = false;
            return Some(self.header(Op::Response, 0, 0));
        }
        if let Some(packet) = self.next_shutdown().or_else(|| self.next_data(room)) {
            return Some(packet);
        }
        if self.owed.credit || self.incoming.is_news() {
            self.owed.credit = false;
            return Some(self.header(Op::CreditUpdate, 0, 0));
        }
        None
    }

    /// Has its descriptor read once more; no if there is nothing to read from.
    pub(super) fn look_again(&mut self) -> bool {
        self.joint().is_some_and(Joint::look_again)
    }

    /// Reads what its next packet brings, and keeps it; no if nothing is there, or all was kept
    /// before. What is kept goes as it is, or in more than one packet if their room is smaller.
    pub(super) fn stage(&mut self, room: &mut [u8]) -> bool {
        if !self.staged.is_empty() {
            return false;
        }
        let length = room.len().min(self.outgoing.room().min(MAX_PAYLOAD) as usize);
        let Some(joint) = self.joint().filter(|joint| length > 0 && joint.may_pull()) else {
            return false;
        };
        match joint.pull(&mut room[..length]) {
            Pulled::Bytes(count) => {
                self.staged.push(&room[..count.min(length)], BUFFER as usize) > 0
            }
            Pulled::Later | Pulled::End => false,
        }
    }

    fn next_data(&mut self, room: &mut [u8]) -> Option<Header> {
        let End::Joined(joint) = &mut self.end else { return None };
        if room.is_empty() || !joint.may_pull() && self.staged.is_empty() {
            return None;
        }
        let credit = self.outgoing.room().min(MAX_PAYLOAD) as usize;
        if credit == 0 {
            let ask = !self.asked;
            self.asked = true;
            return ask.then(|| self.header(Op::CreditRequest, 0, 0));
        }
        let length = room.len().min(credit);
        if !self.staged.is_empty() {
            let staged = self.staged.front();
            let count = staged.len().min(length);
            room[..count].copy_from_slice(&staged[..count]);
            self.staged.consume(count);
            return Some(self.data(count));
        }
        match joint.pull(&mut room[..length]) {
            Pulled::Bytes(count) => Some(self.data(count.min(length))),
            Pulled::Later => None,
            Pulled::End => self.next_shutdown(),
        }
    }

    fn data(&mut self, count: usize) -> Header {
        // No more than `MAX_PAYLOAD`.
        let count = u32::try_from(count).unwrap_or(0);
        self.outgoing.send(count);
        self.header(Op::Data, count, 0)
    }

    fn next_shutdown(&mut self) -> Option<Header> {
        let mut due = self.joint().map_or(0, |joint| joint.is_shut_down());
        if !self.staged.is_empty() {
            due &= !shutdown::SEND;
        }
        if due & !self.told == 0 {
            return None;
        }
        self.told |= due;
        Some(self.header(Op::Shutdown, 0, self.told))
    }

    fn receive(&mut self, count: usize) -> Result<(), Violation> {
        let count = u32::try_from(count).map_err(|_| Violation)?;
        let may = self.heard & shutdown::SEND == 0 && self.incoming.receive(count);
        if may { Ok(()) } else { Err(Violation) }
    }

    fn header(&mut self, op: Op, length: u32, flags: u32) -> Header {
        Header {
            source_cid: HOST_CID,
            destination_cid: GUEST_CID,
            source_port: self.ports.host,
            destination_port: self.ports.guest,
            length,
            kind: STREAM,
            op: op.number(),
            flags,
            allocated: BUFFER,
            forwarded: self.incoming.tell(),
        }
    }
}
