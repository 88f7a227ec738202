//! A library of `pod`.

#[allow(dead_code, unused_imports, reason = "the store, its only user, is about to be written")]
pub(crate) mod layer;
pub mod registry;
pub mod worker;

pub use layer::WorkerProgram;
