//! What a signal does to a process, seen from outside.
//!
//! The first process of a pid namespace is spared every signal it has no handler for, also from
//! outside: a plain `sleep` would sit out its whole grace because it happens to be process 1. What
//! anybody expects of a stop signal is its default action; so PID 1 finds out when the kernel would
//! drop it, and carries it out.

use std::fs;
use std::io;

use nix::unistd::Pid;

/// Signals whose default action ends nobody: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28);

/// The number of `rt_sigtimedwait(2)` on x86-64, as `/proc/PID/syscall` shows it.
const RT_SIGTIMEDWAIT: &str = "128";

const fn bit(signal: u8) -> u64 {
    1 << (signal - 1)
}

/// Tells whether the first process of a pid namespace is spared `signal`, although it would end
/// any other process in its state.
///
/// One that blocks the signal is not: it may wait for it by a signalfd, or by `sigwait(3)`, for the
/// length of which the kernel shows the signal as not blocked. Nor is one that ignores it: that is
/// a decision. Where it cannot be found out, the process is taken for one that is not spared.
#[must_use]
pub fn is_spared(pid: Pid, signal: u8) -> bool {
    let by_default = || {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| has_default_action(&status, signal))
    };
    // Looked at twice: between two calls of sigwait the signal shows as blocked.
    by_default() && !waits_for_signals(pid).unwrap_or(true) && by_default()
}

/// Tells whether a thread of a process is in `rt_sigtimedwait(2)`, which is what sigwait calls.
fn waits_for_signals(pid: Pid) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let call = fs::read_to_string(thread?.path().join("syscall"))?;
        if call.split_whitespace().next() == Some(RT_SIGTIMEDWAIT) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_default_action(status: &str, signal: u8) -> bool {
    let mask = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let (Some(blocked), Some(ignored), Some(caught)) =
        (mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:"))
    else {
        return false;
    };
    (1..=64).contains(&signal) && (blocked | ignored | caught | HARMLESS) & bit(signal) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signal_that_is_left_to_its_default_action_is_carried_out() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n\
                      SigCgt:\t0000000000004000\n";
        for (signal, is) in [
            (1, false),
            (2, true),
            (13, false),
            (15, false),
            (28, false),
            (37, true),
            (64, true),
            (0, false),
            (65, false),
        ] {
            assert_eq!(has_default_action(status, signal), is, "{signal}");
        }
        assert!(!has_default_action("", 2));
    }
}
