//! A strict, streaming reader of tar archives: ustar, PAX, GNU long names and sparse files.
//!
//! Of the `tar` crate only the layout of a header is used, never its `Archive`, whose idea of PAX
//! differs from everybody else's (reference: the table of parser differentials). Whatever two
//! widespread parsers read differently is an error here. Memory is bounded by what one entry's
//! metadata may take.

mod decode;
mod name;
mod number;
mod pax;
mod reader;
mod sparse;

pub(crate) use decode::{MAX_OCTAL_SIZE, header_name};
pub(crate) use name::clean;
pub(crate) use number::{decimal, field};
pub(crate) use pax::{each_record, global};
pub(super) use reader::Piece;
pub(crate) use reader::{BLOCK, MAX_METADATA, Reader, checksum_holds, padding, until_nul};
