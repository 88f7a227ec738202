//! Finding out who is ready, of the apps that do not become so by their start: a socket to be told
//! by, or a question asked again and again. What else comes through the socket is passed on.
//!
//! ```text
//!   executed ──▶ Schedule ──▶ Ask ──▶ a process in the app, or an Exchange over the loopback
//!                    ▲                     │
//!                    └───── answered ◀─────┘
//! ```
//!
//! Apart from the [machine](crate::machine), which is only told the outcome, and from the loop,
//! which lends its epoll. Nothing here ever waits: what is not there yet is come back to.

mod exchange;
mod listener;
mod schedule;
mod voice;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pod_abi::app::{AppSpec, EnvVar};
use pod_abi::name::AppName;
use pod_abi::readiness::{Check, Readiness};
use rustix::event::epoll;

use self::exchange::{Exchange, Post};
use self::listener::Listener;
use self::schedule::{Schedule, Step};
use self::voice::Voice;
pub use self::voice::Word;
use crate::machine::Millis;

/// What the numbers of [`Watches`] have in an epoll that no process id has.
pub const TAG: u64 = 1 << 32;

/// Something only PID 1 can do for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Run this in the app, and tell by [`Watches::answered`] how it ended.
    Launch {
        /// In which.
        app: AppName,
        /// What.
        args: Vec<String>,
        /// Which question of this app's it is.
        round: u32,
    },
    /// Kill what was launched for the app: it has taken too long.
    Kill(AppName),
}

/// What has come of [`Watches::tick`].
#[derive(Debug, Default)]
pub struct Turn {
    /// What only the caller can do.
    pub dues: Vec<Due>,
    /// The apps that are ready by it.
    pub ready: Vec<AppName>,
    /// What the supervisor is to be told of which app, in order.
    pub said: Vec<(AppName, Word)>,
}

/// All apps that have to be listened to or asked.
#[derive(Debug, Default)]
pub struct Watches {
    watches: BTreeMap<AppName, Watch>,
    next: u64,
}

#[derive(Debug)]
struct Watch {
    data: u64,
    way: Way,
}

/// How an app's readiness is found out.
#[derive(Debug)]
enum Way {
    Listening { listener: Listener, voice: Voice },
    Asking { check: Check, schedule: Schedule, exchange: Option<Exchange> },
}

impl Watches {
    /// Takes in an app, if its readiness has to be found out. One that is to say so itself gets
    /// the address in its environment.
    ///
    /// # Errors
    ///
    /// Those of making its socket.
    pub fn add(&mut self, spec: &mut AppSpec, epoll: BorrowedFd<'_>) -> io::Result<()> {
        let data = TAG | self.next;
        let way = match &spec.readiness {
            Readiness::Started => return Ok(()),
            Readiness::Notify => {
                let listener = listen(data, epoll)?;
                set_address(&mut spec.process.env, listener.address());
                Way::Listening { listener, voice: Voice::default() }
            }
            Readiness::Probe(probe) => {
                let schedule = Schedule::new(probe.interval_ms, probe.timeout_ms);
                Way::Asking { check: probe.check.clone(), schedule, exchange: None }
            }
        };
        self.next = (self.next + 1) % TAG;
        self.watches.insert(spec.name.clone(), Watch { data, way });
        Ok(())
    }

    /// Lets go of an app, which does not run.
    pub fn forget(&mut self, app: &AppName, epoll: BorrowedFd<'_>) {
        if let Some(Watch { way: Way::Listening { listener, .. }, .. }) = self.watches.remove(app) {
            // It is in there. By hand, for copies of it may live in children until they execute.
            let _ = epoll::delete(epoll, listener.as_fd());
        }
    }

    /// Gives a further process of an app the address its main process has.
    pub fn lend_address(&self, app: &AppName, env: &mut Vec<EnvVar>) {
        if let Some(Watch { way: Way::Listening { listener, .. }, .. }) = self.watches.get(app) {
            set_address(env, listener.address());
        }
    }

    /// Gives an app that is to say itself that it is ready a new socket, and its address to the
    /// environment: what was said to an earlier one, however much, is gone with it. To be called
    /// before each start.
    ///
    /// # Errors
    ///
    /// Those of making the socket.
    pub fn starts(&mut self, spec: &mut AppSpec, epoll: BorrowedFd<'_>) -> io::Result<()> {
        let watch = self.watches.get_mut(&spec.name);
        if let Some(Watch { way: Way::Listening { listener, voice }, data }) = watch {
            let new = listen(*data, epoll)?;
            voice.end();
            // As in `forget`.
            let _ = epoll::delete(epoll, listener.as_fd());
            *listener = new;
            set_address(&mut spec.process.env, listener.address());
        }
        Ok(())
    }

    /// Begins to ask an app whose program was executed, and to pass on what it says.
    pub fn executed(&mut self, app: &AppName, now: Millis) {
        match self.watches.get_mut(app).map(|watch| &mut watch.way) {
            Some(Way::Asking { schedule, .. }) => schedule.begin(now),
            Some(Way::Listening { voice, .. }) => voice.begin(),
            None => {}
        }
    }

    /// Stops asking an app that has ended, and forgets what it has said.
    pub fn ended(&mut self, app: &AppName, epoll: BorrowedFd<'_>) {
        let Some(Watch { data, way }) = self.watches.get_mut(app) else { return };
        match way {
            Way::Asking { schedule, exchange, .. } => {
                schedule.stop();
                give_up(exchange, Post { epoll, data: *data });
            }
            Way::Listening { voice, .. } => voice.end(),
        }
    }

    /// Takes the answer of a process that was launched; tells whether the app is ready by it.
    pub fn answered(&mut self, app: &AppName, round: u32, yes: bool, now: Millis) -> bool {
        match self.watches.get_mut(app) {
            Some(Watch { way: Way::Asking { schedule, .. }, .. }) => {
                schedule.round() == round && schedule.answered(yes, now)
            }
            _ => false,
        }
    }

    /// Looks after what the epoll has told under `data`; returns the app that is ready by it.
    pub fn look(&mut self, data: u64, epoll: BorrowedFd<'_>, now: Millis) -> Option<AppName> {
        let (app, watch) = self.watches.iter_mut().find(|(_, watch)| watch.data == data)?;
        let ready = match &mut watch.way {
            Way::Listening { listener, voice } => {
                // Everything is heard, whatever the first word of it was.
                let ready = listener.hear().filter(|said| voice.hear(said));
                ready.count() > 0
            }
            Way::Asking { schedule, exchange, .. } => {
                advance(exchange, schedule, Post { epoll, data }, now)
            }
        };
        ready.then(|| app.clone())
    }

    /// Does what is due, and returns what only the caller can do.
    pub fn tick(&mut self, epoll: BorrowedFd<'_>, now: Millis) -> Turn {
        let Turn { mut dues, mut ready, mut said } = Turn::default();
        for (app, Watch { data, way }) in &mut self.watches {
            let (check, schedule, exchange) = match way {
                Way::Asking { check, schedule, exchange } => (check, schedule, exchange),
                Way::Listening { voice, .. } => {
                    said.extend(voice.speak(now).into_iter().map(|word| (app.clone(), word)));
                    continue;
                }
            };
            let post = Post { epoll, data: *data };
            match (schedule.due(now), &*check) {
                (None, _) => {}
                (Some(Step::Ask), Check::Exec { args }) => {
                    let (args, round) = (args.clone(), schedule.round());
                    dues.push(Due::Launch { app: app.clone(), args, round });
                }
                (Some(Step::GiveUp), Check::Exec { .. }) => dues.push(Due::Kill(app.clone())),
                (Some(Step::Ask), Check::Tcp { port }) => {
                    *exchange = Some(Exchange::tcp(*port));
                    if advance(exchange, schedule, post, now) {
                        ready.push(app.clone());
                    }
                }
                (Some(Step::Ask), Check::Http { port, path }) => {
                    *exchange = Some(Exchange::http(*port, path));
                    if advance(exchange, schedule, post, now) {
                        ready.push(app.clone());
                    }
                }
                (Some(Step::GiveUp), _) => {
                    give_up(exchange, post);
                    schedule.answered(false, now);
                }
            }
        }
        Turn { dues, ready, said }
    }

    /// Returns when [`Self::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let due = |watch: &Watch| match &watch.way {
            Way::Asking { schedule, .. } => schedule.deadline(),
            Way::Listening { voice, .. } => voice.deadline(),
        };
        self.watches.values().filter_map(due).min()
    }
}

/// Makes a socket that `epoll` tells of under `data`.
fn listen(data: u64, epoll: BorrowedFd<'_>) -> io::Result<Listener> {
    let listener = Listener::new()?;
    let data = epoll::EventData::new_u64(data);
    epoll::add(epoll, listener.as_fd(), data, epoll::EventFlags::IN)?;
    Ok(listener)
}

/// Goes on with a question over the loopback; tells whether the app is ready by its answer.
fn advance(
    exchange: &mut Option<Exchange>,
    schedule: &mut Schedule,
    post: Post<'_>,
    now: Millis,
) -> bool {
    let Some(answer) = exchange.as_mut().and_then(|exchange| exchange.advance(post)) else {
        return false;
    };
    *exchange = None;
    schedule.answered(answer, now)
}

fn give_up(exchange: &mut Option<Exchange>, post: Post<'_>) {
    if let Some(exchange) = exchange.take() {
        exchange.give_up(post);
    }
}

/// Puts `NOTIFY_SOCKET` into an environment, in the place of any that is there.
fn set_address(env: &mut Vec<EnvVar>, address: &str) {
    env.retain(|var| var.name() != "NOTIFY_SOCKET");
    // An address is made of plain letters, so that this is always a variable.
    env.extend(EnvVar::parse(&format!("NOTIFY_SOCKET={address}")));
}
