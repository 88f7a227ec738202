//! The keys that detach a client from an app, found in what is typed. Pure: bytes in, bytes out.
//!
//! A sequence may come in any number of pieces. Its beginning is held until it is known to be one
//! or not, and passed on if it is not.

use std::str::FromStr;

/// The keys unless others are asked for: docker's.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// The most keys of a sequence.
const MAX_KEYS: usize = 16;

/// A sequence of keys; an empty one detaches never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// Why a word is no sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no sequence of keys: it takes single characters and `ctrl-X`, with commas between"
)]
pub(crate) struct KeysError(String);

impl DetachKeys {
    /// No keys.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads what was asked for, or the default.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub(crate) fn asked(text: Option<&str>) -> Result<Self, KeysError> {
        text.unwrap_or(DEFAULT).parse()
    }
}

impl FromStr for DetachKeys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let refused = || KeysError(text.chars().take(80).collect());
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        match keys {
            Some(keys) if keys.len() <= MAX_KEYS => Ok(Self(keys)),
            _ => Err(refused()),
        }
    }
}

/// Returns the byte a key sends.
fn key(word: &str) -> Option<u8> {
    match word.as_bytes() {
        [byte] if byte.is_ascii_graphic() || *byte == b' ' => Some(*byte),
        [b'c', b't', b'r', b'l', b'-', byte] => match byte {
            b'a'..=b'z' => Some(byte - b'a' + 1),
            b'@' => Some(0),
            b'[' | b'\\' | b']' | b'^' | b'_' => Some(byte - b'@'),
            _ => None,
        },
        _ => None,
    }
}

/// Looks for a sequence of keys in what is typed.
#[derive(Debug)]
pub(crate) struct Detector {
    keys: DetachKeys,
    /// How many keys of the sequence were typed last.
    matched: usize,
}

impl Detector {
    /// Looks for `keys`.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, matched: 0 }
    }

    /// Takes in what is typed and adds to `passed` what is not for us. Tells whether the sequence
    /// is complete; what is typed behind it is nobody's.
    pub(crate) fn feed(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        let keys = &self.keys.0;
        if keys.is_empty() {
            passed.extend_from_slice(typed);
            return false;
        }
        for byte in typed {
            // What was held and no longer begins the sequence is passed on, key by key.
            while self.matched > 0 && keys[self.matched] != *byte {
                let (held, rest) = (self.matched, (1..self.matched).rev());
                let longest = rest.into_iter().find(|len| keys[..*len] == keys[held - len..held]);
                self.matched = longest.unwrap_or(0);
                passed.extend_from_slice(&keys[..held - self.matched]);
            }
            if keys[self.matched] != *byte {
                passed.push(*byte);
                continue;
            }
            self.matched += 1;
            if self.matched == keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> DetachKeys {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_characters_and_controls() {
        assert_eq!(keys(DEFAULT), DetachKeys(vec![16, 17]));
        assert_eq!(keys("a,ctrl-[,ctrl-@, "), DetachKeys(vec![b'a', 27, 0, b' ']));
        assert_eq!(keys(""), DetachKeys(Vec::new()));
        let long = ["a"; 17].join(",");
        for bad in ["ctrl-", "ctrl-A", "ab", ",", "a,", "é", &long] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    /// Feeds `typed` cut at `at`; returns what is passed on, and whether the client detaches.
    fn feed(sequence: &str, typed: &[u8], at: usize) -> (Vec<u8>, bool) {
        let mut detector = Detector::new(keys(sequence));
        let mut passed = Vec::new();
        let done =
            detector.feed(&typed[..at], &mut passed) || detector.feed(&typed[at..], &mut passed);
        (passed, done)
    }

    #[test]
    fn a_sequence_is_found_however_it_is_cut() {
        let table: [(&str, &[u8], &[u8], bool); 8] = [
            ("ctrl-p,ctrl-q", b"ls\x10\x11rest", b"ls", true),
            ("ctrl-p,ctrl-q", b"\x10\x10\x11", b"\x10", true),
            ("ctrl-p,ctrl-q", b"\x10x\x11", b"\x10x\x11", false),
            ("a,a,b", b"aaab", b"a", true),
            ("a,b,a,c", b"ababac", b"ab", true),
            ("a,b,a,c", b"abab-", b"abab-", false),
            ("", b"\x10\x11", b"\x10\x11", false),
            ("q", b"xq", b"x", true),
        ];
        for (sequence, typed, passed, detached) in table {
            for at in 0..=typed.len() {
                let got = feed(sequence, typed, at);
                assert_eq!(got, (passed.to_vec(), detached), "{sequence:?} cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_held_at_the_end_is_only_ever_a_beginning_of_the_sequence() {
        // Every word of three letters over two: what is passed and what is held is what was typed.
        for word in 0..(1_u32 << 9) {
            let typed: Vec<u8> =
                (0..9).map(|bit| b'a' + u8::from(word & (1 << bit) != 0)).collect();
            let mut detector = Detector::new(keys("a,b,a,a"));
            let mut passed = Vec::new();
            let done = detector.feed(&typed, &mut passed);
            let found = typed.windows(4).position(|four| four == b"abaa");
            assert_eq!(done, found.is_some());
            if let Some(at) = found {
                assert_eq!(passed, typed[..at]);
            } else {
                passed.extend_from_slice(&b"abaa"[..detector.matched]);
                assert_eq!(passed, typed);
            }
        }
    }
}
