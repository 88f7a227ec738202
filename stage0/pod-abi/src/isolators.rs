//! Limits and privileges of an app, as asked for: capabilities, resource limits, seccomp.
//!
//! Words are the kernel's and the OCI runtime-spec's; numbers stand here once.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fields::is_default;
use crate::path::PodPath;

macro_rules! capabilities {
    ($($variant:ident = $number:literal, $word:literal;)*) => {
        /// A capability (`capabilities(7)`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the kernel's own names; capabilities(7) explains each")]
        pub enum Capability {
            $(#[serde(rename = $word)] $variant = $number,)*
        }

        impl Capability {
            /// Every capability this program knows, in the kernel's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name, `CAP_` included.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

capabilities! {
    Chown = 0, "CAP_CHOWN";
    DacOverride = 1, "CAP_DAC_OVERRIDE";
    DacReadSearch = 2, "CAP_DAC_READ_SEARCH";
    Fowner = 3, "CAP_FOWNER";
    Fsetid = 4, "CAP_FSETID";
    Kill = 5, "CAP_KILL";
    Setgid = 6, "CAP_SETGID";
    Setuid = 7, "CAP_SETUID";
    Setpcap = 8, "CAP_SETPCAP";
    LinuxImmutable = 9, "CAP_LINUX_IMMUTABLE";
    NetBindService = 10, "CAP_NET_BIND_SERVICE";
    NetBroadcast = 11, "CAP_NET_BROADCAST";
    NetAdmin = 12, "CAP_NET_ADMIN";
    NetRaw = 13, "CAP_NET_RAW";
    IpcLock = 14, "CAP_IPC_LOCK";
    IpcOwner = 15, "CAP_IPC_OWNER";
    SysModule = 16, "CAP_SYS_MODULE";
    SysRawio = 17, "CAP_SYS_RAWIO";
    SysChroot = 18, "CAP_SYS_CHROOT";
    SysPtrace = 19, "CAP_SYS_PTRACE";
    SysPacct = 20, "CAP_SYS_PACCT";
    SysAdmin = 21, "CAP_SYS_ADMIN";
    SysBoot = 22, "CAP_SYS_BOOT";
    SysNice = 23, "CAP_SYS_NICE";
    SysResource = 24, "CAP_SYS_RESOURCE";
    SysTime = 25, "CAP_SYS_TIME";
    SysTtyConfig = 26, "CAP_SYS_TTY_CONFIG";
    Mknod = 27, "CAP_MKNOD";
    Lease = 28, "CAP_LEASE";
    AuditWrite = 29, "CAP_AUDIT_WRITE";
    AuditControl = 30, "CAP_AUDIT_CONTROL";
    Setfcap = 31, "CAP_SETFCAP";
    MacOverride = 32, "CAP_MAC_OVERRIDE";
    MacAdmin = 33, "CAP_MAC_ADMIN";
    Syslog = 34, "CAP_SYSLOG";
    WakeAlarm = 35, "CAP_WAKE_ALARM";
    BlockSuspend = 36, "CAP_BLOCK_SUSPEND";
    AuditRead = 37, "CAP_AUDIT_READ";
    Perfmon = 38, "CAP_PERFMON";
    Bpf = 39, "CAP_BPF";
    CheckpointRestore = 40, "CAP_CHECKPOINT_RESTORE";
}

impl Capability {
    /// Returns the bit of this capability in the kernel's sets.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an app may hold if nothing else was asked for: what docker grants, less `CAP_MKNOD`,
/// `CAP_AUDIT_WRITE` and `CAP_NET_RAW`, which services do without.
pub const DEFAULT_CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Setfcap,
];

/// A set of capabilities.
///
/// One set is all an app has: its bounding set. A process of root holds it as permitted and
/// effective, any other user holds nothing until it executes something that grants it; the
/// inheritable set is always empty (CVE-2022-24769 and its kin).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub BTreeSet<Capability>);

impl Capabilities {
    /// Returns [`DEFAULT_CAPABILITIES`].
    #[must_use]
    pub fn default_set() -> Self {
        Self(DEFAULT_CAPABILITIES.into_iter().collect())
    }

    /// Returns the set as the kernel's bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.0.iter().fold(0, |bits, capability| bits | capability.bit())
    }
}

/// Which system calls an app may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The profile compiled into stage2-init.
    #[default]
    Default,
    /// All of them.
    Unconfined,
    /// Those this profile allows. Since version 2.
    Profile(Box<SeccompProfile>),
}

/// A kind of resource limit (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's own names; getrlimit(2) explains each")]
pub enum RlimitKind {
    #[serde(rename = "RLIMIT_AS")]
    As,
    #[serde(rename = "RLIMIT_CORE")]
    Core,
    #[serde(rename = "RLIMIT_CPU")]
    Cpu,
    #[serde(rename = "RLIMIT_DATA")]
    Data,
    #[serde(rename = "RLIMIT_FSIZE")]
    Fsize,
    #[serde(rename = "RLIMIT_LOCKS")]
    Locks,
    #[serde(rename = "RLIMIT_MEMLOCK")]
    Memlock,
    #[serde(rename = "RLIMIT_MSGQUEUE")]
    Msgqueue,
    #[serde(rename = "RLIMIT_NICE")]
    Nice,
    #[serde(rename = "RLIMIT_NOFILE")]
    Nofile,
    #[serde(rename = "RLIMIT_NPROC")]
    Nproc,
    #[serde(rename = "RLIMIT_RSS")]
    Rss,
    #[serde(rename = "RLIMIT_RTPRIO")]
    Rtprio,
    #[serde(rename = "RLIMIT_RTTIME")]
    Rttime,
    #[serde(rename = "RLIMIT_SIGPENDING")]
    Sigpending,
    #[serde(rename = "RLIMIT_STACK")]
    Stack,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// What is limited.
    #[serde(rename = "type")]
    pub kind: RlimitKind,
    /// The limit in force.
    pub soft: u64,
    /// The limit the process may raise it to.
    pub hard: u64,
}

/// No limit, where a limit is a number: what takes one away again. The kernel's word is `max`.
///
/// [`Resources::memory`], [`Resources::memory_high`], [`Resources::swap`], [`Resources::pids`],
/// [`CpuQuota::quota_us`] and the rates of [`IoLimit`] take it.
pub const UNLIMITED: u64 = u64::MAX;

/// The most an app may use, enforced by its cgroup; what cannot be enforced stops the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Bytes of memory (`memory.max`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: Option<u64>,
    /// Time on processors (`cpu.max`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu: Option<CpuQuota>,
    /// Processes and threads (`pids.max`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pids: Option<u64>,
    /// Bytes of memory above which it is slowed down and made to give back (`memory.high`). Since
    /// version 3, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_high: Option<u64>,
    /// Bytes of memory it keeps while others have more than theirs (`memory.low`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_low: Option<u64>,
    /// Bytes of swap beside its memory (`memory.swap.max`); with [`Resources::memory`] none unless
    /// given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub swap: Option<u64>,
    /// Its share of processors where there are too few, 1 to 10 000; 100 is everybody's
    /// (`cpu.weight`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_weight: Option<u32>,
    /// The processors it may run on, such as `0-3,5` (`cpuset.cpus`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use (`cpuset.mems`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpuset_mems: Option<String>,
    /// Its share of block devices, 1 to 10 000; 100 is everybody's (`io.weight`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub io_weight: Option<u32>,
    /// The most it may read and write, at most one entry for each device.
    #[serde(default, skip_serializing_if = "is_default")]
    pub io: Vec<IoLimit>,
}

impl Resources {
    /// Tells whether each limit is one the kernel takes.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let cpu = self.cpu.is_none_or(|cpu| {
            cpu.quota_us >= 1_000 && (1_000..=1_000_000).contains(&cpu.period_us)
        });
        let weight = |weight: Option<u32>| weight.is_none_or(|it| (1..=10_000).contains(&it));
        let list = |list: &Option<String>| list.as_deref().is_none_or(is_list);
        cpu && self.memory != Some(0)
            && self.memory_high != Some(0)
            && self.pids != Some(0)
            && weight(self.cpu_weight)
            && weight(self.io_weight)
            && list(&self.cpuset_cpus)
            && list(&self.cpuset_mems)
            && self.io.iter().all(|io| !io.is_empty())
            && self.contradiction().is_none()
    }

    /// Tells whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Names two limits of which one makes the other impossible, the smaller first.
    #[must_use]
    pub fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let (max, high, low) = (self.memory, self.memory_high, self.memory_low);
        let above =
            |one: Option<u64>, other: Option<u64>| one.zip(other).is_some_and(|(a, b)| a > b);
        if above(low, max) {
            Some(("memory", "memoryLow"))
        } else if above(low, high) {
            Some(("memoryHigh", "memoryLow"))
        } else if above(high.filter(|high| *high != UNLIMITED), max) {
            Some(("memory", "memoryHigh"))
        } else {
            None
        }
    }

    /// Returns the bytes of swap it may use: with a limit of memory none unless given.
    #[must_use]
    pub fn swap_in_force(&self) -> Option<u64> {
        self.swap.or(match self.memory {
            None => None,
            Some(UNLIMITED) => Some(UNLIMITED),
            Some(_) => Some(0),
        })
    }

    /// Returns these changes of limits `in_force` with swap said wherever they change what it is.
    #[must_use]
    pub fn with_swap_said(self, in_force: &Self) -> Self {
        let then = in_force.clone().overridden_by(&self);
        let swap = if self.memory.is_some() { then.swap_in_force() } else { self.swap };
        Self { swap, ..self }
    }

    /// Returns the changes that take back `changes` of these limits, as far as no limit is one: the
    /// processors and memory nodes that were not limited cannot be named.
    #[must_use]
    pub fn undoing(&self, changes: &Self) -> Self {
        fn back<T>(before: Option<T>, changed: bool, none: T) -> Option<T> {
            changed.then(|| before.unwrap_or(none))
        }
        let unlimited = |before, change: Option<u64>| back(before, change.is_some(), UNLIMITED);
        let io = changes.io.iter().map(|change| {
            let before = self.io.iter().find(|io| io.device == change.device);
            let rate =
                |rate: fn(&IoLimit) -> Option<u64>| unlimited(before.and_then(rate), rate(change));
            IoLimit {
                device: change.device,
                read_bytes: rate(|io| io.read_bytes),
                write_bytes: rate(|io| io.write_bytes),
                reads: rate(|io| io.reads),
                writes: rate(|io| io.writes),
            }
        });
        let period_us = 100_000;
        Self {
            memory: unlimited(self.memory, changes.memory),
            cpu: back(self.cpu, changes.cpu.is_some(), CpuQuota { quota_us: UNLIMITED, period_us }),
            pids: unlimited(self.pids, changes.pids),
            memory_high: unlimited(self.memory_high, changes.memory_high),
            memory_low: back(self.memory_low, changes.memory_low.is_some(), 0),
            swap: unlimited(self.swap_in_force(), changes.swap),
            cpu_weight: back(self.cpu_weight, changes.cpu_weight.is_some(), 100),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|_| changes.cpuset_cpus.is_some()),
            cpuset_mems: self.cpuset_mems.clone().filter(|_| changes.cpuset_mems.is_some()),
            io_weight: back(self.io_weight, changes.io_weight.is_some(), 100),
            io: io.collect(),
        }
    }

    /// Returns the same limits without those that limit nothing ([`UNLIMITED`]), as they are written
    /// down; and without swap where it is said that there is none, as if it were unsaid.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let limit = |limit: Option<u64>| limit.filter(|limit| *limit != UNLIMITED);
        self.memory = limit(self.memory);
        self.memory_high = limit(self.memory_high);
        self.memory_low = self.memory_low.filter(|low| *low != 0);
        self.pids = limit(self.pids);
        self.cpu = self.cpu.filter(|cpu| cpu.quota_us != UNLIMITED);
        self.swap = match self.memory {
            None => limit(self.swap),
            // As unsaid.
            Some(_) => self.swap.filter(|swap| *swap != 0),
        };
        for io in &mut self.io {
            for rate in [&mut io.read_bytes, &mut io.write_bytes, &mut io.reads, &mut io.writes] {
                *rate = limit(*rate);
            }
        }
        self.io.retain(|io| !io.is_empty());
        self
    }

    /// Takes over every limit that `later` names.
    #[must_use]
    pub fn overridden_by(self, later: &Self) -> Self {
        let mut io = self.io;
        for limit in &later.io {
            match io.iter_mut().find(|known| known.device == limit.device) {
                Some(known) => *known = known.overridden_by(*limit),
                None => io.push(*limit),
            }
        }
        Self {
            memory: later.memory.or(self.memory),
            cpu: later.cpu.or(self.cpu),
            pids: later.pids.or(self.pids),
            memory_high: later.memory_high.or(self.memory_high),
            memory_low: later.memory_low.or(self.memory_low),
            swap: later.swap.or(self.swap),
            cpu_weight: later.cpu_weight.or(self.cpu_weight),
            cpuset_cpus: later.cpuset_cpus.clone().or(self.cpuset_cpus),
            cpuset_mems: later.cpuset_mems.clone().or(self.cpuset_mems),
            io_weight: later.io_weight.or(self.io_weight),
            io,
        }
    }
}

/// Tells whether `text` is a list such as `0-3,5` (`cpuset(7)`, "List format").
fn is_list(text: &str) -> bool {
    let number = |word: &str| word.parse::<u16>().ok().filter(|_| !word.starts_with('+'));
    text.len() <= 256
        && text.split(',').all(|range| match range.split_once('-') {
            None => number(range).is_some(),
            Some((first, last)) => match (number(first), number(last)) {
                (Some(first), Some(last)) => first <= last,
                _ => false,
            },
        })
}

/// The most that may be read from and written to one block device, a second (`io.max`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoLimit {
    /// Which device.
    pub device: BlockDevice,
    /// Bytes read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_bytes: Option<u64>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub write_bytes: Option<u64>,
    /// Reads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reads: Option<u64>,
    /// Writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub writes: Option<u64>,
}

impl IoLimit {
    /// Returns a limit of `device` that limits nothing yet.
    #[must_use]
    pub const fn of(device: BlockDevice) -> Self {
        Self { device, read_bytes: None, write_bytes: None, reads: None, writes: None }
    }

    fn is_empty(&self) -> bool {
        let limits = [self.read_bytes, self.write_bytes, self.reads, self.writes];
        limits.iter().all(Option::is_none) || limits.contains(&Some(0))
    }

    fn overridden_by(self, later: Self) -> Self {
        Self {
            device: later.device,
            read_bytes: later.read_bytes.or(self.read_bytes),
            write_bytes: later.write_bytes.or(self.write_bytes),
            reads: later.reads.or(self.reads),
            writes: later.writes.or(self.writes),
        }
    }
}

/// A block device of the host, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDevice {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

/// A share of the time of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuQuota {
    /// Microseconds it may run in each period, on all processors together.
    pub quota_us: u64,
    /// The period, 1 000 to 1 000 000 microseconds.
    pub period_us: u64,
}

/// A device of the host an app may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its node on the host, an absolute path.
    pub source: String,
    /// Where the app finds it.
    pub destination: PodPath,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAccess {
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// A node of it may be made.
    pub make: bool,
}

/// A seccomp profile in the OCI runtime-spec's vocabulary, with everything resolved that depends
/// on the host: no conditions are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompProfile {
    /// What becomes of calls no rule names.
    pub default_action: SeccompAction,
    /// The rules; the first that matches a call decides.
    #[serde(default)]
    pub syscalls: Vec<SeccompRule>,
}

/// What one rule of a profile says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompRule {
    /// The system calls, by name; names this architecture does not have are passed over.
    pub names: Vec<String>,
    /// What becomes of them.
    pub action: SeccompAction,
    /// What must hold of the arguments, all of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub args: Vec<SeccompArg>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SeccompAction {
    /// It is carried out.
    Allow,
    /// It is carried out and logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// The process is killed.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// SIGSYS is raised.
    Trap,
}

/// What must hold of one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// What it is compared with; the mask, for [`SeccompOp::MaskedEqual`].
    pub value: u64,
    /// What the masked argument must be; unused otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub value_two: u64,
    /// How.
    pub op: SeccompOp,
}

/// How an argument is compared, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words of the runtime-spec; each says what it means")]
pub enum SeccompOp {
    NotEqual,
    LessThan,
    LessEqual,
    Equal,
    GreaterEqual,
    GreaterThan,
    MaskedEqual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        assert_eq!(Capability::ALL.len(), 41);
        for (number, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(capability.bit(), 1 << number, "{capability}");
        }
        assert_eq!(Capability::SysAdmin as u32, 21);
    }

    #[test]
    fn the_default_set_holds_none_of_the_three_left_out() {
        let set = Capabilities::default_set();
        for out in
            [Capability::Mknod, Capability::AuditWrite, Capability::NetRaw, Capability::SysAdmin]
        {
            assert_eq!(set.bits() & out.bit(), 0, "{out}");
        }
    }

    #[test]
    fn limits_that_exclude_each_other_are_no_sound_set() {
        let memory = |max: u64, high: u64, low: u64| {
            let some = |bytes: u64| (bytes > 0).then_some(bytes);
            let (memory, memory_high, memory_low) = (some(max), some(high), some(low));
            Resources { memory, memory_high, memory_low, ..Resources::default() }
        };
        for (max, high, low, pair) in [
            (0, 0, 0, None),
            (2, 2, 2, None),
            (2, UNLIMITED, 0, None),
            (1, 0, 2, Some(("memory", "memoryLow"))),
            (0, 1, 2, Some(("memoryHigh", "memoryLow"))),
            (1, 2, 0, Some(("memory", "memoryHigh"))),
        ] {
            let limits = memory(max, high, low);
            assert_eq!(limits.contradiction(), pair, "{max} {high} {low}");
            assert_eq!(limits.is_sound(), pair.is_none(), "{max} {high} {low}");
        }
    }

    #[test]
    fn what_limits_nothing_is_not_written_down() {
        let device = BlockDevice { major: 8, minor: 0 };
        let io = |read_bytes, writes| vec![IoLimit { read_bytes, writes, ..IoLimit::of(device) }];
        let limits = Resources {
            memory: Some(UNLIMITED),
            memory_low: Some(0),
            swap: Some(UNLIMITED),
            pids: Some(UNLIMITED),
            cpu: Some(CpuQuota { quota_us: UNLIMITED, period_us: 100_000 }),
            cpu_weight: Some(100),
            io: io(Some(UNLIMITED), Some(7)),
            ..Resources::default()
        };
        assert_eq!(limits.swap_in_force(), Some(UNLIMITED));
        let kept =
            Resources { cpu_weight: Some(100), io: io(None, Some(7)), ..Resources::default() };
        assert_eq!(limits.settled(), kept);
        let kept = Resources { memory: Some(1), swap: Some(UNLIMITED), ..Resources::default() };
        assert_eq!(kept.clone().settled(), kept);
        let limited = Resources { memory: Some(1), ..Resources::default() };
        assert_eq!(limited.swap_in_force(), Some(0));
        assert_eq!(Resources { swap: Some(0), ..limited.clone() }.settled(), limited);
        assert_eq!(Resources::default().swap_in_force(), None);
        let nothing = Resources { io: io(Some(UNLIMITED), None), ..Resources::default() };
        assert_eq!(nothing.settled(), Resources::default());
    }

    #[test]
    fn a_change_says_what_becomes_of_swap_and_can_be_taken_back() {
        let of = |memory, swap| Resources { memory, swap, ..Resources::default() };
        for (in_force, change, said) in [
            (of(None, None), of(Some(5), None), Some(0)),
            (of(Some(4), Some(3)), of(Some(5), None), Some(3)),
            (of(Some(4), Some(3)), of(Some(5), Some(9)), Some(9)),
            (of(Some(4), None), of(Some(UNLIMITED), None), Some(UNLIMITED)),
            (of(Some(4), None), of(None, None), None),
        ] {
            assert_eq!(change.clone().with_swap_said(&in_force).swap, said, "{change:?}");
        }
        let device = BlockDevice { major: 8, minor: 0 };
        let before = Resources { memory: Some(4), cpu_weight: Some(7), ..Resources::default() };
        let change = Resources {
            memory: Some(5),
            swap: Some(1),
            pids: Some(9),
            io_weight: Some(5),
            io: vec![IoLimit { reads: Some(5), ..IoLimit::of(device) }],
            ..Resources::default()
        };
        let undone = Resources {
            memory: Some(4),
            swap: Some(0),
            pids: Some(UNLIMITED),
            io_weight: Some(100),
            io: vec![IoLimit { reads: Some(UNLIMITED), ..IoLimit::of(device) }],
            ..Resources::default()
        };
        assert_eq!(before.undoing(&change), undone);
        let after = before.clone().overridden_by(&change).overridden_by(&undone).settled();
        let expected = Resources { io_weight: Some(100), ..before };
        assert_eq!(after, expected);
    }
}
