//! The inner half of unpacking: one layer, from a stream into a directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::chunks;
use super::entry::Sink;
use super::facts::{LayerFacts, Limits};
use super::fault::Fault;
use super::jail;
use super::pump::pump;
use super::tar::Reader;
use super::tree::{Root, TreeFacts, TreeSink};
use super::wire::{self, Report};

/// Does all the worker is there for, on its standard streams and in its current directory.
/// Tells whether its report could be written and says that the layer is unpacked.
pub(crate) fn serve() -> bool {
    let Ok((source, mut report)) = take_streams() else { return false };
    let said = match serve_stream(source) {
        Ok(said) => said,
        Err(fault) => Report::failed(&fault),
    };
    let good = matches!(said, Report::Unpacked { .. });
    let written = serde_json::to_vec(&said).map_err(io::Error::from);
    written.and_then(|bytes| report.write_all(&bytes)).is_ok() && good
}

/// Takes standard input and output away, so that nothing else reads from or prints to them.
fn take_streams() -> io::Result<(File, File)> {
    let source = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let report = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    let null: OwnedFd = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((File::from(source), File::from(report)))
}

fn serve_stream(mut source: File) -> Result<Report, Fault> {
    let root = Root::current().map_err(Fault::storage(b"", "openat"))?;
    jail::enter(&root)?;
    let orders = wire::read_orders(&mut source).map_err(|source| Fault::Orders { source })?;
    let (facts, opaque_dirs) = unpack(source, root, &orders.limits)?;
    Report::unpacked(facts, opaque_dirs)
}

/// Unpacks the compressed layer `source` into the empty directory `root`.
///
/// # Errors
///
/// [`Fault`]; the directory holds a part of the layer.
pub(super) fn unpack<R: Read + Send + 'static>(
    source: R,
    root: Root,
    limits: &Limits,
) -> Result<(LayerFacts, Vec<Vec<u8>>), Fault> {
    let mut sink = TreeSink::new(root, limits.reserve)?;
    let stream = chunks::inflate(source, limits.bytes)
        .map_err(|source| Fault::Confine { call: "clone", source })?;
    let mut reader = Reader::new(stream);
    let entries = pump(&mut reader, &mut sink, limits)?;
    let stream = reader.into_inner();
    let total = stream.total();
    let diff_id = stream.digest().map_err(|error| Fault::stream(error, total))?;
    let TreeFacts { bytes, skipped_devices, implicit_dirs, opaque_dirs, lower_links } =
        sink.finish()?;
    let facts = LayerFacts { diff_id, bytes, entries, skipped_devices, implicit_dirs, lower_links };
    Ok((facts, opaque_dirs))
}
