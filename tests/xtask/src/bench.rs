//! `cargo xtask bench`: `pod` beside its peers from Debian's packages, in one run.
//!
//! Nothing here asserts; it prints. The figures people may rely on stand in `docs/budgets.md`.

use crate::error::Error;

mod images;
mod layers;
mod measure;
mod network;
mod place;
mod start;
mod units;
mod vm;

/// Carries out the words behind `bench`.
pub(crate) fn run(words: &[&str]) -> Result<(), Error> {
    match words {
        ["start", rest @ ..] => start::start(rounds(rest)?),
        ["images", rest @ ..] => images::images(rounds(rest)?),
        [images::taken::MEASURED, line @ ..] => images::taken::measure(line),
        ["layers", rest @ ..] => layers::layers(rounds(rest)?),
        ["network", rest @ ..] => network::network(rounds(rest)?),
        ["network-vm"] => network::machines(),
        [network::MACHINES] => network::machines_inside(),
        [network::PLUGINS, what, leases] => network::plugins::cycle(what, leases),
        ["units", rest @ ..] => units::units(rounds(rest)?),
        [units::INSIDE, rest @ ..] => units::inside(rounds(rest)?),
        ["vm", rest @ ..] => vm::vm(rounds(rest)?),
        [vm::INSIDE, rest @ ..] => vm::inside(rounds(rest)?),
        _ => Err(Error::new(
            "usage: cargo xtask bench start|images|layers|network|network-vm|units|vm [ROUNDS]",
        )),
    }
}

fn rounds(words: &[&str]) -> Result<Option<usize>, Error> {
    match words {
        [] => Ok(None),
        [word] => match word.parse() {
            Ok(rounds) if rounds > 0 => Ok(Some(rounds)),
            _ => Err(Error::new(format!("`{word}` is no number of rounds"))),
        },
        _ => Err(Error::new("only a number of rounds is expected")),
    }
}
