//! `cargo xtask bench`: `pod` beside its peers from Debian's packages, in one run.
//!
//! Nothing here asserts; it prints. The figures people may rely on stand in `docs/budgets.md`.

use crate::error::Error;

mod measure;
mod start;
mod units;
mod vm;

/// Carries out the words behind `bench`.
pub(crate) fn run(words: &[&str]) -> Result<(), Error> {
    match words {
        ["start", rest @ ..] => start::start(rounds(rest)?),
        ["units", rest @ ..] => units::units(rounds(rest)?),
        [units::INSIDE, rest @ ..] => units::inside(rounds(rest)?),
        ["vm", rest @ ..] => vm::vm(rounds(rest)?),
        [vm::INSIDE, rest @ ..] => vm::inside(rounds(rest)?),
        _ => Err(Error::new("usage: cargo xtask bench start|units|vm [ROUNDS]")),
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
