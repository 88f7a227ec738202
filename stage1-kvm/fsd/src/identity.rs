//! In whose name something is made.
//!
//! The guest's kernel decides what its processes may do, so the server looks, reads and writes with
//! its own rights. What comes into being must have the right owner from its first moment on, and
//! the kernel's rules for directories with set-group-id, so it is made with the caller's file
//! system ids, no supplementary groups (CVE-2022-0358) and no right to keep set-group-id; only
//! permissions are no obstacle, for the guest has looked at them.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::request::Caller;

/// No user and no group: asks for the ids instead of setting them.
const NOBODY: u32 = u32::MAX;

/// Capabilities that come and go with the file system's user id being 0. Source:
/// `capabilities(7)`, "Effect of user ID changes on capabilities".
const OF_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::MKNOD);

/// The server's own ids and rights, to come back to.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    caller: Caller,
    permitted: CapabilitySet,
}

impl Own {
    /// Remembers who this thread is.
    ///
    /// # Errors
    ///
    /// Those of `capget(2)`.
    pub fn remember() -> Result<Self, Errno> {
        Ok(Self { caller: acting(), permitted: capabilities(None)?.permitted })
    }

    /// Does `deed` in the name of `caller`.
    ///
    /// # Errors
    ///
    /// `EPERM` if the server may not act for them, or those of `deed`. Either way it is itself
    /// again.
    pub fn acting_as<T>(
        &self,
        caller: Caller,
        deed: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if caller == self.caller {
            return deed();
        }
        let done = self.become_caller(caller).and_then(|()| deed());
        setfsuid(Uid::from_raw(self.caller.uid));
        setfsgid(Gid::from_raw(self.caller.gid));
        // Of another server than root's, nothing was taken by the kernel: this gives all back.
        self.have(self.permitted)?;
        done
    }

    fn become_caller(&self, caller: Caller) -> Result<(), Errno> {
        setfsgid(Gid::from_raw(caller.gid));
        setfsuid(Uid::from_raw(caller.uid));
        if acting() != caller {
            return Err(Errno::PERM);
        }
        if caller.uid == 0 {
            return Ok(());
        }
        self.have(
            self.permitted.difference(OF_FILES) | self.permitted & CapabilitySet::DAC_OVERRIDE,
        )
    }

    /// Does `deed` as whoever may not keep set-user-id and set-group-id on what is written to.
    ///
    /// # Errors
    ///
    /// Those of `capset(2)` and of `deed`.
    pub fn without_set_id<T>(&self, deed: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        if !self.permitted.contains(CapabilitySet::FSETID) {
            return deed();
        }
        self.have(self.permitted.difference(CapabilitySet::FSETID))?;
        let done = deed();
        self.have(self.permitted)?;
        done
    }

    fn have(&self, effective: CapabilitySet) -> Result<(), Errno> {
        let sets = CapabilitySets {
            effective,
            permitted: self.permitted,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets)
    }
}

/// In whose name this thread makes files.
fn acting() -> Caller {
    Caller {
        uid: setfsuid(Uid::from_raw(NOBODY)).as_raw(),
        gid: setfsgid(Gid::from_raw(NOBODY)).as_raw(),
    }
}
