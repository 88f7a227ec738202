//! All connections of a guest: who is meant by a packet, whose turn it is, and what waits for what.

#[cfg(any(test, feature = "rig"))]
mod census;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use pod_abi::guest::{Token, port};

use super::connection::{Connection, End, Ports, Prefix, Violation};
use super::joint::{Joint, Way};
use super::packet::{Header, Op, STREAM};
use super::{
    GUEST_CID, HOST_CID, HostStream, Id, MAX_CONNECTIONS, MAX_NAMELESS, MAX_RESETS, PATIENCE,
};
use crate::helm::Direction;
use crate::watch::TOKENS;

#[cfg(any(test, feature = "rig"))]
pub use census::Census;

pub use super::joint::Readiness;

/// Looks up the descriptor that was plugged for a token; whoever finds it has it.
pub type Plugged<'p, H> = dyn FnMut(&Token) -> Option<(H, Direction)> + 'p;

/// The connections of a guest.
#[derive(Debug)]
pub struct Muxer<H> {
    wall: Option<H>,
    inner: Option<H>,
    connections: BTreeMap<Id, Connection<H>>,
    names: BTreeMap<Ports, Id>,
    /// Descriptors of connections that are no more, with bytes to be written.
    drains: BTreeMap<Id, Joint<H>>,
    /// Connections without a token, the oldest first.
    nameless: VecDeque<Id>,
    /// Connections that may have something for the guest, each once.
    ready: VecDeque<Id>,
    resets: VecDeque<Header>,
    inner_id: Option<Id>,
    /// Until when INNER waits for other descriptors, if it does.
    held_until: Option<Instant>,
    next_id: u32,
    violations: u64,
    wall_asked: bool,
}

impl<H: HostStream> Muxer<H> {
    /// Begins without anything behind the ports WALL and INNER.
    #[must_use]
    pub const fn unopened() -> Self {
        Self {
            wall: None,
            inner: None,
            connections: BTreeMap::new(),
            names: BTreeMap::new(),
            drains: BTreeMap::new(),
            nameless: VecDeque::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            inner_id: None,
            held_until: None,
            next_id: 0,
            violations: 0,
            wall_asked: false,
        }
    }

    /// Puts streams behind WALL and INNER, for the one connection that either may have.
    pub fn open(&mut self, wall: H, inner: H) {
        (self.wall, self.inner) = (Some(wall), Some(inner));
    }

    /// Takes a packet of the guest, whose bytes are `payload`.
    ///
    /// A token is looked up once, and refused if it is not found.
    pub fn take(
        &mut self,
        header: &Header,
        payload: &[u8],
        plugged: &mut Plugged<'_, H>,
        now: Instant,
    ) {
        if header.source_cid != GUEST_CID {
            self.violations += 1;
            return;
        }
        let op = Op::of(header.op);
        let (Some(op), HOST_CID, STREAM) = (op, header.destination_cid, header.kind) else {
            return self.refuse(header);
        };
        let ports = Ports { guest: header.source_port, host: header.destination_port };
        let Some(&id) = self.names.get(&ports) else {
            return match op {
                Op::Request => self.connect(ports, header),
                _ => self.refuse(header),
            };
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.hear(header);
        let done = match op {
            Op::Request | Op::Response => Err(Violation),
            Op::Reset => {
                self.part(id, now);
                Ok(())
            }
            Op::Shutdown => {
                if connection.shut_down(header.flags) {
                    self.part(id, now);
                    self.refuse(header);
                }
                Ok(())
            }
            Op::Data => self.take_data(id, payload, plugged, now),
            Op::CreditUpdate => Ok(()),
            Op::CreditRequest => {
                connection.owe_credit();
                Ok(())
            }
        };
        self.enqueue(id);
        if done.is_err() {
            self.violations += 1;
            self.part(id, now);
            self.refuse(header);
        }
    }

    /// Returns the next packet for the guest, whose bytes lie at the beginning of `room`.
    ///
    /// Connections take turns, a packet each. Bytes of INNER wait, once they are read, until every
    /// other connection has had a turn since: what somebody wrote to another descriptor before is
    /// found there, and goes first.
    pub fn give(&mut self, room: &mut [u8]) -> Option<Header> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.queued = false;
            if self.inner_id == Some(id) && connection.stage(room) {
                self.look_everywhere();
                self.enqueue(id);
                continue;
            }
            if let Some(header) = connection.next(room) {
                self.enqueue(id);
                return Some(header);
            }
        }
        None
    }

    /// Whether [`Muxer::give`] may have something.
    #[must_use]
    pub fn may_give(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Notes what is reported of the descriptor that is watched under a name.
    pub fn report(&mut self, id: Id, readiness: Readiness, now: Instant) {
        let flush = !self.is_held(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            if let Some(joint) = connection.joint() {
                let mut gone = joint.report(readiness);
                if flush {
                    gone += joint.flush();
                }
                connection.disposed(gone);
            }
            self.enqueue(id);
        } else if let Some(joint) = self.drains.get_mut(&id) {
            joint.report(readiness);
            if flush {
                joint.flush();
            }
            self.drop_drained(id);
        }
        self.release(now);
    }

    /// When [`Muxer::tick`] has something to do, if nothing else happens.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.held_until
    }

    /// Lets INNER go on if it has waited long enough.
    pub fn tick(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| now >= until) {
            self.joints().for_each(Joint::give_up);
        }
        self.release(now);
    }

    /// Takes a packet that says something about its own length that is not so: the connection it
    /// names ends.
    pub fn take_broken(&mut self, header: &Header, now: Instant) {
        self.violations += 1;
        let ports = Ports { guest: header.source_port, host: header.destination_port };
        if header.source_cid == GUEST_CID && header.destination_cid == HOST_CID {
            if let Some(&id) = self.names.get(&ports) {
                self.part(id, now);
            }
            self.refuse(header);
        }
    }

    /// Whether bytes of the guest are kept for a descriptor.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let connections =
            self.connections.values().filter_map(|connection| match &connection.end {
                End::Nameless(_) => None,
                End::Joined(joint) => Some(joint),
            });
        connections.chain(self.drains.values()).any(Joint::has_backlog)
    }

    /// Parts all connections: the driver has begun anew. What it has sent before is written all the
    /// same. WALL and INNER stay what they were, once for all.
    pub fn part_all(&mut self, now: Instant) {
        while let Some((&id, _)) = self.connections.first_key_value() {
            self.part(id, now);
        }
        self.resets.clear();
    }

    /// What was refused as no honest driver's.
    #[must_use]
    pub const fn violations(&self) -> u64 {
        self.violations
    }

    /// Whether the guest has asked for the port WALL.
    #[must_use]
    pub const fn was_greeted(&self) -> bool {
        self.wall_asked
    }

    fn connect(&mut self, ports: Ports, request: &Header) {
        self.wall_asked |= ports.host == port::WALL;
        if self.connections.len() + self.drains.len() >= MAX_CONNECTIONS {
            return self.refuse(request);
        }
        let id = self.free_id();
        let end = match ports.host {
            port::WALL => self.wall.take().map(|wall| joined(wall, Direction::Both, id)),
            port::INNER => self.inner.take().map(|inner| {
                self.inner_id = Some(id);
                joined(inner, Direction::Both, id)
            }),
            port::STREAM => {
                self.nameless.push_back(id);
                Some(End::Nameless(Prefix::default()))
            }
            _ => None,
        };
        let Some(end) = end else { return self.refuse(request) };
        self.connections.insert(id, Connection::new(ports, end, request));
        self.names.insert(ports, id);
        self.enqueue(id);
        if self.nameless.len() > MAX_NAMELESS
            && let Some(oldest) = self.nameless.pop_front()
            && let Some(connection) = self.remove(oldest)
        {
            self.refuse(&Header {
                source_cid: GUEST_CID,
                destination_cid: HOST_CID,
                source_port: connection.ports.guest,
                destination_port: connection.ports.host,
                kind: STREAM,
                ..Header::default()
            });
        }
    }

    /// A name that nobody has. INNER's is never given away: what waits goes by it.
    fn free_id(&mut self) -> Id {
        loop {
            let id = Id(self.next_id);
            self.next_id = (self.next_id + 1) % TOKENS;
            let taken = self.connections.contains_key(&id) || self.drains.contains_key(&id);
            if !taken && self.inner_id != Some(id) {
                return id;
            }
        }
    }

    fn take_data(
        &mut self,
        id: Id,
        payload: &[u8],
        plugged: &mut Plugged<'_, H>,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let mut rest = payload;
        if let End::Nameless(prefix) = &connection.end {
            let (prefix, token, behind) = prefix.with(payload);
            connection.take_token(payload.len() - behind.len())?;
            let Some(token) = token else {
                connection.end = End::Nameless(prefix);
                return Ok(());
            };
            let (stream, direction) = plugged(&token).ok_or(Violation)?;
            connection.end = joined(stream, direction, id);
            self.nameless.retain(|&nameless| nameless != id);
            rest = behind;
        }
        let way =
            if self.inner_id == Some(id) && self.hold(now) { Way::Held } else { Way::Through };
        let taken = match self.connections.get_mut(&id) {
            Some(connection) => connection.take(rest, way),
            None => Ok(()),
        };
        // If nobody reads it any more, INNER has waited for it.
        self.release(now);
        taken
    }

    /// Answers a packet with RST, unless it is one.
    fn refuse(&mut self, header: &Header) {
        if header.op != Op::Reset.number() && self.resets.len() < MAX_RESETS {
            self.resets.push_back(header.reset());
        }
    }

    /// Ends a connection. What the guest has sent is written all the same: the RST of Linux is no
    /// more than the end of its patience with a closed socket.
    fn part(&mut self, id: Id, now: Instant) {
        let Some(connection) = self.remove(id) else { return };
        match connection.end {
            End::Nameless(_) => self.nameless.retain(|&nameless| nameless != id),
            End::Joined(mut joint) => {
                joint.guest_receives_no_more();
                joint.guest_sends_no_more();
                self.drains.insert(id, joint);
                self.drop_drained(id);
            }
        }
        self.release(now);
    }

    /// Takes a connection out of everything but the row of those without a token.
    fn remove(&mut self, id: Id) -> Option<Connection<H>> {
        let connection = self.connections.remove(&id)?;
        self.names.remove(&connection.ports);
        if connection.queued {
            // The row is as long as there are connections, whether its guest fetches anything or not.
            self.ready.retain(|&ready| ready != id);
        }
        Some(connection)
    }

    fn drop_drained(&mut self, id: Id) {
        if self.drains.get(&id).is_some_and(|joint| !joint.has_backlog()) {
            self.drains.remove(&id);
        }
    }

    fn enqueue(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.queued
        {
            connection.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Has every descriptor of a stream read once more.
    fn look_everywhere(&mut self) {
        for (&id, connection) in &mut self.connections {
            let stream = connection.ports.host == port::STREAM;
            if stream && connection.look_again() && !connection.queued {
                connection.queued = true;
                self.ready.push_back(id);
            }
        }
    }

    fn joints(&mut self) -> impl Iterator<Item = &mut Joint<H>> {
        self.connections.values_mut().filter_map(Connection::joint).chain(self.drains.values_mut())
    }

    fn is_held(&self, id: Id) -> bool {
        self.inner_id == Some(id) && self.held_until.is_some()
    }

    /// Whether bytes for INNER that come now have to wait, and sees to it that they do.
    fn hold(&mut self, now: Instant) -> bool {
        let inner = self.inner_id;
        let connections = self.connections.iter_mut().filter(|(id, _)| Some(**id) != inner);
        let waiting = connections
            .filter(|(_, connection)| connection.ports.host == port::STREAM)
            .filter_map(|(_, connection)| connection.joint())
            .chain(self.drains.iter_mut().filter(|(id, _)| Some(**id) != inner).map(|(_, j)| j))
            .map(Joint::await_backlog)
            .filter(|awaited| *awaited)
            .count();
        if waiting > 0 {
            self.held_until.get_or_insert(now + PATIENCE);
        }
        self.held_until.is_some()
    }

    /// Lets INNER go on if nothing is waited for any more.
    fn release(&mut self, now: Instant) {
        if self.held_until.is_none() || self.joints().any(|joint| joint.is_awaited()) {
            return;
        }
        self.held_until = None;
        if let Some(inner) = self.inner_id {
            self.report(inner, Readiness::default(), now);
        }
    }
}

fn joined<H: HostStream>(stream: H, direction: Direction, id: Id) -> End<H> {
    End::Joined(Joint::new(stream, direction, id))
}
