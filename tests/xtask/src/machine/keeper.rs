//! The process that keeps a booted machine: it makes its disk in memory, boots it as often as it
//! reboots, and takes everything away when it is over.
//!
//! It is a process of its own so that nothing is left however `xtask` ends: its standard input is
//! a leash, and when that closes the machine is killed. The disk is a tmpfs in a mount namespace of
//! this process and goes with it. What it has to say are lines on standard output:
//!
//! ```text
//! up PID      systemd has booted; PID is its process id here
//! down        the machine was powered off, or died
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::cgroup::Cgroup;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::Signal;
use nix::unistd::ttyname;

use crate::error::Error;

/// How long the machine may take until systemd says that it has booted.
const BOOT: Duration = Duration::from_secs(120);
/// How often to look whether it died meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// Makes the world of process 1 and becomes systemd.
const SCRIPT: &str = include_str!("booted.sh");

/// Units that have no business in namespaces: the devices and the kernel are the host's.
const MASKED: &[&str] = &[
    "console-getty.service",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "sys-fs-fuse-connections.mount",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
];

/// What a machine is made of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// The root, never written to.
    pub(crate) root: &'a Path,
    /// A tree that is laid over it.
    pub(crate) payload: &'a Path,
    /// A directory of the machine's own, where its disk is mounted and its console recorded; the
    /// keeper removes it.
    pub(crate) place: &'a Path,
}

impl Parts<'_> {
    /// Names the file that holds what was said on the console.
    pub(crate) fn console(place: &Path) -> PathBuf {
        place.join("console")
    }
}

/// Keeps a machine until it is powered off or the leash is closed. We are in a mount namespace of
/// our own.
pub(crate) fn keep(parts: &Parts<'_>) -> Result<(), Error> {
    let kept = boot_again_and_again(parts);
    if !matches!(kept, Ok(Outcome::Lived | Outcome::LetGo)) {
        let console = fs::read(Parts::console(parts.place)).unwrap_or_default();
        // Nobody else could show it: it goes now.
        let _ = io::stderr().write_all(&console);
    }
    let disk = parts.place.join("disk");
    // Nobody else sees the disk any more, and who cannot remove the directory says so.
    let _ = Command::new("umount").arg("--lazy").arg(&disk).status();
    let removed = fs::remove_dir_all(parts.place);
    kept.and(removed).map_err(|error| Error::of("the booted machine cannot be kept", &error))
}

/// What became of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It booted, and has ended.
    Lived,
    /// It did not boot, or not again.
    NeverCameUp,
    /// Nobody wants it any more.
    LetGo,
}

fn boot_again_and_again(parts: &Parts<'_>) -> io::Result<Outcome> {
    let disk = make_disk(parts)?;
    let console = Console::to(&Parts::console(parts.place))?;
    let alive: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let let_go = hold_leash(&alive);
    let mut number = 0_u32;
    let outcome = loop {
        let cgroup = Cgroup::make(&format!("pod-machine-{}-{number}", std::process::id()))?;
        *alive.lock().unwrap_or_else(PoisonError::into_inner) = Some(cgroup.path().to_owned());
        number += 1;
        let (outcome, ended) = live(parts.root, &disk, &console, &cgroup)?;
        if let_go.load(Ordering::Relaxed) {
            break Outcome::LetGo;
        }
        // How process 1 of a process namespace ends tells what reboot(2) was asked for.
        if outcome == Outcome::NeverCameUp || ended.signal() != Some(Signal::SIGHUP as i32) {
            break outcome;
        }
    };
    // Nobody listens any more when it was the leash that ended it.
    let _ = say("down");
    Ok(outcome)
}

/// Kills what lives when standard input ends, which is when `xtask` has ended, however it did; the
/// flag is raised then.
fn hold_leash(alive: &Arc<Mutex<Option<PathBuf>>>) -> Arc<AtomicBool> {
    let alive = alive.clone();
    let let_go = Arc::new(AtomicBool::new(false));
    let told = let_go.clone();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let_go.store(true, Ordering::Relaxed);
        // A machine that is between two lives is killed in the next one.
        loop {
            if let Some(cgroup) = &*alive.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            }
            thread::sleep(LOOK);
        }
    });
    told
}

/// One life of the machine, from its boot to the end of its process 1.
fn live(
    root: &Path,
    disk: &Path,
    console: &Console,
    cgroup: &Cgroup,
) -> io::Result<(Outcome, ExitStatus)> {
    let host = disk.join("host");
    fs::write(host.join("boot_id"), fs::read("/proc/sys/kernel/random/uuid")?)?;
    let notify = host.join("notify");
    let _ = fs::remove_file(&notify);
    let ready = UnixDatagram::bind(&notify)?;
    ready.set_read_timeout(Some(LOOK))?;

    let mut init = Command::new("unshare")
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child=SIGKILL"])
        // Only process 1 is in the cgroup, so that who waits for it outlives it.
        .args(["sh", "-c", "echo 0 >\"$1/cgroup.procs\"; shift; exec unshare --cgroup \"$@\""])
        .args(["sh".as_ref(), cgroup.path()])
        .args(["sh", "-c", SCRIPT, "booted"])
        .args([root, disk, &console.path, &host])
        .stdin(Stdio::null())
        .stdout(console.log.try_clone()?)
        .stderr(console.log.try_clone()?)
        .spawn()?;
    let end = Instant::now() + BOOT;
    let mut message = [0; 4096];
    loop {
        let said = ready.recv(&mut message).map(|count| &message[..count]);
        if said.is_ok_and(|said| said.starts_with(b"READY=1") || contains(said, b"\nREADY=1")) {
            break;
        }
        if let Some(ended) = init.try_wait()? {
            return Ok((Outcome::NeverCameUp, ended));
        }
        if Instant::now() > end {
            init.kill()?;
            return Ok((Outcome::NeverCameUp, init.wait()?));
        }
    }
    // Process 1 goes on telling, and would wait for a socket that is full and nobody reads.
    drop(ready);
    say(&format!("up {}", only_child(&init)?))?;
    Ok((Outcome::Lived, init.wait()?))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Finds process 1 of the machine, which `unshare` waits for.
fn only_child(unshare: &Child) -> io::Result<u32> {
    let pid = unshare.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    children.trim().parse().map_err(io::Error::other)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// Makes a disk in memory: what is laid over the root, and `/var`, which pods need on a file system
/// that can carry an overlay.
fn make_disk(parts: &Parts<'_>) -> io::Result<PathBuf> {
    let disk = parts.place.join("disk");
    fs::create_dir(&disk)?;
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"]).arg(&disk))?;
    for name in ["work", "root", "host"] {
        fs::create_dir(disk.join(name))?;
    }
    let upper = disk.join("upper");
    run(Command::new("cp").arg("-aT").arg(parts.payload).arg(&upper))?;
    run(Command::new("cp").arg("-aT").arg(parts.root.join("var")).arg(disk.join("var")))?;
    fs::set_permissions(disk.join("work"), fs::Permissions::from_mode(0o700))?;

    let etc = upper.join("etc");
    let units = etc.join("systemd/system");
    fs::create_dir_all(&units)?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    fs::write(etc.join("machine-id"), uuid.replace('-', ""))?;
    Ok(disk)
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?} ended with {status}")))
    }
}

/// The machine's console: a terminal nobody sits at, with all that is said there in a file.
struct Console {
    path: PathBuf,
    log: File,
    /// Held, so that the terminal is never hung up between two lives.
    _ends: OpenptyResult,
}

impl Console {
    fn to(record: &Path) -> io::Result<Self> {
        let ends = openpty(None, None)?;
        let path = ttyname(&ends.slave)?;
        let log = File::options().create(true).append(true).open(record)?;
        let mut from = File::from(ends.master.try_clone()?);
        let mut into = log.try_clone()?;
        thread::spawn(move || io::copy(&mut from, &mut into));
        Ok(Self { path, log, _ends: ends })
    }
}
