//! Reading a layer for nothing: what unpacking costs that no tree can do without.
//!
//! Benchmarks measure themselves against it. Nothing else calls it.

use std::io::Read;

use pod_abi::Digest;

use super::chunks;
use super::entry::{Entry, Sink};
use super::facts::Limits;
use super::fault::Fault;
use super::pump::pump;
use super::tar::Reader;

/// Forgets what it takes.
struct Nowhere;

impl Sink for Nowhere {
    type Facts = ();

    fn begin(&mut self, _: Entry) -> Result<(), Fault> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn hole(&mut self, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn finish(self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Inflates, hashes and parses the compressed layer `source` as a worker does, and returns the
/// digest of what it holds.
///
/// # Errors
///
/// [`Fault`], where a worker has one for what it reads.
pub(crate) fn read_through<R: Read + Send + 'static>(source: R) -> Result<Digest, Fault> {
    let limits = Limits::default();
    let stream = chunks::inflate(source, limits.bytes)
        .map_err(|source| Fault::Confine { call: "clone", source })?;
    let mut reader = Reader::new(stream);
    pump(&mut reader, &mut Nowhere, &limits)?;
    let stream = reader.into_inner();
    let total = stream.total();
    stream.digest().map_err(|error| Fault::stream(error, total))
}
