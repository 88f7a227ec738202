//! The processes of a pod, listed by whoever sees them: behind a wall that keeps them from the host,
//! that is the other side of the wall.

use serde::{Deserialize, Serialize};

use crate::name::AppName;
use crate::text;

/// The most processes of one list. A pod may have any number; a list is to fit a frame.
pub const MAX_PROCESSES: usize = 1024;

/// The longest command, in characters.
pub const MAX_COMMAND: usize = 4096;

/// The most bytes of all commands together. In JSON, a quotation mark takes two; with the two hundred
/// bytes beside each command, that is less than [`crate::frame::MAX_FRAME`].
const MAX_COMMANDS: usize = 384 << 10;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listed {
    /// Its id, as whoever lists it counts.
    pub pid: u32,
    /// Its id in the innermost process namespace it is in.
    pub pid_inside: u32,
    /// Its app; none is the pod's own PID 1.
    pub app: Option<AppName>,
    /// Its user, by the numbers of the pod.
    pub uid: u32,
    /// As `ps` writes it: `R`, `S`, `D`, `Z`, `T`, ….
    pub state: char,
    /// Seconds of processor time.
    pub seconds: u64,
    /// What it was started as: its arguments, or its name in brackets.
    pub command: String,
}

/// A list of processes, as far as it fits a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listing {
    /// The first of them, by app and number.
    pub processes: Vec<Listed>,
    /// How many more there are.
    pub left_out: u32,
}

impl Listed {
    /// Makes what its app says of it fit to be shown, with at most `most` characters of command.
    #[must_use]
    pub fn tamed(self, most: usize) -> Self {
        let state = if self.state.is_ascii_alphabetic() { self.state } else { '?' };
        Self { command: text::tame(&self.command, most), state, ..self }
    }
}

impl Listing {
    /// Makes a list that fits a frame. Where there are many, their commands are cut the shorter.
    #[must_use]
    pub fn of(mut processes: Vec<Listed>) -> Self {
        processes.sort_by(|a, b| (&a.app, a.pid).cmp(&(&b.app, b.pid)));
        let left_out = processes.len().saturating_sub(MAX_PROCESSES);
        processes.truncate(MAX_PROCESSES);
        let each = MAX_COMMANDS / processes.len().max(1);
        let fit = |process: Listed| {
            let mut process = process.tamed(MAX_COMMAND);
            process.command.truncate(process.command.floor_char_boundary(each));
            process
        };
        let processes = processes.into_iter().map(fit).collect();
        Self { processes, left_out: u32::try_from(left_out).unwrap_or(u32::MAX) }
    }

    /// Makes what a guest says a list as [`Listing::of`] makes them, of apps that `knows` knows.
    #[must_use]
    pub fn tamed(mut self, knows: impl Fn(&AppName) -> bool) -> Self {
        self.processes.retain(|process| process.app.as_ref().is_none_or(&knows));
        let mut listing = Self::of(self.processes);
        listing.left_out = listing.left_out.saturating_add(self.left_out);
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Reply;
    use crate::frame::{Decoder, encode};
    use crate::guest::{Answer, FromGuest};

    fn listed(pid: u32, command: &str) -> Listed {
        Listed {
            pid,
            pid_inside: u32::MAX,
            app: Some(AppName::parse(&"a".repeat(63)).unwrap()),
            uid: u32::MAX,
            state: 'S',
            seconds: u64::MAX,
            command: command.to_owned(),
        }
    }

    #[test]
    fn the_longest_list_fits_a_frame() {
        for command in ["\"", "\\", "\u{1b}", "\u{10ffff}", "x"] {
            let command = command.repeat(1 << 16);
            let many = (0..5000).map(|at| listed(u32::MAX - at, &command)).collect();
            let listing = Listing::of(many);
            assert_eq!((listing.processes.len(), listing.left_out), (MAX_PROCESSES, 3976));
            let answer = FromGuest::Answer(Answer::Processes(Box::new(listing.clone())));
            let frame = encode(&answer).unwrap();
            let mut decoder = Decoder::new();
            decoder.feed(&frame);
            assert_eq!(decoder.take().unwrap(), Some(answer));
            assert!(encode(&Reply::Processes(Some(Box::new(listing)))).is_ok());
        }
        let one = Listing::of(vec![listed(1, &"x".repeat(1 << 20))]);
        assert_eq!(one.processes[0].command.len(), MAX_COMMAND);
    }

    #[test]
    fn what_a_guest_lists_is_of_apps_there_are_and_drives_no_terminal() {
        let odd = Listed { app: None, state: '\u{1b}', ..listed(2, "a\u{1b}[2J\u{202e}b") };
        let processes = vec![listed(1, "x"), odd, listed(3, "y")];
        let listing = Listing { processes, left_out: u32::MAX }.tamed(|_| false);
        assert_eq!(listing.left_out, u32::MAX);
        let [process] = &listing.processes[..] else { panic!("{listing:?}") };
        assert_eq!((process.pid, process.state), (2, '?'));
        assert_eq!(process.command, "a\u{fffd}[2J\u{fffd}b");
    }
}
