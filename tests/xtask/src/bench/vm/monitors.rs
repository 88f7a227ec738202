//! The monitors: how each is told to boot a guest, and what ours tells of itself.
//!
//! Ours is told by descriptors; `vmm/src/description.rs` has their numbers and the words of the
//! description, `vmm/src/helm.rs` those of the helm.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};
use serde_json::{Value, json};

/// The monitor of a pod.
const OURS: &str = "/usr/lib/pod/stage1/kvm/vmm";
/// QEMU.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Memory of a guest, in MiB.
const MEMORY: u64 = 256;
/// The command line of a pod's guest (`stage1-kvm/src/plan.rs`); the same for both.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=acpi tsc=nowatchdog \
    random.trust_cpu=on cryptomgr.notests pci=off no_timer_check 8250.nr_uarts=1";
/// How long a guest may take to boot and to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest packet of the helm.
const PACKET: usize = 128 << 10;
/// Becomes a monitor with its descriptors at their numbers: 3, 4, 5, 6, 7, 8, 9.
const PLACE: &str =
    "exec \"$0\" 3<\"$1\" 4<&\"$2\" 5<>/dev/kvm 6<\"$3\" 7<\"$4\" 8<&\"$5\" 9<&\"$6\"";

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// What the command line ends with.
    pub(super) arguments: &'a str,
}

/// A virtual machine monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Monitor {
    Ours,
    Qemu,
}

/// Proportional set sizes, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of the process.
    pub(super) whole: u64,
    /// Of the mapping that is the guest's memory.
    pub(super) guest: u64,
}

impl Monitor {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Qemu => "QEMU microvm",
        }
    }

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::Qemu => QEMU,
        }
    }

    /// Boots the guest and waits for the monitor's end, which comes when init has ended.
    pub(super) fn boot(self, guest: &Guest<'_>, place: &Path) -> io::Result<()> {
        let line = format!("{COMMAND_LINE} {}", guest.arguments);
        match self {
            Self::Ours => {
                let mut running = Ours::start(guest, &line)?;
                running.wait()
            }
            Self::Qemu => {
                let console = place.join("console");
                let mut command = Command::new("timeout");
                command.args(["--signal=KILL", &PATIENCE.as_secs().to_string(), QEMU]);
                command.args(["-M", "microvm,acpi=on,rtc=off,pit=off,pic=off", "-accel", "kvm"]);
                command.args(["-cpu", "host", "-smp", "1", "-m", &MEMORY.to_string()]);
                command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
                command.arg("-serial").arg(format!("file:{}", console.display()));
                command.arg("-kernel").arg(guest.kernel).arg("-initrd").arg(guest.initramfs);
                command.args(["-append", &line]).stdin(Stdio::null());
                let output = command.output()?;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
            }
        }
    }
}

/// Our monitor, with the other ends of what it was given.
#[derive(Debug)]
struct Ours {
    child: Child,
    helm: OwnedFd,
    _wall: OwnedFd,
    _inner: OwnedFd,
}

impl Ours {
    fn start(guest: &Guest<'_>, line: &str) -> io::Result<Self> {
        let description = tempfile::NamedTempFile::new()?;
        let text = json!({
            "memory": MEMORY << 20, "vcpus": 1, "commandLine": line, "images": [], "scratch": false,
            "nics": [], "shares": [],
        });
        fs::write(description.path(), text.to_string())?;
        let (helm, theirs) = pair(SockType::SeqPacket)?;
        let (wall, their_wall) = pair(SockType::Stream)?;
        let (inner, their_inner) = pair(SockType::Stream)?;
        let mut command = Command::new("bash");
        command.args(["-c", PLACE, OURS]).arg(description.path());
        let inherited = [inherit(&theirs)?, inherit(&their_wall)?, inherit(&their_inner)?];
        let [helm_number, wall_number, inner_number] =
            inherited.each_ref().map(|fd| fd.as_raw_fd().to_string());
        command.arg(helm_number).arg(guest.kernel).arg(guest.initramfs);
        command.args([wall_number, inner_number]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let ours = Self { child, helm, _wall: wall, _inner: inner };
        // The description is read before anything is counted.
        ours.count()?;
        Ok(ours)
    }

    /// Asks what was counted so far.
    fn count(&self) -> io::Result<Value> {
        let ask = [IoSlice::new(b"\"count\"")];
        sendmsg::<()>(self.helm.as_raw_fd(), &ask, &[], MsgFlags::MSG_NOSIGNAL, None)?;
        self.hear()
    }

    fn hear(&self) -> io::Result<Value> {
        use std::os::fd::AsFd as _;

        let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.helm.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut packet = vec![0; PACKET];
        let mut into = [IoSliceMut::new(&mut packet)];
        let heard = recvmsg::<()>(self.helm.as_raw_fd(), &mut into, None, MsgFlags::empty())?.bytes;
        Ok(serde_json::from_slice(packet.get(..heard).unwrap_or_default())?)
    }

    /// Waits for its end.
    fn wait(&mut self) -> io::Result<()> {
        let ended = self.hear()?;
        self.child.wait()?;
        match ended["ended"]["class"].as_str() {
            Some("reset" | "powered-off") => Ok(()),
            _ => Err(io::Error::other(ended.to_string())),
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the same at a number beyond those the monitor has, to be inherited.
fn inherit(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let high = rustix::io::fcntl_dupfd_cloexec(fd, 30)?;
    fcntl(&high, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(high)
}

fn pair(kind: SockType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Boots a pod's guest in ours until it has said its first word; returns what was counted then and
/// the memory of the monitor.
pub(super) fn up_to_hello(guest: &Guest<'_>) -> io::Result<(Value, Memory)> {
    let ours = Ours::start(guest, COMMAND_LINE)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let said = ours.count()?;
        let counted = &said["counted"];
        if counted["helloUs"].is_u64() {
            let smaps = fs::read_to_string(format!("/proc/{}/smaps", ours.child.id()))?;
            return Ok((counted.clone(), memory(&smaps)));
        }
        if !counted.is_object() || Instant::now() > end {
            return Err(io::Error::other(said.to_string()));
        }
        // Nothing tells when the guest has spoken but the count.
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Adds up the mappings of a process; that of the guest is the one that is not smaller than it.
fn memory(smaps: &str) -> Memory {
    let kib = |line: &str, field: &str| -> Option<u64> {
        line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok()
    };
    let mut memory = Memory::default();
    let mut size = 0;
    for line in smaps.lines() {
        if let Some(found) = kib(line, "Size:") {
            size = found;
        } else if let Some(found) = kib(line, "Pss:") {
            memory.whole += found;
            memory.guest += if size >= MEMORY << 10 { found } else { 0 };
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_guest_is_told_from_the_monitors() {
        let smaps = "Size:             264192 kB\nRss:  9 kB\nPss:                9000 kB\n\
                     Size:                 64 kB\nPss:                  20 kB\nPss_Dirty: 3 kB\n";
        assert_eq!(memory(smaps), Memory { whole: 9_020, guest: 9_000 });
    }
}
