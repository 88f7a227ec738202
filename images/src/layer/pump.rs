//! Moves a layer from a reader into a sink: the only place that knows both.
//!
//! Here entries become what they mean (whiteouts), lose what they may not have (attributes), and
//! are counted.

use std::io::BufRead;

use super::entry::{Entry, Kind, Sink};
use super::facts::Limits;
use super::fault::{Fault, Shown};
use super::tar::{Piece, Reader};
use super::{whiteout, xattr};

/// Reads the whole archive into `sink` and returns the number of its entries. The sink still has
/// to be finished.
///
/// # Errors
///
/// [`Fault`]; the sink holds a part of the layer.
pub(super) fn pump<R: BufRead, S: Sink>(
    reader: &mut Reader<R>,
    sink: &mut S,
    limits: &Limits,
) -> Result<u64, Fault> {
    let mut entries = 0;
    while let Some(entry) = reader.next()? {
        if entries == limits.entries {
            return Err(Fault::Limit { what: "entries", limit: limits.entries });
        }
        entries += 1;
        let Some(entry) = meaning(entry)? else { continue };
        let has_content = matches!(entry.kind, Kind::File { .. });
        sink.begin(entry)?;
        if has_content {
            reader.body(|piece| match piece {
                Piece::Data(bytes) => sink.data(bytes),
                Piece::Hole(length) => sink.hole(length),
            })?;
        }
        sink.end()?;
    }
    Ok(entries)
}

fn meaning(mut entry: Entry) -> Result<Option<Entry>, Fault> {
    let shown = Shown::of(&entry.path);
    let told = |what| Fault::Entry { entry: shown, what };
    match xattr::allow(&entry.kind, &mut entry.attributes.xattrs) {
        Ok(()) => whiteout::interpret(entry).map_err(told),
        Err(what) => Err(told(what)),
    }
}
