//! What a monitor and whoever started it say to each other: packets of JSON, each whole.
//!
//! A packet to the monitor that brings something has one descriptor with it (`SCM_RIGHTS`). It is
//! never answered: a guest hears of what was brought later than the monitor does, by another way,
//! and the monitor looks here first. [`FromVmm::Ended`] is the last packet; a monitor that ends
//! without one was killed.

use pod_abi::guest::{Extent, Token};
use serde::{Deserialize, Serialize};

/// The longest packet, in bytes.
pub const MAX_PACKET: usize = 128 << 10;

/// What a monitor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToVmm {
    /// The descriptor that comes along is the host's end of a stream.
    Plug(Token, Direction),
    /// What was plugged under this name is let go of, unless the guest has taken it.
    Unplug(Token),
    /// The file that comes along lies on the disk of images, all of it.
    Map(Extent),
    /// Asks for [`FromVmm::Counted`].
    Count,
}

/// Which way a stream flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the descriptor to the guest.
    In,
    /// From the guest to the descriptor.
    Out,
    /// Both ways.
    Both,
}

/// What a monitor tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromVmm {
    /// What it has counted so far.
    Counted(Counters),
    /// The machine is no more.
    Ended(End),
}

/// How a machine has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct End {
    /// How.
    pub class: EndClass,
    /// One line about it, for a person.
    pub message: String,
    /// The last of what its kernel has said, at most 16 KiB, with whatever a guest may write.
    pub console: String,
    /// What was counted.
    pub counters: Counters,
}

/// How a machine can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndClass {
    /// It was switched off from inside.
    PoweredOff,
    /// It was reset from inside; there is no second boot.
    Reset,
    /// Its kernel has crashed: a triple fault, or an error of the virtual processor.
    Crashed,
    /// The monitor could not go on, or could not begin.
    Failed,
}

/// What a monitor counts, from its start on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counters {
    /// Exits for a port of ours.
    pub port_exits: u64,
    /// Exits for a port or an address that is nobody's, those left out that every kernel looks at.
    pub unclaimed: u64,
    /// The first of these, in the form `in 0x71` or `write 0xd0005000`, at most sixteen.
    pub strangers: Vec<String>,
    /// Microseconds from the start of the monitor until the guest's first stream was asked for.
    pub hello_us: Option<u64>,
    /// What was counted of each device, in the order a guest finds them.
    pub devices: Vec<OfDevice>,
    /// Requests of the disk of images, and bytes they have read.
    pub disk_requests: u64,
    /// See [`Counters::disk_requests`].
    pub disk_bytes: u64,
}

/// What is counted of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfDevice {
    /// Exits for one of its registers.
    pub exits: u64,
    /// Interrupts it has raised.
    pub interrupts: u64,
    /// What it has refused as no honest driver's.
    pub violations: u64,
}
