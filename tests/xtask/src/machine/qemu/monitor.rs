//! QEMU's own monitor, for a machine that no longer answers: what its processors do, and an interrupt
//! that is none's, by which both see those they have missed.
//!
//! Where processors with guests are emulated, a guest's end and an interrupt from outside may come at
//! one moment and change the same word, each as if alone: the interrupt is recorded in the processor's
//! controller (`IRR`), and the processor never looks. The next interrupt of any kind has it look.
//!
//! Its socket has a name in the abstract namespace, so there is no file to leave behind.

use std::fs;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What it says when it waits for the next command.
const PROMPT: &str = "(qemu) ";
/// What is asked of a machine that hangs.
const STATE: [&str; 4] = ["info cpus", "info registers -a", "info lapic 0", "info lapic 1"];

/// Where the monitor of one machine is heard.
#[derive(Debug)]
pub(super) struct Monitor(String);

impl Monitor {
    /// Makes a name nobody else has.
    pub(super) fn new() -> io::Result<Self> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        Ok(Self(format!("pod-machine-{}", uuid.trim_end())))
    }

    /// Returns the arguments that make QEMU listen there.
    pub(super) fn arguments(&self) -> [String; 4] {
        let socket = "abstract=on,tight=on,server=on,wait=off";
        [
            "-chardev".to_owned(),
            format!("socket,id=monitor,path={},{socket}", self.0),
            "-mon".to_owned(),
            "chardev=monitor,mode=readline".to_owned(),
        ]
    }

    /// Returns what the processors do.
    pub(super) fn state(&self) -> io::Result<String> {
        self.say(&STATE)
    }

    /// Gives the machine a non-maskable interrupt. Its kernel says that it does not know why, which is
    /// all it does, and sends interrupts to itself and to others to say so.
    pub(super) fn shake(&self) -> io::Result<()> {
        self.say(&["nmi"]).map(drop)
    }

    fn say(&self, commands: &[&str]) -> io::Result<String> {
        let address = SocketAddr::from_abstract_name(&self.0)?;
        let mut stream = UnixStream::connect_addr(&address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut said = String::new();
        hear(&mut stream)?;
        for command in commands {
            writeln!(stream, "{command}")?;
            // The first line is the command as it was typed, letter by letter.
            let answer = hear(&mut stream)?;
            let answer = answer.split_once('\n').map_or("", |(_, rest)| rest);
            said += &format!("{PROMPT}{command}\n{}", answer.trim_end_matches(PROMPT));
        }
        Ok(said)
    }
}

/// Reads up to the next prompt.
fn hear(stream: &mut UnixStream) -> io::Result<String> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while !said.ends_with(PROMPT.as_bytes()) {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => said.extend_from_slice(&piece[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
