//! The checks of all promises, a file for each kind of pod that shows them.

use crate::parity::Group;

mod again;
mod comings;
mod endings;
mod limits;
mod living;
mod many;
mod network;
mod order;
mod process;
mod streams;
mod surroundings;
mod volumes;

/// All of them, in the order of the document.
pub(super) const ALL: &[Group] = &[
    endings::GROUP,
    endings::INTERRUPT,
    streams::FOREGROUND,
    streams::TERMINAL,
    process::GROUP,
    surroundings::GROUP,
    volumes::GROUP,
    living::GROUP,
    order::GROUP,
    again::RESTARTS,
    again::STARTS,
    comings::GROUP,
    network::GROUP,
    limits::GROUP,
    limits::MEMORY,
    many::STORM,
    many::KILLS,
];
