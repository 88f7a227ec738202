//! The frames between `cargo xtask` and the program `agent` in a machine of QEMU.
//!
//! They cross a virtio-serial port, which knows no messages: one byte of kind, four of length, the
//! content. One command runs at a time. Input is sent piece by piece, the next when the last was
//! [`Taken`](FromGuest::Taken), so that a command that does not read holds up nothing else. Both
//! ends are of the same build; nothing here is kept anywhere.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The name of the port, on both sides.
pub const PORT: &str = "pod.agent";
/// No frame has more content than this, in bytes.
pub const LARGEST: usize = 1 << 20;
/// A piece of a stream has at most this many bytes.
pub const PIECE: usize = 1 << 16;
/// What a greeting begins with: whoever waits for one after a restart finds it behind whatever was
/// cut off.
const GREETING: &[u8; 12] = b"\0pod agent:\x05";

/// A command, and how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The terminal it shall have, if any: its name, such as `xterm`, and its size.
    pub terminal: Option<(String, Size)>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// In lines.
    pub rows: u16,
    /// In characters.
    pub columns: u16,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGuest {
    /// Run this.
    Start(Start),
    /// Standard input of the command.
    Input(Vec<u8>),
    /// There is no more input.
    EndOfInput,
    /// Its terminal has another size.
    Size(Size),
    /// It has run too long: kill it, and all its process group.
    Kill,
    /// Whether anybody is there. A machine that hangs is found by its silence.
    Ping,
}

/// What the machine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGuest {
    /// The command wrote this to its standard output, or its terminal.
    Output(Vec<u8>),
    /// The command wrote this to its standard error.
    Errors(Vec<u8>),
    /// The last piece of input was written to the command, or nobody reads it any more.
    Taken,
    /// The command has ended, with this exit code; 128+n for signal n.
    Ended(u8),
    /// It could not be run, and this is why.
    Refused(String),
    /// The answer to [`ToGuest::Ping`], whatever the command does.
    Pong,
}

impl ToGuest {
    /// Writes the frame.
    ///
    /// # Errors
    ///
    /// What the port says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Start(start) => frame(to, b'!', &serde_json::to_vec(start)?),
            Self::Input(bytes) => frame(to, b'0', bytes),
            Self::EndOfInput => frame(to, b'.', &[]),
            Self::Size(size) => frame(to, b'#', &serde_json::to_vec(size)?),
            Self::Kill => frame(to, b'k', &[]),
            Self::Ping => frame(to, b'p', &[]),
        }
    }

    /// Reads the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the port says, and `InvalidData` for what is no frame.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, content)) = content(from)? else { return Ok(None) };
        Ok(Some(match kind {
            b'!' => Self::Start(serde_json::from_slice(&content)?),
            b'0' => Self::Input(content),
            b'.' => Self::EndOfInput,
            b'#' => Self::Size(serde_json::from_slice(&content)?),
            b'k' => Self::Kill,
            b'p' => Self::Ping,
            _ => return Err(unknown(kind)),
        }))
    }
}

impl FromGuest {
    /// Writes the frame.
    ///
    /// # Errors
    ///
    /// What the port says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Output(bytes) => frame(to, b'1', bytes),
            Self::Errors(bytes) => frame(to, b'2', bytes),
            Self::Taken => frame(to, b'+', &[]),
            Self::Ended(code) => frame(to, b'=', &[*code]),
            Self::Refused(why) => frame(to, b'-', why.as_bytes()),
            Self::Pong => frame(to, b'P', &[]),
        }
    }

    /// Reads the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the port says, and `InvalidData` for what is no frame.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, content)) = content(from)? else { return Ok(None) };
        Ok(Some(match (kind, content.as_slice()) {
            (b'1', _) => Self::Output(content),
            (b'2', _) => Self::Errors(content),
            (b'+', []) => Self::Taken,
            (b'=', [code]) => Self::Ended(*code),
            (b'P', []) => Self::Pong,
            (b'-', _) => Self::Refused(String::from_utf8_lossy(&content).into_owned()),
            _ => return Err(unknown(kind)),
        }))
    }
}

/// Says that the machine is up; the first that is written after each boot.
///
/// # Errors
///
/// What the port says.
pub fn greet(to: &mut impl Write) -> io::Result<()> {
    to.write_all(GREETING)?;
    to.flush()
}

/// Reads up to and with the next greeting; false at the end of the stream.
///
/// # Errors
///
/// What the port says.
pub fn await_greeting(from: &mut impl Read) -> io::Result<bool> {
    let mut last = [0; GREETING.len()];
    while last != *GREETING {
        let mut next = [0];
        match from.read_exact(&mut next) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        last.rotate_left(1);
        last[GREETING.len() - 1] = next[0];
    }
    Ok(true)
}

fn frame(to: &mut impl Write, kind: u8, content: &[u8]) -> io::Result<()> {
    if content.len() > LARGEST {
        return Err(io::Error::other("the frame is too large"));
    }
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(5 + content.len());
    bytes.push(kind);
    bytes.extend(length.to_be_bytes());
    bytes.extend(content);
    // At once, so that a frame is cut off only by the end of everything.
    to.write_all(&bytes)?;
    to.flush()
}

fn content(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut kind = [0];
    match from.read_exact(&mut kind) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if kind[0] == GREETING[0] {
        return Err(io::Error::other("it has started anew by itself"));
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is too large"));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    Ok(Some((kind[0], content)))
}

fn unknown(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of unknown kind {kind:#04x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let size = Size { rows: 24, columns: 80 };
        let start =
            Start { words: vec!["true".to_owned()], terminal: Some(("vt100".to_owned(), size)) };
        let orders = [
            ToGuest::Start(start),
            ToGuest::Input(vec![0; PIECE]),
            ToGuest::EndOfInput,
            ToGuest::Size(size),
            ToGuest::Kill,
            ToGuest::Ping,
        ];
        let mut bytes = Vec::new();
        orders.iter().for_each(|order| order.write(&mut bytes).expect("memory is writable"));
        let mut rest = bytes.as_slice();
        for order in orders {
            assert_eq!(ToGuest::read(&mut rest).expect("it is a frame"), Some(order));
        }
        assert_eq!(ToGuest::read(&mut rest).expect("it is the end"), None);

        let reports = [
            FromGuest::Output(b"out".to_vec()),
            FromGuest::Errors(Vec::new()),
            FromGuest::Taken,
            FromGuest::Ended(137),
            FromGuest::Refused("there is no such file".to_owned()),
            FromGuest::Pong,
        ];
        let mut bytes = Vec::new();
        reports.iter().for_each(|report| report.write(&mut bytes).expect("memory is writable"));
        let mut rest = bytes.as_slice();
        for report in reports {
            assert_eq!(FromGuest::read(&mut rest).expect("it is a frame"), Some(report));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_unread() {
        for bytes in
            [&b"1\xff\xff\xff\xff"[..], b"?\0\0\0\0", b"=\0\0\0\0", b"1\0\0\0\x02a", b"1\0"]
        {
            assert!(FromGuest::read(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_greeting_is_found_behind_a_frame_that_was_cut_off() {
        let mut bytes = b"1\0\0\x10\0half\0pod agent\0pod".to_vec();
        greet(&mut bytes).expect("memory is writable");
        FromGuest::Taken.write(&mut bytes).expect("memory is writable");
        let mut rest = bytes.as_slice();
        assert!(await_greeting(&mut rest).expect("memory is readable"));
        assert_eq!(FromGuest::read(&mut rest).expect("a frame"), Some(FromGuest::Taken));
        let anew = FromGuest::read(&mut &GREETING[..]).expect_err("it is no frame");
        assert!(anew.to_string().contains("anew"), "{anew}");
        assert!(!await_greeting(&mut &b"\0pod agent"[..]).expect("memory is readable"));
    }
}
