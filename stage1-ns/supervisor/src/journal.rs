//! The journal as a second sink of what apps write, beside their logs, and of what happens to the
//! pod (`systemd-journald(8)`).
//!
//! Entries go as datagrams that never wait: while journald is slow, stopped or gone, up to
//! [`MAX_HELD`] bytes of them are held and tried again, and what is beyond is counted and told
//! once, when journald takes entries again. The logs have it all the same. An entry that is too
//! large for a datagram goes as sealed memory.

mod entry;
mod happening;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use pod_abi::app::AppSpec;
use pod_abi::manifest::PodManifest;
use pod_abi::status::Event;
use pod_abi::{PodName, Timestamp};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, send, sendmsg, socket_with,
};

use self::entry::{Entry, split_priority};
use crate::stream::{End, Source};

pub(crate) use self::entry::Writer;

/// Where journald takes entries.
const ADDRESS: &str = "/run/systemd/journal/socket";

/// The most that is held of what journald does not take, in bytes: some seconds of a busy app.
const MAX_HELD: usize = 1 << 20;
/// The most an entry adds to what it holds: space of its own in the queue.
const EACH: usize = 64;
/// How much of our entries the kernel is to keep for journald, in bytes: systemd's figure.
const BUFFER: usize = 8 << 20;
/// How soon it is tried again to send what was not taken.
const AGAIN: Duration = Duration::from_millis(20);
/// How soon, once that has failed for a while: journald is stopped, or gone.
const SELDOM: Duration = Duration::from_secs(1);
/// How often it is tried soon.
const SOON: u32 = 50;
/// How long the end of a pod may wait for journald to take the rest.
const LAST: Duration = Duration::from_millis(300);

/// The journal, as one pod writes it.
#[derive(Debug)]
pub(crate) struct Journal {
    address: SocketAddrUnix,
    socket: Option<OwnedFd>,
    pod: Writer,
    name: PodName,
    held: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    failures: u32,
    next: Option<Instant>,
}

impl Journal {
    /// Writes for this pod. Whether there is a journal shows with the first entry.
    pub(crate) fn new(pod: &PodManifest) -> Option<Self> {
        Self::at(ADDRESS, pod)
    }

    fn at(address: &str, pod: &PodManifest) -> Option<Self> {
        Some(Self {
            address: SocketAddrUnix::new(address).ok()?,
            socket: None,
            pod: Writer::of_pod(pod),
            name: pod.name.clone(),
            held: VecDeque::new(),
            bytes: 0,
            lost: 0,
            failures: 0,
            next: None,
        })
    }

    /// Returns the writer of an app's lines.
    pub(crate) fn writer(&self, app: &AppSpec) -> Writer {
        self.pod.app(app.name.as_str(), &app.image.reference)
    }

    /// Writes a line of an app, or a piece of one.
    pub(crate) fn line(
        &mut self,
        writer: &Writer,
        time: Timestamp,
        source: Source,
        text: &[u8],
        end: End,
    ) {
        let (priority, text) = split_priority(text);
        let usual = match source {
            Source::Stdout => 6,
            Source::Stderr => 3,
        };
        let mut entry = Entry::by(writer);
        // What a terminal has at the end of its lines.
        entry.field("MESSAGE", text.strip_suffix(b"\r").unwrap_or(text));
        entry.text("PRIORITY", &priority.unwrap_or(usual).to_string());
        entry.text("SYSLOG_TIMESTAMP", &time.to_string());
        if end == End::Piece {
            entry.text("CONTAINER_PARTIAL_MESSAGE", "true");
        }
        self.write(entry);
    }

    /// Writes what has happened to the pod.
    pub(crate) fn event(&mut self, event: &Event) {
        self.write(happening::entry(&self.pod, &self.name, event));
    }

    /// Writes why machined does not know the pod.
    pub(crate) fn not_registered(&mut self, why: &str) {
        self.write(happening::not_registered(&self.pod, &self.name, why));
    }

    fn write(&mut self, entry: Entry) {
        let entry = entry.finish();
        let cost = entry.len() + EACH;
        // What comes while some of it is lost is lost, too: entries stay in order.
        if self.lost > 0 || self.bytes + cost > MAX_HELD {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.bytes += cost;
        self.held.push_back(entry);
        if self.next.is_none() {
            self.flush(Instant::now());
        }
    }

    /// Returns when [`Journal::flush`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Sends what is held as far as it is taken.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.next = None;
        loop {
            while let Some(entry) = self.held.pop_front() {
                if self.send(&entry).is_err() {
                    self.held.push_front(entry);
                    self.failures = self.failures.saturating_add(1);
                    let wait = if self.failures > SOON { SELDOM } else { AGAIN };
                    self.next = Some(now + wait);
                    return;
                }
                self.failures = 0;
                self.bytes = self.bytes.saturating_sub(entry.len() + EACH);
            }
            if self.lost == 0 {
                self.held = VecDeque::new();
                return;
            }
            let lost = std::mem::take(&mut self.lost);
            self.write_first(happening::lost(&self.pod, &self.name, lost));
        }
    }

    fn write_first(&mut self, entry: Entry) {
        let entry = entry.finish();
        self.bytes += entry.len() + EACH;
        self.held.push_back(entry);
    }

    /// Sends what is held at the end of the pod; waits for a journald that is slow, but not long.
    pub(crate) fn finish(&mut self) {
        let end = Instant::now() + LAST;
        loop {
            let now = Instant::now();
            self.flush(now);
            if self.next.is_none() || now >= end || self.failures > SOON {
                return;
            }
            thread::sleep(AGAIN / 4);
        }
    }

    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(self.open()?);
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(socket, entry, flags) {
            Ok(_) => Ok(()),
            Err(Errno::MSGSIZE | Errno::NOBUFS) => send_sealed(socket, entry),
            Err(Errno::AGAIN) => Err(Errno::AGAIN.into()),
            Err(error) => {
                // It has gone, and comes back as another.
                self.socket = None;
                Err(error.into())
            }
        }
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // Without the privilege for it there is less room, and more is tried again.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER);
        connect(&socket, &self.address)?;
        Ok(socket)
    }
}

/// Sends an entry as memory that nobody can change any more.
fn send_sealed(socket: &OwnedFd, entry: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(memfd_create("journal-entry", flags)?);
    memory.write_all(entry)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&memory, seals)?;
    let descriptors = [memory.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    use rustix::fs::fcntl_get_seals;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use crate::requests::tests::order;

    fn journal(directory: &Path) -> (Journal, Writer) {
        let path = directory.join("socket");
        let journal = Journal::at(path.to_str().unwrap(), &order().pod).unwrap();
        let writer = journal.writer(&order().apps[0].spec);
        (journal, writer)
    }

    fn journald(directory: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn say(journal: &mut Journal, writer: &Writer, text: &str) {
        journal.line(writer, Timestamp(0), Source::Stdout, text.as_bytes(), End::Line);
    }

    /// Returns the messages that have come.
    fn heard(journald: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 65536];
        let mut heard = Vec::new();
        while let Ok(count) = journald.recv(&mut bytes) {
            let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
            let message = text.lines().find_map(|line| line.strip_prefix("MESSAGE="));
            heard.push(message.unwrap().to_owned());
        }
        heard
    }

    #[test]
    fn a_line_has_its_priority_its_time_and_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let journald = journald(directory.path());
        let (mut journal, writer) = journal(directory.path());
        let mut bytes = [0; 4096];
        for (source, text, end, expected) in [
            (Source::Stdout, "a", End::Line, "MESSAGE=a\nPRIORITY=6\nSYSLOG_TIMESTAMP=1970-"),
            (Source::Stderr, "a\r", End::Line, "MESSAGE=a\nPRIORITY=3\n"),
            (Source::Stderr, "<7>a", End::Line, "MESSAGE=a\nPRIORITY=7\n"),
            (Source::Stdout, "a", End::Piece, "Z\nCONTAINER_PARTIAL_MESSAGE=true\n"),
        ] {
            journal.line(&writer, Timestamp(0), source, text.as_bytes(), end);
            let count = journald.recv(&mut bytes).unwrap();
            let got = String::from_utf8_lossy(&bytes[..count]).into_owned();
            assert!(got.contains(expected), "{expected}: {got}");
        }
        assert_eq!(journal.deadline(), None);
    }

    #[test]
    fn what_a_journal_that_is_gone_misses_is_counted_and_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, writer) = journal(directory.path());
        let long = "x".repeat(10_000);
        for _ in 0..200 {
            say(&mut journal, &writer, &long);
        }
        assert!(journal.bytes <= MAX_HELD && journal.lost > 90, "{}", journal.lost);
        let (lost, held) = (journal.lost, journal.held.len());
        assert_eq!(lost + held as u64, 200);
        let begin = Instant::now();
        journal.finish();
        assert!(begin.elapsed() < 4 * LAST, "nothing waits for it long");

        let journald = journald(directory.path());
        let mut got = Vec::new();
        for _ in 0..1000 {
            journal.flush(Instant::now());
            got.extend(heard(&journald));
            if journal.deadline().is_none() {
                break;
            }
        }
        assert_eq!(got.len(), held + 1);
        let last = got.last().unwrap();
        assert!(last.starts_with(&format!("{lost} entries of pod shop did not reach")), "{last}");
        say(&mut journal, &writer, "after");
        assert_eq!(heard(&journald), ["after"]);
        assert_eq!((journal.bytes, journal.lost), (0, 0));
    }

    #[test]
    fn a_journal_that_comes_back_as_another_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, writer) = journal(directory.path());
        for name in ["one", "two"] {
            let journald = journald(directory.path());
            say(&mut journal, &writer, name);
            journal.flush(Instant::now());
            assert_eq!(heard(&journald), [name]);
            drop(journald);
            std::fs::remove_file(directory.path().join("socket")).unwrap();
        }
    }

    #[test]
    fn what_is_too_large_for_a_datagram_goes_as_sealed_memory() {
        let directory = tempfile::tempdir().unwrap();
        let journald = journald(directory.path());
        let (mut journal, writer) = journal(directory.path());
        let socket = journal.open().unwrap();
        setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
        journal.socket = Some(socket);
        let long = "x".repeat(16 << 10);
        say(&mut journal, &writer, &long);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&journald, &mut [], &mut control, RecvFlags::empty()).unwrap();
        let Some(RecvAncillaryMessage::ScmRights(mut memory)) = control.drain().next() else {
            panic!("no descriptor came")
        };
        let memory = memory.next().unwrap();
        let seals = fcntl_get_seals(&memory).unwrap();
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SEAL));
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        assert!(std::fs::read_to_string(path).unwrap().contains(&format!("MESSAGE={long}\n")));
    }
}
