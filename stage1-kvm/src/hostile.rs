//! What a hostile guest and a hostile monitor can say to their supervisor, as functions of bytes:
//! each takes any bytes for their words, and panics if something is not as it must be.
//!
//! `cargo test` calls them with a bounded number of random inputs; `tests/fuzz` lets `cargo fuzz`
//! look for inputs for as long as somebody likes. What devices are told is `vmm::hostile`, what
//! comes over the stream INNER is `supervisor::hostile`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pod_abi::frame::{self, Decoder};
use pod_abi::guest::{Answer, FromGuest, Hello, ToGuest};
use pod_abi::inner::AppFds;
use pod_abi::report::{MAX_ENTRIES, MAX_TEXT};
use pod_abi::{AppName, Report};
use rustix::net::{SendFlags, send};
use vmm::helm::{Counters, End, EndClass, FromVmm, MAX_PACKET};

use crate::ending;
use crate::helm::Helm;
use crate::talk::{Loss, Talk};
use crate::watch::{Interrupted, Watch};

/// Bytes a guest says in all: less than what is heard in one turn, and than its stream holds.
const MAX_SAID: usize = 60 << 10;
/// Frames that may come unasked within the seconds all this takes.
const MAX_UNASKED: usize = 256;
/// Apps in which memory has run out that are known at once.
const MAX_APPS: usize = 1024;

/// Says the words over the stream WALL, whole, in pieces or broken, while a supervisor greets, asks
/// and listens; what it hears must be what a reader hears that is given the same frames at once.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn wall(words: &[u8]) {
    let mut words = Words(words);
    let (guest, host) = UnixStream::pair().expect("a pair of sockets");
    guest.set_nonblocking(true).expect("a socket");
    // A monitor that has ended: nothing is waited for that has not come yet.
    let (monitor, _) = rustix::pipe::pipe().expect("a pipe");
    let deadline = Instant::now() + Duration::from_secs(3600);
    let interrupted = Interrupted::Void;
    let watch = Watch {
        monitor: monitor.as_fd(),
        servers: Vec::new(),
        signals: None,
        interrupted,
        deadline,
    };
    let mut talk = Talk::new(host.into());
    let mut model = Model::of(guest);
    while words.has_more() {
        let heard = match words.byte() % 10 {
            0..=3 => {
                model.say(&words.frame());
                continue;
            }
            4 => {
                let word = FromGuest::MemoryRanOut(vec![words.name()]);
                (0..words.byte()).for_each(|_| model.say(&encode(&word)));
                continue;
            }
            5 => {
                model.send(usize::from(words.byte()));
                continue;
            }
            6 => {
                model.send(usize::MAX);
                continue;
            }
            7 if words.byte() == 0 => {
                model.end();
                continue;
            }
            7 => (talk.greeting(&watch).map(|_| None), model.greeting()),
            8 => {
                model.listen();
                (talk.ask(&ToGuest::Settle, &watch).map(Some), model.answer())
            }
            _ => (talk.hear().map(|()| None), model.hear()),
        };
        let (is, must_be) = heard;
        let goes_on = matches!(is, Ok(_) | Err(Loss::Refused(_)));
        match (is, must_be) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
            (Err(loss), Err(expected)) => assert_eq!(told(&loss), expected),
            (is, must_be) => panic!("{is:?} instead of {must_be:?}"),
        }
        if !goes_on {
            break;
        }
        let unread = model.decoder.is_mid_frame();
        let rings = rustix::io::ioctl_fionread(talk.stream()).is_ok_and(|count| count > 0);
        assert!(rings || talk.has_more() || !unread && model.apps.is_empty());
        if words.byte() & 1 == 0 {
            assert_eq!(talk.out_of_memory(), std::mem::take(&mut model.apps));
        }
    }
    let last = talk.last_words();
    assert!(last.is_some() || !model.failed, "last words are kept");
    last.iter().for_each(check);
}

/// Tells a loss by its name, and checks what of it a person will read.
fn told(loss: &Loss) -> &'static str {
    match loss {
        Loss::Refused(failure) => {
            check(&failure.report());
            "refused"
        }
        Loss::Failed(failure) => {
            check(&failure.report());
            "failed"
        }
        Loss::Violation(what) => {
            assert!(what.len() < 200 && !what.contains(char::is_control), "{what:?}");
            "violation"
        }
        Loss::Ended => "ended",
        Loss::ServerEnded(_) | Loss::Interrupted | Loss::Late(_) => "another",
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

/// A guest, and what its supervisor must hear of it.
struct Model {
    guest: UnixStream,
    /// Said, but not sent yet.
    said: Vec<u8>,
    /// Bytes that can still be said.
    left: usize,
    decoder: Decoder,
    unasked: usize,
    apps: BTreeSet<AppName>,
    ended: bool,
    /// Whether it was heard that it cannot go on.
    failed: bool,
}

type Expected = Result<Option<Answer>, &'static str>;

impl Model {
    fn of(guest: UnixStream) -> Self {
        Self {
            guest,
            said: Vec::new(),
            left: MAX_SAID,
            decoder: Decoder::new(),
            unasked: 0,
            apps: BTreeSet::new(),
            ended: false,
            failed: false,
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.left && !self.ended {
            self.left -= bytes.len();
            self.said.extend(bytes);
        }
    }

    /// Sends so many bytes of what was said.
    fn send(&mut self, count: usize) {
        if self.ended {
            return;
        }
        let bytes: Vec<u8> = self.said.drain(..count.min(self.said.len())).collect();
        self.guest.write_all(&bytes).expect("a stream with room for all that is said");
        self.decoder.feed(&bytes);
    }

    fn end(&mut self) {
        self.guest.shutdown(Shutdown::Write).expect("a socket");
        self.ended = true;
    }

    /// Takes what it is asked, so that there is room for more.
    fn listen(&mut self) {
        let mut scrap = [0; 4096];
        while self.guest.read(&mut scrap).is_ok_and(|count| count > 0) {}
    }

    /// The next word, or how its supervisor loses it.
    fn next(&mut self) -> Result<FromGuest, &'static str> {
        match self.decoder.take() {
            Ok(Some(word)) => Ok(word),
            Ok(None) => Err("ended"),
            Err(_) => Err("violation"),
        }
    }

    fn greeting(&mut self) -> Expected {
        match self.next()? {
            FromGuest::Hello(_) => Ok(None),
            _ => Err("violation"),
        }
    }

    fn answer(&mut self) -> Expected {
        loop {
            match self.next()? {
                FromGuest::Answer(answer) => return Ok(Some(answer)),
                FromGuest::Refused(_) => return Err("refused"),
                word => self.unasked(word)?,
            }
        }
    }

    fn hear(&mut self) -> Expected {
        loop {
            match self.next() {
                Ok(word) => self.unasked(word)?,
                Err("ended") if !self.ended => return Ok(None),
                Err(loss) => return Err(loss),
            }
        }
    }

    fn unasked(&mut self, word: FromGuest) -> Result<(), &'static str> {
        match word {
            FromGuest::MemoryRanOut(apps) => {
                self.unasked += 1;
                if self.unasked > MAX_UNASKED {
                    return Err("violation");
                }
                if apps.len() > MAX_APPS {
                    return Err("violation");
                }
                for app in apps {
                    if self.apps.len() < MAX_APPS {
                        self.apps.insert(app);
                    }
                }
                Ok(())
            }
            FromGuest::Failed(_) => {
                self.failed = true;
                Err("failed")
            }
            _ => Err("violation"),
        }
    }
}

/// Says the words at the helm, as packets, and explains the end they tell of.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn helm(words: &[u8]) {
    let mut words = Words(words);
    let (helm, its) = Helm::pair().expect("a pair of sockets");
    let mut expected = None;
    let mut is_over = false;
    while words.has_more() && !is_over {
        let packet = words.packet();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // What finds no room is not said.
        if send(&its, &packet, flags).is_err() {
            break;
        }
        let end = match serde_json::from_slice(&packet) {
            Ok(FromVmm::Ended(end)) => Some(end),
            _ => None,
        };
        // One that is empty looks like the end of all, and one that is too long is cut off.
        is_over = packet.is_empty() || packet.len() > MAX_PACKET || end.is_some();
        expected = end.filter(|_| packet.len() <= MAX_PACKET);
    }
    drop(its);
    let end = helm.end(Duration::ZERO);
    assert_eq!(end, expected);
    let Some(end) = end else { return };
    check(&ending::explain(&end));
    let report = ending::with_last_look(Report::new("x", "y"), &end);
    check(&report);
    assert!(report.causes.len() <= 1 + 8, "{report:?}");
}

fn encode(word: &FromGuest) -> Vec<u8> {
    frame::encode(word).expect("a short word")
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
        AppName::parse(&format!("app-{}", self.byte())).expect("a name")
    }

    fn report(&mut self) -> Box<Report> {
        let causes = (0..self.byte() % 24).map(|_| self.text()).collect();
        let hints = (0..self.byte() % 24).map(|_| self.text()).collect();
        let (code, message) = (self.text(), self.text());
        Box::new(Report { code, message, causes, hints, exit: self.byte() })
    }

    fn word(&mut self) -> FromGuest {
        match self.byte() % 8 {
            0 => FromGuest::Hello(Hello {
                version: u32::from(self.byte()),
                kernel: self.text(),
                uptime_us: u64::from(self.byte()),
            }),
            1 => FromGuest::Answer(Answer::Done),
            2 => {
                let fds = AppFds {
                    mount_namespace: self.byte() & 1 == 0,
                    cgroup: false,
                    stdio: true,
                    sockets: u32::from(self.byte()),
                };
                let count = usize::from(self.byte());
                FromGuest::Answer(Answer::Added(vec![fds; count]))
            }
            3 if self.byte() & 1 == 0 => FromGuest::Answer(Answer::Usage(Box::default())),
            3 => FromGuest::Answer(Answer::Processes(Box::default())),
            4 => FromGuest::Refused(self.report()),
            5 => FromGuest::Failed(self.report()),
            6 => {
                let (first, count) = (u32::from(self.byte()), u32::from(self.byte()) * 8);
                let name = |at| AppName::parse(&format!("a{at}")).expect("a name");
                FromGuest::MemoryRanOut((first..first + count).map(name).collect())
            }
            _ => FromGuest::MemoryRanOut(vec![self.name(); usize::from(self.byte() % 4)]),
        }
    }

    /// A frame, or what looks like one.
    fn frame(&mut self) -> Vec<u8> {
        match self.byte() % 8 {
            0 => self.bytes(),
            1 => {
                let body = self.bytes();
                let length = u32::try_from(body.len()).unwrap_or(0);
                [length.to_le_bytes().to_vec(), body].concat()
            }
            2 => {
                let frame = encode(&self.word());
                self.spoilt(frame)
            }
            _ => encode(&self.word()),
        }
    }

    /// A packet of a monitor, or what looks like one.
    fn packet(&mut self) -> Vec<u8> {
        let packet = |word: &FromVmm| serde_json::to_vec(word).expect("a word");
        match self.byte() % 8 {
            0 => self.bytes(),
            1 => packet(&FromVmm::Counted(Counters {
                strangers: vec![self.text()],
                hello_us: Some(u64::from(self.byte())),
                ..Counters::default()
            })),
            2 => {
                let end = packet(&FromVmm::Ended(self.end()));
                self.spoilt(end)
            }
            _ => packet(&FromVmm::Ended(self.end())),
        }
    }

    fn end(&mut self) -> End {
        let class = match self.byte() % 4 {
            0 => EndClass::PoweredOff,
            1 => EndClass::Reset,
            2 => EndClass::Crashed,
            _ => EndClass::Failed,
        };
        let mut console = String::new();
        for _ in 0..self.byte() % 16 {
            console.push_str(&self.text());
            match self.byte() % 4 {
                0 => console.push_str("\r\n"),
                1 => console.push_str("Kernel panic - not syncing: "),
                _ => console.push('\n'),
            }
        }
        End { class, message: self.text(), console, counters: Counters::default() }
    }

    /// Changes a byte or leaves the end away.
    fn spoilt(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % bytes.len().max(1);
        match (self.byte() & 1, bytes.get_mut(at)) {
            (0, Some(byte)) => *byte = self.byte(),
            _ => bytes.truncate(at),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..2000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_words_of_a_guest_confuse_its_supervisor(words in words()) {
            super::wall(&words);
        }

        #[test]
        fn no_words_of_a_monitor_confuse_its_supervisor(words in words()) {
            super::helm(&words);
        }
    }
}
