//! What a process that serves a guest gives up before it serves: the monitor, and each server of a
//! volume.
//!
//! Whoever starts such a process has put it into a cage already: namespaces of its own, an empty
//! file system, no network. What is here the process does to itself, for only it knows when it has
//! all it needs, and which system calls each of its threads makes.
//!
//! Landlock is best effort, for kernels are built without it; all the rest is demanded.

#![forbid(unsafe_code)]

mod calls;
mod rights;

use std::io;

use rustix::io::Errno;

pub use calls::{Call, OnViolation, Use, allow};
pub use rights::{Files, give_up, limit_core_dumps, outlive_file_sizes, raise_descriptors};

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine this process, {call}")]
pub struct Fault {
    call: &'static str,
    source: io::Error,
}

/// Gives an error of the system the call it came from.
pub trait During<T> {
    /// The same result; an error says that it was `call` that failed.
    ///
    /// # Errors
    ///
    /// [`Fault`] for an error.
    fn during(self, call: &'static str) -> Result<T, Fault>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, call: &'static str) -> Result<T, Fault> {
        self.map_err(|errno| Fault { call, source: errno.into() })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, call: &'static str) -> Result<T, Fault> {
        self.map_err(|source| Fault { call, source })
    }
}
