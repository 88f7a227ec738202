//! Asking the person at the terminal, for words that may be shown and for words that may not.
//!
//! The terminal itself is asked, `/dev/tty`, so that it works where standard input is something
//! else. While a password is typed the terminal shows nothing and sends no signals: what ends the
//! question is a line's end or Control-C, and either way the terminal is as it was before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::error::{CommandError, Result};

/// Control-C, as a terminal sends it.
const CANCEL: u8 = 3;
/// The longest answer, in bytes: what a terminal's line holds.
const MAX_ANSWER: usize = 4096;

/// Asks for a word.
///
/// # Errors
///
/// `terminal` if there is nobody to ask, or the answer is none.
pub(crate) fn ask(question: &str) -> Result<String> {
    let mut terminal = open(question)?;
    answer(&mut terminal, question).map_err(|error| silent(question, &error))
}

/// Asks for a word that is not shown.
///
/// # Errors
///
/// As [`ask`].
pub(crate) fn ask_hidden(question: &str) -> Result<String> {
    let mut terminal = open(question)?;
    let failed = |error: io::Error| silent(question, &error);
    let hidden = Hidden::new(terminal.try_clone().map_err(failed)?).map_err(failed)?;
    let answered = answer(&mut terminal, question);
    drop(hidden);
    let _ = terminal.write_all(b"\n"); // the line's end that was not shown
    answered.map_err(failed)
}

fn open(question: &str) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
    opened.map_err(|error| silent(question, &error))
}

fn silent(question: &str, error: &io::Error) -> CommandError {
    let asked = question.trim_end_matches([':', ' ']);
    CommandError::new("terminal", format!("nobody answers `{asked}`"))
        .because(error)
        .hint("without a terminal, `--username USER --password-stdin` takes the password from standard input")
}

fn answer(terminal: &mut File, question: &str) -> io::Result<String> {
    terminal.write_all(question.as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_ANSWER && terminal.read(&mut byte)? == 1 {
        match byte[0] {
            b'\n' | b'\r' => return String::from_utf8(line).map_err(io::Error::other),
            CANCEL => break,
            other => line.push(other),
        }
    }
    Err(io::Error::from(io::ErrorKind::Interrupted))
}

/// A terminal that shows nothing, until this is dropped.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        // It would otherwise wait in the line for its end.
        quiet.special_codes[SpecialCodeIndex::VEOL] = CANCEL;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
