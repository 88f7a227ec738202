//! The harness of the end-to-end tests, also used by `xtask`.
//!
//! A test makes a [`Sandbox`](sandbox::Sandbox), runs `pod` in it, and looks at what was
//! [`Said`](said::Said); when the sandbox is dropped, nothing of what happened in it may be left
//! anywhere. No stage is linked here: the programs are found where cargo put them and are run as
//! a user runs them.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod document;
pub mod fixtures;
pub mod guest;
pub mod image;
pub mod leaks;
pub mod manual;
pub mod named;
pub mod parity;
pub mod pods;
pub mod programs;
pub mod random;
pub mod registry;
pub mod require;
pub mod said;
pub mod sandbox;
pub mod system;
pub mod terminal;
