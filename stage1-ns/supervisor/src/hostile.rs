//! What a hostile PID 1 can say to its supervisor, as a function of bytes: it takes any bytes for
//! words, and panics if something is not as it must be.
//!
//! `cargo test` calls it with a bounded number of random inputs; `tests/fuzz` lets `cargo fuzz`
//! look for inputs for as long as somebody likes.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use pod_abi::exit::Ended;
use pod_abi::frame;
use pod_abi::inner::{AppWord, FromInit, MAX_STATUS};
use pod_abi::report::{MAX_ENTRIES, MAX_TEXT};
use pod_abi::stage::Order;
use pod_abi::status::AppState;
use pod_abi::{AppName, Report, Timestamp};

use crate::link::{Link, Silence};
use crate::pod::{Consequence, Pod};

/// An order for a pod of one app, `web`.
pub(crate) const ORDER: &str = include_str!("../tests/order.json");

/// Says the words over the stream of PID 1 to what keeps a pod's record, while clients ask for
/// processes and apps come and go.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn init(words: &[u8]) {
    let mut words = Words(words);
    let (mut guest, host) = UnixStream::pair().expect("a pair of sockets");
    let mut link = Link::new(host.into());
    let order: Order = serde_json::from_str(ORDER).expect("an order");
    let mut pod = Pod::new(&order, 1, "boot".to_owned(), Timestamp(0));
    // The processes that clients have asked for, and whether they were told to run.
    let mut execs = BTreeMap::new();
    if words.byte() & 1 == 0 {
        pod.hear(FromInit::Ready, Timestamp(0)).expect("a first word");
    }
    for now in 1.. {
        if !words.has_more() {
            break;
        }
        match words.byte() % 12 {
            0 => {
                if let Some(id) = pod.new_exec() {
                    assert_eq!(execs.insert(id, false), None, "a number is used once");
                    assert!(execs.len() <= 256, "there are not too many processes");
                }
            }
            1 => {
                let mut spec = order.apps[0].spec.clone();
                spec.name = words.name();
                if pod.app(&spec.name).is_none() {
                    pod.add(spec);
                }
            }
            2 => pod.asked_to_remove(&words.name()),
            3 => pod.keep_signal(words.name(), words.byte()),
            _ => {
                let bytes = words.frame();
                guest.write_all(&bytes).expect("room for a frame");
            }
        }
        let mut heard = VecDeque::new();
        let silence = link.receive(&mut heard);
        for word in heard {
            match pod.hear(word, Timestamp(now)) {
                Ok(consequences) => {
                    consequences.iter().for_each(|one| follow(&mut pod, &mut execs, one));
                }
                // That is the end of the pod.
                Err(violation) => {
                    check(&Report::of("x", &violation));
                    return;
                }
            }
        }
        check_record(&pod);
        if let Err(silence) = silence {
            let Silence::Nonsense(failure) = silence else { panic!("nobody has closed it") };
            check(&failure.report());
            return;
        }
    }
}

/// Does what a supervisor does, as far as it concerns the record.
fn follow(pod: &mut Pod, execs: &mut BTreeMap<u32, bool>, consequence: &Consequence) {
    let mut known = |app: &AppName| assert!(pod.app(app).is_some(), "an app of the pod");
    match consequence {
        Consequence::Started(app, _)
        | Consequence::Said(app, _)
        | Consequence::AppReady(app)
        | Consequence::AppEnded { app, error: None, .. } => known(app),
        Consequence::AppEnded { app, error: Some(report), .. }
        | Consequence::Refused(app, report) => {
            known(app);
            check(report);
        }
        Consequence::ExecStarted(id) => {
            assert_eq!(execs.insert(*id, true), Some(false), "it is started once");
        }
        Consequence::ExecEnded(id, _, report) => {
            assert!(execs.remove(id).is_some(), "it ends once");
            report.iter().for_each(check);
        }
        Consequence::Removed(app) => {
            pod.remove(app);
        }
        Consequence::Failed(report) => check(report),
        Consequence::Record(_) | Consequence::Ready | Consequence::Pong | Consequence::Over(_) => {}
    }
}

/// Checks that a report is bounded, and nothing in it drives a terminal.
fn check(report: &Report) {
    assert!(report.causes.len() <= MAX_ENTRIES && report.hints.len() <= MAX_ENTRIES);
    let texts = report.causes.iter().chain(&report.hints).chain([&report.code, &report.message]);
    for text in texts {
        assert!(text.len() <= MAX_TEXT && !text.contains(char::is_control), "{text:?}");
    }
}

/// Checks that the record makes sense, and can be read again.
fn check_record(pod: &Pod) {
    for app in &pod.status.apps {
        app.error.iter().for_each(check);
        if let Some(said) = &app.said {
            assert!(!said.is_empty() && said.len() <= MAX_STATUS);
            assert!(!said.contains(char::is_control), "{said:?}");
        }
        assert!(app.state != AppState::Running || app.started.is_some());
        assert_eq!(app.state == AppState::BackingOff, app.restarts_at.is_some());
    }
    let record = serde_json::to_vec(&pod.status).expect("a record");
    assert_eq!(serde_json::from_slice(&record).ok().as_ref(), Some(&pod.status));
}

/// Bytes that are taken from the front; zeros once they are used up.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        byte
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.byte() % 60).map(|_| self.byte()).collect()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.bytes()).into_owned();
        // Long ones too, of few bytes.
        if self.byte() < 16 { text.repeat(usize::from(self.byte())) } else { text }
    }

    fn name(&mut self) -> AppName {
        let name = match self.byte() % 8 {
            0 => "nobody",
            1 | 2 => "second",
            _ => "web",
        };
        AppName::parse(name).expect("a name")
    }

    fn report(&mut self) -> Box<Report> {
        let causes = (0..self.byte() % 24).map(|_| self.text()).collect();
        let hints = (0..self.byte() % 24).map(|_| self.text()).collect();
        let (code, message) = (self.text(), self.text());
        Box::new(Report { code, message, causes, hints, exit: self.byte() })
    }

    fn some_report(&mut self) -> Option<Box<Report>> {
        (self.byte() & 1 == 0).then(|| self.report())
    }

    fn exit(&mut self) -> Ended {
        match self.byte() % 4 {
            0 => Ended::Signaled { signal: self.byte() % 70, oom: self.byte() & 1 == 0 },
            1 => Ended::NotStarted { code: 120 + self.byte() % 10 },
            _ => Ended::Exited { code: self.byte() },
        }
    }

    fn word(&mut self) -> FromInit {
        match self.byte() % 16 {
            0 => FromInit::Ready,
            1 => FromInit::PodReady,
            2 | 3 => FromInit::AppStarted {
                app: self.name(),
                restarts: u32::from(self.byte()),
                pid: u32::from(self.byte()),
            },
            4 | 5 => FromInit::AppEnded {
                app: self.name(),
                exit: self.exit(),
                error: self.some_report(),
                restart_in_ms: match self.byte() % 4 {
                    0 => None,
                    1 => Some(u64::MAX),
                    _ => Some(u64::from(self.byte()) << 32),
                },
            },
            6 => FromInit::AppReady { app: self.name() },
            7 => FromInit::AppSays { app: self.name(), word: AppWord::Status(self.text()) },
            8 => {
                let word = match self.byte() % 4 {
                    0 => AppWord::Reloading,
                    1 => AppWord::Stopping,
                    2 => AppWord::Alive,
                    _ => AppWord::MoreTime(u64::from(self.byte()) << 56),
                };
                FromInit::AppSays { app: self.name(), word }
            }
            9 => FromInit::AppRemoved { app: self.name() },
            10 => FromInit::ExecStarted { id: u32::from(self.byte() % 8) },
            11 => FromInit::ExecEnded {
                id: u32::from(self.byte() % 8),
                exit: self.exit(),
                error: self.some_report(),
            },
            12 => {
                let app = (self.byte() & 1 == 0).then(|| self.name());
                FromInit::Refused { app, report: self.report() }
            }
            13 => FromInit::Pong,
            14 => FromInit::PodEnded { code: self.byte() },
            _ => FromInit::Failed(self.report()),
        }
    }

    /// A frame, or what looks like one.
    fn frame(&mut self) -> Vec<u8> {
        let kind = self.byte();
        let framed = |body: &[u8]| {
            let length = u32::try_from(body.len()).expect("a short body");
            [&length.to_le_bytes(), body].concat()
        };
        match kind {
            0 => self.bytes(),
            1 => framed(&self.bytes()),
            // A word of a name that there is not.
            2 => framed(&serde_json::to_vec(&self.text()).expect("a text")),
            3 => {
                let mut frame = frame::encode(&self.word()).expect("a short word");
                let at = u16::from_le_bytes([self.byte(), self.byte()]);
                let at = 4 + usize::from(at) % (frame.len() - 4);
                frame[at] = self.byte();
                frame
            }
            _ => frame::encode(&self.word()).expect("a short word"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_words_of_pid_1_confuse_its_supervisor(
            words in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            super::init(&words);
        }
    }
}
