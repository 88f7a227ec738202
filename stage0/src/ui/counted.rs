//! Saying on a terminal how much has been copied, while it is.

use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use super::{bytes_note, size};

/// How often a copy says how far it is.
const EVERY: Duration = Duration::from_millis(250);

/// Something that is read or written, and says on a terminal how much that was.
pub(crate) struct Counted<T> {
    of: T,
    bytes: u64,
    told: Option<Instant>,
    begun: bool,
}

/// Counts what is read from or written to `of`.
pub(crate) fn counted<T>(of: T) -> Counted<T> {
    Counted { of, bytes: 0, told: io::stderr().is_terminal().then(Instant::now), begun: false }
}

impl<T> Counted<T> {
    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.told.is_some_and(|told| told.elapsed() >= EVERY) {
            self.told = Some(Instant::now());
            self.begun = true;
            bytes_note(format!("\r\x1b[Kcopied {}", size(self.bytes)).as_bytes());
        }
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        if self.begun {
            bytes_note(b"\r\x1b[K");
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.of.read(bytes)?;
        self.count(count);
        Ok(count)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.of.write(bytes)?;
        self.count(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.of.flush()
    }
}
