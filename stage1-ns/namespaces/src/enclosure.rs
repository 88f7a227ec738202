//! The cgroup of a pod behind another wall: what that wall is made of on this host.
//!
//! A virtual machine limits its apps itself. What the host spends on it - its monitor, the servers
//! of its volumes - is born in one leaf of the pod's cgroup, so that it is counted and limited
//! where that of a pod in namespaces is.

use std::os::fd::OwnedFd;

use pod_abi::isolators::Resources;
use pod_abi::stage::Order;
use pod_abi::stats::Usage;
use supervisor::Failure;

use crate::cgroup::{self, Cgroup};
use crate::plan::{Plan, quotas};

/// The directories, outer ones first; PID 1 of a pod in namespaces has the same leaf.
const DIRECTORIES: [&str; 2] = ["pod", "pod/init"];

/// The cgroup of what is not to be seen from inside.
#[derive(Debug)]
pub struct Enclosure {
    /// None on a host that has no cgroup v2 that can be written.
    cgroup: Option<Cgroup>,
    /// The limits in force.
    limits: Resources,
}

impl Enclosure {
    /// Finds the place for the pod of an order; makes nothing. It is to be held to `limits`.
    #[must_use]
    pub fn find(order: &Order, limits: Resources) -> Self {
        let directories = DIRECTORIES.map(str::to_owned);
        let cgroup = Cgroup::find(&order.pod.uuid, order.service.as_ref(), &directories);
        Self { cgroup, limits }
    }

    /// Returns its path in the hierarchy.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.cgroup.as_ref().map(Cgroup::path)
    }

    /// Makes it, limits it, and returns the leaf processes are to be born in.
    ///
    /// # Errors
    ///
    /// `pod.limit` for what cannot be limited; [`Enclosure::remove`] is still to be called.
    pub fn make(&mut self) -> Result<Option<OwnedFd>, Failure> {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.make(None)?;
        }
        let plan = Plan {
            cgroups: Vec::new(),
            quotas: quotas::of(&self.limits),
            passed_on: Vec::new(),
            namespaces: Vec::new(),
            network_of: None,
            ids: None,
            sysctls: Vec::new(),
            staging: Vec::new(),
            apps: Vec::new(),
        };
        cgroup::enforce(self.cgroup.as_mut(), &plan)?;
        self.cgroup.as_ref().map(Cgroup::open_init).transpose()
    }

    /// Changes limits; what `changes` does not name stays.
    ///
    /// # Errors
    ///
    /// `pod.limit`; everything is as it was.
    pub fn limit(&mut self, changes: &Resources) -> Result<(), Failure> {
        let new = self.limits.clone().overridden_by(changes);
        cgroup::change(self.cgroup.as_mut(), None, &self.limits, &new)?;
        self.limits = new;
        Ok(())
    }

    /// Counts what is used in it, if somebody counts.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.cgroup.as_ref()?.usage(None)
    }

    /// Kills whatever is in it; returns without waiting.
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// Takes it away as far as that goes at once; all that was in it has ended.
    pub fn remove(&mut self) {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.remove();
        }
    }
}
