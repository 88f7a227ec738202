//! The serial console: what a kernel says before anything else works, the last of it kept.
//!
//! Only the end of it is kept, in a ring that never grows, and it goes nowhere before the machine
//! has ended. Nothing can be typed into it. Each byte costs the guest an exit of its own processor,
//! which is what bounds how much it says.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use vm_superio::{Serial, Trigger};

use crate::bell::Bell;

/// Bytes that are kept.
pub const KEPT: usize = 64 << 10;

/// The console of a machine.
pub struct Console(Mutex<Serial<Line, vm_superio::serial::NoEvents, Tail>>);

/// The console's line of interrupts.
struct Line(Bell);

/// The last bytes of what was written.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Console {
    /// A console that interrupts by this.
    #[must_use]
    pub fn new(line: Bell) -> Self {
        Self(Mutex::new(Serial::new(Line(line), Tail::default())))
    }

    /// A processor reads a register.
    pub fn read(&self, register: u8) -> u8 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(register)
    }

    /// A processor writes a register.
    pub fn write(&self, register: u8, value: u8) {
        // It fails only where the line or the tail does, and neither can.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write(register, value);
    }

    /// The last of what was said, at most so many bytes, whatever is no text replaced.
    #[must_use]
    pub fn tail(&self, bytes: usize) -> String {
        let serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &serial.writer().0;
        let from = kept.len().saturating_sub(bytes);
        let last: Vec<u8> = kept.range(from..).copied().collect();
        drop(serial);
        let mut text = String::from_utf8_lossy(&last).into_owned();
        // What is replaced grows: the beginning goes, as it would have anyway.
        let mut cut = text.len().saturating_sub(bytes);
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        text.split_off(cut)
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> Result<(), io::Error> {
        self.0.ring();
        Ok(())
    }
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if self.0.len() == KEPT {
                self.0.pop_front();
            }
            self.0.push_back(byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
