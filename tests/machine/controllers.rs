//! Limits that are in force: on a kernel that has all controllers of cgroup v2, beneath systemd.
//!
//! What a limit means is asked of the kernel and of the app, never of our own records: the app is
//! killed, held up or refused something, and the one beside it is not.

mod changes;
mod disks;
mod docs;
mod limited;
mod memory;
mod places;
mod processors;
