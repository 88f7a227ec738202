//! The probe: a static program that runs as an app and says what it sees, or does one thing.
//!
//! ```text
//! probe report               the report as JSON
//! probe attempt [NAME…]      tries forbidden things, answers as JSON
//! probe reach PATH…          how far paths can be reached, as JSON
//! probe streams              calls the host of a virtual machine by vsock, answers as JSON
//! probe exit N               exits with N
//! probe signal N             sends itself signal N
//! probe wait                 says `ready`, waits for SIGTERM or SIGINT, says `bye`, exits with 0
//! probe stay                 says `ready` and stays, whatever it is asked
//! probe serve                says `ready`, accepts one connection on each of the sockets it was
//!                            handed (`sd_listen_fds(3)`), again and again, and answers each with
//!                            the socket's name
//! probe tell PORT            says `ready`, and tells whoever asks at the port what address it has
//! probe ask ADDRESS…         asks such servers, answers as JSON
//! probe notify MESSAGE…     says each message to whoever `NOTIFY_SOCKET` names
//! probe fill PATH BYTES      writes BYTES bytes to PATH and answers with the errno or `ok`
//! ```
//!
//! It must never need anything of the image it runs in.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{MsgFlags, accept, send};
use nix::unistd::{Pid, close, pause};
use probe::{attempts, look, net, streams};
use serde::Serialize;

/// What the probe exits with when it was called wrongly; none of pod's own statuses.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match (args.first().map(String::as_str), rest) {
        (Some("report"), []) => said(&look::around()),
        (Some("attempt"), names) => said(&attempts::make(names)),
        (Some("reach"), paths) => said(&attempts::reach(paths)),
        (Some("streams"), []) => said(&streams::call_everybody()),
        (Some("exit"), [code]) => exit(code),
        (Some("signal"), [number]) => signal(number),
        (Some("wait"), []) => wait(),
        (Some("stay"), []) => stay(),
        (Some("serve"), []) => serve(),
        (Some("tell"), [port]) => tell(port),
        (Some("ask"), servers) => said(&net::ask(servers)),
        (Some("pour"), [server, seconds]) => pour(server, seconds),
        (Some("drain"), [port]) => drain(port),
        (Some("notify"), messages) => notify(messages),
        (Some("fill"), [path, bytes]) => fill(path, bytes),
        _ => ExitCode::from(USAGE),
    }
}

fn say(line: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn said(value: &impl Serialize) -> ExitCode {
    serde_json::to_string(value).map_or(ExitCode::FAILURE, |json| say(&json))
}

fn pour(server: &str, seconds: &str) -> ExitCode {
    let Ok(seconds) = seconds.parse() else { return ExitCode::from(USAGE) };
    net::pour(server, seconds).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn drain(port: &str) -> ExitCode {
    let Ok(port) = port.parse() else { return ExitCode::from(USAGE) };
    net::drain(port).map_or(ExitCode::FAILURE, |rate| say(&format!("{rate:.0}")))
}

fn exit(code: &str) -> ExitCode {
    ExitCode::from(code.parse::<u8>().unwrap_or(USAGE))
}

fn signal(number: &str) -> ExitCode {
    let signal = number.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
    match signal.map(|signal| kill(Pid::this(), signal)) {
        Some(Ok(())) => stay(),
        Some(Err(_)) => ExitCode::FAILURE,
        None => ExitCode::from(USAGE),
    }
}

/// Process 1 of a pid namespace gets only signals it asks for, so the signals are taken from a
/// mask rather than left to their default action.
fn wait() -> ExitCode {
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGTERM);
    asked.add(Signal::SIGINT);
    if asked.thread_block().is_err() || say("ready") != ExitCode::SUCCESS || asked.wait().is_err() {
        return ExitCode::FAILURE;
    }
    say("bye")
}

fn stay() -> ExitCode {
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGTERM);
    ignored.add(Signal::SIGINT);
    let _ = (ignored.thread_block(), say("ready"));
    loop {
        pause();
    }
}

fn tell(port: &str) -> ExitCode {
    let Ok(port) = port.parse() else { return ExitCode::from(USAGE) };
    match net::tell_clients(port, || {
        say("ready");
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves its sockets; fails at once if they are not for this very process.
fn serve() -> ExitCode {
    let Some(names) = look::sockets() else { return ExitCode::FAILURE };
    if say("ready") != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    loop {
        for (name, socket) in names.iter().zip(3..) {
            let answered = accept(socket).and_then(|connection| {
                let sent = send(connection, name.as_bytes(), MsgFlags::MSG_NOSIGNAL);
                close(connection).and(sent)
            });
            if answered.is_err() {
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Sends each message to whoever `NOTIFY_SOCKET` names (`sd_notify(3)`).
fn notify(messages: &[String]) -> ExitCode {
    let address = env::var("NOTIFY_SOCKET").ok();
    let address = address.as_deref().and_then(|name| name.strip_prefix('@'));
    let address = address.map(SocketAddr::from_abstract_name);
    let (Some(Ok(address)), Ok(socket)) = (address, UnixDatagram::unbound()) else {
        return ExitCode::FAILURE;
    };
    let sent = |message: &String| socket.send_to_addr(message.as_bytes(), &address).is_ok();
    if messages.iter().all(sent) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fill(path: &str, bytes: &str) -> ExitCode {
    let Ok(bytes) = bytes.parse::<u64>() else { return ExitCode::from(USAGE) };
    let filled = File::create(path).and_then(|mut file| {
        let chunk = [0_u8; 4096];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(4096);
            file.write_all(&chunk[..usize::try_from(now).unwrap_or(chunk.len())])?;
            left -= now;
        }
        Ok(())
    });
    match filled {
        Ok(()) => say("ok"),
        Err(error) => say(&format!("{:?}", Errno::from_raw(error.raw_os_error().unwrap_or(0)))),
    }
}
