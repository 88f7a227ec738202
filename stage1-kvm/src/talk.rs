//! The supervisor's end of port WALL: questions to PID 1 of the guest, one at a time.
//!
//! The other end is hostile. A frame is bounded by [`pod_abi::frame`], an answer must be one to the
//! question, what comes unasked is little, and no answer is waited for longer than its deadline.
//! What breaks these rules ends the machine. An answer that nobody waits for any more is owed: it is
//! to come by its deadline all the same, and before anything else is asked.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pod_abi::exit::OURS;
use pod_abi::frame::{self, Decoder};
use pod_abi::guest::{self, Answer, FromGuest, Hello, ToGuest};
use pod_abi::{AppName, Report};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use supervisor::Failure;

use crate::watch::{Interrupted, Waited, Watch};

/// The most frames that may come unasked within [`WINDOW`].
const MAX_UNASKED: u32 = 256;
/// See [`MAX_UNASKED`].
const WINDOW: Duration = Duration::from_secs(10);
/// The most apps of which a guest tells at once, and that are kept: more than a pod has.
const MAX_NAMES: usize = 1024;
/// The most bytes read in one turn by whoever does not wait.
const TURN: usize = 64 << 10;

/// What to do about what is longer than a frame.
const TOO_LONG: &str = "shorten the environment, the labels, or what else there is much of";

/// What a guest is waited for that has not booted yet.
pub(crate) const FIRST_WORD: &str = "its first word";

/// The stream to PID 1 of a guest.
#[derive(Debug)]
pub(crate) struct Talk {
    stream: OwnedFd,
    decoder: Decoder,
    /// The apps in which memory has run out, as far as nobody has asked yet.
    out_of_memory: BTreeSet<AppName>,
    /// What the guest has said last, if it could not go on.
    last_words: Option<Report>,
    /// The answer that nobody waits for any more.
    owed: Option<Owed>,
    unasked: u32,
    window: Option<Instant>,
}

/// An answer that is to come.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// To which question.
    question: &'static str,
    /// By when.
    deadline: Instant,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Loss {
    /// What was asked for could not be done; the guest goes on.
    Refused(Failure),
    /// The guest has said that it cannot go on.
    Failed(Failure),
    /// The stream is closed, or the monitor has ended.
    Ended,
    /// A server of a volume has ended: its number in the row.
    ServerEnded(usize),
    /// The pod is to end.
    Interrupted,
    /// The guest has not answered in time.
    Late(&'static str),
    /// The guest has said what no honest one says.
    Violation(String),
}

impl Talk {
    /// Takes the stream.
    pub(crate) fn new(stream: OwnedFd) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            out_of_memory: BTreeSet::new(),
            last_words: None,
            owed: None,
            unasked: 0,
            window: None,
        }
    }

    /// Returns the stream.
    pub(crate) const fn stream(&self) -> &OwnedFd {
        &self.stream
    }

    /// Waits for the first word.
    pub(crate) fn greeting(&mut self, watch: &Watch<'_>) -> Result<Hello, Loss> {
        match self.next(watch, FIRST_WORD)? {
            FromGuest::Hello(hello) => Ok(hello),
            _ => Err(Loss::Violation("it does not begin with a greeting".to_owned())),
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, question: &ToGuest, watch: &Watch<'_>) -> Result<Answer, Loss> {
        let begun = Instant::now();
        while let Some(owed) = self.owed {
            self.collect(owed, &watch.until(owed.deadline))?;
        }
        // What is owed was waited for beside.
        let watch = watch.until(watch.deadline + begun.elapsed());
        self.tell(question, &watch)?;
        let answered = self.answer(name(question), &watch);
        if matches!(answered, Err(Loss::Interrupted)) {
            self.owed = Some(Owed { question: name(question), deadline: watch.deadline });
        }
        answered
    }

    /// Asks, and waits for the answer until `moment` at most, which is before the deadline. `None`,
    /// if it has not come by then.
    pub(crate) fn ask_in_passing(
        &mut self,
        question: &ToGuest,
        watch: &Watch<'_>,
        moment: Instant,
    ) -> Result<Option<Answer>, Loss> {
        let short = watch.until(moment);
        while let Some(owed) = self.owed {
            match self.collect(owed, &short) {
                Err(Loss::Late(_)) if Instant::now() < owed.deadline => return Ok(None),
                collected => collected?,
            }
        }
        if moment <= Instant::now() {
            return Ok(None);
        }
        self.tell(question, watch)?;
        match self.answer(name(question), &short) {
            Ok(answer) => Ok(Some(answer)),
            Err(Loss::Late(_) | Loss::Interrupted) => {
                self.owed = Some(Owed { question: name(question), deadline: watch.deadline });
                Ok(None)
            }
            Err(loss) => Err(loss),
        }
    }

    /// Waits for an answer that is owed, and forgets it.
    fn collect(&mut self, owed: Owed, watch: &Watch<'_>) -> Result<(), Loss> {
        match self.answer(owed.question, watch) {
            Ok(_) | Err(Loss::Refused(_)) => {
                self.owed = None;
                Ok(())
            }
            Err(loss) => Err(loss),
        }
    }

    fn answer(&mut self, question: &'static str, watch: &Watch<'_>) -> Result<Answer, Loss> {
        loop {
            match self.next(watch, question)? {
                FromGuest::Answer(answer) => return Ok(answer),
                FromGuest::Refused(report) => {
                    let report = guest::believed(*report).exit(OURS);
                    return Err(Loss::Refused(Failure::from(report)));
                }
                FromGuest::MemoryRanOut(apps) => self.note(apps)?,
                FromGuest::Hello(_) => {
                    return Err(Loss::Violation("it greets twice".to_owned()));
                }
                FromGuest::Failed(report) => return Err(self.failed(*report)),
            }
        }
    }

    /// Hears what has come unasked, without waiting.
    pub(crate) fn hear(&mut self) -> Result<(), Loss> {
        let mut read = 0;
        loop {
            while let Some(word) = self.take()? {
                match word {
                    FromGuest::MemoryRanOut(apps) => self.note(apps)?,
                    FromGuest::Failed(report) => return Err(self.failed(*report)),
                    FromGuest::Answer(_) | FromGuest::Refused(_) if self.owed.is_some() => {
                        self.owed = None;
                    }
                    _ => return Err(Loss::Violation("it answers unasked".to_owned())),
                }
            }
            if read >= TURN {
                return Ok(());
            }
            match self.receive()? {
                0 => return Ok(()),
                count => read += count,
            }
        }
    }

    /// Gives out the apps in which memory has run out since this was last asked.
    pub(crate) fn out_of_memory(&mut self) -> BTreeSet<AppName> {
        std::mem::take(&mut self.out_of_memory)
    }

    /// Tells whether something is to be heard that the stream will not ring for: it was read already.
    pub(crate) fn has_more(&self) -> bool {
        !self.out_of_memory.is_empty() || self.decoder.is_mid_frame()
    }

    /// Reads what is left of the stream of a guest that has ended, and returns its last words.
    pub(crate) fn last_words(&mut self) -> Option<Report> {
        // What it said before it broke the rules counts; nothing else does.
        let _ = self.hear();
        self.last_words.take()
    }

    fn failed(&mut self, report: Report) -> Loss {
        let report = guest::believed(report).exit(OURS);
        self.last_words = Some(report.clone());
        Loss::Failed(Failure::from(report))
    }

    fn note(&mut self, apps: Vec<AppName>) -> Result<(), Loss> {
        let now = Instant::now();
        if self.window.is_none_or(|begun| now.duration_since(begun) > WINDOW) {
            (self.window, self.unasked) = (Some(now), 0);
        }
        self.unasked += 1;
        if self.unasked > MAX_UNASKED {
            return Err(Loss::Violation("it talks without end".to_owned()));
        }
        // SECURITY: a frame has room for a quarter of a million names, and many frames may come.
        if apps.len() > MAX_NAMES {
            return Err(Loss::Violation("it tells of more apps than any pod has".to_owned()));
        }
        for app in apps {
            if self.out_of_memory.len() < MAX_NAMES {
                self.out_of_memory.insert(app);
            }
        }
        Ok(())
    }

    fn tell(&self, question: &ToGuest, watch: &Watch<'_>) -> Result<(), Loss> {
        let bytes = frame::encode(question).map_err(|error| {
            let what = format!("the guest cannot be told {}", name(question));
            Loss::Refused(Failure::of(what, error).code("vm.order").hint(TOO_LONG))
        })?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // Half a question cannot be taken back.
        let rest = match watch.interrupted {
            Interrupted::Void => watch.clone(),
            Interrupted::Owed => watch.deaf(),
        };
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.stream, &bytes[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let watch = if sent == 0 { watch } else { &rest };
                    come(watch.wait(&self.stream, PollFlags::OUT), name(question))?;
                }
                Err(_) => return Err(Loss::Ended),
            }
        }
        Ok(())
    }

    /// Waits for the next frame.
    fn next(&mut self, watch: &Watch<'_>, what: &'static str) -> Result<FromGuest, Loss> {
        loop {
            if let Some(word) = self.take()? {
                return Ok(word);
            }
            if self.receive()? == 0 {
                come(watch.wait(&self.stream, PollFlags::IN), what)?;
            }
            if watch.deadline <= Instant::now() {
                // One that drips would be waited for as long as it does.
                return Err(Loss::Late(what));
            }
        }
    }

    /// Reads once; returns how many bytes have come, or 0 if there are none now.
    fn receive(&mut self) -> Result<usize, Loss> {
        let mut buffer = [0; 4096];
        loop {
            match recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Loss::Ended),
                Ok((count, _)) => {
                    self.decoder.feed(&buffer[..count]);
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                Err(_) => return Err(Loss::Ended),
            }
        }
    }

    fn take(&mut self) -> Result<Option<FromGuest>, Loss> {
        self.decoder.take().map_err(|error| Loss::Violation(error.to_string()))
    }
}

fn come(waited: Waited, what: &'static str) -> Result<(), Loss> {
    match waited {
        Waited::Come => Ok(()),
        Waited::Ended => Err(Loss::Ended),
        Waited::ServerEnded(at) => Err(Loss::ServerEnded(at)),
        Waited::Interrupted => Err(Loss::Interrupted),
        Waited::Late => Err(Loss::Late(what)),
    }
}

/// Names a question for a person.
const fn name(question: &ToGuest) -> &'static str {
    match question {
        ToGuest::App(_) => "what app is to run",
        ToGuest::Configure(_) => "what pod it is for",
        ToGuest::Credential(_) => "a credential",
        ToGuest::Raise => "to start stage2-init",
        ToGuest::AddApps(_) => "to lay out the apps",
        ToGuest::AddApp(_) => "to lay out an app",
        ToGuest::RemoveApp(_) => "to take an app away",
        ToGuest::Settle => "to let go of what laid apps out",
        ToGuest::Limit(..) => "to change limits",
        ToGuest::Usage(_) => "what is used",
        ToGuest::Processes(_) => "what runs",
        ToGuest::Pause => "to stand still",
        ToGuest::Resume => "to go on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn more_apps_than_any_pod_has_are_no_honest_guests() {
        let (ours, mut its) = UnixStream::pair().unwrap();
        let mut talk = Talk::new(ours.into());
        let names = |count: usize| {
            let name = |number| AppName::parse(&format!("app-{number}")).unwrap();
            frame::encode(&FromGuest::MemoryRanOut((0..count).map(name).collect())).unwrap()
        };
        its.write_all(&names(MAX_NAMES)).unwrap();
        talk.hear().unwrap();
        assert_eq!(talk.out_of_memory().len(), MAX_NAMES);
        its.write_all(&names(MAX_NAMES + 1)).unwrap();
        assert!(matches!(talk.hear(), Err(Loss::Violation(_))));
    }
}
