//! What the probe says: one JSON document about the world as a process inside a pod sees it.
//!
//! Apart from the program, so that the tests read with the same types that the probe writes with.
//! The probe judges nothing: it reports, and the tests assert. It must never change what it looks
//! at, and must not fail because something cannot be seen; what cannot be read is absent.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod attempts;
pub mod look;
pub mod net;
pub mod streams;

/// Everything the probe sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its process id, as it sees it.
    pub pid: i32,
    /// Its parent's process id; 0 if that lies outside.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, `NAME=VALUE`, in the order given.
    pub environment: Vec<String>,
    /// Its working directory.
    pub cwd: String,
    /// `/proc/self/status`, field by field, blanks trimmed.
    pub status: BTreeMap<String, String>,
    /// `/proc/self/limits`: soft and hard limit under the kernel's name.
    pub limits: BTreeMap<String, (String, String)>,
    /// `/proc/self/ns`: kind of namespace to its identity.
    pub namespaces: BTreeMap<String, String>,
    /// Its open descriptors and what they refer to.
    pub descriptors: BTreeMap<i32, String>,
    /// `/proc/self/mountinfo`.
    pub mounts: Vec<Mount>,
    /// Names of the network interfaces.
    pub links: Vec<String>,
    /// Process ids and names it can see in `/proc`.
    pub processes: BTreeMap<i32, String>,
    /// Its hostname.
    pub hostname: String,
    /// `/proc/self/cgroup`.
    pub cgroup: String,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: String,
    /// `/proc/self/uid_map`, blanks squeezed.
    pub uid_map: String,
    /// `/proc/self/gid_map`, blanks squeezed.
    pub gid_map: String,
}

/// One line of mountinfo (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// Which part of its file system.
    pub root: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Optional fields, such as `master:1`.
    pub propagation: Vec<String>,
    /// The type of the file system.
    pub kind: String,
    /// What the file system calls its source.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// The five sets of capabilities of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// `CapInh`.
    pub inheritable: u64,
    /// `CapPrm`.
    pub permitted: u64,
    /// `CapEff`.
    pub effective: u64,
    /// `CapBnd`.
    pub bounding: u64,
    /// `CapAmb`.
    pub ambient: u64,
}

impl Report {
    /// Returns a field of `/proc/self/status`; empty if the kernel has none of that name.
    #[must_use]
    pub fn status(&self, field: &str) -> &str {
        self.status.get(field).map_or("", String::as_str)
    }

    /// Returns the five sets of capabilities; a set that cannot be read is full, so that a test
    /// that expects little fails.
    #[must_use]
    pub fn capabilities(&self) -> CapabilitySets {
        let set = |field| u64::from_str_radix(self.status(field), 16).unwrap_or(u64::MAX);
        CapabilitySets {
            inheritable: set("CapInh"),
            permitted: set("CapPrm"),
            effective: set("CapEff"),
            bounding: set("CapBnd"),
            ambient: set("CapAmb"),
        }
    }

    /// Returns the value of a variable of the environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find_map(|entry| {
            let (found, value) = entry.split_once('=')?;
            (found == name).then_some(value)
        })
    }

    /// Returns the uppermost mount at `point`.
    #[must_use]
    pub fn mount(&self, point: &str) -> Option<&Mount> {
        self.mounts.iter().rev().find(|mount| mount.point == point)
    }
}

impl Mount {
    /// Tells whether the mount has `option`.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|has| has == option)
    }
}
