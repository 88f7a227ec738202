//! PID 1 of a guest: the inside half of the wall that is a virtual machine.
//!
//! ```text
//!   host: supervisor ── wall (stage1-kvm) ══ virtual machine ══ guest ── stage2-init ── apps
//!                                                                 └─ namespaces: trees, cgroups
//! ```
//!
//! It boots, tells the host so, lays out what the host tells it, puts the same wall of namespaces
//! around the pod's apps as a host would, and carries frames and bytes between the host and what is
//! behind that. It decides nothing and keeps no record: the supervisor does.
//!
//! | part | does |
//! |---|---|
//! | [`machine`], [`hardware`] | what differs between a virtual machine and a trial |
//! | [`boot`] | from an initramfs to a root, and to modules |
//! | [`serve`] | everything else, in one loop of one thread |

#![forbid(unsafe_code)]

mod agent;
pub mod boot;
mod configure;
mod events;
mod flow;
pub mod hardware;
mod init_link;
mod last_words;
mod leftovers;
mod limits;
pub mod machine;
mod modules;
mod network;
mod partitions;
mod reach;
mod secrets;
mod stream;
mod streams;
mod wire;

use std::time::Duration;

use pod_abi::guest::{Answer, Configure, FromGuest, Hello, ToGuest, port};
use pod_abi::version;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use supervisor::{During, Failure};

use self::agent::Agent;
pub use self::agent::Ending;
use self::machine::Machine;
use self::wire::Wire;

/// Serves the host from the first word to the end of the pod.
///
/// # Errors
///
/// What ended the guest before its pod. The host has been told, unless it is what cannot be
/// spoken to.
pub fn serve(machine: &impl Machine) -> Result<Ending, Failure> {
    limits::raise()?;
    let mut wall = Wire::new(machine.connect(port::WALL)?, &[]);
    let hello = Hello {
        version: version::GUEST,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        uptime_us: uptime_us(),
    };
    wall.say(&FromGuest::Hello(hello))?;
    let Some(configure) = hear_configure(&mut wall)? else { return Ok(Ending::Abandoned) };
    let (mut laid, directories) = match configure::lay_out(machine, &configure) {
        Ok(laid) => laid,
        Err(failure) => {
            wall.say(&FromGuest::Refused(Box::new(failure.report())))?;
            machine.settle();
            return Err(failure);
        }
    };
    wall.say(&FromGuest::Answer(Answer::Done))?;
    let agent = Agent::new(machine, &configure, &directories, &mut laid, wall)?;
    let ending = agent.work();
    if matches!(ending, Ok(Ending::Over)) {
        drop(directories);
        configure::let_go();
    }
    ending
}

/// Waits until the host has told what pod this is; `None` if the host has gone.
fn hear_configure(wall: &mut Wire) -> Result<Option<Box<Configure>>, Failure> {
    let mut apps = Vec::new();
    loop {
        let events = match wall.is_waiting() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        match poll(&mut [PollFd::new(&*wall, events)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "cannot wait for the host, poll()"),
        }
        wall.flush()?;
        wall.read()?;
        while let Some(question) = wall.take()? {
            match question {
                ToGuest::App(app) => {
                    apps.push(*app);
                    wall.say(&FromGuest::Answer(Answer::Done))?;
                }
                ToGuest::Configure(mut configure) => {
                    configure.order.apps = apps;
                    return Ok(Some(configure));
                }
                _ => {
                    let failure = Failure::new("this guest does not know its pod yet");
                    wall.say(&FromGuest::Refused(Box::new(failure.report())))?;
                }
            }
        }
        if wall.is_closed() {
            return Ok(None);
        }
    }
}

/// Returns how long this kernel has counted, in microseconds.
fn uptime_us() -> u64 {
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since = Duration::try_from(since).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
