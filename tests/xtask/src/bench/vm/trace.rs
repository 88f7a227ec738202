//! What the kernel of the machine sees of monitors: their `execve`, and what a guest writes to its
//! serial port (`Documentation/trace/events.rst` of Linux).

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where the trace is.
const TRACE: &str = "/sys/kernel/tracing";
/// What is traced: the events, and which of each.
const EVENTS: [(&str, &str); 2] =
    [("sched/sched_process_exec", ""), ("kvm/kvm_pio", "port == 0x3f8 && rw == 1")];

/// A trace that is being written.
#[derive(Debug)]
pub(super) struct Trace(());

impl Trace {
    /// Begins to trace.
    pub(super) fn start() -> io::Result<Self> {
        if !Path::new(TRACE).join("trace").exists() {
            let mounted =
                Command::new("mount").args(["-t", "tracefs", "tracefs", TRACE]).status()?;
            if !mounted.success() {
                return Err(io::Error::other("there is no tracefs"));
            }
        }
        for (event, filter) in EVENTS {
            let directory = Path::new(TRACE).join("events").join(event);
            if !filter.is_empty() {
                fs::write(directory.join("filter"), filter)?;
            }
            fs::write(directory.join("enable"), "1")?;
        }
        fs::write(Path::new(TRACE).join("tracing_on"), "1")?;
        Ok(Self(()))
    }

    /// Forgets all so far.
    pub(super) fn clear(&self) -> io::Result<()> {
        fs::write(Path::new(TRACE).join("trace"), "")
    }

    /// Returns what was seen.
    pub(super) fn read(&self) -> io::Result<String> {
        fs::read_to_string(Path::new(TRACE).join("trace"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        for (event, _) in EVENTS {
            // The machine ends with it.
            let _ = fs::write(Path::new(TRACE).join("events").join(event).join("enable"), "0");
        }
    }
}

/// Returns the time from the last `execve` of `program` to the first `byte` at the port.
pub(super) fn between(trace: &str, program: &str, byte: u8) -> Option<Duration> {
    let exec = format!("filename={program} ");
    let value = format!("val {byte:#x} ");
    let time = |line: &str| -> Option<f64> {
        let (head, _) = line.split_once(": ")?;
        head.split_whitespace().last()?.parse().ok()
    };
    let begun = trace.lines().rev().find(|line| line.contains(&exec)).and_then(time)?;
    let mut bytes = trace.lines().filter(|line| line.contains("kvm_pio") && line.contains(&value));
    let said = bytes.find_map(|line| time(line).filter(|said| *said > begun))?;
    Some(Duration::from_secs_f64(said - begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_between_both_events() {
        let trace = "\
# tracer: nop
             sh-10  [000] .....    10.000000: sched_process_exec: filename=/bin/sh pid=10 old_pid=10
            vmm-10  [000] .....    10.500000: sched_process_exec: filename=/usr/vmm pid=10 old_pid=10
         vcpu-0-11  [001] .....    11.000000: kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x1 
         vcpu-0-11  [001] .....    11.750000: kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x7e 
         vcpu-0-11  [001] .....    11.800000: kvm_pio: pio_write at 0x3f8 size 1 count 1 val 0x7e 
";
        assert_eq!(between(trace, "/usr/vmm", b'~'), Some(Duration::from_millis(1250)));
        assert_eq!(between(trace, "/usr/qemu", b'~'), None);
        assert_eq!(between("", "/usr/vmm", b'~'), None);
    }
}
