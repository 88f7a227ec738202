//! Where a pod's supervisor is to run. Pure: what is known of this process and what is asked for in,
//! a place out.

use crate::error::{CommandError, Result};

/// Where a supervisor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here: this process becomes it.
    Here,
    /// In a process started for it; this one is at most a client.
    Apart,
}

/// What is known of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Whether a service manager starts supervisors on this host.
    pub(crate) manager: bool,
    /// Whether this process is the main process of a unit.
    pub(crate) main_process: bool,
    /// Whether it was handed sockets, which cannot follow into another.
    pub(crate) sockets: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// To return as soon as the pod is ready.
    pub(crate) detached: bool,
    /// To talk to an app, which takes a client.
    pub(crate) talks: bool,
    /// To stay in this process.
    pub(crate) in_place: bool,
}

/// Decides where the supervisor of a pod runs.
///
/// # Errors
///
/// Usage for wishes that contradict each other.
pub(crate) fn place(facts: Facts, wish: Wish) -> Result<Place> {
    match wish {
        Wish { in_place: true, detached: true, .. } => {
            Err(CommandError::usage("`--in-place` contradicts `--detach`")
                .hint("in place, this process becomes the pod's supervisor and stays"))
        }
        Wish { in_place: true, talks: true, .. } => {
            let what = "a pod one of whose apps takes input cannot run in place";
            Err(CommandError::usage(what)
                .hint("leave `--in-place` away: this process is a client of the pod then"))
        }
        Wish { in_place: true, .. } => Ok(Place::Here),
        Wish { detached: true, .. } | Wish { talks: true, .. } => Ok(Place::Apart),
        // Nothing comes between a service manager and its pod, nor between a shell and one that no
        // service manager looks after.
        _ if facts.main_process || facts.sockets || !facts.manager => Ok(Place::Here),
        _ => Ok(Place::Apart),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_process_of_a_unit_stays_and_so_does_a_foreground_without_a_manager() {
        let (yes, no) = (true, false);
        // manager, main process; detached, talks, in place
        let table = [
            ((no, no), (no, no, no), Some(Place::Here)),
            ((no, no), (yes, no, no), Some(Place::Apart)),
            ((no, no), (no, yes, no), Some(Place::Apart)),
            ((yes, no), (no, no, no), Some(Place::Apart)),
            ((yes, no), (yes, no, no), Some(Place::Apart)),
            ((yes, yes), (no, no, no), Some(Place::Here)),
            ((yes, yes), (yes, no, no), Some(Place::Apart)),
            ((yes, yes), (no, yes, no), Some(Place::Apart)),
            ((no, yes), (no, no, no), Some(Place::Here)),
            ((yes, no), (no, no, yes), Some(Place::Here)),
            ((yes, no), (yes, no, yes), None),
            ((yes, no), (no, yes, yes), None),
        ];
        for ((manager, main_process), (detached, talks, in_place), expected) in table {
            let facts = Facts { manager, main_process, sockets: false };
            let wish = Wish { detached, talks, in_place };
            assert_eq!(place(facts, wish).ok(), expected, "{facts:?} {wish:?}");
        }
    }

    #[test]
    fn sockets_that_were_handed_over_keep_a_foreground_here() {
        let facts = Facts { manager: true, main_process: false, sockets: true };
        let wish = Wish { detached: false, talks: false, in_place: false };
        assert_eq!(place(facts, wish).ok(), Some(Place::Here));
    }
}
