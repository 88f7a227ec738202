//! What an app says of itself (`sd_notify(3)`), and when that is passed on. Pure.
//!
//! An app may talk without end: of each kind only the last word is kept, and all of them together
//! are passed on a few times a second. So nothing it says can keep PID 1 or the supervisor busy. Who
//! may be the main process, and descriptors, are nobody's to say from inside: such words are dropped.

use pod_abi::inner::{AppWord, MAX_STATUS};
use pod_abi::text;

use crate::machine::Millis;

/// The least time between two tellings of one app, in milliseconds: a person who looks sees no
/// delay, and the supervisor of sixty apps that talk without end hears three hundred words a second.
pub(super) const PAUSE: Millis = 200;

/// What is passed on to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// What it says of itself.
    Says(AppWord),
    /// That it is ready again, having reloaded.
    Reloaded,
}

/// The voice of one app, from one start of it to its end.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// Whether the supervisor knows that it runs; nothing is said of it before.
    known: bool,
    quiet_until: Millis,
    /// Whether the last that is known of it is that it reloads.
    reloads: bool,
    reloading: bool,
    reloaded: bool,
    stopping: bool,
    alive: bool,
    more_time: Option<u64>,
    status: Option<String>,
}

impl Voice {
    /// Takes notice that the app runs.
    pub(super) fn begin(&mut self) {
        self.known = true;
    }

    /// Forgets what was not passed on: the app has ended.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Takes in a message; tells whether it says that the app is ready.
    pub(super) fn hear(&mut self, message: &[u8]) -> bool {
        let mut ready = false;
        for line in message.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => {
                    ready = true;
                    self.reloaded = self.reloads;
                    self.reloads = false;
                }
                b"RELOADING=1" => {
                    self.reloading |= !self.reloads;
                    (self.reloads, self.reloaded) = (true, false);
                }
                b"STOPPING=1" => self.stopping = true,
                b"WATCHDOG=1" => self.alive = true,
                _ => self.hear_value(line),
            }
        }
        ready
    }

    fn hear_value(&mut self, line: &[u8]) {
        if let Some(text) = line.strip_prefix(b"STATUS=") {
            self.status = Some(tame(text));
        } else if let Some(digits) = line.strip_prefix(b"EXTEND_TIMEOUT_USEC=") {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            self.more_time = number.or(self.more_time);
        }
    }

    /// Gives out what is to be passed on now.
    pub(super) fn speak(&mut self, now: Millis) -> Vec<Word> {
        if !self.has_words() || now < self.quiet_until {
            return Vec::new();
        }
        self.quiet_until = now.saturating_add(PAUSE);
        let mut words = Vec::new();
        let mut says = |word: Option<AppWord>| words.extend(word.map(Word::Says));
        let take = |flag: &mut bool, word| std::mem::take(flag).then_some(word);
        says(take(&mut self.stopping, AppWord::Stopping));
        says(take(&mut self.alive, AppWord::Alive));
        says(self.more_time.take().map(AppWord::MoreTime));
        says(self.status.take().map(AppWord::Status));
        says(take(&mut self.reloading, AppWord::Reloading));
        words.extend(std::mem::take(&mut self.reloaded).then_some(Word::Reloaded));
        words
    }

    /// Returns when there is something to pass on.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.has_words().then_some(self.quiet_until)
    }

    fn has_words(&self) -> bool {
        let flags = [self.reloading, self.reloaded, self.stopping, self.alive];
        self.known && (flags.contains(&true) || self.more_time.is_some() || self.status.is_some())
    }
}

/// Makes one line of text that is safe to show and of bounded length.
fn tame(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(2 * MAX_STATUS)]);
    text::tame_within(&text, MAX_STATUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        let mut voice = Voice::default();
        voice.begin();
        voice
    }

    fn says(word: AppWord) -> Word {
        Word::Says(word)
    }

    #[test]
    fn a_message_is_what_its_lines_say() {
        for (message, ready, words) in [
            (&b"READY=1"[..], true, vec![]),
            (b"STATUS=up\nREADY=1\n", true, vec![says(AppWord::Status("up".to_owned()))]),
            (b"READY=10", false, vec![]),
            (b"X=READY=1", false, vec![]),
            (b"", false, vec![]),
            (b"\xff\0", false, vec![]),
            (b"STATUS=", false, vec![says(AppWord::Status(String::new()))]),
            (
                b"STATUS=a\x1b[2J\xff",
                false,
                vec![says(AppWord::Status("a\u{fffd}[2J\u{fffd}".to_owned()))],
            ),
            (b"STOPPING=1", false, vec![says(AppWord::Stopping)]),
            (b"WATCHDOG=1\nWATCHDOG=1", false, vec![says(AppWord::Alive)]),
            (b"WATCHDOG=trigger", false, vec![]),
            (b"EXTEND_TIMEOUT_USEC=5000000", false, vec![says(AppWord::MoreTime(5_000_000))]),
            (b"EXTEND_TIMEOUT_USEC=-1\nEXTEND_TIMEOUT_USEC=x", false, vec![]),
            (b"MAINPID=1\nFDSTORE=1\nFDNAME=x\nNOTIFYACCESS=all", false, vec![]),
            (b"RELOADING=1", false, vec![says(AppWord::Reloading)]),
            (b"RELOADING=1\nREADY=1", true, vec![says(AppWord::Reloading), Word::Reloaded]),
        ] {
            let mut voice = voice();
            assert_eq!(voice.hear(message), ready, "{message:?}");
            assert_eq!(voice.speak(0), words, "{message:?}");
            assert_eq!(voice.deadline(), None, "{message:?}");
        }
    }

    #[test]
    fn one_who_talks_without_end_is_passed_on_now_and_then() {
        let mut voice = voice();
        let mut told = Vec::new();
        for now in 0..2 * PAUSE {
            voice.hear(format!("STATUS={now}\nWATCHDOG=1\nRELOADING=1\nREADY=1").as_bytes());
            told.extend(voice.speak(now));
        }
        assert_eq!(told.len(), 2 * 4);
        assert_eq!(told[5], says(AppWord::Status(PAUSE.to_string())), "the last word counts");
        assert_eq!(voice.deadline(), Some(2 * PAUSE));
        assert_eq!(voice.speak(2 * PAUSE).len(), 4, "what is held is told in the end");
    }

    #[test]
    fn a_reload_ends_where_it_was_begun() {
        let mut voice = voice();
        voice.hear(b"RELOADING=1");
        assert_eq!(voice.speak(0), [says(AppWord::Reloading)]);
        voice.hear(b"READY=1");
        voice.hear(b"RELOADING=1");
        assert_eq!(voice.speak(PAUSE), [says(AppWord::Reloading)], "it reloads still");
        voice.hear(b"READY=1");
        assert_eq!(voice.speak(2 * PAUSE), [Word::Reloaded]);
        voice.hear(b"READY=1");
        assert_eq!(voice.speak(3 * PAUSE), []);
    }

    #[test]
    fn nothing_is_said_of_an_app_that_is_not_known_to_run() {
        let mut voice = Voice::default();
        voice.hear(b"STATUS=early\nRELOADING=1\nREADY=1");
        assert_eq!((voice.speak(0), voice.deadline()), (Vec::new(), None));
        voice.begin();
        assert_eq!(voice.speak(0).len(), 3);
        voice.hear(b"STATUS=late");
        voice.end();
        assert_eq!(voice.speak(PAUSE), []);
    }

    #[test]
    fn a_status_is_cut_between_letters() {
        let mut voice = voice();
        voice.hear(format!("STATUS={}", "é".repeat(2000)).as_bytes());
        let words = voice.speak(0);
        assert_eq!(words, [says(AppWord::Status("é".repeat(MAX_STATUS / 2)))]);
    }
}
