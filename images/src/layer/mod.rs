//! Hostile archives to trees: one compressed layer in, one overlay lower directory out.
//!
//! The bytes come from anybody, so everything that looks at them happens in a worker process that
//! holds one directory and hardly a privilege. Where the world's tar parsers disagree about an
//! archive, it is refused. Nothing here may build a host path from a name in an archive, remember
//! a resolved path, or keep more in memory than a bound allows.

mod chunks;
mod decompress;
mod entry;
mod error;
mod facts;
mod fault;
mod floor;
mod jail;
mod pack;
mod pump;
pub(crate) mod tar;
mod tree;
mod unpack;
mod whiteout;
mod wire;
mod work;
mod xattr;

pub(crate) use decompress::open as decompress;
pub(crate) use entry::Kind as EntryKind;
pub(crate) use error::{Error, ErrorKind};
pub use facts::WorkerProgram;
pub(crate) use facts::{LayerFacts, Limits};
pub(crate) use fault::{Fault, Shown};
pub(crate) use floor::read_through;
pub(crate) use pack::{PackError, pack};
pub(crate) use tar::{Reader, clean};
pub(crate) use unpack::Unpack;
pub(crate) use work::serve;

#[cfg(test)]
mod tests;
