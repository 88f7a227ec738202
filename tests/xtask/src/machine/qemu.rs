//! A computer of its own in QEMU: systemd, a stock kernel, all controllers of cgroup v2, and a
//! processor that can have guests. Slow, unless KVM really works here.
//!
//! Debian's cloud kernel has NVMe and ext4 built in, so it boots from the disk as it is, without an
//! initramfs. Commands go in and out over a virtio-serial port, whose other end in here are QEMU's
//! standard streams: there is no socket to find or to leave behind. The machine has no network. A
//! reboot ends QEMU and starts another on the same disk: to reset one makes it several times slower
//! afterwards. QEMU ends with us in any case, and then all of the machine is gone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;

use harness::guest;

use crate::error::Error;
use crate::machine::tier::{Machine, Reboot, Streams};
use crate::packages;
use crate::say;

use accelerator::Accelerator;
use disk::Disk;
use line::{End, Line};
use monitor::Monitor;

mod accelerator;
mod disk;
mod line;
mod monitor;

/// How long a boot may take on a host with other things to do, and how long a way down.
const BOOT: Duration = Duration::from_secs(240);
const DOWN: Duration = Duration::from_secs(120);
/// How long a question of ours about a machine that has booted may take.
const QUESTION: Duration = Duration::from_secs(60);
/// Enough for a few pods and a guest of its own, in MiB.
const MEMORY: &str = "3072";
const PROCESSORS: &str = "2";
/// Without `quiet`, a fifth of the boot is writing to a serial port. A panic is a reboot, and a
/// reboot that nobody asked for is noticed. QEMU's processors count by one clock, which a kernel
/// does not believe: it would take the time from a device instead, and a guest of its own would
/// have a clock that stands still now and then.
const KERNEL: &str = "root=/dev/nvme0n1 rw console=ttyS0 quiet systemd.show_status=error \
    panic=-1 nokaslr mitigations=off nowatchdog audit=0 systemd.unified_cgroup_hierarchy=1 \
    tsc=reliable";

/// A command as a person who has just logged in would run it: in a scope, not in our agent's
/// service. What is seen of systemd's own doing is taken out of the environment again.
const IN_A_SCOPE: [&str; 9] = [
    "systemd-run",
    "--quiet",
    "--scope",
    "--collect",
    "--slice=user.slice",
    "--",
    "env",
    "--unset=INVOCATION_ID",
    "--",
];

/// A machine that has booted.
#[derive(Debug)]
pub(crate) struct Qemu {
    qemu: Child,
    line: Line,
    monitor: Monitor,
    /// A file without a name: everything the kernel, systemd and QEMU itself have said.
    console: File,
    console_path: PathBuf,
    /// What says which boot it is.
    boot: String,
    kernel: PathBuf,
    disk: Disk,
    /// It hangs, or has ended by itself.
    lost: bool,
}

impl Qemu {
    /// Boots a machine of `root` with the tree `payload` laid over it.
    pub(crate) fn boot(root: &Path, payload: &Path) -> Result<Self, Error> {
        packages::need(packages::QEMU)?;
        let disk = Disk::of(root, payload)?;
        let kernel = kernel(root)?;
        let console = tempfile::tempfile().map_err(|error| not_started(&error))?;
        let console_path =
            PathBuf::from(format!("/proc/{}/fd/{}", process::id(), console.as_raw_fd()));
        let monitor = Monitor::new().map_err(|error| not_started(&error))?;
        let (qemu, line) = start(&kernel, &disk, &console, &monitor)?;
        let boot = String::new();
        let lost = false;
        let mut machine =
            Self { qemu, line, monitor, console, console_path, boot, kernel, disk, lost };
        machine.come_up()?;
        Ok(machine)
    }

    /// Waits until it has booted, and that it has booted well.
    fn come_up(&mut self) -> Result<(), Error> {
        let heard = self.line.await_greeting(BOOT);
        if !heard.map_err(|error| self.lost(&error))? {
            return Err(self.lost(&format!("it has not booted in {} s", BOOT.as_secs())));
        }
        let state = self.ask(&["systemctl", "is-system-running", "--wait"], BOOT)?;
        if state != "running" {
            let failed =
                self.ask(&["systemctl", "--no-legend", "--plain", "--failed"], QUESTION)?;
            return Err(Error::new(format!("the machine has booted `{state}`: {failed}")));
        }
        let boot = self.ask(&["cat", "/proc/sys/kernel/random/boot_id"], QUESTION)?;
        if boot == self.boot {
            return Err(Error::new("the machine has not rebooted"));
        }
        self.boot = boot;
        Ok(())
    }

    /// Runs one of our own commands and returns what it printed.
    fn ask(&mut self, words: &[&str], limit: Duration) -> Result<String, Error> {
        let failed = |error: io::Error| Error::of("cannot ask the machine", &error);
        let said = tempfile::tempfile().map_err(failed)?;
        let streams = Streams::Into {
            output: said.try_clone().map_err(failed)?.into(),
            errors: self.console.try_clone().map_err(failed)?.into(),
        };
        self.run_as_is(
            words.iter().map(|word| (*word).to_owned()).collect(),
            streams,
            Some(limit),
        )?;
        let path = format!("/proc/self/fd/{}", said.as_raw_fd());
        let text = fs::read_to_string(path).map_err(failed)?;
        Ok(text.trim_end().to_owned())
    }

    fn run_as_is(
        &mut self,
        words: Vec<String>,
        streams: Streams,
        limit: Option<Duration>,
    ) -> Result<u8, Error> {
        let line = words.join(" ");
        let shake = || shake(&self.monitor, &self.console_path);
        let ended = self.line.run(words, streams, limit, &shake);
        match ended.map_err(|error| self.lost(&error))? {
            End::Code(code) => Ok(code),
            End::Refused(why) => Err(Error::new(why)),
            End::TooLong => Err(Error::new(format!("`{line}` took longer than its limit"))),
            End::Silent => Err(self.lost(&format!("`{line}` hangs, and so does the machine"))),
            End::Gone => Err(self.lost(&"it has ended")),
        }
    }

    /// What to say when there is no machine to talk to any more.
    fn lost(&mut self, why: &dyn std::fmt::Display) -> Error {
        self.lost = true;
        let bytes = fs::read(&self.console_path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        Error::of("the machine is lost", &format!("{why}; its console ends with\n{last}"))
    }
}

impl Qemu {
    /// Boots from the same disk when QEMU has ended.
    fn start_again(&mut self) -> Result<(), Error> {
        self.qemu.wait().map_err(|error| not_started(&error))?;
        let (kernel, disk) = (&self.kernel, &self.disk);
        (self.qemu, self.line) = start(kernel, disk, &self.console, &self.monitor)?;
        self.lost = false;
        self.come_up()
    }
}

/// Writes down what a machine does that does not answer, and shakes it.
fn shake(monitor: &Monitor, console: &Path) {
    let state = monitor.state().unwrap_or_else(|error| format!("QEMU does not answer: {error}"));
    let shaken = monitor.shake().map_or_else(|error| error.to_string(), |()| String::new());
    // What is written here is for people; nothing stands or falls with it.
    let _ = File::options()
        .append(true)
        .open(console)
        .and_then(|mut console| writeln!(console, "the machine does not answer\n{state}{shaken}"));
    say::note("the machine does not answer, and was given an interrupt");
}

impl Machine for Qemu {
    fn run(
        &mut self,
        words: &[&str],
        streams: Streams,
        limit: Option<Duration>,
    ) -> Result<u8, Error> {
        let words = IN_A_SCOPE.iter().chain(words).map(|word| (*word).to_owned()).collect();
        self.run_as_is(words, streams, limit)
    }

    fn reboot(&mut self, how: Reboot) -> Result<(), Error> {
        let words = how.command().iter().map(|word| (*word).to_owned()).collect();
        self.line.order(words).map_err(|error| self.lost(&error))?;
        if !self.line.await_end(DOWN).map_err(|error| self.lost(&error))? {
            return Err(self.lost(&format!("it has not gone down in {} s", DOWN.as_secs())));
        }
        self.start_again()
    }

    fn is_lost(&self) -> bool {
        self.lost
    }

    fn is_emulated(&self) -> bool {
        Accelerator::find() == Accelerator::Translation
    }

    fn revive(&mut self) -> Result<(), Error> {
        // It may have ended meanwhile.
        let _ = self.qemu.kill();
        self.start_again()
    }

    fn console(&self) -> &Path {
        &self.console_path
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has nothing to write down that somebody would read.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Returns the kernel in the root, whose modules are beside it.
fn kernel(root: &Path) -> Result<PathBuf, Error> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).into_iter().flatten().flatten();
    let mut kernels = entries.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-"))
    });
    kernels.next().ok_or_else(|| Error::new(format!("there is no kernel in `{}`", boot.display())))
}

fn not_started(error: &io::Error) -> Error {
    Error::of("cannot start QEMU", error)
}

fn start(
    kernel: &Path,
    disk: &Disk,
    console: &File,
    monitor: &Monitor,
) -> Result<(Child, Line), Error> {
    let (line, theirs) = Line::new().map_err(|error| not_started(&error))?;
    let mut command = command(kernel, &disk.path());
    command.args(monitor.arguments());
    command.stdin(Stdio::from(OwnedFd::from(
        theirs.try_clone().map_err(|error| not_started(&error))?,
    )));
    command.stdout(Stdio::from(OwnedFd::from(theirs)));
    command.stderr(console.try_clone().map_err(|error| not_started(&error))?);
    Ok((command.spawn().map_err(|error| not_started(&error))?, line))
}

fn command(kernel: &Path, disk: &Path) -> Command {
    // QEMU ends with us, however we end.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    command.args(Accelerator::find().arguments());
    command.args(["-M", "q35", "-smp", PROCESSORS, "-m", MEMORY, "-nodefaults", "-no-reboot"]);
    command.args(["-display", "none"]);
    command.arg("-kernel").arg(kernel).args(["-append", KERNEL]);
    let mut drive = std::ffi::OsString::from("if=none,id=root,format=qcow2,cache=unsafe,file=");
    drive.push(disk);
    command.arg("-drive").arg(drive).args(["-device", "nvme,serial=root,drive=root"]);
    command.args(["-chardev", "file,id=console,append=on,path=/proc/self/fd/2"]);
    command.args(["-serial", "chardev:console"]);
    command.args(["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"]);
    command.arg("-device").arg(format!("virtserialport,chardev=agent,name={}", guest::PORT));
    command
}
