//! One connection to the system bus, and what must hold of its threads.
//!
//! The library starts threads of its own: one for each connection, and one that waits for the
//! kernel and never ends. A signal for this process would be taken by any thread that has not
//! blocked it, and end us; so all of them have all signals blocked from their first instruction.

use std::collections::HashMap;
use std::time::Duration;

use nix::sys::signal::SigSet;
use serde::Serialize;
use systemd_zbus::ManagerProxyBlocking;
use zbus::blocking::Connection;
use zbus::connection::Builder;
use zbus::message::Message;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue};

use super::refusal;
use super::waiting::within_or;

/// How long the bus may take to let us in. It is a socket of the same host; what takes longer hangs.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the manager may take for one call: what its own tools wait (`sd_bus_call(3)`). It
/// answers in milliseconds, but not while it loads its units anew.
pub(super) const CALL: Duration = Duration::from_secs(25);

/// The manager's name on the bus.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1";
/// Where its manager is on the bus.
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
/// The interface of that.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The interface of everything that has properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection, and the manager's proxy on it.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    pub(super) proxy: ManagerProxyBlocking<'static>,
}

impl Link {
    /// Connects to the system bus, unless `stopped` tells otherwise once this thread is unparked.
    /// The error is `None` if that takes too long.
    pub(super) fn connect_or(stopped: impl Fn() -> bool) -> Result<Self, Option<zbus::Error>> {
        let _blocked = Blocked::all();
        let connecting = async { Builder::system()?.method_timeout(CALL).build().await };
        let connected = within_or(CONNECT, stopped, connecting).ok_or(None)?;
        let connection = Connection::from(connected?);
        let proxy = ManagerProxyBlocking::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()?;
        Ok(Self { connection, proxy })
    }

    /// Asks the manager to tell of what happens.
    pub(super) fn subscribe(&self) -> zbus::Result<()> {
        match self.proxy.subscribe() {
            Err(error) if refusal::is(&error, "AlreadySubscribed") => Ok(()),
            other => other,
        }
    }

    /// Returns all properties of the object at `path`, of all its interfaces.
    pub(super) fn properties(
        &self,
        path: &OwnedObjectPath,
    ) -> zbus::Result<HashMap<String, OwnedValue>> {
        let reply =
            self.connection.call_method(Some(SERVICE), path, Some(PROPERTIES), "GetAll", &"")?;
        reply.body().deserialize()
    }

    /// Calls a method of the manager whose answer is in words that grow with each version, so that
    /// types of fixed words would refuse what has been done.
    pub(super) fn call(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> zbus::Result<Message> {
        self.connection.call_method(Some(SERVICE), PATH, Some(MANAGER), method, body)
    }

    /// Returns the connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// All signals blocked on this thread, and so on the threads it starts, as long as this lives.
#[derive(Debug)]
pub(super) struct Blocked(Option<SigSet>);

impl Blocked {
    /// Blocks them.
    pub(super) fn all() -> Self {
        let before = SigSet::thread_get_mask().ok();
        let _ = SigSet::all().thread_block(); // it fails for no set of signals there is
        Self(before)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = before.thread_set_mask(); // it was one a moment ago
        }
    }
}
