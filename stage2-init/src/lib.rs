//! PID 1 of every pod, as a library: its decisions, its launcher, its system-call filter.
//!
//! `main.rs` is the program; all of it stands here so that it can be tested. It lives inside the
//! boundary: it takes orders from the supervisor through one channel and trusts nothing an app
//! can reach. It must never grow with the number of starts, and never leave a process behind.

#![forbid(unsafe_code)]

pub mod channel;
pub mod disposition;
pub mod hosted;
pub mod launch;
pub mod machine;
pub mod pid1;
pub mod processes;
pub mod readiness;
pub mod seccomp;
pub mod surroundings;
