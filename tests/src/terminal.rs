//! A terminal to run commands on, with the test as the person in front of it.
//!
//! The command is the leader of a session whose controlling terminal it is, as under a shell that
//! was told `exec`: so a change of the size and a hang-up reach it as signals. What it writes is
//! collected by a thread, and waited for without sleeping.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use crate::said::{self, PATIENCE};

/// A terminal and who looks at it.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<File>,
    slave: OwnedFd,
    heard: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    /// Closed to end the reader.
    stop: Option<OwnedFd>,
}

/// How a terminal is set up, and whether the open file of the caller blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    termios: Termios,
    blocks: bool,
}

impl Setup {
    /// Tells whether what is typed is shown by the terminal itself, as at a shell's prompt.
    #[must_use]
    pub fn echoes(&self) -> bool {
        self.termios.local_flags.contains(LocalFlags::ECHO)
    }

    /// Tells whether the open file, which a shell shares, blocks.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.blocks
    }
}

impl Terminal {
    /// Makes a terminal of some size.
    ///
    /// # Panics
    ///
    /// When there can be none.
    #[must_use]
    pub fn new(rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("there is a terminal to be had");
        for end in [&pair.master, &pair.slave] {
            let flags = FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            fcntl(end, flags).expect("it is open");
        }
        let (stopped, stop) = nix::unistd::pipe().expect("a pipe can be made");
        fcntl(&stop, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).expect("it is open");
        let master = Arc::new(File::from(pair.master));
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let reader = {
            let (master, heard) = (master.clone(), heard.clone());
            Some(thread::spawn(move || listen(&master, &stopped, &heard)))
        };
        Self { master, slave: pair.slave, heard, reader, stop: Some(stop) }
    }

    /// Types.
    ///
    /// # Panics
    ///
    /// When the terminal takes nothing.
    pub fn types(&self, keys: &[u8]) {
        (&*self.master).write_all(keys).expect("the terminal takes what is typed");
    }

    /// Changes its size, as a window does.
    ///
    /// # Panics
    ///
    /// When `stty` cannot.
    pub fn resize(&self, rows: u16, columns: u16) {
        let words = ["rows", &rows.to_string(), "columns", &columns.to_string()];
        let done = Command::new("stty").args(words).stdin(self.end()).status();
        assert!(done.expect("coreutils are there").success());
    }

    /// Returns how it is set up.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[must_use]
    pub fn setup(&self) -> Setup {
        let flags = fcntl(&self.slave, FcntlArg::F_GETFL).expect("it is open");
        Setup {
            termios: tcgetattr(&self.slave).expect("it is a terminal"),
            blocks: !OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK),
        }
    }

    /// Waits until `text` was written to it since this was last asked, and forgets all before.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE * said::slowness();
        let (heard, changed) = &*self.heard;
        let mut heard = heard.lock().expect("the reader does not panic");
        loop {
            let said = String::from_utf8_lossy(&heard).into_owned();
            if let Some(at) = said.find(text) {
                *heard = said.as_bytes()[at + text.len()..].to_vec();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the terminal never showed {text:?}, but: {said:?}");
            heard = changed.wait_timeout(heard, left).expect("the reader does not panic").0;
        }
    }

    /// Returns one more descriptor of the end that commands get.
    ///
    /// # Panics
    ///
    /// When descriptors run out.
    #[must_use]
    pub fn end(&self) -> Stdio {
        self.slave.try_clone().expect("descriptors are left").into()
    }

    /// Closes the window.
    ///
    /// # Panics
    ///
    /// When the reader has.
    pub fn hang_up(mut self) {
        self.stop_reader();
    }

    fn stop_reader(&mut self) {
        drop(self.stop.take());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop_reader();
    }
}

fn listen(master: &File, stopped: &OwnedFd, heard: &(Mutex<Vec<u8>>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        let mut fds = [
            PollFd::new(master.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        if fds[1].any() == Some(true) {
            return;
        }
        let mut master = master;
        // Our own end of the other side is open, so there is no end but the one above.
        let count = master.read(&mut bytes).unwrap_or(0);
        let (said, changed) = heard;
        said.lock().expect("nobody panics").extend_from_slice(&bytes[..count]);
        changed.notify_all();
    }
}
