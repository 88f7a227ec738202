//! The caller's terminal: its size, and raw mode while an app has it.
//!
//! Raw mode is taken back whatever happens to this process short of SIGKILL: when the guard is
//! dropped, and when the program panics. The open file behind standard input is shared with the
//! caller's shell, so it is never made not to block.

use std::io::{IsTerminal, stdin, stdout};
use std::panic;
use std::sync::Mutex;

use pod_abi::control::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{CommandError, Context as _, Result};

/// How the terminal was, while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal at standard input, in raw mode; as it was before, once this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes the terminal at standard input raw.
    ///
    /// # Errors
    ///
    /// `storage` if it is none.
    pub(crate) fn new() -> Result<Self> {
        let tell = || "cannot set up the terminal".to_owned();
        let before = tcgetattr(stdin()).context(tell)?;
        if let Ok(mut kept) = BEFORE.lock() {
            *kept = Some(before);
        }
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            outer(info);
        }));
        let raw = Self(());
        raw.again()?;
        Ok(raw)
    }

    /// Makes it raw once more, for a shell that has stopped us has set it up for itself.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn again(&self) -> Result<()> {
        let tell = || "cannot set up the terminal".to_owned();
        let mut termios = tcgetattr(stdin()).context(tell)?;
        termios.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &termios).context(tell)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(termios) = before.take()
    {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &termios); // it may be gone
    }
}

/// Refuses input for a terminal (`wanted`) that does not come from one.
///
/// # Errors
///
/// `terminal.none`.
pub(crate) fn check(wanted: bool) -> Result<()> {
    if !wanted || stdin().is_terminal() {
        return Ok(());
    }
    Err(CommandError::new("terminal.none", "the input device is not a TTY")
        .hint("leave `-t` away: `-i` alone passes on files and pipes"))
}

/// Returns the size of the caller's terminal, if it has one.
pub(crate) fn size() -> Option<WindowSize> {
    let size = if stdout().is_terminal() {
        tcgetwinsize(stdout())
    } else if stdin().is_terminal() {
        tcgetwinsize(stdin())
    } else {
        return None;
    };
    let size = size.ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}
