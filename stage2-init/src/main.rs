//! PID 1 of a pod.
//!
//! Adopts its end of the inner channel, leaves the host's files behind, and serves until the pod
//! has ended. Whatever goes wrong is said through the channel; there is nowhere else to say it.

#![forbid(unsafe_code)]

use std::io::Write;
use std::os::fd::OwnedFd;
use std::panic;
use std::process::{self, ExitCode};

use pod_abi::exit::OURS;
use pod_abi::frame;
use pod_abi::inner::{CHANNEL_FD, FromInit};
use pod_abi::report::Report;
use stage2_init::channel::Channel;
use stage2_init::{launch, pid1, surroundings};

fn main() -> ExitCode {
    let Ok(stream) = pod_sys::inherited(CHANNEL_FD) else { return ExitCode::from(OURS) };
    if let Ok(copy) = stream.try_clone() {
        report_panics(copy);
    }
    let Ok(mut channel) = Channel::new(stream) else { return ExitCode::from(OURS) };
    let served = surroundings::leave_host()
        .map_err(pid1::Error::from)
        .and_then(|()| pid1::serve(&mut channel));
    let code = served.unwrap_or_else(|error| {
        let _ = channel.send(&pid1::last_words(&error)); // the supervisor may be gone: then nobody asks
        OURS
    });
    // No pid namespace ends with a process that is not its first.
    if process::id() != FIRST {
        let _ = pod_sys::kill_children(&[]); // the supervisor sees to what is left
    }
    ExitCode::from(code)
}

/// The first process of a pid namespace.
const FIRST: u32 = 1;

/// Makes a panic the supervisor's news, and the end of the pod.
///
/// In a child on its way to `execve` it ends that child only, and is seen on its standard error.
fn report_panics(channel: OwnedFd) {
    let channel = std::fs::File::from(channel);
    panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(std::io::stderr(), "stage2-init: {panic}"); // may be closed
        if !launch::is_child() {
            let report = Report::new("pod.init", "PID 1 of the pod has a bug").exit(OURS);
            let report = Report { causes: vec![panic.to_string()], ..report };
            if let Ok(bytes) = frame::encode(&FromInit::Failed(Box::new(report))) {
                let _ = (&channel).write_all(&bytes); // the supervisor sees the end in any case
            }
        }
        #[expect(clippy::exit, reason = "a panic of PID 1 is the end of the pod")]
        process::exit(OURS.into())
    }));
}
