//! The tests that run inside a machine with systemd as process 1, as root, one after the other.
//!
//! `cargo xtask test` builds this program, boots a machine, and runs it there; by hand it is
//! `cargo xtask test --tier booted FILTER`. What runs where is decided by the module:
//!
//! | module | booted | QEMU |
//! |---|---|---|
//! | `controllers` | no | yes: limits need controllers of cgroup v2 |
//! | `vm` | no | yes: its processor can have guests |
//! | `everywhere` | yes | yes |
//! | `before_reboot`, then an orderly reboot, then `after_reboot` | yes | no |
//! | `resets`, in one go with ten resets that write nothing down | no: their kernel is the host's | yes |
//! | `before_reset`, then a sudden one, then `after_reset` | yes | no |
//! | all others | yes | no |
//!
//! No test here may skip: a machine that lacks something is a broken machine.

mod after_reboot;
mod after_reset;
mod before_reboot;
mod before_reset;
mod controllers;
mod credentials;
mod docs;
mod everywhere;
mod host_pods;
mod journal;
mod kills;
mod leftovers;
mod machined;
mod names;
mod networks;
mod notify;
mod pauses;
mod reexec;
mod resets;
mod sockets;
mod storm;
mod units;
mod vm;
mod wait;
