//! The executor and its plugins: scripts that do as they are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod bench;
mod chains;
mod hostile;
mod misbehaviour;
