//! The executor and its plugins: scripts that do as they are told, and Debian's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "it says which tests cannot run here")]

mod bench;
mod chains;
mod debian;
mod hostile;
mod misbehaviour;
