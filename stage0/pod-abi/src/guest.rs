//! The guest protocol: what stage1-kvm and PID 1 of its guest say to each other.
//!
//! The guest opens every stream, by vsock, to the host (`vsock(7)`, context id 2); nothing ever
//! connects to a guest. The virtual machine monitor ends each stream in a descriptor it was given:
//!
//! ```text
//!   supervisor                     monitor                      guest
//!   wall ─── frames ───────────▶ port WALL    ◀── connects ─── PID 1 of the guest
//!   link ─── frames ───────────▶ port INNER   ◀── connects ─── … on behalf of stage2-init
//!   pipes, terminals ── bytes ─▶ port STREAM  ◀── connects ─── … tells a token first, 16 bytes
//! ```
//!
//! What one side sent on a stream before a frame on INNER has arrived before that frame, as far as
//! the other side takes it; so the last words of a process come before its end, and the size of a
//! terminal before what is to see it.
//!
//! WALL carries [`ToGuest`] and [`FromGuest`] as [frames](crate::frame): one question at a time,
//! each answered once. INNER carries [`Carried`] one way and
//! [`FromInit`](crate::inner::FromInit) the other: what travels as a descriptor in namespaces is a
//! token here, under which the monitor holds the host's end of it.
//!
//! ```text
//!   host                                        guest
//!    │ ◀────────────────────────────────── Hello    │  it has booted
//!    │  App, … ─────────────────────────────────▶   │  the apps of the order
//!    │  Configure ──────────────────────────────▶   │  clock, entropy, the order, the disks
//!    │  Raise ──────────────────────────────────▶   │  stage2-init is started, INNER connected
//!    │  AddApps ────────────────────────────────▶   │  trees, cgroups, streams
//!    │  Settle, Limit, Usage, Pause, … ─────────▶   │
//!    │ ◀───────────────────────── MemoryRanOut, …   │
//!    │                                               │  stage2-init has ended: power off
//! ```
//!
//! A guest is hostile: the host bounds all it says and takes none of it for true beyond what the
//! pod could do to itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control::WindowSize;
use crate::credential::CredentialName;
use crate::fields::is_default;
use crate::inner::{AppFds, ToInit};
use crate::isolators::Resources;
use crate::name::{AppName, VolumeName};
use crate::processes::Listing;
use crate::report::{MAX_ENTRIES, Report};
use crate::stage::{AppOrder, Order};
use crate::stats::Usage;
use crate::time::Timestamp;

/// The ports of the host that a guest can connect to.
pub mod port {
    /// [`ToGuest`](super::ToGuest) and [`FromGuest`](super::FromGuest); once.
    pub const WALL: u32 = 1;
    /// [`Carried`](super::Carried) and [`FromInit`](crate::inner::FromInit); once.
    pub const INNER: u32 = 2;
    /// Bytes, behind the sixteen of a [`Token`](super::Token).
    pub const STREAM: u32 = 3;
    /// Nobody's: always refused. As a monitor takes what a guest sends in its order, the refusal
    /// tells that everything before has arrived; so a guest asks once more before it switches off.
    pub const NOBODY: u32 = 4;
}

/// The name of a stream: whoever tells it gets the stream, once.
///
/// It cannot be guessed, for an app of the guest may open a socket of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub [u8; 16]);

/// Something [`ToGuest`] asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToGuest {
    /// An app of the order, behind those before it: each has a frame of its own, as one app fits
    /// one and many do not. Before [`ToGuest::Configure`]. [`Answer::Done`].
    App(Box<AppOrder>),
    /// What pod this is. [`Answer::Done`].
    Configure(Box<Configure>),
    /// Part of a credential, to be put behind the parts before it. [`Answer::Done`].
    Credential(Secret),
    /// Starts stage2-init and connects [`port::INNER`] to it. [`Answer::Done`].
    Raise,
    /// Lays out all apps of the order, whose streams are these. [`Answer::Added`].
    AddApps(Vec<AppStreams>),
    /// Lays out one more app. [`Answer::Added`].
    AddApp(Box<Addition>),
    /// Takes away what an app that does not run was made of. [`Answer::Done`].
    RemoveApp(AppName),
    /// Lets go of what was needed only to lay apps out. [`Answer::Done`].
    Settle,
    /// Changes limits: of an app, or of all. [`Answer::Done`].
    Limit(Option<AppName>, Box<Resources>),
    /// Counts what an app uses, or all. [`Answer::Usage`].
    Usage(Option<AppName>),
    /// Lists the processes of an app, or all of the pod. [`Answer::Processes`].
    Processes(Option<AppName>),
    /// Freezes all apps. [`Answer::Done`].
    Pause,
    /// Thaws them. [`Answer::Done`].
    Resume,
}

/// What a guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromGuest {
    /// It has booted; the first frame.
    Hello(Hello),
    /// What was asked for last is done, or known.
    Answer(Answer),
    /// What was asked for last could not be done; everything is as it was.
    Refused(Box<Report>),
    /// Memory has run out in these apps, so that the kernel killed.
    MemoryRanOut(Vec<AppName>),
    /// It cannot go on; the last frame.
    Failed(Box<Report>),
}

/// What a question was answered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// It is done.
    Done,
    /// The apps are laid out: what goes with each to stage2-init, in the order of the question.
    Added(Vec<AppFds>),
    /// What is used, if anybody counts it.
    Usage(Box<Option<Usage>>),
    /// The processes, numbered as the guest does.
    Processes(Box<Listing>),
}

/// What a guest that has booted is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    /// [`crate::version::GUEST`] of the guest.
    pub version: u32,
    /// The release of its kernel (`uname(2)`).
    pub kernel: String,
    /// Microseconds since its kernel began to count.
    pub uptime_us: u64,
}

/// What a guest is told of the pod it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configure {
    /// [`crate::version::GUEST`] of the host.
    pub version: u32,
    /// The time.
    pub now: Timestamp,
    /// Sixty-four bytes nobody knows, in hexadecimal digits.
    pub entropy: String,
    /// What to run, as the guest is to see it: no ids, no unit, no sockets; a volume of the host is
    /// a path beneath [`SHARES`]. Its apps are left out: they were told before.
    pub order: Box<Order>,
    /// Where the layers of its apps lie on the disk of images, by the names the order has for them.
    pub layers: BTreeMap<String, Extent>,
    /// What is shared with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shares: Vec<Share>,
    /// What writable layers and volumes of the pod's own are kept on.
    pub scratch: Scratch,
    /// Its network interfaces beside the loopback.
    #[serde(default, skip_serializing_if = "is_default")]
    pub links: Vec<Link>,
}

/// Where a guest mounts what is shared with it, each share in a directory of its volume's name. The
/// share of a single file has that file in it, called [`SHARED_FILE`].
pub const SHARES: &str = "/shares";
/// See [`SHARES`].
pub const SHARED_FILE: &str = "file";

/// A row of bytes on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Where it begins, in bytes; a multiple of 4096.
    pub offset: u64,
    /// How many bytes; a multiple of 4096.
    pub length: u64,
}

/// A directory of the host, or a file of it, that a guest sees through virtio-fs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    /// The volume it is.
    pub volume: VolumeName,
    /// The tag of its device.
    pub tag: String,
    /// Whether nothing of it can be written. The host sees to that; the guest only says so.
    pub read_only: bool,
}

/// What a guest keeps writable layers and volumes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scratch {
    /// Its memory.
    Memory,
    /// Its second disk, which holds an ext4 file system.
    Disk,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Link {
    /// What it is to be called.
    pub name: String,
    /// Its hardware address, by which it is known.
    pub mac: [u8; 6],
    /// The longest packet it takes, in bytes.
    pub mtu: u16,
    /// Its addresses, in the form `ADDRESS/LENGTH`; they bring no routes along.
    pub addresses: Vec<String>,
    /// Where it leads, those that lead to routers before those that lead through them.
    pub routes: Vec<Route>,
}

/// The most interfaces of a guest beside the loopback.
pub const MAX_LINKS: usize = 8;

/// A way through an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// The addresses it leads to, in the form `ADDRESS/LENGTH`.
    pub to: String,
    /// The router to all of them; none if they are at the link itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub via: Option<IpAddr>,
}

/// Part of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// Whose.
    pub name: CredentialName,
    /// The bytes, in hexadecimal digits, at most [`MAX_SECRET_PART`].
    pub part: String,
}

/// The most digits of [`Secret::part`].
pub const MAX_SECRET_PART: usize = 512 << 10;

/// The streams of an app, which the guest is to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AppStreams {
    /// Pipes.
    Pipes {
        /// Where its standard input comes from; none if it is empty.
        input: Option<Token>,
        /// Where its standard output goes.
        stdout: Token,
        /// Where its standard error goes.
        stderr: Token,
    },
    /// A terminal, which the app keeps across restarts.
    Terminal(TerminalStreams),
}

/// The streams of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TerminalStreams {
    /// What is typed and shown.
    pub data: Token,
    /// [`TerminalWord`]s, as [frames](crate::frame).
    pub control: Token,
    /// Its size as it is made.
    pub size: WindowSize,
}

/// What a terminal behind a wall is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TerminalWord {
    /// It has another size.
    Size(WindowSize),
    /// It is to be as it was when it was made: its app starts anew.
    Fresh,
}

/// An app that comes to a living pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addition {
    /// The app.
    pub app: AppOrder,
    /// Where its layers lie on the disk of images.
    pub layers: BTreeMap<String, Extent>,
    /// Its streams.
    pub streams: AppStreams,
}

/// A frame for stage2-init, on its way through the wall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Carried {
    /// The frame.
    pub message: ToInit,
    /// What goes along with it, if it starts a process in an app.
    #[serde(default, skip_serializing_if = "is_default")]
    pub streams: Option<ExecStreams>,
}

/// The streams of a process in an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExecStreams {
    /// Standard input, output and error.
    Pipes([Token; 3]),
    /// A terminal.
    Terminal(TerminalStreams),
}

/// Takes a report of a guest for what it is, the word of a stranger: tamed, under a code only if it
/// is one of what goes on inside, and with its hints as causes, for only what we say is to be typed
/// at a root's prompt.
#[must_use]
pub fn believed(report: Report) -> Report {
    let mut report = report.tamed();
    if !INSIDE.iter().any(|word| is_of(&report.code, word)) {
        GUEST_FAILED.clone_into(&mut report.code);
    }
    let hints = std::mem::take(&mut report.hints);
    let room = MAX_ENTRIES.saturating_sub(report.causes.len());
    report.causes.extend(hints.iter().take(room).map(|hint| format!("the guest suggests: {hint}")));
    report.tamed()
}

/// The code of what a guest says under a code that is not its to say.
const GUEST_FAILED: &str = "guest.failed";

/// What a guest may say: these codes, and all of those that are the beginning of one with its dot.
const INSIDE: &[&str] = &[
    "app.",
    "cgroup.",
    "credential.",
    "device.",
    "exec.",
    "image.layer",
    "limit.",
    "pause.",
    "pod.failed",
    "pod.full",
    "pod.init",
    "pod.init-died",
    "pod.limit",
    "pod.not-up",
    "pod.scratch",
    "pod.sysctl",
    "signal.",
    "stage1.not-given",
    "stage1.order",
    "volume.device",
    "volume.fill",
    "volume.not-found",
    "volume.owner",
    "volume.share",
];

fn is_of(code: &str, word: &str) -> bool {
    if word.ends_with('.') { code.starts_with(word) } else { code == word }
}

impl Token {
    /// Parses thirty-two hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut bytes = [0; 16];
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    /// Hides it: whoever reads a log must not be able to take a stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_says_nothing_in_our_name() {
        let said = |code: &str| believed(Report::new(code, "x\u{202e}y").hint("run `rm -rf /`"));
        for code in ["app.not-found", "exec.too-many", "pod.init-died", "volume.fill"] {
            let report = said(code);
            assert_eq!((report.code.as_str(), report.message.as_str()), (code, "x\u{fffd}y"));
            assert!(report.hints.is_empty());
            assert_eq!(report.causes, ["the guest suggests: run `rm -rf /`"]);
        }
        let ours = [
            "vm.killed",
            "volume.server-died",
            "image.not-found",
            "image.layers",
            "pod.init-dies",
            "",
        ];
        for code in ours {
            assert_eq!(said(code).code, GUEST_FAILED, "{code}");
        }
        let mut much = Report::new("app.x", "x");
        much.causes = vec!["y".repeat(9000); 99];
        let much = believed(much.hint("z"));
        assert!(much.causes.len() <= MAX_ENTRIES && much.causes[0].len() < 9000);
    }

    #[test]
    fn a_token_is_its_digits_and_nothing_else() {
        let token = Token([0xab; 16]);
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        for wrong in ["", "ab", &"ab".repeat(17), &"gg".repeat(16), &"+b".repeat(16)] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{token:?}").contains("ab"));
    }
}
