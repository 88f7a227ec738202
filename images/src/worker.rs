//! The whole life of the process that unpacks one layer; `pod internal-unpack` calls it.

use std::io::Read;
use std::process::ExitCode;

use pod_abi::Digest;

use crate::error::{Error, ErrorKind};
use crate::layer;

/// Unpacks the layer on standard input into the current directory and reports on standard output.
///
/// It confines itself before it reads the first byte of the layer. Only `layer::Unpack`
/// starts it.
#[must_use]
pub fn run() -> ExitCode {
    if layer::serve() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Inflates, hashes and parses the compressed layer `source` as a worker does, writes nothing, and
/// returns the digest of what it holds: what benchmarks compare the unpacking with.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] for a layer that a worker would refuse.
pub fn read_through(source: impl Read + Send + 'static) -> Result<Digest, Error> {
    layer::read_through(source)
        .map_err(|fault| Error::caused(ErrorKind::Invalid, "cannot read the layer", fault))
}
