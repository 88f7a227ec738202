//! Looking at the processes of the pod, for `pod top`.
//!
//! A child does it, and is not waited for longer than [`PATIENCE`]: the arguments of a process are
//! read from its memory, and one whose memory is a file of a server that hangs holds up whoever
//! reads them. That must never be the guest itself.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pod_abi::AppName;
use pod_abi::frame::{Decoder, encode};
use pod_abi::processes::{Listed, Listing};
use pod_sys::{CloneFlags, Forked, clone3, look_at};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use supervisor::{During, Failure};

/// How long looking may take: ten thousand processes take half a second. A client gives up after
/// five (`pod_abi::control::DEADLINE_MS`).
const PATIENCE: Duration = Duration::from_secs(2);

/// Lists these processes, each of its app.
///
/// # Errors
///
/// `top.late` if one of them holds it up; nothing has changed.
pub(super) fn list(members: &[(u32, Option<AppName>)]) -> Result<Listing, Failure> {
    let (ours, its) = pipe_with(PipeFlags::CLOEXEC).during(|| "pipe2()")?;
    let forked = clone3(CloneFlags::NONE, None).during(|| "cannot start a helper, clone3()")?;
    let Forked::Parent { pidfd, .. } = forked else {
        drop(ours);
        look_at_all(members, its)
    };
    drop(its);
    let heard = hear(&ours, Instant::now() + PATIENCE);
    if heard.is_err() {
        // Nobody waits for it here: it is collected with the orphans, whenever it ends.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    heard
}

#[expect(clippy::exit, reason = "a child of clone3 must not return into the guest's code")]
fn look_at_all(members: &[(u32, Option<AppName>)], pipe: OwnedFd) -> ! {
    let listed = members.iter().filter_map(|(pid, app)| {
        let process = look_at(*pid)?;
        Some(Listed {
            pid: *pid,
            pid_inside: process.pid_inside,
            app: app.clone(),
            uid: process.uid,
            state: process.state,
            seconds: process.seconds,
            command: process.command,
        })
    });
    let frame = encode(&Listing::of(listed.collect())).unwrap_or_default();
    // Nobody may listen any more.
    let _ = File::from(pipe).write_all(&frame);
    std::process::exit(0);
}

fn hear(pipe: &OwnedFd, deadline: Instant) -> Result<Listing, Failure> {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        let heard = decoder.take().map_err(|error| Failure::of("a helper says no list", error));
        if let Some(listing) = heard? {
            return Ok(listing);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], left.as_ref()) {
            Ok(0) => {
                let what = "a process of the pod cannot be looked at: it holds up whoever tries";
                return Err(Failure::new(what)
                    .code("top.late")
                    .hint("`pod top POD APP` asks for one app alone"));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "poll()"),
        }
        match read(pipe, &mut buffer) {
            Ok(0) => return Err(Failure::new("a helper died without a word")),
            Ok(count) => decoder.feed(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "cannot hear from a helper, read()"),
        }
    }
}
