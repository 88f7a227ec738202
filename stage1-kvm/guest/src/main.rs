//! `/init` of a guest's initramfs. Whatever it cannot say to the host it says on the console, in
//! one line that begins with `guest: `; and however it ends, the machine is switched off.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;
use std::panic;
use std::process::{self, ExitCode};

use guest::hardware::Hardware;
use guest::machine::{Group, Machine};
use guest::{Ending, boot, serve};
use pod_abi::text;
use rustix::system::{RebootCommand, reboot};
use supervisor::Failure;

/// The longest line that is said, in characters.
const MAX_LINE: usize = 4096;

/// The first process of a machine.
const FIRST: u32 = 1;

fn main() -> ExitCode {
    if process::id() != FIRST {
        say("it is the first process of a virtual machine, and nothing else");
        return ExitCode::from(pod_abi::exit::OURS);
    }
    panic::set_hook(Box::new(|panic| {
        say(&panic.to_string());
        switch_off();
    }));
    match run() {
        Ok(Ending::Over) => {}
        Ok(Ending::Abandoned) => say("the host is gone"),
        Err(failure) => say(&in_one_line(&failure)),
    }
    switch_off();
    // A machine that cannot be switched off stops here, with a panic of its kernel.
    ExitCode::from(pod_abi::exit::OURS)
}

fn run() -> Result<Ending, Failure> {
    boot::boot()?;
    let machine = Hardware::default();
    machine.load(Group::Always)?;
    serve(&machine)
}

fn in_one_line(failure: &Failure) -> String {
    let mut line = failure.to_string();
    let mut cause = failure.source();
    while let Some(one) = cause {
        line.push_str(&format!(": {one}"));
        cause = one.source();
    }
    line
}

/// Writes a line where the monitor keeps the last of them. What an error quotes may hold anything.
fn say(text: &str) {
    let line = text::tame(text, MAX_LINE);
    // There is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "guest: {line}");
}

fn switch_off() {
    // What fails is seen by the end of this process.
    let _ = reboot(RebootCommand::PowerOff);
}
