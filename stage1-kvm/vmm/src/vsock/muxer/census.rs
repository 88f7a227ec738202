//! What is held for a guest, counted: for those who try to have more of it held.

use pod_abi::guest::port;

use super::{End, HostStream, Joint, Muxer, Ports};

/// What is held for a guest.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    /// Connections.
    pub connections: usize,
    /// Those without a token.
    pub nameless: usize,
    /// The row of those who may have something for the guest.
    pub ready: usize,
    /// Refusals on their way.
    pub resets: usize,
    /// The most bytes kept for one descriptor.
    pub largest_backlog: usize,
}

impl<H: HostStream> Muxer<H> {
    /// Whether a connection of this port of the guest is there that has told no token.
    #[must_use]
    pub fn awaits_token(&self, guest: u32) -> bool {
        let id = self.names.get(&Ports { guest, host: port::STREAM });
        let connection = id.and_then(|id| self.connections.get(id));
        connection.is_some_and(|connection| matches!(connection.end, End::Nameless(_)))
    }

    /// Counts what is held, and checks that its parts agree.
    ///
    /// # Panics
    ///
    /// If they do not.
    #[must_use]
    pub fn census(&self) -> Census {
        assert_eq!(self.names.len(), self.connections.len(), "each connection has one name");
        for (ports, id) in &self.names {
            let connection = self.connections.get(id).expect("a name is a connection's");
            assert_eq!(connection.ports, *ports);
        }
        for id in &self.nameless {
            let connection = self.connections.get(id).expect("who has no token is there");
            assert!(matches!(connection.end, End::Nameless(_)));
        }
        let gone = self.ready.iter().find(|id| !self.connections.contains_key(id));
        assert_eq!(gone, None, "who has a turn is there");
        for (id, connection) in &self.connections {
            let times = self.ready.iter().filter(|ready| *ready == id).count();
            assert_eq!(times, usize::from(connection.queued), "each is in the row once");
            if let End::Joined(joint) = &connection.end {
                assert_eq!(joint.backlog(), connection.unforwarded(), "credit is what is kept");
            }
        }
        assert!(self.drains.values().all(Joint::has_backlog), "the others are closed");
        let backlogs = self.connections.values().filter_map(|connection| match &connection.end {
            End::Joined(joint) => Some(joint.backlog()),
            End::Nameless(_) => None,
        });
        Census {
            connections: self.connections.len(),
            nameless: self.nameless.len(),
            ready: self.ready.len(),
            resets: self.resets.len(),
            largest_backlog: backlogs
                .chain(self.drains.values().map(Joint::backlog))
                .max()
                .unwrap_or(0),
        }
    }
}
