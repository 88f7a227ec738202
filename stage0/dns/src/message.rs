//! Messages of the DNS, as far as a server in the middle must read and write them: the header, one
//! question, and whether the asker speaks EDNS (RFC 1035 §4, RFC 6891).
//!
//! ```text
//!   id 2 │ flags 2 │ questions 2 │ answers 2 │ authorities 2 │ additional 2 │ question │ records…
//!   flags: QR 1 opcode 4 AA 1 TC 1 RD 1 │ RA 1 Z 1 AD 1 CD 1 rcode 4
//! ```
//!
//! Nothing here allocates by a number that a message claims, and nothing follows a pointer: a name
//! that we care for stands in the question, where there is nothing yet to point at.

use std::net::IpAddr;

/// Length of the header, in bytes.
pub const HEADER: usize = 12;
/// The longest a name may be, in bytes of its wire form (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// What an asker without EDNS takes in a datagram, in bytes (RFC 1035 §2.3.4).
pub const PLAIN: usize = 512;
/// The most that is sent in one datagram whatever the asker says, in bytes: what passes any link of
/// IPv6 in one piece (DNS flag day 2020), so that an answer neither breaks nor multiplies.
pub const MOST: usize = 1232;
/// How many records of an asker are looked through for its EDNS.
const MOST_RECORDS: u16 = 16;
/// A pointer to the question's name, the only one we write.
const TO_QUESTION: [u8; 2] = [0xc0, 12];

/// What a question is about (RFC 1035 §3.2.2).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS, which is no record but has the form of one.
    pub const OPT: u16 = 41;
    /// Part of a zone, an answer of many messages.
    pub const IXFR: u16 = 251;
    /// A zone, likewise.
    pub const AXFR: u16 = 252;
    /// Whatever there is.
    pub const ANY: u16 = 255;
}

/// The class of the Internet.
pub const INTERNET: u16 = 1;

/// How an answer ends (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Here it is, or the name has no such record.
    Fine,
    /// The question makes no sense.
    Malformed,
    /// It cannot be found out now.
    Failed,
    /// There is no such name.
    NoName,
    /// This is not a server for that.
    NotImplemented,
    /// Not for this asker.
    Refused,
    /// An EDNS nobody knows.
    BadVersion,
}

impl Code {
    const fn number(self) -> u16 {
        match self {
            Self::Fine => 0,
            Self::Malformed => 1,
            Self::Failed => 2,
            Self::NoName => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }

    /// The four bits that stand in the header.
    const fn low(self) -> u8 {
        self.number().to_be_bytes()[1] & 0x0f
    }

    /// The eight bits that stand in EDNS.
    const fn high(self) -> u8 {
        self.number().to_be_bytes()[1] >> 4
    }
}

/// What an asker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The longest datagram it takes, in bytes.
    pub size: u16,
    /// The version; only 0 exists.
    pub version: u8,
}

/// A question somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Query<'m> {
    bytes: &'m [u8],
    name: &'m [u8],
    /// What it is about, one of [`kind`] or another.
    pub kind: u16,
    /// The class, [`INTERNET`] but for oddities.
    pub class: u16,
    /// What the asker says of itself, if it speaks EDNS.
    pub edns: Option<Edns>,
}

/// Why a message is no question for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// Nothing is said to it: too short, or itself an answer, so that no two servers talk for ever.
    Silence,
    /// This is said to it.
    Reply(Vec<u8>),
}

impl<'m> Query<'m> {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`Unasked`]: what to do about it instead.
    pub fn parse(bytes: &'m [u8]) -> Result<Self, Unasked> {
        let header = bytes.first_chunk::<HEADER>().ok_or(Unasked::Silence)?;
        if header[2] & 0x80 != 0 {
            return Err(Unasked::Silence);
        }
        let malformed = || Unasked::Reply(bare(*header, Code::Malformed));
        if header[2] & 0x78 != 0 {
            return Err(Unasked::Reply(bare(*header, Code::NotImplemented)));
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > MOST_RECORDS {
            return Err(malformed());
        }
        let (name, rest) = plain_name(&bytes[HEADER..]).ok_or_else(malformed)?;
        let (&[k0, k1, c0, c1], rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let edns = find_edns(rest, count(10)).ok_or_else(malformed)?;
        Ok(Self {
            bytes,
            name,
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            edns,
        })
    }

    /// Returns the whole message.
    #[must_use]
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Returns the question as it stands in the message: name, type, class.
    #[must_use]
    pub fn question(&self) -> &'m [u8] {
        &self.bytes[HEADER..HEADER + self.name.len() + 4]
    }

    /// Returns the name in small letters with dots between; `None` if it has bytes that no name of a
    /// host has, so that a dot within a label is never taken for one between two.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        let mut rest = self.name;
        while let Some((&length, behind)) = rest.split_first() {
            let (label, behind) = behind.split_at_checked(length.into())?;
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
                return None;
            }
            if !text.is_empty() && !label.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            rest = behind;
        }
        Some(text)
    }

    /// Returns how long an answer in a datagram may be, in bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.edns.map_or(PLAIN, |edns| usize::from(edns.size).clamp(PLAIN, MOST))
    }

    /// Tells whether `answer` is one to this question, asked as `id`.
    #[must_use]
    pub fn fits(&self, answer: &[u8], id: [u8; 2]) -> bool {
        let Some(header) = answer.first_chunk::<HEADER>() else { return false };
        let question = self.question();
        header[..2] == id
            && header[2] & 0xf8 == 0x80
            && header[4..6] == [0, 1]
            && answer[HEADER..]
                .get(..question.len())
                .is_some_and(|echoed| echoed.eq_ignore_ascii_case(question))
    }

    /// Writes an answer without records.
    #[must_use]
    pub fn reply(&self, code: Code) -> Vec<u8> {
        Answer::new(self, code).finish()
    }

    /// Shortens an answer that is too long for the asker: the question remains, and the word that
    /// there is more (TC), so that it asks again by TCP.
    #[must_use]
    pub fn truncated(&self, mut answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= self.room() {
            return answer;
        }
        answer.truncate(HEADER);
        answer.extend_from_slice(self.question());
        answer[2] |= 0x02;
        answer[6..HEADER].fill(0);
        if self.edns.is_some() {
            answer[11] = 1;
            answer.extend_from_slice(&opt(Code::Fine));
        }
        answer
    }
}

/// An answer of ours in the making.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    records: u16,
    edns: Option<Code>,
}

impl Answer {
    /// Begins one.
    #[must_use]
    pub fn new(query: &Query<'_>, code: Code) -> Self {
        let mut bytes = query.bytes[..HEADER].to_vec();
        bytes[2] = 0x80 | (bytes[2] & 0x01); // an answer; whether recursion was desired
        bytes[3] = 0x80 | code.low(); // it is available
        bytes[6..HEADER].fill(0);
        bytes.extend_from_slice(query.question());
        Self { bytes, records: 0, edns: query.edns.map(|_| code) }
    }

    /// Says that nobody knows better.
    #[must_use]
    pub fn authoritative(mut self) -> Self {
        self.bytes[2] |= 0x04;
        self
    }

    /// Adds an address of the name that was asked for, good for `ttl_s` seconds.
    pub fn address(&mut self, address: IpAddr, ttl_s: u32) {
        match address {
            IpAddr::V4(v4) => self.record(kind::A, ttl_s, &v4.octets()),
            IpAddr::V6(v6) => self.record(kind::AAAA, ttl_s, &v6.octets()),
        }
    }

    /// Adds the name of the address that was asked for; one that cannot be written is left out.
    pub fn pointer(&mut self, name: &str, ttl_s: u32) {
        if let Some(name) = wire(name) {
            self.record(kind::PTR, ttl_s, &name);
        }
    }

    fn record(&mut self, kind: u16, ttl_s: u32, data: &[u8]) {
        let Ok(length) = u16::try_from(data.len()) else { return };
        let Some(records) = self.records.checked_add(1) else { return };
        self.records = records;
        self.bytes.extend_from_slice(&TO_QUESTION);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&INTERNET.to_be_bytes());
        self.bytes.extend_from_slice(&ttl_s.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(data);
    }

    /// Returns the message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[6..8].copy_from_slice(&self.records.to_be_bytes());
        if let Some(code) = self.edns {
            self.bytes[11] = 1;
            self.bytes.extend_from_slice(&opt(code));
        }
        self.bytes
    }
}

/// Returns the wire form of a name of dots; `None` if it has none.
#[must_use]
pub fn wire(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME).then_some(bytes)
}

/// An answer to what cannot be repeated: the header alone.
fn bare(mut header: [u8; HEADER], code: Code) -> Vec<u8> {
    header[2] = 0x80 | (header[2] & 0x79);
    header[3] = 0x80 | code.low();
    header[4..].fill(0);
    header.to_vec()
}

/// Our own EDNS: what we take, and the high bits of the code.
const fn opt(code: Code) -> [u8; 11] {
    let [k0, k1] = kind::OPT.to_be_bytes();
    // 1232, which is `MOST`: the type keeps it from being written as such.
    [0, k0, k1, 0x04, 0xd0, code.high(), 0, 0, 0, 0, 0]
}

/// Splits a name without pointers off.
fn plain_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length > 63 || at > MAX_NAME {
            return None;
        }
        if length == 0 {
            return bytes.split_at_checked(at);
        }
    }
}

/// Skips a name that may end in a pointer, which is not followed.
fn skip_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let (&length, behind) = rest.split_first()?;
        match length {
            0 => return Some(behind),
            1..=63 => rest = behind.get(usize::from(length)..)?,
            0xc0.. => return behind.get(1..),
            _ => return None,
        }
    }
}

/// Looks for EDNS among the records at the end of a question; `None` if they are no records.
fn find_edns(bytes: &[u8], records: u16) -> Option<Option<Edns>> {
    let mut rest = bytes;
    let mut found = None;
    for _ in 0..records {
        let behind = skip_name(rest)?;
        let (&[k0, k1, s0, s1, _, version, _, _, l0, l1], behind) = behind.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_be_bytes([l0, l1]))..)?;
        if u16::from_be_bytes([k0, k1]) == kind::OPT {
            let edns = Edns { size: u16::from_be_bytes([s0, s1]), version };
            if found.replace(edns).is_some() {
                return None; // RFC 6891 §6.1.1: at most one
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question, with EDNS of a size if one is given.
    pub(crate) fn query(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&wire(name).unwrap());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&INTERNET.to_be_bytes());
        if let Some(size) = size {
            bytes[11] = 1;
            bytes.extend_from_slice(&[0, 0, 41]);
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&[0; 6]);
        }
        bytes
    }

    #[test]
    fn a_question_is_read_and_its_name_is_small_letters() {
        let bytes = query("Shop.POD", kind::A, Some(4096));
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.text().unwrap(), "shop.pod");
        assert_eq!((query.kind, query.class), (kind::A, INTERNET));
        assert_eq!(query.edns, Some(Edns { size: 4096, version: 0 }));
        assert_eq!(query.room(), MOST);
    }

    #[test]
    fn a_dot_in_a_label_is_not_one_between_labels() {
        let mut bytes = query("shop-pod", kind::A, None);
        bytes[HEADER + 5] = b'.';
        assert_eq!(Query::parse(&bytes).unwrap().text(), None);
    }

    #[test]
    fn an_answer_is_never_answered() {
        let mut bytes = query("shop", kind::A, None);
        bytes[2] |= 0x80;
        assert_eq!(Query::parse(&bytes).unwrap_err(), Unasked::Silence);
        assert_eq!(Query::parse(&[0; 11]).unwrap_err(), Unasked::Silence);
    }

    #[test]
    fn what_makes_no_sense_is_told_so() {
        let code = |bytes: &[u8]| match Query::parse(bytes) {
            Err(Unasked::Reply(reply)) => reply[3] & 0x0f,
            other => panic!("{other:?}"),
        };
        let whole = query("shop", kind::A, Some(512));
        let changed = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(code(&changed(2, 0x28)), 4, "an update");
        assert_eq!(code(&changed(5, 0)), 1, "no question");
        assert_eq!(code(&changed(5, 2)), 1, "two");
        assert_eq!(code(&changed(7, 1)), 1, "a question with an answer");
        assert_eq!(code(&changed(HEADER, 0xc0)), 1, "a pointer into the header");
        assert_eq!(code(&changed(HEADER, 0x40)), 1, "a label of another kind");
        assert_eq!(code(&changed(11, 2)), 1, "a record that is not there");
        assert_eq!(code(&whole[..whole.len() - 1]), 1, "half of one");
    }

    #[test]
    fn an_answer_fits_only_its_question_and_id() {
        let bytes = query("shop", kind::A, None);
        let asked = Query::parse(&bytes).unwrap();
        let id = [0xab, 0xcd];
        let good = asked.reply(Code::Fine);
        assert!(asked.fits(&good, id));
        assert!(!asked.fits(&good, [0xab, 0xce]));
        assert!(!asked.fits(&bytes, id), "a question is no answer");
        assert!(!asked.fits(&good[..HEADER], id), "the question is not repeated");
        let mut shouted = good.clone();
        shouted[HEADER + 1..HEADER + 5].make_ascii_uppercase();
        assert!(asked.fits(&shouted, id), "letters may change their size on the way");
        let other = query("shot", kind::A, None);
        assert!(!Query::parse(&other).unwrap().fits(&good, id));
    }

    #[test]
    fn what_is_too_long_is_cut_off_and_says_so() {
        for size in [None, Some(512), Some(1232)] {
            let bytes = query("shop", kind::A, size);
            let asked = Query::parse(&bytes).unwrap();
            let mut long = Answer::new(&asked, Code::Fine);
            for last in 0..100 {
                long.address(IpAddr::from([10, 0, 0, last]), 1);
            }
            let short = asked.truncated(long.finish());
            assert!(short.len() <= asked.room());
            assert_eq!(short[2] & 0x02, 0x02);
            assert_eq!(short[6..8], [0, 0]);
            assert!(asked.fits(&short, [0xab, 0xcd]));
            assert_eq!(short[11] == 1, size.is_some());
        }
    }

    #[test]
    fn a_code_beyond_fifteen_stands_in_edns() {
        let bytes = query("shop", kind::A, Some(512));
        let reply = Query::parse(&bytes).unwrap().reply(Code::BadVersion);
        assert_eq!(reply[3] & 0x0f, 0);
        assert_eq!(reply[reply.len() - 6], 1);
    }
}
