//! The whole life of the process that unpacks one layer; `pod internal-unpack` calls it.

use std::process::ExitCode;

use crate::layer;

/// Unpacks the layer on standard input into the current directory and reports on standard output.
///
/// It confines itself before it reads the first byte of the layer. Only `layer::Unpack`
/// starts it.
#[must_use]
pub fn run() -> ExitCode {
    if layer::serve() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
